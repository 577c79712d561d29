// What all attention kernels share: the shapes, the masks, and the products of gradients with outputs.
//
// softmax(scale q k^T + mask) v by tiles of queries and keys with a running maximum (Dao et al., 2022; backward pass
// by tiles of queries and by tiles of keys as in Dao, 2023): scores are never stored, and of the softmax only each
// row's log-sum-exp is kept.

// Rows are `stride` elements apart, head h starts at column h head_dim; log-sum-exp and deltas are [batch, heads, q_len].
struct Attention {
    long long batch, heads, head_dim, q_len, k_len;
    long long q_stride, k_stride, v_stride, out_stride;
    long long dq_stride, dk_stride, dv_stride;
    // [batch, k_len], 1 where a key may be attended to; or null.
    const unsigned char* keep;
    // [batch, q_len, k_len], 1 where a query may attend to a key; or null.
    const unsigned char* pattern;
    // Whether query i sees keys up to i + k_len - q_len only.
    long long causal;
    // Whether all rows of all heads start at multiples of 16 bytes and have a multiple of eight elements.
    long long aligned;
    // Whether gradients are added to what is there.
    long long add;
    float scale;
};

__device__ __forceinline__ bool is_masked(const Attention& s) {
    return s.causal != 0 || s.keep != nullptr || s.pattern != nullptr;
}

__device__ __forceinline__ bool allowed(const Attention& s, long long record, long long query, long long key) {
    if (query >= s.q_len || key >= s.k_len) return false;
    if (s.causal != 0 && key + s.q_len > query + s.k_len) return false;
    if (s.keep != nullptr && s.keep[record * s.k_len + key] == 0) return false;
    return s.pattern == nullptr || s.pattern[(record * s.q_len + query) * s.k_len + key] != 0;
}

// Keys below this one may be seen by queries below `last_query`.
__device__ __forceinline__ long long keys_seen(const Attention& s, long long last_query) {
    if (s.causal == 0) return s.k_len;
    const long long seen = (last_query < s.q_len ? last_query : s.q_len) + s.k_len - s.q_len;
    return seen < 0 ? 0 : seen < s.k_len ? seen : s.k_len;
}

// Queries from this one on, rounded down to whole tiles, may see keys from `first_key` on.
__device__ __forceinline__ long long first_query(const Attention& s, long long first_key, long long tile) {
    if (s.causal == 0) return 0;
    const long long first = first_key + s.q_len - s.k_len;
    return first <= 0 ? 0 : first / tile * tile;
}

// delta = sum over a head's columns of dout out. One block per row; its warps share the heads.
template <class T, class G>
__device__ __forceinline__ void head_products(const T* out, const G* dout, float* delta, const Attention& s) {
    const long long record = blockIdx.x / s.q_len, query = blockIdx.x % s.q_len;
    const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
    for (long long head = threadIdx.x / 32; head < s.heads; head += warps) {
        const long long at = blockIdx.x * s.out_stride + head * s.head_dim;
        float sum = 0.0f;
        for (long long c = lane; c < s.head_dim; c += 32) sum += to_float(out[at + c]) * to_float(dout[at + c]);
        for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(FULL_WARP, sum, step);
        if (lane == 0) delta[(record * s.heads + head) * s.q_len + query] = sum;
    }
}
