// Cross-entropy and the symmetric contrastive loss. Probabilities are never stored: a row's log-sum-exp is enough to
// work them out again in the backward pass.

// A target that does not count.
#define IGNORED 0xffffffffu

// Rows of scores, seen with any strides (a transposed matrix too), multiplied by `*factor` if there is one. Row r's
// target is `targets[r]`, or r itself without targets.
struct Scores {
    const float* data;
    long long row_stride, column_stride, rows, classes;
    const float* factor;
    const unsigned* targets;
    float smoothing;
};

__device__ __forceinline__ float factor_of(const Scores& scores) { return scores.factor == nullptr ? 1.0f : *scores.factor; }

__device__ __forceinline__ unsigned target_of(const Scores& scores, long long row) {
    return scores.targets == nullptr ? static_cast<unsigned>(row) : scores.targets[row];
}

// One block per row: its log-sum-exp, and lse - (1 - s) x[target] - s mean(x), 0 where the target does not count.
extern "C" __global__ void cross_entropy_rows(Scores scores, float* lse, float* losses) {
    const long long row = blockIdx.x;
    const float* x = scores.data + row * scores.row_stride;
    const float factor = factor_of(scores);
    float largest = -INF;
    for (long long c = threadIdx.x; c < scores.classes; c += blockDim.x) {
        largest = fmaxf(largest, factor * x[c * scores.column_stride]);
    }
    largest = reduce_block<Largest>(largest, -INF);
    float exponentials = 0.0f, sum = 0.0f;
    for (long long c = threadIdx.x; c < scores.classes; c += blockDim.x) {
        const float score = factor * x[c * scores.column_stride];
        exponentials += expf(score - largest);
        // Relative to the largest, so that the sum stays small.
        sum += score - largest;
    }
    exponentials = sum_block(exponentials);
    sum = sum_block(sum);
    if (threadIdx.x != 0) return;
    const float log_sum = logf(exponentials);
    const unsigned target = target_of(scores, row);
    lse[row] = largest + log_sum;
    if (target == IGNORED) {
        losses[row] = 0.0f;
    } else {
        const float score = factor * x[target * scores.column_stride] - largest;
        losses[row] = log_sum - (1.0f - scores.smoothing) * score - scores.smoothing / scores.classes * sum;
    }
}

// What the loss of `row` changes by with its score of class `c`: probability minus target.
__device__ __forceinline__ float slope(const Scores& scores, const float* lse, long long row, long long c, float score) {
    const float target = (target_of(scores, row) == c ? 1.0f - scores.smoothing : 0.0f) + scores.smoothing / scores.classes;
    return expf(score - lse[row]) - target;
}

// d[row, c] += *upstream share (probability - target). One block per row; contiguous scores without a factor.
extern "C" __global__ void cross_entropy_backward(Scores scores, const float* lse, const float* upstream, float share, float* d) {
    const long long row = blockIdx.x, at = row * scores.classes;
    if (target_of(scores, row) == IGNORED) return;
    const float scale = *upstream * share;
    for (long long c = threadIdx.x; c < scores.classes; c += blockDim.x) {
        d[at + c] += scale * slope(scores, lse, row, c, scores.data[at + c]);
    }
}

// The gradient of unscaled scores [n, n] under the mean of the losses over rows and over columns, and for each row
// the sum of what reaches the factor. One block per row; `lse` holds the rows', then the columns'.
extern "C" __global__ void contrastive_backward(Scores scores, const float* lse, const float* upstream, float* d,
                                                float* of_factor) {
    const long long row = blockIdx.x, n = scores.classes;
    const float factor = factor_of(scores), share = *upstream * 0.5f / n;
    float sum = 0.0f;
    for (long long c = threadIdx.x; c < n; c += blockDim.x) {
        const float raw = scores.data[row * n + c], score = factor * raw;
        const float both = slope(scores, lse, row, c, score) + slope(scores, lse + n, c, row, score);
        d[row * n + c] = share * both * factor;
        sum += share * both * raw;
    }
    sum = sum_block(sum);
    if (threadIdx.x == 0) of_factor[row] = sum;
}

// *out (+)= scale (x[0] + x[1] + ..). One block.
extern "C" __global__ void sum_all(const float* x, long long count, float scale, float* out, long long add) {
    float sum = 0.0f;
    for (long long i = threadIdx.x; i < count; i += blockDim.x) sum += x[i];
    sum = sum_block(sum);
    if (threadIdx.x == 0) *out = (add != 0 ? *out : 0.0f) + scale * sum;
}
