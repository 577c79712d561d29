// Moving rows about: embedding, patches, class token and positions, pooling, slices. One block per row of what is
// written, unless said otherwise.

// out[i] = table[ids[i]]
extern "C" __global__ void gather_rows(const float* table, const unsigned* ids, float* out, long long columns) {
    const float* from = table + ids[blockIdx.x] * columns;
    float* to = out + blockIdx.x * columns;
    along_row(columns, [&](long long c, auto n) {
        float v[decltype(n)::value];
        load(from + c, v);
        store(to + c, v);
    });
}

// dtable[rows[g]] += sum of dout[places[starts[g] .. starts[g + 1]]], in that order. One block for each distinct row.
extern "C" __global__ void scatter_rows(const float* dout, const unsigned* rows, const unsigned* starts, const unsigned* places,
                                        float* dtable, long long columns) {
    const unsigned first = starts[blockIdx.x], last = starts[blockIdx.x + 1];
    float* to = dtable + rows[blockIdx.x] * columns;
    along_row(columns, [&](long long c, auto n) {
        constexpr int N = decltype(n)::value;
        float sum[N], part[N];
        load(to + c, sum);
        for (unsigned i = first; i < last; ++i) {
            load(dout + places[i] * columns + c, part);
            for (int j = 0; j < N; ++j) sum[j] += part[j];
        }
        store(to + c, sum);
    });
}

// Where element (channel, y, x) of an image lies among its patches: row and column of the unfolded matrix.
struct Patches {
    long long channels, height, width, patch;
};

// image [B, C, H, W] to rows [B (H/p) (W/p), C p p]
extern "C" __global__ void unfold(const float* image, float* out, Patches shape) {
    const long long p = shape.patch, across = shape.width / p, down = shape.height / p;
    const long long record = blockIdx.x / (down * across), place = blockIdx.x % (down * across);
    const long long top = place / across * p, left = place % across * p, columns = shape.channels * p * p;
    for (long long c = threadIdx.x; c < columns; c += blockDim.x) {
        const long long channel = c / (p * p), y = top + c / p % p, x = left + c % p;
        out[blockIdx.x * columns + c] = image[((record * shape.channels + channel) * shape.height + y) * shape.width + x];
    }
}

// The way back, added to the image's gradient. One block for each row of pixels of a channel.
extern "C" __global__ void fold(const float* dout, float* dimage, Patches shape) {
    const long long p = shape.patch, across = shape.width / p, down = shape.height / p, columns = shape.channels * p * p;
    const long long y = blockIdx.x % shape.height, plane = blockIdx.x / shape.height;
    const long long record = plane / shape.channels, channel = plane % shape.channels;
    for (long long x = threadIdx.x; x < across * p; x += blockDim.x) {
        if (y >= down * p) continue;
        const long long row = (record * down + y / p) * across + x / p, column = (channel * p + y % p) * p + x % p;
        dimage[blockIdx.x * shape.width + x] += dout[row * columns + column];
    }
}

// out[b, 0] = first + positions[0]; out[b, t] = patches[b, t - 1] + positions[t]
extern "C" __global__ void add_class_and_positions(const float* patches, const float* first, const float* positions, float* out,
                                                   long long tokens, long long columns) {
    const long long record = blockIdx.x / tokens, token = blockIdx.x % tokens;
    const float* from = token == 0 ? first : patches + (record * (tokens - 1) + token - 1) * columns;
    along_row(columns, [&](long long c, auto n) {
        constexpr int N = decltype(n)::value;
        float v[N], position[N];
        load(from + c, v);
        load(positions + token * columns + c, position);
        for (int i = 0; i < N; ++i) v[i] += position[i];
        store(out + blockIdx.x * columns + c, v);
    });
}

// Sums over records, added to the gradients of the positions and of the class embedding. One block per token.
extern "C" __global__ void class_and_positions_backward(const float* dout, float* dfirst, float* dpositions, long long batch,
                                                        long long tokens, long long columns) {
    const long long token = blockIdx.x;
    along_row(columns, [&](long long c, auto n) {
        constexpr int N = decltype(n)::value;
        float total[N], part[N];
        for (int i = 0; i < N; ++i) total[i] = 0.0f;
        for (long long record = 0; record < batch; ++record) {
            load(dout + (record * tokens + token) * columns + c, part);
            for (int i = 0; i < N; ++i) total[i] += part[i];
        }
        if (dpositions != nullptr) {
            load(dpositions + token * columns + c, part);
            for (int i = 0; i < N; ++i) part[i] += total[i];
            store(dpositions + token * columns + c, part);
        }
        if (dfirst != nullptr && token == 0) {
            load(dfirst + c, part);
            for (int i = 0; i < N; ++i) part[i] += total[i];
            store(dfirst + c, part);
        }
    });
}

// out[b, i] = x[b, first + i] for `kept` rows of each sequence
extern "C" __global__ void slice_rows(const float* x, float* out, long long tokens, long long first, long long kept,
                                      long long columns) {
    const long long record = blockIdx.x / kept, token = first + blockIdx.x % kept;
    along_row(columns, [&](long long c, auto n) {
        float v[decltype(n)::value];
        load(x + (record * tokens + token) * columns + c, v);
        store(out + blockIdx.x * columns + c, v);
    });
}

// dx[b, first + i] += dout[b, offset + i] for `kept` rows, of sequences of `tokens` and `from_tokens` rows
extern "C" __global__ void add_rows(const float* dout, long long from_tokens, long long offset, float* dx, long long tokens,
                                    long long first, long long kept, long long columns) {
    const long long record = blockIdx.x / kept, token = blockIdx.x % kept;
    const float* from = dout + (record * from_tokens + offset + token) * columns;
    float* to = dx + (record * tokens + first + token) * columns;
    along_row(columns, [&](long long c, auto n) {
        constexpr int N = decltype(n)::value;
        float sum[N], part[N];
        load(to + c, sum);
        load(from + c, part);
        for (int i = 0; i < N; ++i) sum[i] += part[i];
        store(to + c, sum);
    });
}

// out[b, c] = mean of x[b, :, c]. Blocks (record, group of columns).
extern "C" __global__ void mean_tokens(const float* x, float* out, long long tokens, long long columns) {
    const long long c = static_cast<long long>(blockIdx.y) * blockDim.x + threadIdx.x;
    if (c >= columns) return;
    const float* from = x + blockIdx.x * tokens * columns + c;
    float sum = 0.0f;
    for (long long token = 0; token < tokens; ++token) sum += from[token * columns];
    out[blockIdx.x * columns + c] = sum / tokens;
}

// dx[b, t] += dout[b] / tokens
extern "C" __global__ void mean_tokens_backward(const float* dout, float* dx, long long tokens, long long columns) {
    const float* from = dout + blockIdx.x / tokens * columns;
    const float share = 1.0f / tokens;
    along_row(columns, [&](long long c, auto n) {
        constexpr int N = decltype(n)::value;
        float sum[N], part[N];
        load(dx + blockIdx.x * columns + c, sum);
        load(from + c, part);
        for (int i = 0; i < N; ++i) sum[i] += share * part[i];
        store(dx + blockIdx.x * columns + c, sum);
    });
}
