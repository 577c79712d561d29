// What all kernels share: 16-bit numbers, loads of several elements at once, loops, sums over a block, and the
// matrix product of a warp.
//
// Kernels are compiled at run time without any header, so what a header would define is defined here. With
// HEDDLE_HOST the same sources run on a CPU, one fibre per thread, as a test without a device; the few functions
// that need PTX have a branch for that.
//
// Conventions: every parameter is a pointer, a `long long`, a `float` or a plain struct. Tensors are row-major and
// start at addresses that are multiples of 16. A pointer that may be absent is null. Sums run in a fixed order, so
// that equal inputs give equal bits; nothing here uses atomics.

#ifndef HEDDLE_HOST
#define DYNAMIC_SHARED(type, name)                                    \
    extern __shared__ __align__(16) unsigned char dynamic_shared[];   \
    type* name = reinterpret_cast<type*>(dynamic_shared)
#endif

#define INF __uint_as_float(0x7f800000u)
#define FULL_WARP 0xffffffffu

struct bf16 {
    unsigned short bits;
};

struct f16 {
    unsigned short bits;
};

// ---- Conversions ----

__device__ __forceinline__ float to_float(float x) { return x; }

__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }

__device__ __forceinline__ float to_float(f16 x) {
#ifdef HEDDLE_HOST
    return host_f16_to_float(x.bits);
#else
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
    return wide;
#endif
}

__device__ __forceinline__ unsigned short bf16_bits(float x) {
#ifdef HEDDLE_HOST
    return host_bf16_from_float(x);
#else
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
#endif
}

__device__ __forceinline__ unsigned short f16_bits(float x) {
#ifdef HEDDLE_HOST
    return host_f16_from_float(x);
#else
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
#endif
}

template <class T>
struct Round;

template <>
struct Round<float> {
    static __device__ __forceinline__ float of(float x) { return x; }
};

template <>
struct Round<bf16> {
    static __device__ __forceinline__ bf16 of(float x) { return bf16{bf16_bits(x)}; }
};

template <>
struct Round<f16> {
    static __device__ __forceinline__ f16 of(float x) { return f16{f16_bits(x)}; }
};

// ---- One, four or eight elements at once: eight of 16 bits are one access of 16 bytes ----

template <int N>
struct Count {
    static constexpr int value = N;
};

template <class T>
__device__ __forceinline__ void load(const T* from, float (&to)[1]) {
    to[0] = to_float(*from);
}

__device__ __forceinline__ void load(const float* from, float (&to)[4]) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    to[0] = four.x;
    to[1] = four.y;
    to[2] = four.z;
    to[3] = four.w;
}

template <class T>
__device__ __forceinline__ void load(const T* from, float (&to)[4]) {
    const uint2 four = *reinterpret_cast<const uint2*>(from);
    to[0] = to_float(T{static_cast<unsigned short>(four.x)});
    to[1] = to_float(T{static_cast<unsigned short>(four.x >> 16)});
    to[2] = to_float(T{static_cast<unsigned short>(four.y)});
    to[3] = to_float(T{static_cast<unsigned short>(four.y >> 16)});
}

__device__ __forceinline__ void load(const float* from, float (&to)[8]) {
    const float4 low = reinterpret_cast<const float4*>(from)[0], high = reinterpret_cast<const float4*>(from)[1];
    to[0] = low.x;
    to[1] = low.y;
    to[2] = low.z;
    to[3] = low.w;
    to[4] = high.x;
    to[5] = high.y;
    to[6] = high.z;
    to[7] = high.w;
}

template <class T>
__device__ __forceinline__ void load(const T* from, float (&to)[8]) {
    const uint4 eight = *reinterpret_cast<const uint4*>(from);
    const unsigned words[4] = {eight.x, eight.y, eight.z, eight.w};
    for (int i = 0; i < 4; ++i) {
        to[2 * i] = to_float(T{static_cast<unsigned short>(words[i])});
        to[2 * i + 1] = to_float(T{static_cast<unsigned short>(words[i] >> 16)});
    }
}

template <class T>
__device__ __forceinline__ void store(T* to, const float (&from)[1]) {
    *to = Round<T>::of(from[0]);
}

__device__ __forceinline__ void store(float* to, const float (&from)[4]) {
    *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
}

// Two 16-bit numbers in a word, the first one below.
template <class T>
__device__ __forceinline__ unsigned pack(float low, float high) {
    return static_cast<unsigned>(Round<T>::of(low).bits) | static_cast<unsigned>(Round<T>::of(high).bits) << 16;
}

template <class T>
__device__ __forceinline__ void store(T* to, const float (&from)[4]) {
    *reinterpret_cast<uint2*>(to) = make_uint2(pack<T>(from[0], from[1]), pack<T>(from[2], from[3]));
}

__device__ __forceinline__ void store(float* to, const float (&from)[8]) {
    reinterpret_cast<float4*>(to)[0] = make_float4(from[0], from[1], from[2], from[3]);
    reinterpret_cast<float4*>(to)[1] = make_float4(from[4], from[5], from[6], from[7]);
}

template <class T>
__device__ __forceinline__ void store(T* to, const float (&from)[8]) {
    *reinterpret_cast<uint4*>(to) = make_uint4(pack<T>(from[0], from[1]), pack<T>(from[2], from[3]),
                                               pack<T>(from[4], from[5]), pack<T>(from[6], from[7]));
}

// ---- Loops ----

// `visit(column, Count<N>)` for all columns of a row, by the threads of one block; eight or four columns at a time where
// the row's length allows it, since then every row starts at a multiple of as many.
template <class Visit>
__device__ __forceinline__ void along_row(long long columns, Visit visit) {
    if (columns % 8 == 0) {
        for (long long c = 8LL * threadIdx.x; c < columns; c += 8LL * blockDim.x) visit(c, Count<8>{});
    } else if (columns % 4 == 0) {
        for (long long c = 4LL * threadIdx.x; c < columns; c += 4LL * blockDim.x) visit(c, Count<4>{});
    } else {
        for (long long c = threadIdx.x; c < columns; c += blockDim.x) visit(c, Count<1>{});
    }
}

// `visit(index, Count<N>)` for all elements, by all threads of the grid.
template <class Visit>
__device__ __forceinline__ void along_all(long long count, Visit visit) {
    const long long first = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    const long long threads = static_cast<long long>(gridDim.x) * blockDim.x;
    const long long whole = count - count % 8;
    for (long long i = 8 * first; i < whole; i += 8 * threads) visit(i, Count<8>{});
    for (long long i = whole + first; i < count; i += threads) visit(i, Count<1>{});
}

// ---- Reductions over a block of whole warps, at most 1024 threads; every thread gets the result ----

struct Add {
    template <class V>
    static __device__ __forceinline__ V of(V a, V b) {
        return a + b;
    }
};

struct Largest {
    static __device__ __forceinline__ float of(float a, float b) { return fmaxf(a, b); }
};

template <class Op, class V>
__device__ __forceinline__ V reduce_block(V value, V neutral) {
    __shared__ V of_warp[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int step = 16; step > 0; step /= 2) value = Op::of(value, __shfl_xor_sync(FULL_WARP, value, step));
    __syncthreads();
    if (lane == 0) of_warp[warp] = value;
    __syncthreads();
    value = lane < warps ? of_warp[lane] : neutral;
    for (int step = 16; step > 0; step /= 2) value = Op::of(value, __shfl_xor_sync(FULL_WARP, value, step));
    return value;
}

__device__ __forceinline__ float sum_block(float value) { return reduce_block<Add>(value, 0.0f); }

// ---- The matrix product of a warp ----

// d[16 x 8] += a[16 x 16] b[16 x 8] on tensor cores (PTX mma.m16n8k16, row.col). With g = lane / 4 and t = lane % 4,
// a thread holds of `a` the pairs (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8) along a row, of `b` the pairs
// (2t, g), (2t + 8, g) along a column, and of `d` the numbers (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
__device__ __forceinline__ void mma_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], bf16) {
#ifdef HEDDLE_HOST
    host_mma_bf16_16x8x16(d, a, b);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

__device__ __forceinline__ void mma_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], f16) {
#ifdef HEDDLE_HOST
    host_mma_f16_16x8x16(d, a, b);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

