// See product.h. Every element is summed in double and rounded once; operands are rounded as they are stored,
// and to TF32 where the compute type says so. No attempt is made at the order in which a GPU would sum.
#include "product.h"

#include "half.h"
#include "memory.h"

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace stand_in {
namespace {

size_t bytes_of(int type) { return type == F32 ? 4 : 2; }
int bias_type(const Desc& desc, const Layout& d) { return desc.bias_type < 0 ? d.type : desc.bias_type; }
bool known(int type) { return type == F32 || type == F16 || type == BF16; }

float load(int type, const void* from, size_t index) {
    if (type == F32) return static_cast<const float*>(from)[index];
    unsigned short bits = static_cast<const unsigned short*>(from)[index];
    return type == F16 ? host_f16_to_float(bits) : host_bf16_to_float(bits);
}

// Rounds once: a double lies between two floats at most, and the step by way of `float` rounds to odd so that
// the second rounding sees what the first left out (Boldo and Melquiond, 2008).
float to_odd(double value) {
    float nearest = static_cast<float>(value);
    if (std::isnan(value) || std::isinf(nearest) || nearest == value) return nearest;
    bool away = std::fabs(static_cast<double>(nearest)) > std::fabs(value);
    float toward_zero = away ? std::nextafterf(nearest, 0.0f) : nearest;
    return float_of_bits(float_bits(toward_zero) | 1);
}

void store(int type, void* to, size_t index, double value) {
    if (type == F32)
        static_cast<float*>(to)[index] = static_cast<float>(value);
    else
        static_cast<unsigned short*>(to)[index] =
            type == F16 ? host_f16_from_float(to_odd(value)) : host_bf16_from_float(to_odd(value));
}

size_t index_of(const Layout& layout, uint64_t row, uint64_t col) {
    uint64_t ld = static_cast<uint64_t>(layout.ld);
    return layout.order == COLUMNS ? col * ld + row : row * ld + col;
}

bool valid(const Layout& layout) {
    uint64_t longest = layout.order == COLUMNS ? layout.rows : layout.cols;
    return known(layout.type) && layout.rows > 0 && layout.cols > 0 &&
           layout.ld >= static_cast<int64_t>(longest) && layout.batch > 0;
}

struct Shape {
    uint64_t m, n, k;
};

Shape shape_of(const Desc& desc, const Layout& a, const Layout& d) {
    return {d.rows, d.cols, desc.trans_a == NONE ? a.cols : a.rows};
}

// Where matrix `i` of the batch lies; ends the process where it is not inside an allocation.
char* matrix(const char* name, const void* start, const Layout& layout, int i) {
    auto address =
        reinterpret_cast<uint64_t>(start) + static_cast<uint64_t>(i * layout.stride) * bytes_of(layout.type);
    size_t extent = (index_of(layout, layout.rows - 1, layout.cols - 1) + 1) * bytes_of(layout.type);
    check_range(address, extent, std::string("cublasLtMatmul, matrix ") + name);
    return reinterpret_cast<char*>(address);
}

// op(X) row by row.
std::vector<float> unpack(const char* from, const Layout& layout, int transpose, int compute) {
    uint64_t rows = transpose == NONE ? layout.rows : layout.cols;
    uint64_t cols = transpose == NONE ? layout.cols : layout.rows;
    std::vector<float> all(rows * cols);
    for (uint64_t i = 0; i < rows; i++)
        for (uint64_t j = 0; j < cols; j++) {
            size_t index = transpose == NONE ? index_of(layout, i, j) : index_of(layout, j, i);
            float value = load(layout.type, from, index);
            all[i * cols + j] = compute == COMPUTE_32F_FAST_TF32 ? host_tf32_from_float(value) : value;
        }
    return all;
}

double activate(int epilogue, double x) {
    if (epilogue & RELU) return x < 0 ? 0 : x;
    // cuBLAS has GELU's tanh form only.
    if (epilogue & GELU) return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    return x;
}

// One matrix of the batch: operands row by row, and what is added.
struct Single {
    Shape shape;
    std::vector<float> a, b;
    const char *c, *bias;
    char* d;
};

Single take(const Desc& desc, Scales scales, const Operands& x, int i) {
    Single one{shape_of(desc, *x.a_layout, *x.d_layout), {}, {}, nullptr, nullptr, nullptr};
    one.a = unpack(matrix("A", x.a, *x.a_layout, i), *x.a_layout, desc.trans_a, desc.compute);
    one.b = unpack(matrix("B", x.b, *x.b_layout, i), *x.b_layout, desc.trans_b, desc.compute);
    if (scales.beta != 0) one.c = matrix("C", x.c, *x.c_layout, i);
    one.d = matrix("D", x.d, *x.d_layout, i);
    if (desc.epilogue & BIAS) {
        size_t element = bytes_of(bias_type(desc, *x.d_layout));
        uint64_t address = desc.bias + static_cast<uint64_t>(i * desc.bias_stride) * element;
        check_range(address, one.shape.m * element, "cublasLtMatmul, bias");
        one.bias = reinterpret_cast<const char*>(address);
    }
    return one;
}

std::vector<double> row_of_product(const Single& one, uint64_t row) {
    std::vector<double> sums(one.shape.n);
    for (uint64_t k = 0; k < one.shape.k; k++) {
        double factor = one.a[row * one.shape.k + k];
        const float* other = &one.b[k * one.shape.n];
        for (uint64_t j = 0; j < one.shape.n; j++) sums[j] += factor * other[j];
    }
    return sums;
}

void multiply_one(const Desc& desc, Scales scales, const Operands& x, const Single& one) {
    for (uint64_t i = 0; i < one.shape.m; i++) {
        std::vector<double> sums = row_of_product(one, i);
        for (uint64_t j = 0; j < one.shape.n; j++) {
            double value = scales.alpha * sums[j];
            if (one.c)
                value += double{scales.beta} * load(x.c_layout->type, one.c, index_of(*x.c_layout, i, j));
            if (one.bias) value += load(bias_type(desc, *x.d_layout), one.bias, i);
            store(x.d_layout->type, one.d, index_of(*x.d_layout, i, j), activate(desc.epilogue, value));
        }
    }
}

}  // namespace

int refuse(Status status, const char* reason) {
    fprintf(stderr, "CUDA stand-in: cublasLt: %s\n", reason);
    return status;
}

int check(const Desc& desc, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
    for (const Layout* layout : {&a, &b, &c, &d}) {
        if (!valid(*layout)) return refuse(INVALID_VALUE, "a layout of size 0, short stride or unknown type");
    }
    Shape s = shape_of(desc, a, d);
    bool fits_a = (desc.trans_a == NONE ? a.rows : a.cols) == s.m;
    bool fits_b =
        (desc.trans_b == NONE ? b.rows : b.cols) == s.k && (desc.trans_b == NONE ? b.cols : b.rows) == s.n;
    if (!fits_a || !fits_b || c.rows != d.rows || c.cols != d.cols)
        return refuse(INVALID_VALUE, "the sizes of the matrices do not fit");
    if (a.batch != d.batch || b.batch != d.batch || c.batch != d.batch)
        return refuse(INVALID_VALUE, "the batch counts differ");
    bool compute = desc.compute == COMPUTE_32F || desc.compute == COMPUTE_32F_PEDANTIC ||
                   (desc.compute == COMPUTE_32F_FAST_TF32 && a.type == F32);
    bool types = a.type == b.type && c.type == d.type && (d.type == F32 || d.type == a.type);
    if (!compute || desc.scale != F32 || !types) return refuse(NOT_SUPPORTED, "this combination of types");
    if (desc.pointer_mode != HOST && desc.pointer_mode != DEVICE)
        return refuse(NOT_SUPPORTED, "this pointer mode");
    int activation = desc.epilogue & ~BIAS;
    if (desc.epilogue != PLAIN && activation != 0 && activation != RELU && activation != GELU)
        return refuse(NOT_SUPPORTED, "this epilogue");
    if ((desc.epilogue & BIAS) && !desc.bias)
        return refuse(INVALID_VALUE, "an epilogue with a bias, and no bias");
    return SUCCESS;
}

void multiply(const Desc& desc, Scales scales, const Operands& operands) {
    for (int i = 0; i < operands.d_layout->batch; i++)
        multiply_one(desc, scales, operands, take(desc, scales, operands, i));
}

}  // namespace stand_in
