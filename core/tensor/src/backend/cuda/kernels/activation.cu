// GELU, SiLU and the gated product, with the bias that comes before them. One block per row where there is a bias.

__device__ __forceinline__ float normal_distribution(float x) { return 0.5f * (1.0f + erff(x * 0.70710678118654752f)); }

__device__ __forceinline__ float gelu_slope(float x) {
    return normal_distribution(x) + x * 0.39894228040143268f * expf(-0.5f * x * x);
}

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ __forceinline__ float silu_slope(float x) {
    const float gate = sigmoid(x);
    return gate * (1.0f + x * (1.0f - gate));
}

// x = from + bias for a few columns of a row
template <int N, class T>
__device__ __forceinline__ void load_biased(const T* from, const float* bias, long long c, float (&x)[N]) {
    load(from + c, x);
    if (bias != nullptr) {
        float b[N];
        load(bias + c, b);
        for (int i = 0; i < N; ++i) x[i] += b[i];
    }
}

// out = gelu(x + bias)
template <class T>
__device__ __forceinline__ void gelu(const T* x, const float* bias, T* out, long long columns) {
    const long long at = blockIdx.x * columns;
    along_row(columns, [&](long long c, auto n) {
        float v[decltype(n)::value];
        load_biased(x + at, bias, c, v);
        for (float& one : v) one *= normal_distribution(one);
        store(out + at + c, v);
    });
}

// dx (+)= dy gelu'(x + bias)
template <class T>
__device__ __forceinline__ void gelu_backward(const T* x, const float* bias, const float* dy, float* dx, long long add,
                                              long long columns) {
    const long long at = blockIdx.x * columns;
    along_row(columns, [&](long long c, auto n) {
        constexpr int N = decltype(n)::value;
        float v[N], upstream[N], sum[N];
        load_biased(x + at, bias, c, v);
        load(dy + at + c, upstream);
        for (int i = 0; i < N; ++i) sum[i] = 0.0f;
        if (add != 0) load(dx + at + c, sum);
        for (int i = 0; i < N; ++i) sum[i] += upstream[i] * gelu_slope(v[i]);
        store(dx + at + c, sum);
    });
}

// x += bias
template <class T>
__device__ __forceinline__ void add_bias(T* x, const float* bias, long long columns) {
    const long long at = blockIdx.x * columns;
    along_row(columns, [&](long long c, auto n) {
        float v[decltype(n)::value];
        load_biased(x + at, bias, c, v);
        store(x + at + c, v);
    });
}

// out = silu(gate) up
template <class T>
__device__ __forceinline__ void gated(const T* gate, const T* up, T* out, long long count) {
    along_all(count, [&](long long i, auto n) {
        constexpr int N = decltype(n)::value;
        float g[N], u[N];
        load(gate + i, g);
        load(up + i, u);
        for (int j = 0; j < N; ++j) g[j] *= sigmoid(g[j]) * u[j];
        store(out + i, g);
    });
}

// The gradients of both factors.
template <class T>
__device__ __forceinline__ void gated_backward(const T* gate, const T* up, const float* dy, float* dgate, float* dup,
                                               long long count) {
    along_all(count, [&](long long i, auto n) {
        constexpr int N = decltype(n)::value;
        float g[N], u[N], upstream[N];
        load(gate + i, g);
        load(up + i, u);
        load(dy + i, upstream);
        for (int j = 0; j < N; ++j) {
            const float of_up = upstream[j] * g[j] * sigmoid(g[j]);
            g[j] = upstream[j] * u[j] * silu_slope(g[j]);
            u[j] = of_up;
        }
        store(dgate + i, g);
        store(dup + i, u);
    });
}

#define ACTIVATIONS(T, NAME)                                                                                          \
    extern "C" __global__ void gelu_##NAME(const T* x, const float* bias, T* out, long long columns) {              \
        gelu(x, bias, out, columns);                                                                                 \
    }                                                                                                                \
    extern "C" __global__ void gelu_backward_##NAME(const T* x, const float* bias, const float* dy, float* dx,      \
                                                    long long add, long long columns) {                              \
        gelu_backward(x, bias, dy, dx, add, columns);                                                                \
    }                                                                                                                \
    extern "C" __global__ void add_bias_##NAME(T* x, const float* bias, long long columns) { add_bias(x, bias, columns); } \
    extern "C" __global__ void gated_##NAME(const T* gate, const T* up, T* out, long long count) {                  \
        gated(gate, up, out, count);                                                                                 \
    }                                                                                                                \
    extern "C" __global__ void gated_backward_##NAME(const T* gate, const T* up, const float* dy, float* dgate,     \
                                                     float* dup, long long count) {                                  \
        gated_backward(gate, up, dy, dgate, dup, count);                                                             \
    }
ACTIVATIONS(float, f32)
ACTIVATIONS(bf16, bf16)
ACTIVATIONS(f16, f16)

// out = x sigmoid(x)
extern "C" __global__ void silu(const float* x, float* out, long long count) {
    along_all(count, [&](long long i, auto n) {
        float v[decltype(n)::value];
        load(x + i, v);
        for (float& one : v) one *= sigmoid(one);
        store(out + i, v);
    });
}

// dx += dy silu'(x)
extern "C" __global__ void silu_backward(const float* x, const float* dy, float* dx, long long count) {
    along_all(count, [&](long long i, auto n) {
        constexpr int N = decltype(n)::value;
        float v[N], upstream[N], sum[N];
        load(x + i, v);
        load(dy + i, upstream);
        load(dx + i, sum);
        for (int j = 0; j < N; ++j) sum[j] += upstream[j] * silu_slope(v[j]);
        store(dx + i, sum);
    });
}
