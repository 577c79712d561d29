// Attention in single precision, without tensor cores: the path of f32, and of heads too wide for the other one.
//
// A block of 16 x 16 threads works on tiles of 32 queries and 32 keys in shared memory, as f32 whatever the operands'
// type. A thread has two rows of a tile of scores and every sixteenth column. COLUMNS, the columns that a thread has of a
// head, is a template parameter so that sums stay in registers; heads have at most 16 COLUMNS columns.
//
// Compiled for one OPERAND type and one PADDED width of heads at a time, both defined in front of the sources.

#define TILE 32
// Tiles of scores have one column more, so that a column's elements lie in different banks.
#define SCORES (TILE * (TILE + 1))

// Rows `first ..` of one head into shared memory, rows of head_dim + 1; zeros beyond `rows`.
template <class T>
__device__ __forceinline__ void load_tile(const T* from, long long stride, long long first, long long rows, int head_dim,
                                          float* tile) {
    const int thread = threadIdx.y * 16 + threadIdx.x;
    for (int i = thread; i < TILE * head_dim; i += 256) {
        const int row = i / head_dim, column = i - row * head_dim;
        tile[row * (head_dim + 1) + column] = first + row < rows ? to_float(from[(first + row) * stride + column]) : 0.0f;
    }
}

// s[i][j] = row 2 ty + i of `a` times row tx + 16 j of `b`
__device__ __forceinline__ void products(const float* a, const float* b, int head_dim, float (&s)[2][2]) {
    for (int i = 0; i < 2; ++i) s[i][0] = s[i][1] = 0.0f;
    const float* a0 = a + 2 * threadIdx.y * (head_dim + 1);
    const float* b0 = b + threadIdx.x * (head_dim + 1);
    for (int c = 0; c < head_dim; ++c) {
        const float left[2] = {a0[c], a0[c + head_dim + 1]};
        const float right[2] = {b0[c], b0[c + 16 * (head_dim + 1)]};
        for (int i = 0; i < 2; ++i)
            for (int j = 0; j < 2; ++j) s[i][j] = fmaf(left[i], right[j], s[i][j]);
    }
}

// sum[i][c] += row 2 ty + i of `scores` times column tx + 16 c of `b`
template <int COLUMNS>
__device__ __forceinline__ void accumulate(const float* scores, const float* b, int head_dim, float (&sum)[2][COLUMNS]) {
    for (int k = 0; k < TILE; ++k) {
        const float left[2] = {scores[2 * threadIdx.y * (TILE + 1) + k], scores[(2 * threadIdx.y + 1) * (TILE + 1) + k]};
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) {
            const int column = threadIdx.x + 16 * c;
            if (column < head_dim) {
                const float right = b[k * (head_dim + 1) + column];
                for (int i = 0; i < 2; ++i) sum[i][c] = fmaf(left[i], right, sum[i][c]);
            }
        }
    }
}

__device__ __forceinline__ void put_scores(float* scores, const float (&s)[2][2]) {
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 2; ++j) scores[(2 * threadIdx.y + i) * (TILE + 1) + threadIdx.x + 16 * j] = s[i][j];
}

// Among the 16 threads that share rows.
template <class Op>
__device__ __forceinline__ float reduce_rows(float x) {
    for (int step = 8; step > 0; step /= 2) x = Op::of(x, __shfl_xor_sync(FULL_WARP, x, step));
    return x;
}

// Blocks (tiles of queries, heads, records).
template <class T, int COLUMNS>
__device__ __forceinline__ void plain_forward(const T* q, const T* k, const T* v, T* out, float* lse, const Attention& s) {
    DYNAMIC_SHARED(float, shared);
    const int head_dim = static_cast<int>(s.head_dim), tile_size = TILE * (head_dim + 1);
    float *queries = shared, *keys = queries + tile_size, *values = keys + tile_size, *scores = values + tile_size;
    const long long first = blockIdx.x * TILE, head = blockIdx.y, record = blockIdx.z;
    k += record * s.k_len * s.k_stride + head * head_dim;
    v += record * s.k_len * s.v_stride + head * head_dim;
    load_tile(q + record * s.q_len * s.q_stride + head * head_dim, s.q_stride, first, s.q_len, head_dim, queries);
    float largest[2] = {-INF, -INF}, total[2] = {0.0f, 0.0f}, sum[2][COLUMNS] = {};
    const long long seen = keys_seen(s, first + TILE);
    for (long long start = 0; start < seen; start += TILE) {
        __syncthreads();
        load_tile(k, s.k_stride, start, s.k_len, head_dim, keys);
        load_tile(v, s.v_stride, start, s.k_len, head_dim, values);
        __syncthreads();
        float p[2][2];
        products(queries, keys, head_dim, p);
        for (int i = 0; i < 2; ++i) {
            float row_largest = largest[i];
            for (int j = 0; j < 2; ++j) {
                const bool seen_here = allowed(s, record, first + 2 * threadIdx.y + i, start + threadIdx.x + 16 * j);
                p[i][j] = seen_here ? p[i][j] * s.scale : -INF;
                row_largest = fmaxf(row_largest, p[i][j]);
            }
            row_largest = reduce_rows<Largest>(row_largest);
            // Nothing seen so far: any finite number will do instead of the maximum.
            const float base = row_largest == -INF ? 0.0f : row_largest, shrink = expf(largest[i] - base);
            for (int j = 0; j < 2; ++j) p[i][j] = expf(p[i][j] - base);
            total[i] = total[i] * shrink + reduce_rows<Add>(p[i][0] + p[i][1]);
            for (int c = 0; c < COLUMNS; ++c) sum[i][c] *= shrink;
            largest[i] = row_largest;
        }
        put_scores(scores, p);
        __syncthreads();
        accumulate(scores, values, head_dim, sum);
    }
    for (int i = 0; i < 2; ++i) {
        const long long query = first + 2 * threadIdx.y + i;
        if (query >= s.q_len) continue;
        // A query that sees nothing gets zeros, and a log-sum-exp that makes all its probabilities zero.
        const float share = total[i] > 0.0f ? 1.0f / total[i] : 0.0f;
        T* row = out + (record * s.q_len + query) * s.out_stride + head * head_dim;
        for (int c = 0; c < COLUMNS; ++c) {
            const int column = threadIdx.x + 16 * c;
            if (column < head_dim) row[column] = Round<T>::of(sum[i][c] * share);
        }
        if (threadIdx.x == 0) {
            lse[(record * s.heads + head) * s.q_len + query] = total[i] > 0.0f ? largest[i] + logf(total[i]) : INF;
        }
    }
}

// Adds a thread's part of a tile of gradients, times `scale`, to rows `first ..` of one head.
template <int COLUMNS>
__device__ __forceinline__ void put_gradient(float* to, long long stride, long long first, long long rows, int head_dim,
                                             const float (&sum)[2][COLUMNS], float scale, bool add) {
    for (int i = 0; i < 2; ++i) {
        const long long row = first + 2 * threadIdx.y + i;
        if (row >= rows) continue;
        for (int c = 0; c < COLUMNS; ++c) {
            const int column = threadIdx.x + 16 * c;
            if (column >= head_dim) continue;
            float* place = to + row * stride + column;
            *place = (add ? *place : 0.0f) + scale * sum[i][c];
        }
    }
}

// Probability and gradient of a score; both are 0 where the query may not see the key.
__device__ __forceinline__ void score_gradient(const Attention& s, const float* lse, const float* delta, long long record,
                                               long long head, long long query, long long key, float& p, float& dp) {
    if (!allowed(s, record, query, key)) {
        p = dp = 0.0f;
        return;
    }
    const long long row = (record * s.heads + head) * s.q_len + query;
    p = expf(p * s.scale - lse[row]);
    dp = p * (dp - delta[row]);
}

// Blocks (tiles of queries, heads, records).
template <class T, int COLUMNS>
__device__ __forceinline__ void plain_dq(const T* q, const T* k, const T* v, const float* dout, const float* lse,
                                             const float* delta, float* dq, const Attention& s) {
    DYNAMIC_SHARED(float, shared);
    const int head_dim = static_cast<int>(s.head_dim), tile_size = TILE * (head_dim + 1);
    float *queries = shared, *upstream = queries + tile_size, *keys = upstream + tile_size, *values = keys + tile_size;
    float* scores = values + tile_size;
    const long long first = blockIdx.x * TILE, head = blockIdx.y, record = blockIdx.z;
    k += record * s.k_len * s.k_stride + head * head_dim;
    v += record * s.k_len * s.v_stride + head * head_dim;
    load_tile(q + record * s.q_len * s.q_stride + head * head_dim, s.q_stride, first, s.q_len, head_dim, queries);
    load_tile(dout + record * s.q_len * s.out_stride + head * head_dim, s.out_stride, first, s.q_len, head_dim, upstream);
    float sum[2][COLUMNS] = {};
    const long long seen = keys_seen(s, first + TILE);
    for (long long start = 0; start < seen; start += TILE) {
        __syncthreads();
        load_tile(k, s.k_stride, start, s.k_len, head_dim, keys);
        load_tile(v, s.v_stride, start, s.k_len, head_dim, values);
        __syncthreads();
        float p[2][2], dp[2][2];
        products(queries, keys, head_dim, p);
        products(upstream, values, head_dim, dp);
        for (int i = 0; i < 2; ++i)
            for (int j = 0; j < 2; ++j) {
                const long long query = first + 2 * threadIdx.y + i, key = start + threadIdx.x + 16 * j;
                score_gradient(s, lse, delta, record, head, query, key, p[i][j], dp[i][j]);
            }
        put_scores(scores, dp);
        __syncthreads();
        accumulate(scores, keys, head_dim, sum);
    }
    float* to = dq + record * s.q_len * s.dq_stride + head * head_dim;
    put_gradient(to, s.dq_stride, first, s.q_len, head_dim, sum, s.scale, s.add != 0);
}

// Blocks (tiles of keys, heads, records). Either gradient may be absent.
template <class T, int COLUMNS>
__device__ __forceinline__ void plain_dkv(const T* q, const T* k, const T* v, const float* dout, const float* lse,
                                              const float* delta, float* dk, float* dv, const Attention& s) {
    DYNAMIC_SHARED(float, shared);
    const int head_dim = static_cast<int>(s.head_dim), tile_size = TILE * (head_dim + 1);
    float *keys = shared, *values = keys + tile_size, *queries = values + tile_size, *upstream = queries + tile_size;
    float *probabilities = upstream + tile_size, *scores = probabilities + SCORES;
    const long long first = blockIdx.x * TILE, head = blockIdx.y, record = blockIdx.z;
    q += record * s.q_len * s.q_stride + head * head_dim;
    dout += record * s.q_len * s.out_stride + head * head_dim;
    load_tile(k + record * s.k_len * s.k_stride + head * head_dim, s.k_stride, first, s.k_len, head_dim, keys);
    load_tile(v + record * s.k_len * s.v_stride + head * head_dim, s.v_stride, first, s.k_len, head_dim, values);
    float of_keys[2][COLUMNS] = {}, of_values[2][COLUMNS] = {};
    for (long long start = first_query(s, first, TILE); start < s.q_len; start += TILE) {
        __syncthreads();
        load_tile(q, s.q_stride, start, s.q_len, head_dim, queries);
        load_tile(dout, s.out_stride, start, s.q_len, head_dim, upstream);
        __syncthreads();
        float p[2][2], dp[2][2];
        products(keys, queries, head_dim, p);
        products(values, upstream, head_dim, dp);
        for (int i = 0; i < 2; ++i)
            for (int j = 0; j < 2; ++j) {
                const long long key = first + 2 * threadIdx.y + i, query = start + threadIdx.x + 16 * j;
                score_gradient(s, lse, delta, record, head, query, key, p[i][j], dp[i][j]);
            }
        put_scores(probabilities, p);
        put_scores(scores, dp);
        __syncthreads();
        accumulate(probabilities, upstream, head_dim, of_values);
        accumulate(scores, queries, head_dim, of_keys);
    }
    const bool add = s.add != 0;
    if (dv != nullptr) {
        float* to = dv + record * s.k_len * s.dv_stride + head * head_dim;
        put_gradient(to, s.dv_stride, first, s.k_len, head_dim, of_values, 1.0f, add);
    }
    if (dk != nullptr) {
        float* to = dk + record * s.k_len * s.dk_stride + head * head_dim;
        put_gradient(to, s.dk_stride, first, s.k_len, head_dim, of_keys, s.scale, add);
    }
}

extern "C" __global__ void __launch_bounds__(256)
    attention_forward(const OPERAND* q, const OPERAND* k, const OPERAND* v, OPERAND* out, float* lse, Attention s) {
    plain_forward<OPERAND, PADDED / 16>(q, k, v, out, lse, s);
}

extern "C" __global__ void __launch_bounds__(256)
    attention_dq(const OPERAND* q, const OPERAND* k, const OPERAND* v, const float* dout, const float* lse, const float* delta,
                 float* dq, Attention s) {
    plain_dq<OPERAND, PADDED / 16>(q, k, v, dout, lse, delta, dq, s);
}

extern "C" __global__ void __launch_bounds__(256)
    attention_dkv(const OPERAND* q, const OPERAND* k, const OPERAND* v, const float* dout, const float* lse, const float* delta,
                  float* dk, float* dv, Attention s) {
    plain_dkv<OPERAND, PADDED / 16>(q, k, v, dout, lse, delta, dk, dv, s);
}

extern "C" __global__ void attention_delta(const OPERAND* out, const float* dout, float* delta, Attention s) {
    head_products(out, dout, delta, s);
}
