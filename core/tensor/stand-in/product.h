// A matrix product in cublasLt's terms, and what it means.
#pragma once

#include <cstdint>

namespace stand_in {

enum Status { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum Type { F32 = 0, F64 = 1, F16 = 2, BF16 = 14 };
enum Compute { COMPUTE_32F = 68, COMPUTE_32F_PEDANTIC = 69, COMPUTE_32F_FAST_TF32 = 77 };
enum Order { COLUMNS = 0, ROWS = 1 };
enum PointerMode { HOST = 0, DEVICE = 1 };
enum Operation { NONE = 0, TRANSPOSE = 1 };
enum Epilogue { PLAIN = 1, RELU = 2, BIAS = 4, GELU = 32 };

// The descriptors: what callers hold pointers to.
struct Layout {
    int type, order;
    uint64_t rows, cols;
    int64_t ld;
    int batch;
    int64_t stride;  // from matrix to matrix, in elements
};

struct Desc {
    int compute, scale, pointer_mode, trans_a, trans_b, epilogue;
    uint64_t bias;
    int64_t bias_stride;
    int bias_type;  // -1: that of D
};

struct Scales {
    float alpha, beta;
};

// A, B, C and D with their layouts.
struct Operands {
    const void *a, *b, *c;
    void* d;
    const Layout *a_layout, *b_layout, *c_layout, *d_layout;
};

// Prints the reason and gives the status.
int refuse(Status status, const char* reason);
// What cublasLt would not do, or heddle does not need.
int check(const Desc& desc, const Layout& a, const Layout& b, const Layout& c, const Layout& d);
// D = epilogue(alpha op(A) op(B) + beta C + bias); ends the process where an operand is not inside an
// allocation.
void multiply(const Desc& desc, Scales scales, const Operands& operands);

}  // namespace stand_in
