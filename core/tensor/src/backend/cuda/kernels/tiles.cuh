// Tiles of 16-bit operands in shared memory, and the fragments that a warp multiplies on tensor cores.
//
// A tile's operands lie as words of two elements: along the head for products over the head ("rows"), along the tile for
// products over the tile's rows ("columns", that is transposed). The padding of both makes the eight groups of a warp
// read different banks. Heads are padded to WIDTH columns with zeros, tiles beyond the last row as well.

template <int WIDTH>
struct Head {
    // Words of a row, and from one row to the next.
    static constexpr int WORDS = WIDTH / 2, STRIDE = WIDTH / 2 + 4;
};

// Elements column .. column + 1 of a row as a word; zeros beyond the rows and the head.
template <class T>
__device__ __forceinline__ unsigned load_pair(const T* from, long long stride, long long row, long long rows, int column,
                                              const Attention& s) {
    if (row >= rows || column >= s.head_dim) return 0u;
    const T* at = from + row * stride + column;
    if (s.aligned != 0) return *reinterpret_cast<const unsigned*>(at);
    const unsigned high = column + 1 < s.head_dim ? at[1].bits : 0u;
    return at[0].bits | high << 16;
}

// Eight elements of a row as four words.
template <class T>
__device__ __forceinline__ uint4 load_eight(const T* from, long long stride, long long row, long long rows, int column,
                                            const Attention& s) {
    if (s.aligned != 0) {
        if (row >= rows || column >= s.head_dim) return make_uint4(0u, 0u, 0u, 0u);
        return *reinterpret_cast<const uint4*>(from + row * stride + column);
    }
    return make_uint4(load_pair(from, stride, row, rows, column, s), load_pair(from, stride, row, rows, column + 2, s),
                      load_pair(from, stride, row, rows, column + 4, s), load_pair(from, stride, row, rows, column + 6, s));
}

// Rows `first ..` of one head, words along the head.
template <int WIDTH, int ROWS, class T>
__device__ __forceinline__ void load_rows(const T* from, long long stride, long long first, long long rows, unsigned* tile,
                                          const Attention& s) {
    for (int i = threadIdx.x; i < ROWS * (WIDTH / 8); i += blockDim.x) {
        const int row = i / (WIDTH / 8), chunk = i % (WIDTH / 8);
        const uint4 eight = load_eight(from, stride, first + row, rows, 8 * chunk, s);
        *reinterpret_cast<uint4*>(tile + row * Head<WIDTH>::STRIDE + 4 * chunk) = eight;
    }
}

// The same rows transposed: tile[column][pair of rows], rows of ROWS / 2 + 4 words.
template <int WIDTH, int ROWS, class T>
__device__ __forceinline__ void load_columns(const T* from, long long stride, long long first, long long rows, unsigned* tile,
                                             const Attention& s) {
    constexpr int PAIRS = ROWS / 2, STRIDE = PAIRS + 4;
    for (int i = threadIdx.x; i < PAIRS * (WIDTH / 8); i += blockDim.x) {
        const int pair = i % PAIRS, chunk = i / PAIRS;
        const uint4 even = load_eight(from, stride, first + 2 * pair, rows, 8 * chunk, s);
        const uint4 odd = load_eight(from, stride, first + 2 * pair + 1, rows, 8 * chunk, s);
        const unsigned lower[4] = {even.x, even.y, even.z, even.w}, upper[4] = {odd.x, odd.y, odd.z, odd.w};
#pragma unroll
        for (int word = 0; word < 4; ++word) {
            unsigned* at = tile + (8 * chunk + 2 * word) * STRIDE + pair;
            at[0] = (lower[word] & 0xffffu) | upper[word] << 16;
            at[STRIDE] = lower[word] >> 16 | (upper[word] & 0xffff0000u);
        }
    }
}

// A warp's 16 rows of one head, straight from device memory into fragments.
template <int WIDTH, class T>
__device__ __forceinline__ void load_fragments(const T* from, long long stride, long long first, long long rows,
                                               unsigned (&fragments)[WIDTH / 16][4], const Attention& s) {
    const int group = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < WIDTH / 16; ++i) {
#pragma unroll
        for (int part = 0; part < 4; ++part) {
            const long long row = first + group + part % 2 * 8;
            fragments[i][part] = load_pair(from, stride, row, rows, 16 * i + column + part / 2 * 8, s);
        }
    }
}

// The same from rows in shared memory, for columns 16 i ..
template <int WIDTH>
__device__ __forceinline__ void shared_fragment(const unsigned* tile, int first, int i, unsigned (&fragment)[4]) {
    const int group = threadIdx.x % 32 / 4, word = threadIdx.x % 4;
    const unsigned* at = tile + (first + group) * Head<WIDTH>::STRIDE + 8 * i + word;
    fragment[0] = at[0];
    fragment[1] = at[8 * Head<WIDTH>::STRIDE];
    fragment[2] = at[4];
    fragment[3] = at[8 * Head<WIDTH>::STRIDE + 4];
}

// scores[j] += fragment (columns 16 i ..) times rows 8 j .. of a tile, transposed
template <class T, int WIDTH, int ROWS>
__device__ __forceinline__ void multiply_rows(const unsigned (&fragment)[4], const unsigned* tile, int i,
                                              float (&scores)[ROWS / 8][4]) {
    const int group = threadIdx.x % 32 / 4, word = threadIdx.x % 4;
#pragma unroll
    for (int j = 0; j < ROWS / 8; ++j) {
        const unsigned* at = tile + (8 * j + group) * Head<WIDTH>::STRIDE + 8 * i + word;
        const unsigned b[2] = {at[0], at[4]};
        mma_16x8x16(scores[j], fragment, b, T{});
    }
}

// sum += scores times the tile's rows, which lie transposed
template <class T, int WIDTH, int ROWS>
__device__ __forceinline__ void multiply_columns(const float (&scores)[ROWS / 8][4], const unsigned* tile,
                                                 float (&sum)[WIDTH / 8][4]) {
    constexpr int STRIDE = ROWS / 2 + 4;
    const int group = threadIdx.x % 32 / 4, word = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < ROWS / 16; ++i) {
        const float(&low)[4] = scores[2 * i];
        const float(&high)[4] = scores[2 * i + 1];
        const unsigned a[4] = {pack<T>(low[0], low[1]), pack<T>(low[2], low[3]), pack<T>(high[0], high[1]),
                               pack<T>(high[2], high[3])};
#pragma unroll
        for (int n = 0; n < WIDTH / 8; ++n) {
            const unsigned* at = tile + (8 * n + group) * STRIDE + 8 * i + word;
            const unsigned b[2] = {at[0], at[4]};
            mma_16x8x16(sum[n], a, b, T{});
        }
    }
}
