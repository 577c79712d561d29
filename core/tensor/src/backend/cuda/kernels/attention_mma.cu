// Attention on tensor cores, for operands of 16 bits and heads of at most 128 columns.
//
// A block of four warps has 64 rows of its own, 16 for each warp: queries in the forward pass and for dq, keys for dk and
// dv. It goes through the other side tile by tile in shared memory.
//
// Compiled for one OPERAND type and one PADDED width of heads at a time, both defined in front of the sources.

#define OWN_ROWS 64

// Among the four threads that share rows.
template <class Op>
__device__ __forceinline__ float reduce_quad(float x) {
    x = Op::of(x, __shfl_xor_sync(FULL_WARP, x, 1));
    return Op::of(x, __shfl_xor_sync(FULL_WARP, x, 2));
}

#define LOG2_E 1.4426950408889634f
#define LN_2 0.69314718055994531f

// Blocks (tiles of queries, heads, records).
template <class T, int WIDTH>
__device__ __forceinline__ void flash_forward(const T* q, const T* k, const T* v, T* out, float* lse, const Attention& s) {
    constexpr int KEYS = 64;
    __shared__ __align__(16) unsigned keys[KEYS * Head<WIDTH>::STRIDE];
    __shared__ __align__(16) unsigned values[WIDTH * (KEYS / 2 + 4)];
    const int group = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
    const long long head = blockIdx.y, record = blockIdx.z;
    const long long first = blockIdx.x * OWN_ROWS, own = first + threadIdx.x / 32 * 16 + group;
    k += record * s.k_len * s.k_stride + head * s.head_dim;
    v += record * s.k_len * s.v_stride + head * s.head_dim;
    unsigned queries[WIDTH / 16][4];
    load_fragments<WIDTH>(q + record * s.q_len * s.q_stride + head * s.head_dim, s.q_stride, own - group, s.q_len, queries, s);
    float largest[2] = {-INF, -INF}, total[2] = {0.0f, 0.0f}, sum[WIDTH / 8][4] = {};
    const bool masked = is_masked(s);
    const float scale = s.scale * LOG2_E;
    const long long seen = keys_seen(s, first + OWN_ROWS);
    for (long long start = 0; start < seen; start += KEYS) {
        __syncthreads();
        load_rows<WIDTH, KEYS>(k, s.k_stride, start, s.k_len, keys, s);
        load_columns<WIDTH, KEYS>(v, s.v_stride, start, s.k_len, values, s);
        __syncthreads();
        float p[KEYS / 8][4] = {};
#pragma unroll
        for (int i = 0; i < WIDTH / 16; ++i) multiply_rows<T, WIDTH, KEYS>(queries[i], keys, i, p);
        float now[2] = {largest[0], largest[1]};
#pragma unroll
        for (int j = 0; j < KEYS / 8; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const long long key = start + 8 * j + column + e % 2;
                const bool sees = masked ? allowed(s, record, own + e / 2 * 8, key) : key < s.k_len;
                p[j][e] = sees ? p[j][e] * scale : -INF;
                now[e / 2] = fmaxf(now[e / 2], p[j][e]);
            }
        float base[2], shrink[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            now[i] = reduce_quad<Largest>(now[i]);
            // Nothing seen so far: any finite number will do instead of the maximum.
            base[i] = now[i] == -INF ? 0.0f : now[i];
            shrink[i] = exp2f(largest[i] - base[i]);
            total[i] *= shrink[i];
            largest[i] = now[i];
        }
#pragma unroll
        for (int j = 0; j < KEYS / 8; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                p[j][e] = exp2f(p[j][e] - base[e / 2]);
                total[e / 2] += p[j][e];
            }
#pragma unroll
        for (int n = 0; n < WIDTH / 8; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) sum[n][e] *= shrink[e / 2];
        multiply_columns<T, WIDTH, KEYS>(p, values, sum);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        total[i] = reduce_quad<Add>(total[i]);
        const long long query = own + 8 * i;
        if (query >= s.q_len) continue;
        // A query that sees nothing gets zeros, and a log-sum-exp that makes all its probabilities zero.
        const float share = total[i] > 0.0f ? 1.0f / total[i] : 0.0f;
        T* row = out + (record * s.q_len + query) * s.out_stride + head * s.head_dim;
#pragma unroll
        for (int n = 0; n < WIDTH / 8; ++n) {
            const int c = 8 * n + column;
            const float low = sum[n][2 * i] * share, high = sum[n][2 * i + 1] * share;
            if (s.aligned != 0) {
                if (c < s.head_dim) *reinterpret_cast<unsigned*>(row + c) = pack<T>(low, high);
            } else {
                if (c < s.head_dim) row[c] = Round<T>::of(low);
                if (c + 1 < s.head_dim) row[c + 1] = Round<T>::of(high);
            }
        }
        if (column == 0) {
            const long long at = (record * s.heads + head) * s.q_len + query;
            lse[at] = total[i] > 0.0f ? (largest[i] + log2f(total[i])) * LN_2 : INF;
        }
    }
}

// to (+)= scale sum, for a warp's 16 rows
template <int WIDTH>
__device__ __forceinline__ void put_rows(float* to, long long stride, long long own, long long rows,
                                         const float (&sum)[WIDTH / 8][4], float scale, const Attention& s) {
    const int column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int n = 0; n < WIDTH / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            const long long row = own + e / 2 * 8;
            const int c = 8 * n + column + e % 2;
            if (row >= rows || c >= s.head_dim) continue;
            float* place = to + row * stride + c;
            *place = (s.add != 0 ? *place : 0.0f) + scale * sum[n][e];
        }
}

// Blocks (tiles of queries, heads, records). `unscale` undoes the scale that `dout` was given; null for one.
template <class T, int WIDTH>
__device__ __forceinline__ void flash_dq(const T* q, const T* k, const T* v, const T* dout, const float* lse, const float* delta,
                                         const float* unscale, float* dq, const Attention& s) {
    constexpr int KEYS = 32;
    __shared__ __align__(16) unsigned keys[KEYS * Head<WIDTH>::STRIDE];
    __shared__ __align__(16) unsigned values[KEYS * Head<WIDTH>::STRIDE];
    __shared__ __align__(16) unsigned key_columns[WIDTH * (KEYS / 2 + 4)];
    const int group = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
    const long long head = blockIdx.y, record = blockIdx.z;
    const long long first = blockIdx.x * OWN_ROWS, own = first + threadIdx.x / 32 * 16 + group;
    k += record * s.k_len * s.k_stride + head * s.head_dim;
    v += record * s.k_len * s.v_stride + head * s.head_dim;
    unsigned queries[WIDTH / 16][4], upstream[WIDTH / 16][4];
    load_fragments<WIDTH>(q + record * s.q_len * s.q_stride + head * s.head_dim, s.q_stride, own - group, s.q_len, queries, s);
    dout += record * s.q_len * s.out_stride + head * s.head_dim;
    load_fragments<WIDTH>(dout, s.out_stride, own - group, s.q_len, upstream, s);
    float row_lse[2], row_delta[2], sum[WIDTH / 8][4] = {};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const long long at = (record * s.heads + head) * s.q_len + own + 8 * i;
        row_lse[i] = own + 8 * i < s.q_len ? lse[at] * LOG2_E : INF;
        row_delta[i] = own + 8 * i < s.q_len ? delta[at] : 0.0f;
    }
    const bool masked = is_masked(s);
    const float scale = s.scale * LOG2_E;
    const long long seen = keys_seen(s, first + OWN_ROWS);
    for (long long start = 0; start < seen; start += KEYS) {
        __syncthreads();
        load_rows<WIDTH, KEYS>(k, s.k_stride, start, s.k_len, keys, s);
        load_rows<WIDTH, KEYS>(v, s.v_stride, start, s.k_len, values, s);
        load_columns<WIDTH, KEYS>(k, s.k_stride, start, s.k_len, key_columns, s);
        __syncthreads();
        float p[KEYS / 8][4] = {}, dp[KEYS / 8][4] = {};
#pragma unroll
        for (int i = 0; i < WIDTH / 16; ++i) {
            multiply_rows<T, WIDTH, KEYS>(queries[i], keys, i, p);
            multiply_rows<T, WIDTH, KEYS>(upstream[i], values, i, dp);
        }
#pragma unroll
        for (int j = 0; j < KEYS / 8; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const long long key = start + 8 * j + column + e % 2;
                const bool sees = masked ? allowed(s, record, own + e / 2 * 8, key) : key < s.k_len;
                const float probability = sees ? exp2f(p[j][e] * scale - row_lse[e / 2]) : 0.0f;
                dp[j][e] = probability * (dp[j][e] - row_delta[e / 2]);
            }
        multiply_columns<T, WIDTH, KEYS>(dp, key_columns, sum);
    }
    float* to = dq + record * s.q_len * s.dq_stride + head * s.head_dim;
    put_rows<WIDTH>(to, s.dq_stride, own, s.q_len, sum, s.scale * (unscale == nullptr ? 1.0f : *unscale), s);
}

// Words of shared memory that `flash_dkv` needs: own keys and values, and a tile of queries and of gradients both ways.
template <int WIDTH>
struct DkvShared {
    static constexpr int QUERIES = 32;
    static constexpr int OWN = OWN_ROWS * Head<WIDTH>::STRIDE;
    static constexpr int ROWS = QUERIES * Head<WIDTH>::STRIDE;
    static constexpr int COLUMNS = WIDTH * (QUERIES / 2 + 4);
};

// Blocks (tiles of keys, heads, records). Either gradient may be absent.
template <class T, int WIDTH>
__device__ __forceinline__ void flash_dkv(const T* q, const T* k, const T* v, const T* dout, const float* lse, const float* delta,
                                          const float* unscale, float* dk, float* dv, const Attention& s) {
    using Shared = DkvShared<WIDTH>;
    constexpr int QUERIES = Shared::QUERIES;
    DYNAMIC_SHARED(unsigned, shared);
    unsigned *keys = shared, *values = keys + Shared::OWN, *queries = values + Shared::OWN, *upstream = queries + Shared::ROWS;
    unsigned *query_columns = upstream + Shared::ROWS, *upstream_columns = query_columns + Shared::COLUMNS;
    float* tile_lse = reinterpret_cast<float*>(upstream_columns + Shared::COLUMNS);
    float* tile_delta = tile_lse + QUERIES;
    const int group = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2, warp_rows = threadIdx.x / 32 * 16;
    const long long head = blockIdx.y, record = blockIdx.z;
    const long long first = blockIdx.x * OWN_ROWS, own = first + warp_rows + group;
    q += record * s.q_len * s.q_stride + head * s.head_dim;
    dout += record * s.q_len * s.out_stride + head * s.head_dim;
    load_rows<WIDTH, OWN_ROWS>(k + record * s.k_len * s.k_stride + head * s.head_dim, s.k_stride, first, s.k_len, keys, s);
    load_rows<WIDTH, OWN_ROWS>(v + record * s.k_len * s.v_stride + head * s.head_dim, s.v_stride, first, s.k_len, values, s);
    float of_keys[WIDTH / 8][4] = {}, of_values[WIDTH / 8][4] = {};
    // Queries beyond the last have an infinite log-sum-exp, keys beyond the last are not written: neither needs a mask.
    const bool masked = is_masked(s);
    const float scale = s.scale * LOG2_E;
    for (long long start = first_query(s, first, QUERIES); start < s.q_len; start += QUERIES) {
        __syncthreads();
        load_rows<WIDTH, QUERIES>(q, s.q_stride, start, s.q_len, queries, s);
        load_rows<WIDTH, QUERIES>(dout, s.out_stride, start, s.q_len, upstream, s);
        load_columns<WIDTH, QUERIES>(q, s.q_stride, start, s.q_len, query_columns, s);
        load_columns<WIDTH, QUERIES>(dout, s.out_stride, start, s.q_len, upstream_columns, s);
        if (threadIdx.x < QUERIES) {
            const long long query = start + threadIdx.x, at = (record * s.heads + head) * s.q_len + query;
            tile_lse[threadIdx.x] = query < s.q_len ? lse[at] * LOG2_E : INF;
            tile_delta[threadIdx.x] = query < s.q_len ? delta[at] : 0.0f;
        }
        __syncthreads();
        float p[QUERIES / 8][4] = {}, dp[QUERIES / 8][4] = {};
#pragma unroll
        for (int i = 0; i < WIDTH / 16; ++i) {
            unsigned fragment[4];
            shared_fragment<WIDTH>(keys, warp_rows, i, fragment);
            multiply_rows<T, WIDTH, QUERIES>(fragment, queries, i, p);
            shared_fragment<WIDTH>(values, warp_rows, i, fragment);
            multiply_rows<T, WIDTH, QUERIES>(fragment, upstream, i, dp);
        }
#pragma unroll
        for (int j = 0; j < QUERIES / 8; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int query = 8 * j + column + e % 2;
                const bool sees = !masked || allowed(s, record, start + query, own + e / 2 * 8);
                p[j][e] = sees ? exp2f(p[j][e] * scale - tile_lse[query]) : 0.0f;
                dp[j][e] = p[j][e] * (dp[j][e] - tile_delta[query]);
            }
        multiply_columns<T, WIDTH, QUERIES>(p, upstream_columns, of_values);
        multiply_columns<T, WIDTH, QUERIES>(dp, query_columns, of_keys);
    }
    const float back = unscale == nullptr ? 1.0f : *unscale;
    if (dv != nullptr) {
        put_rows<WIDTH>(dv + record * s.k_len * s.dv_stride + head * s.head_dim, s.dv_stride, own, s.k_len, of_values, back, s);
    }
    if (dk != nullptr) {
        float* to = dk + record * s.k_len * s.dk_stride + head * s.head_dim;
        put_rows<WIDTH>(to, s.dk_stride, own, s.k_len, of_keys, s.scale * back, s);
    }
}

extern "C" __global__ void __launch_bounds__(128)
    attention_forward(const OPERAND* q, const OPERAND* k, const OPERAND* v, OPERAND* out, float* lse, Attention s) {
    flash_forward<OPERAND, PADDED>(q, k, v, out, lse, s);
}

extern "C" __global__ void __launch_bounds__(128)
    attention_dq(const OPERAND* q, const OPERAND* k, const OPERAND* v, const OPERAND* dout, const float* lse, const float* delta,
                 const float* unscale, float* dq, Attention s) {
    flash_dq<OPERAND, PADDED>(q, k, v, dout, lse, delta, unscale, dq, s);
}

extern "C" __global__ void __launch_bounds__(128)
    attention_dkv(const OPERAND* q, const OPERAND* k, const OPERAND* v, const OPERAND* dout, const float* lse, const float* delta,
                  const float* unscale, float* dk, float* dv, Attention s) {
    flash_dkv<OPERAND, PADDED>(q, k, v, dout, lse, delta, unscale, dk, dv, s);
}

extern "C" __global__ void attention_delta(const OPERAND* out, const OPERAND* dout, float* delta, Attention s) {
    head_products(out, dout, delta, s);
}
