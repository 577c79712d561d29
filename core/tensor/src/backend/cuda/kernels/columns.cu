// Sums over the rows of a matrix, for the gradients of what is shared by all rows: biases, norm weights, LayerScale.
// Two stages in a fixed order: partial sums of groups of rows, then their sum.

#define ROW_LANES 8

// partial[group, c] = sum over the group's rows of a[r, c] (b[r, c] + bias[c] - mean[r]) scale[r / rows_per_scale],
// where absent factors count as one and absent terms as zero. Block (32, ROW_LANES); blockIdx.x picks 32 columns,
// blockIdx.y the group.
template <class T>
__device__ __forceinline__ void column_partials(const float* a, long long a_stride, const T* b, long long b_stride,
                                                const float* bias, const float* mean, const float* scale,
                                                long long rows_per_scale, long long rows, long long columns,
                                                long long rows_per_group, float* partial) {
    __shared__ float of_lane[ROW_LANES][33];
    const long long c = blockIdx.x * 32LL + threadIdx.x;
    const long long first = blockIdx.y * rows_per_group;
    const long long last = first + rows_per_group < rows ? first + rows_per_group : rows;
    float sum = 0.0f;
    if (c < columns) {
        for (long long r = first + threadIdx.y; r < last; r += ROW_LANES) {
            float term = a[r * a_stride + c];
            if (b != nullptr) {
                float factor = to_float(b[r * b_stride + c]);
                if (bias != nullptr) factor += bias[c];
                if (mean != nullptr) factor -= mean[r];
                term *= factor;
            }
            if (scale != nullptr) term *= scale[r / rows_per_scale];
            sum += term;
        }
    }
    of_lane[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && c < columns) {
        for (int lane = 1; lane < ROW_LANES; ++lane) sum += of_lane[lane][threadIdx.x];
        partial[blockIdx.y * columns + c] = sum;
    }
}

#define COLUMN_PARTIALS(T, NAME)                                                                                    \
    extern "C" __global__ void column_partials_##NAME(                                                             \
        const float* a, long long a_stride, const T* b, long long b_stride, const float* bias, const float* mean,  \
        const float* scale, long long rows_per_scale, long long rows, long long columns, long long rows_per_group, \
        float* partial) {                                                                                          \
        column_partials(a, a_stride, b, b_stride, bias, mean, scale, rows_per_scale, rows, columns, rows_per_group, partial); \
    }
COLUMN_PARTIALS(float, f32)
COLUMN_PARTIALS(bf16, bf16)
COLUMN_PARTIALS(f16, f16)

// sum[c] += the groups' partial sums
extern "C" __global__ void column_finish(const float* partial, long long groups, long long columns, float* sum) {
    const long long c = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (c >= columns) return;
    float total = 0.0f;
    for (long long group = 0; group < groups; ++group) total += partial[group * columns + c];
    sum[c] += total;
}
