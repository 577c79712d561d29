// Kernels of the stand-in's own test: one for each thing that it imitates, and one for each fault that it
// reports.

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xFFFFFFFF, value, step);
    return value;
}

// out[block] = sum of x[block * n ..]
extern "C" __global__ void __launch_bounds__(1024)
    block_sum(const float* __restrict__ x, float* out, long long n) {
    __shared__ float partial[32];
    float sum = 0;
    for (long long i = threadIdx.x; i < n; i += blockDim.x) sum += x[blockIdx.x * n + i];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = warp_sum(threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0.0f);
        if (threadIdx.x == 0) out[blockIdx.x] = sum;
    }
}

struct Line {
    float slope, offset;
};

// y = slope x + offset, without a barrier, by a three-dimensional launch
extern "C" __global__ void affine(const float* x, float* y, Line line, int n) {
    int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    int i = block * blockDim.x * blockDim.y * blockDim.z + thread;
    if (i < n) y[i] = fmaf(line.slope, x[i], line.offset);
}

// Reverses each block's part.
extern "C" __global__ void reverse(float* x) {
    DYNAMIC_SHARED(float, all);
    float* own = x + blockIdx.x * blockDim.x;
    all[threadIdx.x] = own[threadIdx.x];
    __syncthreads();
    own[threadIdx.x] = all[blockDim.x - 1 - threadIdx.x];
}

// How many words of static and dynamic shared memory are not NaN before anyone wrote.
extern "C" __global__ void count_set(int* counts) {
    __shared__ float fixed[64];
    DYNAMIC_SHARED(float, dynamic);
    if (threadIdx.x == 0) {
        int count = 0;
        for (int i = 0; i < 64; i++) count += !isnan(fixed[i]) + !isnan(dynamic[i]);
        counts[blockIdx.x] = count;
    }
    __syncthreads();
    fixed[threadIdx.x] = dynamic[threadIdx.x] = 1;
}

// Shuffles and votes, each lane into its own column of out[6][32].
extern "C" __global__ void exchanges(int* out) {
    int lane = threadIdx.x;
    out[lane] = __shfl_sync(0xFFFFFFFF, lane, 5);
    out[32 + lane] = __shfl_down_sync(0xFFFFFFFF, lane, 3);
    out[64 + lane] = __shfl_up_sync(0xFFFFFFFF, lane, 3, 8);
    out[96 + lane] = __shfl_xor_sync(0xFFFFFFFF, lane, 1);
    out[128 + lane] = static_cast<int>(__ballot_sync(0xFFFFFFFF, lane % 3 == 0));
    out[160 + lane] = __any_sync(0xFFFFFFFF, lane == 31) + 2 * __all_sync(0xFFFFFFFF, lane < 31);
    __syncwarp();
}

// d[16][8] += a[16][16] b[16][8], fragments filled by hand (`b` row by row).
template <bool Bf16>
__device__ void product(const unsigned short* a, const unsigned short* b, float* d) {
    int g = threadIdx.x / 4, t = threadIdx.x % 4;
    unsigned fa[4], fb[2];
    float fd[4];
    for (int r = 0; r < 4; r++) {
        const unsigned short* at = a + 16 * (g + 8 * (r % 2)) + 2 * t + 8 * (r / 2);
        fa[r] = at[0] | static_cast<unsigned>(at[1]) << 16;
        fd[r] = d[8 * (g + 8 * (r / 2)) + 2 * t + r % 2];
    }
    for (int r = 0; r < 2; r++) {
        const unsigned short* at = b + 8 * (2 * t + 8 * r) + g;
        fb[r] = at[0] | static_cast<unsigned>(at[8]) << 16;
    }
    if (Bf16)
        host_mma_bf16_16x8x16(fd, fa, fb);
    else
        host_mma_f16_16x8x16(fd, fa, fb);
    for (int r = 0; r < 4; r++) d[8 * (g + 8 * (r / 2)) + 2 * t + r % 2] = fd[r];
}

extern "C" __global__ void product_bf16(const unsigned short* a, const unsigned short* b, float* d) {
    product<true>(a, b, d);
}

// The same by `ldmatrix`, as kernels do it: `a` as it lies, `b` transposed.
extern "C" __global__ void product_f16(const unsigned short* a, const unsigned short* b, float* d) {
    __shared__ __align__(16) unsigned short sa[16 * 16], sb[16 * 8];
    for (int i = threadIdx.x; i < 256; i += 32) sa[i] = a[i];
    for (int i = threadIdx.x; i < 128; i += 32) sb[i] = b[i];
    __syncwarp();
    int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    unsigned fa[4], fb[4];
    host_ldmatrix_x4(fa, sa + 16 * (lane % 16) + 8 * (lane / 16));
    host_ldmatrix_x4_trans(fb, sb + 8 * (lane % 16));
    float fd[4];
    for (int r = 0; r < 4; r++) fd[r] = d[8 * (g + 8 * (r / 2)) + 2 * t + r % 2];
    host_mma_f16_16x8x16(fd, fa, fb);
    for (int r = 0; r < 4; r++) d[8 * (g + 8 * (r / 2)) + 2 * t + r % 2] = fd[r];
}

// Faults.

extern "C" __global__ void writes_beyond(float* x, int n) { x[n] = 1; }

extern "C" __global__ void reads_misaligned(const float* x, float* y) {
    *y = reinterpret_cast<const float4*>(x + 1)->w;
}

extern "C" __global__ void indexes_beyond(float* y) {
    __shared__ float few[4];
    few[threadIdx.x] = 0;
    y[0] = few[0];
}

extern "C" __global__ void leaves_early(float* y) {
    if (threadIdx.x == 7) return;
    __syncthreads();
    y[threadIdx.x] = 0;
}

extern "C" __global__ void diverges(float* y) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncwarp();
    y[threadIdx.x] = 0;
}
