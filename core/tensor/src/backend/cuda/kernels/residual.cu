// What joins a branch to the residual stream: bias, LayerScale and stochastic depth in one pass. One block per row;
// `keep` has one factor for each record of `tokens` rows.

// out = x + keep gamma (y + bias)
template <class T>
__device__ __forceinline__ void residual(const float* x, const T* y, const float* bias, const float* gamma, const float* keep,
                                         float* out, long long columns, long long tokens) {
    const long long row = blockIdx.x, at = row * columns;
    const float factor = keep == nullptr ? 1.0f : keep[row / tokens];
    along_row(columns, [&](long long c, auto n) {
        constexpr int N = decltype(n)::value;
        float v[N], branch[N], other[N];
        load(x + at + c, v);
        load(y + at + c, branch);
        if (bias != nullptr) {
            load(bias + c, other);
            for (int i = 0; i < N; ++i) branch[i] += other[i];
        }
        if (gamma != nullptr) {
            load(gamma + c, other);
            for (int i = 0; i < N; ++i) branch[i] *= other[i];
        }
        for (int i = 0; i < N; ++i) v[i] += factor * branch[i];
        store(out + at + c, v);
    });
}

#define RESIDUAL(T, NAME)                                                                                             \
    extern "C" __global__ void residual_##NAME(const float* x, const T* y, const float* bias, const float* gamma,   \
                                               const float* keep, float* out, long long columns, long long tokens) { \
        residual(x, y, bias, gamma, keep, out, columns, tokens);                                                     \
    }
RESIDUAL(float, f32)
RESIDUAL(bf16, bf16)
RESIDUAL(f16, f16)

// dx += dout; dy (+)= keep gamma dout. The two may be the same gradient, so both are read where they are written.
extern "C" __global__ void residual_backward(const float* dout, const float* gamma, const float* keep, float* dx, float* dy,
                                             long long add, long long columns, long long tokens) {
    const long long row = blockIdx.x, at = row * columns;
    const float factor = keep == nullptr ? 1.0f : keep[row / tokens];
    along_row(columns, [&](long long c, auto n) {
        constexpr int N = decltype(n)::value;
        float upstream[N], sum[N], scale[N];
        load(dout + at + c, upstream);
        if (dx != nullptr) {
            load(dx + at + c, sum);
            for (int i = 0; i < N; ++i) sum[i] += upstream[i];
            store(dx + at + c, sum);
        }
        if (dy != nullptr) {
            for (int i = 0; i < N; ++i) {
                scale[i] = factor;
                sum[i] = 0.0f;
            }
            if (gamma != nullptr) {
                load(gamma + c, scale);
                for (int i = 0; i < N; ++i) scale[i] *= factor;
            }
            if (add != 0) load(dy + at + c, sum);
            for (int i = 0; i < N; ++i) sum[i] += scale[i] * upstream[i];
            store(dy + at + c, sum);
        }
    });
}
