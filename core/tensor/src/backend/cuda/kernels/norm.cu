// Normalisation of rows: RMS norm, layer norm, unit length, and the norm of packed queries and keys. One block per
// row. Statistics are not kept: a backward kernel reads the whole row anyway and works them out again.

// out = w x / sqrt(mean(x^2) + eps)
template <class From, class T>
__device__ __forceinline__ void rms_row(const From* x, const float* w, T* out, long long columns, float eps) {
    float squares = 0.0f;
    along_row(columns, [&](long long c, auto n) {
        float v[decltype(n)::value];
        load(x + c, v);
        for (float one : v) squares += one * one;
    });
    const float scale = 1.0f / sqrtf(sum_block(squares) / columns + eps);
    along_row(columns, [&](long long c, auto n) {
        float v[decltype(n)::value], weight[decltype(n)::value];
        load(x + c, v);
        load(w + c, weight);
        for (int i = 0; i < decltype(n)::value; ++i) v[i] *= scale * weight[i];
        store(out + c, v);
    });
}

#define RMS_NORM(T, NAME)                                                                                       \
    extern "C" __global__ void rms_norm_##NAME(const float* x, const float* w, T* out, long long columns, float eps) { \
        const long long row = blockIdx.x;                                                                      \
        rms_row(x + row * columns, w, out + row * columns, columns, eps);                                      \
    }
RMS_NORM(float, f32)
RMS_NORM(bf16, bf16)
RMS_NORM(f16, f16)

// dx (+)= scale (w dy - xhat mean(w dy xhat)) with xhat = scale x; gives the row's scale.
template <class From>
__device__ __forceinline__ float rms_row_backward(const From* x, const float* w, const float* dy, float* dx, bool add,
                                                  long long columns, float eps) {
    float squares = 0.0f, products = 0.0f;
    along_row(columns, [&](long long c, auto n) {
        constexpr int N = decltype(n)::value;
        float v[N], weight[N], upstream[N];
        load(x + c, v);
        load(w + c, weight);
        load(dy + c, upstream);
        for (int i = 0; i < N; ++i) {
            squares += v[i] * v[i];
            products += v[i] * weight[i] * upstream[i];
        }
    });
    const float scale = 1.0f / sqrtf(sum_block(squares) / columns + eps);
    const float mean = sum_block(products) * scale / columns;
    if (dx == nullptr) return scale;
    along_row(columns, [&](long long c, auto n) {
        constexpr int N = decltype(n)::value;
        float v[N], weight[N], upstream[N], sum[N];
        load(x + c, v);
        load(w + c, weight);
        load(dy + c, upstream);
        for (int i = 0; i < N; ++i) sum[i] = 0.0f;
        if (add) load(dx + c, sum);
        for (int i = 0; i < N; ++i) sum[i] += scale * (weight[i] * upstream[i] - scale * v[i] * mean);
        store(dx + c, sum);
    });
    return scale;
}

// `scales` [rows] receives what column sums for the weight's gradient need.
extern "C" __global__ void rms_norm_backward(const float* x, const float* w, const float* dy, float* dx, float* scales,
                                             long long columns, float eps) {
    const long long row = blockIdx.x, at = row * columns;
    float* dx_row = dx == nullptr ? nullptr : dx + at;
    const float scale = rms_row_backward(x + at, w, dy + at, dx_row, true, columns, eps);
    if (threadIdx.x == 0) scales[row] = scale;
}

// Queries (blockIdx.y = 0) and keys (1) of packed rows [.., 3 columns] to rows [.., 2 columns].
template <class T>
__device__ __forceinline__ void qk_norm(const T* qkv, const float* wq, const float* wk, T* out, long long columns, float eps) {
    const long long row = blockIdx.x, part = blockIdx.y;
    rms_row(qkv + (3 * row + part) * columns, part == 0 ? wq : wk, out + (2 * row + part) * columns, columns, eps);
}

// `dqk` [rows, 2 columns] to the first two parts of `dqkv` [rows, 3 columns]; `scales` [2, rows].
template <class T>
__device__ __forceinline__ void qk_norm_backward(const T* qkv, const float* wq, const float* wk, const float* dqk, float* dqkv,
                                                 float* scales, long long columns, float eps) {
    const long long row = blockIdx.x, part = blockIdx.y, at = (3 * row + part) * columns;
    const float* dy = dqk + (2 * row + part) * columns;
    const float scale = rms_row_backward(qkv + at, part == 0 ? wq : wk, dy, dqkv + at, false, columns, eps);
    if (threadIdx.x == 0) scales[part * gridDim.x + row] = scale;
}

#define QK_NORM(T, NAME)                                                                                             \
    extern "C" __global__ void qk_norm_##NAME(const T* qkv, const float* wq, const float* wk, T* out, long long columns, \
                                              float eps) {                                                          \
        qk_norm(qkv, wq, wk, out, columns, eps);                                                                    \
    }                                                                                                               \
    extern "C" __global__ void qk_norm_backward_##NAME(const T* qkv, const float* wq, const float* wk, const float* dqk, \
                                                       float* dqkv, float* scales, long long columns, float eps) {  \
        qk_norm_backward(qkv, wq, wk, dqk, dqkv, scales, columns, eps);                                             \
    }
QK_NORM(float, f32)
QK_NORM(bf16, bf16)
QK_NORM(f16, f16)

struct Moments {
    float mean, scale;
};

__device__ __forceinline__ Moments moments_of_row(const float* x, long long columns, float eps) {
    float sum = 0.0f, squares = 0.0f;
    along_row(columns, [&](long long c, auto n) {
        float v[decltype(n)::value];
        load(x + c, v);
        for (float one : v) sum += one;
    });
    const float mean = sum_block(sum) / columns;
    along_row(columns, [&](long long c, auto n) {
        float v[decltype(n)::value];
        load(x + c, v);
        for (float one : v) squares += (one - mean) * (one - mean);
    });
    return {mean, 1.0f / sqrtf(sum_block(squares) / columns + eps)};
}

// out = w (x - mean) / sqrt(var + eps) + b
extern "C" __global__ void layer_norm(const float* x, const float* w, const float* b, float* out, long long columns, float eps) {
    const long long at = blockIdx.x * columns;
    const Moments moments = moments_of_row(x + at, columns, eps);
    along_row(columns, [&](long long c, auto n) {
        constexpr int N = decltype(n)::value;
        float v[N], weight[N], bias[N];
        load(x + at + c, v);
        load(w + c, weight);
        load(b + c, bias);
        for (int i = 0; i < N; ++i) v[i] = (v[i] - moments.mean) * moments.scale * weight[i] + bias[i];
        store(out + at + c, v);
    });
}

// dx += scale (w dy - mean(w dy) - xhat mean(w dy xhat)); `means` and `scales` [rows] for the column sums.
extern "C" __global__ void layer_norm_backward(const float* x, const float* w, const float* dy, float* dx, float* means,
                                               float* scales, long long columns, float eps) {
    const long long row = blockIdx.x, at = row * columns;
    const Moments moments = moments_of_row(x + at, columns, eps);
    if (threadIdx.x == 0) {
        means[row] = moments.mean;
        scales[row] = moments.scale;
    }
    if (dx == nullptr) return;
    float sums = 0.0f, products = 0.0f;
    along_row(columns, [&](long long c, auto n) {
        constexpr int N = decltype(n)::value;
        float v[N], weight[N], upstream[N];
        load(x + at + c, v);
        load(w + c, weight);
        load(dy + at + c, upstream);
        for (int i = 0; i < N; ++i) {
            sums += weight[i] * upstream[i];
            products += weight[i] * upstream[i] * (v[i] - moments.mean) * moments.scale;
        }
    });
    const float mean = sum_block(sums) / columns, correlation = sum_block(products) / columns;
    along_row(columns, [&](long long c, auto n) {
        constexpr int N = decltype(n)::value;
        float v[N], weight[N], upstream[N], sum[N];
        load(x + at + c, v);
        load(w + c, weight);
        load(dy + at + c, upstream);
        load(dx + at + c, sum);
        for (int i = 0; i < N; ++i) {
            const float unit = (v[i] - moments.mean) * moments.scale;
            sum[i] += moments.scale * (weight[i] * upstream[i] - mean - unit * correlation);
        }
        store(dx + at + c, sum);
    });
}

__device__ __forceinline__ float length_of_row(const float* x, long long columns) {
    float squares = 0.0f;
    along_row(columns, [&](long long c, auto n) {
        float v[decltype(n)::value];
        load(x + c, v);
        for (float one : v) squares += one * one;
    });
    return sqrtf(sum_block(squares));
}

// out = x / max(|x|, shortest)
extern "C" __global__ void normalize_rows(const float* x, float* out, long long columns, float shortest) {
    const long long at = blockIdx.x * columns;
    const float scale = 1.0f / fmaxf(length_of_row(x + at, columns), shortest);
    along_row(columns, [&](long long c, auto n) {
        float v[decltype(n)::value];
        load(x + at + c, v);
        for (float& one : v) one *= scale;
        store(out + at + c, v);
    });
}

// dx += (dy - unit (unit . dy)) / |x|; a row shorter than `shortest` was only scaled.
extern "C" __global__ void normalize_rows_backward(const float* x, const float* dy, float* dx, long long columns,
                                                   float shortest) {
    const long long at = blockIdx.x * columns;
    const float length = length_of_row(x + at, columns), scale = 1.0f / fmaxf(length, shortest);
    float products = 0.0f;
    along_row(columns, [&](long long c, auto n) {
        constexpr int N = decltype(n)::value;
        float v[N], upstream[N];
        load(x + at + c, v);
        load(dy + at + c, upstream);
        for (int i = 0; i < N; ++i) products += v[i] * scale * upstream[i];
    });
    const float along = sum_block(products) * (length < shortest ? 0.0f : 1.0f);
    along_row(columns, [&](long long c, auto n) {
        constexpr int N = decltype(n)::value;
        float v[N], upstream[N], sum[N];
        load(x + at + c, v);
        load(dy + at + c, upstream);
        load(dx + at + c, sum);
        for (int i = 0; i < N; ++i) sum[i] += scale * (upstream[i] - v[i] * scale * along);
        store(dx + at + c, sum);
    });
}
