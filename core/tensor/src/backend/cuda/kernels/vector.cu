// Whole arrays as rows of numbers: conversion, scaling, sums, and the optimiser's update.

// ---- Conversion to 16 bits and back ----

#define CONVERT(T, NAME)                                                                         \
    extern "C" __global__ void to_##NAME(const float* x, T* out, long long count) {             \
        along_all(count, [&](long long i, auto n) {                                             \
            float v[decltype(n)::value];                                                        \
            load(x + i, v);                                                                     \
            store(out + i, v);                                                                  \
        });                                                                                     \
    }
CONVERT(bf16, bf16)
CONVERT(f16, f16)

#define CONVERT_BACK(T, NAME)                                                                    \
    extern "C" __global__ void from_##NAME(const T* x, float* out, long long count) {           \
        along_all(count, [&](long long i, auto n) {                                             \
            float v[decltype(n)::value];                                                        \
            load(x + i, v);                                                                     \
            store(out + i, v);                                                                  \
        });                                                                                     \
    }
CONVERT_BACK(bf16, bf16)
CONVERT_BACK(f16, f16)

// partial[block] = largest magnitude that the block has seen
extern "C" __global__ void largest_magnitudes(const float* x, long long count, float* partial) {
    float largest = 0.0f;
    along_all(count, [&](long long i, auto n) {
        float v[decltype(n)::value];
        load(x + i, v);
        for (float one : v) largest = fmaxf(largest, fabsf(one));
    });
    largest = reduce_block<Largest>(largest, 0.0f);
    if (threadIdx.x == 0) partial[blockIdx.x] = largest;
}

// scale[0] = the power of two that brings the largest magnitude into [1, 2), scale[1] = its inverse. One block.
extern "C" __global__ void power_of_two_scale(const float* partial, long long count, float* scale) {
    float largest = 0.0f;
    for (long long i = threadIdx.x; i < count; i += blockDim.x) largest = fmaxf(largest, partial[i]);
    largest = reduce_block<Largest>(largest, 0.0f);
    if (threadIdx.x != 0) return;
    // The exponent's bits; within 1 .. 253 both powers are normal numbers. Zeros and infinities keep their scale.
    unsigned exponent = __float_as_uint(largest) >> 23;
    if (exponent == 0 || exponent >= 255) exponent = 127;
    if (exponent == 254) exponent = 253;
    scale[0] = __uint_as_float((254 - exponent) << 23);
    scale[1] = __uint_as_float(exponent << 23);
}

extern "C" __global__ void to_f16_scaled(const float* x, const float* scale, f16* out, long long count) {
    const float factor = *scale;
    along_all(count, [&](long long i, auto n) {
        float v[decltype(n)::value];
        load(x + i, v);
        for (float& one : v) one *= factor;
        store(out + i, v);
    });
}

// ---- Arithmetic ----

// y += a x
extern "C" __global__ void axpy(float a, const float* x, float* y, long long count) {
    along_all(count, [&](long long i, auto n) {
        constexpr int N = decltype(n)::value;
        float v[N], sum[N];
        load(x + i, v);
        load(y + i, sum);
        for (int j = 0; j < N; ++j) sum[j] = fmaf(a, v[j], sum[j]);
        store(y + i, sum);
    });
}

// out (+)= *a x
extern "C" __global__ void times(const float* a, const float* x, float* out, long long add, long long count) {
    const float factor = *a;
    along_all(count, [&](long long i, auto n) {
        constexpr int N = decltype(n)::value;
        float v[N], sum[N];
        load(x + i, v);
        for (int j = 0; j < N; ++j) sum[j] = 0.0f;
        if (add != 0) load(out + i, sum);
        for (int j = 0; j < N; ++j) sum[j] += factor * v[j];
        store(out + i, sum);
    });
}

// out (+)= x y
extern "C" __global__ void times_each(const float* x, const float* y, float* out, long long add, long long count) {
    along_all(count, [&](long long i, auto n) {
        constexpr int N = decltype(n)::value;
        float a[N], b[N], sum[N];
        load(x + i, a);
        load(y + i, b);
        for (int j = 0; j < N; ++j) sum[j] = 0.0f;
        if (add != 0) load(out + i, sum);
        for (int j = 0; j < N; ++j) sum[j] += a[j] * b[j];
        store(out + i, sum);
    });
}

// x *= a
extern "C" __global__ void scale_all(float a, float* x, long long count) {
    along_all(count, [&](long long i, auto n) {
        float v[decltype(n)::value];
        load(x + i, v);
        for (float& one : v) one *= a;
        store(x + i, v);
    });
}

// partial[block] = the block's part of sum(x y)
extern "C" __global__ void dot_partials(const float* x, const float* y, long long count, float* partial) {
    float sum = 0.0f;
    along_all(count, [&](long long i, auto n) {
        constexpr int N = decltype(n)::value;
        float a[N], b[N];
        load(x + i, a);
        load(y + i, b);
        for (int j = 0; j < N; ++j) sum += a[j] * b[j];
    });
    sum = sum_block(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// partial[block] = the block's part of sum(x^2), in double precision
extern "C" __global__ void square_partials(const float* x, long long count, double* partial) {
    double sum = 0.0;
    along_all(count, [&](long long i, auto n) {
        float v[decltype(n)::value];
        load(x + i, v);
        for (float one : v) sum += static_cast<double>(one) * one;
    });
    sum = reduce_block<Add>(sum, 0.0);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// *out = sum of `count` doubles. One block.
extern "C" __global__ void sum_doubles(const double* x, long long count, double* out) {
    double sum = 0.0;
    for (long long i = threadIdx.x; i < count; i += blockDim.x) sum += x[i];
    sum = reduce_block<Add>(sum, 0.0);
    if (threadIdx.x == 0) *out = sum;
}

// *out = min(exp(*x), limit). One thread.
extern "C" __global__ void exp_limited(const float* x, float limit, float* out) { *out = fminf(expf(*x), limit); }

// *dx += *dout exp(*x), 0 beyond the limit. One thread.
extern "C" __global__ void exp_limited_backward(const float* x, float limit, const float* dout, float* dx) {
    const float value = expf(*x);
    if (value <= limit) *dx += *dout * value;
}

// ---- AdamW (Loshchilov and Hutter, 2019, algorithm 2) ----

struct Update {
    float lr, beta1, beta2, eps, weight_decay, bias1, bias2;
};

// Reads a parameter, writes its successor to other memory, and moves the moments in place.
extern "C" __global__ void adamw(const float* param, const float* grad, float* first, float* second, float* out, Update update,
                                 long long count) {
    along_all(count, [&](long long i, auto n) {
        constexpr int N = decltype(n)::value;
        float p[N], g[N], m[N], v[N];
        load(param + i, p);
        load(grad + i, g);
        load(first + i, m);
        load(second + i, v);
        for (int j = 0; j < N; ++j) {
            m[j] = update.beta1 * m[j] + (1.0f - update.beta1) * g[j];
            v[j] = update.beta2 * v[j] + (1.0f - update.beta2) * g[j] * g[j];
            const float root = sqrtf(v[j] / update.bias2) + update.eps;
            p[j] = p[j] * (1.0f - update.lr * update.weight_decay) - update.lr * (m[j] / update.bias1) / root;
        }
        store(out + i, p);
        store(first + i, m);
        store(second + i, v);
    });
}
