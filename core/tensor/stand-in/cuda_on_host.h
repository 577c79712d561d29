// CUDA C++ for a host compiler: what a kernel source finds in scope without any `#include`.
//
// Includes no system header, since NVRTC offers none either: a kernel that needs more than is here would not
// compile for the device. Shared memory is static memory, for one block runs at a time.
#pragma once

#include "abi.h"
#include "half.h"

// The list of kernels is read off the preprocessed source, which keeps this word.
#ifndef STAND_IN_LIST_KERNELS
#define __global__
#endif
#define __device__
#define __host__
#define __constant__ static const
#define __shared__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((__noinline__))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
#define __grid_constant__
#define DYNAMIC_SHARED(type, name) type* name = static_cast<type*>(stand_in::dynamic_shared())

typedef decltype(sizeof 0) size_t;
constexpr int warpSize = stand_in::WARP;

// Vector types, aligned as on the device: a misaligned access is an error there, and here.
#define STAND_IN_VECTORS(name, type)                                                         \
    struct __align__(2 * sizeof(type)) name##2 { type x, y; };                               \
    struct __align__(sizeof(type) < 8 ? 4 * sizeof(type) : 16) name##4 { type x, y, z, w; }; \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }                         \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
STAND_IN_VECTORS(char, signed char)
STAND_IN_VECTORS(uchar, unsigned char)
STAND_IN_VECTORS(short, short)
STAND_IN_VECTORS(ushort, unsigned short)
STAND_IN_VECTORS(int, int)
STAND_IN_VECTORS(uint, unsigned)
STAND_IN_VECTORS(float, float)
STAND_IN_VECTORS(longlong, long long)
STAND_IN_VECTORS(ulonglong, unsigned long long)
STAND_IN_VECTORS(double, double)
#undef STAND_IN_VECTORS
struct int3 {
    int x, y, z;
};
struct float3 {
    float x, y, z;
};
inline int3 make_int3(int x, int y, int z) { return {x, y, z}; }
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }

// Mathematics: the C library's functions, declared here.
// clang-format off
extern "C" {
#define STAND_IN_UNARY(name) float name##f(float) noexcept; double name(double) noexcept;
STAND_IN_UNARY(exp) STAND_IN_UNARY(exp2) STAND_IN_UNARY(expm1) STAND_IN_UNARY(log) STAND_IN_UNARY(log2)
STAND_IN_UNARY(log10) STAND_IN_UNARY(log1p) STAND_IN_UNARY(sqrt) STAND_IN_UNARY(cbrt) STAND_IN_UNARY(erf)
STAND_IN_UNARY(erfc) STAND_IN_UNARY(sin) STAND_IN_UNARY(cos) STAND_IN_UNARY(tan) STAND_IN_UNARY(asin)
STAND_IN_UNARY(acos) STAND_IN_UNARY(atan) STAND_IN_UNARY(sinh) STAND_IN_UNARY(cosh) STAND_IN_UNARY(tanh)
STAND_IN_UNARY(floor) STAND_IN_UNARY(ceil) STAND_IN_UNARY(trunc) STAND_IN_UNARY(round) STAND_IN_UNARY(rint)
STAND_IN_UNARY(fabs)
#undef STAND_IN_UNARY
#define STAND_IN_BINARY(name) float name##f(float, float) noexcept; double name(double, double) noexcept;
STAND_IN_BINARY(pow) STAND_IN_BINARY(fmod) STAND_IN_BINARY(fmin) STAND_IN_BINARY(fmax)
STAND_IN_BINARY(copysign) STAND_IN_BINARY(atan2)
#undef STAND_IN_BINARY
float fmaf(float, float, float) noexcept;
double fma(double, double, double) noexcept;
float ldexpf(float, int) noexcept;
float scalbnf(float, int) noexcept;
float frexpf(float, int*) noexcept;
int ilogbf(float) noexcept;
void* memset(void*, int, size_t) noexcept;
void* memcpy(void*, const void*, size_t) noexcept;
}
// clang-format on

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float exp10f(float x) { return powf(10.0f, x); }
inline float normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678f); }
inline void sincosf(float x, float* sine, float* cosine) { *sine = sinf(x), *cosine = cosf(x); }
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return exp10f(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline bool isnan(float x) { return __builtin_isnan(x); }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isfinite(float x) { return __builtin_isfinite(x); }

template <typename T>
inline T min(T a, T b) {
    return b < a ? b : a;
}
template <typename T>
inline T max(T a, T b) {
    return a < b ? b : a;
}
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline int abs(int x) { return x < 0 ? -x : x; }

// Bits.
inline unsigned __float_as_uint(float x) { return stand_in::float_bits(x); }
inline int __float_as_int(float x) { return static_cast<int>(stand_in::float_bits(x)); }
inline float __uint_as_float(unsigned x) { return stand_in::float_of_bits(x); }
inline float __int_as_float(int x) { return stand_in::float_of_bits(static_cast<unsigned>(x)); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(1ull * a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}

// Memory: one thread runs at a time, so caches, fences and atomicity come for nothing.
template <typename T>
inline T __ldg(const T* address) {
    return *address;
}
template <typename T>
inline T atomicAdd(T* address, T value) {
    T old = *address;
    *address = old + value;
    return old;
}
inline void __threadfence() {}
inline void __trap() { __builtin_trap(); }

// Barriers and exchanges within a warp. The place of the call comes along: threads that wait must wait at the
// same.
#define STAND_IN_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(STAND_IN_PLACE) { stand_in::wait_for_block({"__syncthreads", file, line}); }
inline void __syncwarp(unsigned mask = ~0u, STAND_IN_PLACE) {
    stand_in::exchange({0}, mask, {"__syncwarp", file, line});
}

template <typename T>
inline T stand_in_shuffle(unsigned mask, T value, int from, stand_in::Site site) {
    static_assert(sizeof(T) <= 8, "a shuffle moves values of up to eight bytes");
    stand_in::Slot own{0};
    __builtin_memcpy(&own.bits, &value, sizeof(T));
    const stand_in::Slot* all = stand_in::exchange(own, mask, site);
    __builtin_memcpy(&value, &all[from].bits, sizeof(T));
    return value;
}

template <typename T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, STAND_IN_PLACE) {
    int segment = stand_in::lane() & ~(width - 1);
    return stand_in_shuffle(mask, value, segment + (source & (width - 1)), {"__shfl_sync", file, line});
}
template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int flip, int width = warpSize, STAND_IN_PLACE) {
    int own = stand_in::lane(), from = own ^ flip;
    if (from >= (own & ~(width - 1)) + width) from = own;
    return stand_in_shuffle(mask, value, from, {"__shfl_xor_sync", file, line});
}
template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, STAND_IN_PLACE) {
    int own = stand_in::lane(), from = own + static_cast<int>(delta);
    if (from >= (own & ~(width - 1)) + width) from = own;
    return stand_in_shuffle(mask, value, from, {"__shfl_down_sync", file, line});
}
template <typename T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, STAND_IN_PLACE) {
    int own = stand_in::lane(), from = own - static_cast<int>(delta);
    if (from < (own & ~(width - 1))) from = own;
    return stand_in_shuffle(mask, value, from, {"__shfl_up_sync", file, line});
}

inline unsigned stand_in_ballot(unsigned mask, int predicate, stand_in::Site site) {
    stand_in::Slot own{predicate ? 1ull : 0ull};
    const stand_in::Slot* all = stand_in::exchange(own, mask, site);
    unsigned votes = 0, block = blockDim.x * blockDim.y * blockDim.z;
    unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    unsigned lanes = min(block - (thread & ~31u), 32u);
    for (unsigned i = 0; i < lanes; i++) votes |= static_cast<unsigned>(all[i].bits) << i;
    return votes;
}
inline unsigned __ballot_sync(unsigned mask, int predicate, STAND_IN_PLACE) {
    return stand_in_ballot(mask, predicate, {"__ballot_sync", file, line});
}
inline int __any_sync(unsigned mask, int predicate, STAND_IN_PLACE) {
    return stand_in_ballot(mask, predicate, {"__any_sync", file, line}) != 0;
}
inline int __all_sync(unsigned mask, int predicate, STAND_IN_PLACE) {
    return stand_in_ballot(mask, !predicate, {"__all_sync", file, line}) == 0;
}

#include "tensor_core.h"
