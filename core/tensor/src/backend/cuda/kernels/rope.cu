// Rotary position embedding in LLaMA's half-split form. One block per row; `cosines` and `sines` are
// [tokens, half], worked out on the host in double precision.

// Columns i and i + half of each head turn by the token's angles; `sign` -1 turns back. out (+)= turned x, and `out`
// may be `x` where nothing is added.
template <class From, class T>
__device__ __forceinline__ void rotary(const From* x, long long x_stride, const float* cosines, const float* sines, T* out,
                                       long long out_stride, long long tokens, long long heads, long long half, float sign,
                                       bool add) {
    const long long row = blockIdx.x, token = row % tokens;
    x += row * x_stride;
    out += row * out_stride;
    for (long long pair = threadIdx.x; pair < heads * half; pair += blockDim.x) {
        const long long head = pair / half, i = pair - head * half, low = head * 2 * half + i, high = low + half;
        const float cosine = cosines[token * half + i], sine = sign * sines[token * half + i];
        const float a = to_float(x[low]), b = to_float(x[high]);
        float turned_low = a * cosine - b * sine, turned_high = b * cosine + a * sine;
        if (add) {
            turned_low += to_float(out[low]);
            turned_high += to_float(out[high]);
        }
        out[low] = Round<T>::of(turned_low);
        out[high] = Round<T>::of(turned_high);
    }
}

#define ROTARY(T, NAME)                                                                                              \
    extern "C" __global__ void rotary_##NAME(const T* x, long long x_stride, const float* cosines, const float* sines, \
                                             T* out, long long out_stride, long long tokens, long long heads,       \
                                             long long half, float sign, long long add) {                           \
        rotary(x, x_stride, cosines, sines, out, out_stride, tokens, heads, half, sign, add != 0);                  \
    }
ROTARY(float, f32)
ROTARY(bf16, bf16)
ROTARY(f16, f16)
