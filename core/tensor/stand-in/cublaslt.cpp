// The calls of cublasLt: descriptors, the one algorithm, and the product by its definition (see product.h).
//
// Follows the documentation for what is an error, and refuses what heddle has no use for.
#include "memory.h"
#include "product.h"
#include "trace.h"

#include <cstdio>
#include <cstring>

using namespace stand_in;

namespace {

// Smallest alignments of A, B, C and D that the caller promises; cublasLt assumes 256 bytes.
struct Preference {
    uint32_t alignment[4] = {256, 256, 256, 256};
};

// The one algorithm, which is valid for the problem that it was chosen for.
struct Algorithm {
    uint64_t alignment[4], problem, unused[3];
};

struct Heuristic {
    Algorithm algorithm;
    size_t workspace;
    int status;
    float waves;
    int reserved[4];
};
static_assert(sizeof(Heuristic) == 96, "cublasLtMatmulHeuristicResult_t");

// FNV-1a over what an algorithm depends on; never 0.
uint64_t problem_of(const Desc& desc, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
    uint64_t hash = 0xCBF29CE484222325;
    auto add = [&](int64_t value) { hash = (hash ^ static_cast<uint64_t>(value)) * 0x100000001B3; };
    for (int value : {desc.compute, desc.scale, desc.trans_a, desc.trans_b, desc.epilogue}) add(value);
    for (const Layout* x : {&a, &b, &c, &d}) {
        for (int value : {x->type, x->order, x->batch}) add(value);
        for (uint64_t value : {x->rows, x->cols}) add(static_cast<int64_t>(value));
        for (int64_t value : {x->ld, x->stride}) add(value);
    }
    return hash | 1;
}

template <typename T>
int set(T& field, const void* value, size_t bytes) {
    if (bytes != sizeof field) return refuse(INVALID_VALUE, "an attribute of another size");
    memcpy(&field, value, bytes);
    return SUCCESS;
}

Scales scales_of(const Desc& desc, const float* alpha, const float* beta) {
    if (desc.pointer_mode == DEVICE) {
        check_range(reinterpret_cast<uint64_t>(alpha), sizeof *alpha, "cublasLtMatmul, alpha");
        check_range(reinterpret_cast<uint64_t>(beta), sizeof *beta, "cublasLtMatmul, beta");
    } else if (is_device_address(reinterpret_cast<uint64_t>(alpha))) {
        fail("cublasLtMatmul: alpha lies on the device, and the pointer mode says host");
    }
    return {*alpha, *beta};
}

void check_alignment(const Algorithm& algorithm, int which, const void* start) {
    // The allocations of a real device start at multiples of 256 bytes.
    auto address = reinterpret_cast<uint64_t>(start);
    size_t offset = check_range(address, 1, "cublasLtMatmul");
    if (offset % algorithm.alignment[which] != 0)
        fail("cublasLtMatmul: matrix %c lies %zu bytes into its allocation, not at a multiple of %llu",
             "ABCD"[which], offset, static_cast<unsigned long long>(algorithm.alignment[which]));
}

int handle;

}  // namespace

extern "C" {

int cublasLtCreate(void** created) {
    *created = &handle;
    return SUCCESS;
}

int cublasLtDestroy(void*) { return SUCCESS; }

int cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t cols, int64_t ld) {
    *layout = new Layout{type, COLUMNS, rows, cols, ld, 1, 0};
    return SUCCESS;
}

int cublasLtMatrixLayoutDestroy(Layout* layout) {
    delete layout;
    return SUCCESS;
}

int cublasLtMatrixLayoutSetAttribute(Layout* layout, int which, const void* value, size_t bytes) {
    switch (which) {
        case 0: return set(layout->type, value, bytes);
        case 1:
            if (int status = set(layout->order, value, bytes)) return status;
            return layout->order == COLUMNS || layout->order == ROWS ? SUCCESS
                                                                     : refuse(NOT_SUPPORTED, "this order");
        case 2: return set(layout->rows, value, bytes);
        case 3: return set(layout->cols, value, bytes);
        case 4: return set(layout->ld, value, bytes);
        case 5: return set(layout->batch, value, bytes);
        case 6: return set(layout->stride, value, bytes);
        default: return refuse(NOT_SUPPORTED, "this attribute of a layout");
    }
}

int cublasLtMatmulDescCreate(Desc** desc, int compute, int scale) {
    *desc = new Desc{compute, scale, HOST, NONE, NONE, PLAIN, 0, 0, -1};
    return SUCCESS;
}

int cublasLtMatmulDescDestroy(Desc* desc) {
    delete desc;
    return SUCCESS;
}

int cublasLtMatmulDescSetAttribute(Desc* desc, int which, const void* value, size_t bytes) {
    switch (which) {
        case 0: return set(desc->compute, value, bytes);
        case 1: return set(desc->scale, value, bytes);
        case 2: return set(desc->pointer_mode, value, bytes);
        case 3: return set(desc->trans_a, value, bytes);
        case 4: return set(desc->trans_b, value, bytes);
        case 7: return set(desc->epilogue, value, bytes);
        case 8: return set(desc->bias, value, bytes);
        case 10: return set(desc->bias_stride, value, bytes);
        case 26: return set(desc->bias_type, value, bytes);
        default: return refuse(NOT_SUPPORTED, "this attribute of a product");
    }
}

int cublasLtMatmulPreferenceCreate(Preference** preference) {
    *preference = new Preference;
    return SUCCESS;
}

int cublasLtMatmulPreferenceDestroy(Preference* preference) {
    delete preference;
    return SUCCESS;
}

int cublasLtMatmulPreferenceSetAttribute(Preference* preference, int which, const void* value, size_t bytes) {
    constexpr int MIN_ALIGNMENT_A = 5, MIN_ALIGNMENT_D = 8;
    if (which < MIN_ALIGNMENT_A || which > MIN_ALIGNMENT_D) return SUCCESS;
    return set(preference->alignment[which - MIN_ALIGNMENT_A], value, bytes);
}

int cublasLtMatmulAlgoGetHeuristic(void*, Desc* desc, Layout* a, Layout* b, Layout* c, Layout* d,
                                   Preference* preference, int requested, Heuristic* results, int* count) {
    *count = 0;
    if (requested < 1) return refuse(INVALID_VALUE, "no algorithm is asked for");
    if (int status = check(*desc, *a, *b, *c, *d)) return status;
    results[0] = Heuristic{};
    for (int i = 0; i < 4; i++) results[0].algorithm.alignment[i] = preference->alignment[i];
    results[0].algorithm.problem = problem_of(*desc, *a, *b, *c, *d);
    *count = 1;
    return SUCCESS;
}

int cublasLtMatmul(void*, Desc* desc, const float* alpha, const void* a, Layout* a_layout, const void* b,
                   Layout* b_layout, const float* beta, const void* c, Layout* c_layout, void* d,
                   Layout* d_layout, const Algorithm* algorithm, void* workspace, size_t workspace_bytes,
                   void*) {
    if (int status = check(*desc, *a_layout, *b_layout, *c_layout, *d_layout)) return status;
    if (workspace)
        check_range(reinterpret_cast<uint64_t>(workspace), workspace_bytes, "cublasLtMatmul, workspace");
    Scales scales = scales_of(*desc, alpha, beta);
    if (algorithm) {
        if (algorithm->problem != problem_of(*desc, *a_layout, *b_layout, *c_layout, *d_layout))
            return refuse(INVALID_VALUE, "an algorithm that was not chosen for this product");
        check_alignment(*algorithm, 0, a);
        check_alignment(*algorithm, 1, b);
        if (scales.beta != 0) check_alignment(*algorithm, 2, c);
        check_alignment(*algorithm, 3, d);
    }
    trace("product %llu x %llu, A %llu x %llu, types %d to %d\n",
          static_cast<unsigned long long>(d_layout->rows), static_cast<unsigned long long>(d_layout->cols),
          static_cast<unsigned long long>(a_layout->rows), static_cast<unsigned long long>(a_layout->cols),
          a_layout->type, d_layout->type);
    multiply(*desc, scales, {a, b, c, d, a_layout, b_layout, c_layout, d_layout});
    return SUCCESS;
}

int stand_in_unsupported(const char* name) {
    fprintf(stderr, "CUDA stand-in: %s is not supported\n", name);
    return NOT_SUPPORTED;
}

}  // extern "C"
