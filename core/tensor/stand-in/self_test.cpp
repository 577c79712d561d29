// The stand-in's own test: what it imitates against the definition, and the faults that it has to report.
#include "half.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

using Pointer = unsigned long long;

extern "C" {
int cuInit(unsigned);
int cuDevicePrimaryCtxRetain(void**, int);
int cuCtxSetCurrent(void*);
int cuMemAlloc_v2(Pointer*, size_t);
int cuMemFree_v2(Pointer);
int cuMemcpyHtoD_v2(Pointer, const void*, size_t);
int cuMemcpyDtoH_v2(void*, Pointer, size_t);
int cuModuleLoadData(void**, const void*);
int cuModuleGetFunction(void**, void*, const char*);
int cuFuncSetAttribute(void*, int, int);
int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**,
                   void**);
int cuGetErrorString(int, const char**);
int cuGetExportTable(const void**, const void*);
int nvrtcCreateProgram(void**, const char*, const char*, int, const char* const*, const char* const*);
int nvrtcCompileProgram(void*, int, const char* const*);
int nvrtcGetPTXSize(void*, size_t*);
int nvrtcGetPTX(void*, char*);
int nvrtcGetProgramLogSize(void*, size_t*);
int nvrtcGetProgramLog(void*, char*);
int cublasLtMatrixLayoutCreate(void**, int, uint64_t, uint64_t, int64_t);
int cublasLtMatrixLayoutSetAttribute(void*, int, const void*, size_t);
int cublasLtMatmulDescCreate(void**, int, int);
int cublasLtMatmulDescSetAttribute(void*, int, const void*, size_t);
int cublasLtMatmulPreferenceCreate(void**);
int cublasLtMatmulPreferenceSetAttribute(void*, int, const void*, size_t);
int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, void*, int*);
int cublasLtMatmul(void*, void*, const void*, const void*, void*, const void*, void*, const void*,
                   const void*, void*, void*, void*, const void*, void*, size_t, void*);
}

namespace {

constexpr int INVALID_VALUE = 1, INVALID_CONTEXT = 201, NOT_FOUND = 500, NOT_SUPPORTED = 801;
constexpr int CUBLAS_INVALID_VALUE = 7;
void* module_of_test;

#define CHECK(condition) check(condition, #condition, __LINE__)

void check(bool holds, const char* condition, int line) {
    if (holds) return;
    fprintf(stderr, "self_test.cpp:%d: %s does not hold\n", line, condition);
    exit(1);
}

template <typename T>
struct Device {
    size_t count;
    Pointer address = 0;
    explicit Device(const std::vector<T>& values) : count(values.size()) {
        CHECK(cuMemAlloc_v2(&address, count * sizeof(T)) == 0);
        CHECK(cuMemcpyHtoD_v2(address, values.data(), count * sizeof(T)) == 0);
    }
    Device(const Device&) = delete;
    ~Device() { cuMemFree_v2(address); }
    std::vector<T> values() const {
        std::vector<T> host(count);
        CHECK(cuMemcpyDtoH_v2(host.data(), address, count * sizeof(T)) == 0);
        return host;
    }
    template <typename U>
    U* as() const {
        return reinterpret_cast<U*>(address);
    }
};

struct Size {
    unsigned x = 1, y = 1, z = 1;
};

void* function(const char* name) {
    void* found = nullptr;
    CHECK(cuModuleGetFunction(&found, module_of_test, name) == 0);
    return found;
}

template <typename... A>
int launch(const char* name, Size grid, Size block, unsigned shared, A... values) {
    void* arguments[] = {&values...};
    return cuLaunchKernel(function(name), grid.x, grid.y, grid.z, block.x, block.y, block.z, shared, nullptr,
                          arguments, nullptr);
}

// Values with few bits, so that sums are exact in any order.
std::vector<float> small_numbers(size_t count, unsigned seed) {
    std::vector<float> values(count);
    for (float& value : values) {
        seed = seed * 1664525 + 1013904223;
        value = static_cast<float>(static_cast<int>(seed >> 24) - 128) / 16;
    }
    return values;
}

void compile() {
    std::ifstream file(STAND_IN_SOURCE "/self_test.cu");
    std::ostringstream text;
    text << file.rdbuf();
    void* program = nullptr;
    CHECK(nvrtcCreateProgram(&program, text.str().c_str(), "self_test", 0, nullptr, nullptr) == 0);
    const char* options[] = {"--gpu-architecture=sm_90"};
    size_t bytes = 0;
    if (nvrtcCompileProgram(program, 1, options) != 0) {
        CHECK(nvrtcGetProgramLogSize(program, &bytes) == 0);
        std::vector<char> log(bytes);
        CHECK(nvrtcGetProgramLog(program, log.data()) == 0);
        fprintf(stderr, "%s\n", log.data());
        exit(1);
    }
    CHECK(nvrtcGetPTXSize(program, &bytes) == 0);
    std::vector<char> ptx(bytes);
    CHECK(nvrtcGetPTX(program, ptx.data()) == 0);
    CHECK(cuModuleLoadData(&module_of_test, ptx.data()) == 0);
}

void converts_every_value() {
    for (unsigned bits = 0; bits < 0x10000; bits++) {
        auto value = static_cast<unsigned short>(bits);
        float b = host_bf16_to_float(value), h = host_f16_to_float(value);
        CHECK(host_bf16_from_float(b) == (std::isnan(b) ? 0x7FFF : value));
        CHECK(host_f16_from_float(h) == (std::isnan(h) ? 0x7FFF : value));
    }
}

// Between two neighbours: what lies below the middle goes down, above it up, and the middle itself to the
// even one.
void rounds_to_nearest_even(unsigned short (*from)(float), float (*to)(unsigned short), unsigned infinity) {
    for (unsigned sign = 0; sign <= 0x8000; sign += 0x8000)
        for (unsigned bits = 0; bits + 1 < infinity; bits++) {
            auto low = static_cast<unsigned short>(bits | sign),
                 high = static_cast<unsigned short>((bits + 1) | sign);
            double middle = (static_cast<double>(to(low)) + to(high)) / 2;
            float tie = static_cast<float>(middle);
            CHECK(from(tie) == (bits % 2 == 0 ? low : high));
            CHECK(from(std::nextafterf(tie, to(low))) == low);
            CHECK(from(std::nextafterf(tie, to(high))) == high);
        }
}

void converts_extremes() {
    CHECK(host_f16_from_float(65519.996f) == 0x7BFF && host_f16_from_float(65520) == 0x7C00);
    CHECK(host_f16_from_float(-1e30f) == 0xFC00 && host_f16_from_float(0x1p-25f) == 0);
    CHECK(host_f16_from_float(0x1.000002p-25f) == 1 && host_f16_from_float(-0.0f) == 0x8000);
    CHECK(host_bf16_from_float(3.4e38f) == 0x7F80 && host_bf16_from_float(-INFINITY) == 0xFF80);
    CHECK(host_bf16_from_float(-0.0f) == 0x8000 && host_bf16_from_float(NAN) == 0x7FFF);
    CHECK(host_tf32_from_float(1 + 0x1p-11f) == 1 + 0x1p-10f && host_tf32_from_float(1 + 0x1p-12f) == 1);
}

void sums_blocks() {
    for (unsigned threads : {32u, 96u, 1024u}) {
        const long long n = 700;
        auto x = small_numbers(5 * n, threads);
        Device<float> input(x), output(std::vector<float>(5));
        CHECK(launch("block_sum", {5}, {threads}, 0, input.address, output.address, n) == 0);
        for (int block = 0; block < 5; block++) {
            float sum = 0;
            for (int i = 0; i < n; i++) sum += x[static_cast<size_t>(block * n + i)];
            CHECK(output.values()[static_cast<size_t>(block)] == sum);
        }
    }
}

void runs_without_barriers() {
    struct {
        float slope, offset;
    } line{2, 1};
    auto x = small_numbers(1001, 1);
    Device<float> input(x), output(std::vector<float>(1001));
    CHECK(launch("affine", {2, 2, 3}, {7, 4, 3}, 0, input.address, output.address, line, 1001) == 0);
    auto y = output.values();
    for (size_t i = 0; i < y.size(); i++) CHECK(y[i] == 2 * x[i] + 1);
}

void shares_memory() {
    std::vector<float> x(3 * 130);
    for (size_t i = 0; i < x.size(); i++) x[i] = static_cast<float>(i);
    Device<float> values(x);
    CHECK(launch("reverse", {3}, {130}, 130 * 4, values.address) == 0);
    auto reversed = values.values();
    for (size_t i = 0; i < x.size(); i++) CHECK(reversed[i] == x[i / 130 * 130 + 129 - i % 130]);

    const unsigned large = 100 << 10;
    CHECK(launch("reverse", {3}, {130}, large, values.address) == INVALID_VALUE);
    CHECK(cuFuncSetAttribute(function("reverse"), 8, static_cast<int>(large)) == 0);
    CHECK(launch("reverse", {3}, {130}, large, values.address) == 0);
    CHECK(values.values() == x);

    Device<int> counts(std::vector<int>(4, -1));
    CHECK(launch("count_set", {4}, {64}, 256, counts.address) == 0);
    CHECK(counts.values() == std::vector<int>(4, 0));
}

void exchanges_values() {
    Device<int> output(std::vector<int>(6 * 32));
    CHECK(launch("exchanges", {1}, {32}, 0, output.address) == 0);
    auto out = output.values();
    for (int lane = 0; lane < 32; lane++) {
        auto at = [&](int row) { return out[static_cast<size_t>(32 * row + lane)]; };
        CHECK(at(0) == 5 && at(1) == (lane < 29 ? lane + 3 : lane));
        CHECK(at(2) == (lane % 8 < 3 ? lane : lane - 3) && at(3) == (lane ^ 1));
        CHECK(at(4) == 0x49249249 && at(5) == 1);
    }
}

void multiplies_fragments(const char* kernel, unsigned short (*from)(float)) {
    auto a = small_numbers(256, 2), b = small_numbers(128, 3), d = small_numbers(128, 4);
    std::vector<unsigned short> a16, b16;
    for (float value : a) a16.push_back(from(value));
    for (float value : b) b16.push_back(from(value));
    Device<unsigned short> left(a16), right(b16);
    Device<float> output(d);
    CHECK(launch(kernel, {1}, {32}, 0, left.address, right.address, output.address) == 0);
    auto product = output.values();
    for (size_t i = 0; i < 16; i++)
        for (size_t j = 0; j < 8; j++) {
            float sum = d[8 * i + j];
            for (size_t k = 0; k < 16; k++) sum += a[16 * i + k] * b[8 * k + j];
            CHECK(product[8 * i + j] == sum);
        }
}

// All transposes, with leading dimensions larger than needed, two matrices a batch, a bias and alpha, beta.
void multiplies_matrices(int trans_a, int trans_b) {
    const size_t m = 5, n = 3, k = 7, batch = 2;
    size_t rows_a = trans_a ? k : m, cols_a = trans_a ? m : k, rows_b = trans_b ? n : k,
           cols_b = trans_b ? k : n;
    size_t lda = rows_a + 2, ldb = rows_b + 1, ldd = m + 3;
    auto a = small_numbers(batch * lda * cols_a, 5), b = small_numbers(batch * ldb * cols_b, 6);
    auto c = small_numbers(batch * ldd * n, 7), bias = small_numbers(m, 8);
    Device<float> da(a), db(b), dd(c), dbias(bias);
    void *la, *lb, *ld, *desc;
    auto layout = [&](void** made, size_t rows, size_t cols, size_t stride_of_columns) {
        int count = batch;
        auto stride = static_cast<int64_t>(stride_of_columns * cols);
        CHECK(cublasLtMatrixLayoutCreate(made, 0, rows, cols, static_cast<int64_t>(stride_of_columns)) == 0);
        CHECK(cublasLtMatrixLayoutSetAttribute(*made, 5, &count, sizeof count) == 0);
        CHECK(cublasLtMatrixLayoutSetAttribute(*made, 6, &stride, sizeof stride) == 0);
    };
    layout(&la, rows_a, cols_a, lda);
    layout(&lb, rows_b, cols_b, ldb);
    layout(&ld, m, n, ldd);
    const int with_bias = 4;
    CHECK(cublasLtMatmulDescCreate(&desc, 68, 0) == 0);
    CHECK(cublasLtMatmulDescSetAttribute(desc, 3, &trans_a, sizeof trans_a) == 0);
    CHECK(cublasLtMatmulDescSetAttribute(desc, 4, &trans_b, sizeof trans_b) == 0);
    CHECK(cublasLtMatmulDescSetAttribute(desc, 7, &with_bias, sizeof with_bias) == 0);
    CHECK(cublasLtMatmulDescSetAttribute(desc, 8, &dbias.address, sizeof dbias.address) == 0);
    float alpha = 2, beta = -1;
    CHECK(cublasLtMatmul(nullptr, desc, &alpha, da.as<void>(), la, db.as<void>(), lb, &beta, dd.as<void>(),
                         ld, dd.as<void>(), ld, nullptr, nullptr, 0, nullptr) == 0);
    auto d = dd.values();
    for (size_t s = 0; s < batch; s++)
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                float sum = 0;
                for (size_t p = 0; p < k; p++)
                    sum += a[s * lda * cols_a + (trans_a ? i * lda + p : p * lda + i)] *
                           b[s * ldb * cols_b + (trans_b ? p * ldb + j : j * ldb + p)];
                size_t at = s * ldd * n + j * ldd + i;
                CHECK(d[at] == 2 * sum - c[at] + bias[i]);
            }
    CHECK(d[m] == c[m]);
}

void multiplies_rounded(int type, unsigned short (*from)(float), float exact, float rounded) {
    // 1 * exact, with the operand stored in 16 bits and the result in 32.
    Device<unsigned short> one({from(1)}), other({from(exact)});
    Device<float> product({0});
    void *operand, *result, *desc;
    CHECK(cublasLtMatrixLayoutCreate(&operand, type, 1, 1, 1) == 0);
    CHECK(cublasLtMatrixLayoutCreate(&result, 0, 1, 1, 1) == 0);
    CHECK(cublasLtMatmulDescCreate(&desc, 68, 0) == 0);
    float alpha = 1, beta = 0;
    CHECK(cublasLtMatmul(nullptr, desc, &alpha, one.as<void>(), operand, other.as<void>(), operand, &beta,
                         nullptr, result, product.as<void>(), result, nullptr, nullptr, 0, nullptr) == 0);
    CHECK(product.values()[0] == rounded);
}

// Runs the action in a process of its own: it has to print these words. Gives whether it came to its end.
bool says(const char* words, const std::function<void()>& action) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        action();
        _exit(0);
    }
    close(ends[1]);
    std::string said;
    char buffer[512];
    for (ssize_t count; (count = read(ends[0], buffer, sizeof buffer)) > 0;)
        said.append(buffer, static_cast<size_t>(count));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (said.find(words) == std::string::npos)
        fprintf(stderr, "expected \"%s\", got: %s\n", words, said.c_str());
    CHECK(said.find(words) != std::string::npos);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void reports(const char* words, const std::function<void()>& fault) { CHECK(!says(words, fault)); }

void reports_faults() {
    Device<float> x(std::vector<float>(64));
    Pointer a = x.address;
    float host[64] = {};
    reports("lies 256 bytes into an allocation of 256 bytes",
            [&] { launch("writes_beyond", {1}, {1}, 0, a, 64); });
    reports("kernel writes_beyond, block (0, 0, 0)", [&] { launch("writes_beyond", {1}, {1}, 0, a, 64); });
    reports("misaligned address", [&] { launch("reads_misaligned", {1}, {1}, 0, a, a); });
    reports("index 4 out of bounds", [&] { launch("indexes_beyond", {1}, {5}, 0, a); });
    reports("1 of 64 threads have ended; 63 wait in __syncthreads",
            [&] { launch("leaves_early", {1}, {64}, 0, a); });
    reports("wait in __syncthreads", [&] { launch("diverges", {1}, {40}, 0, a); });
    reports("does not point to device memory",
            [&] { launch("diverges", {1}, {40}, 0, static_cast<float*>(host)); });
    reports("are not inside device memory", [&] { cuMemcpyDtoH_v2(host, a + 4, 256); });
    reports("written behind the end of an allocation", [&] {
        Device<float> odd({1, 2, 3});
        launch("writes_beyond", {1}, {1}, 0, odd.address, 3);
    });
}

// An algorithm is for the product and the alignments that it was asked for.
void checks_algorithms() {
    Device<float> x(std::vector<float>(8, 1)), y({0});
    void *one, *other, *desc, *preference;
    uint64_t result[12];
    int count = 0;
    uint32_t alignment = 4;
    float alpha = 1, beta = 0;
    CHECK(cublasLtMatrixLayoutCreate(&one, 0, 1, 1, 1) == 0 &&
          cublasLtMatrixLayoutCreate(&other, 0, 1, 1, 2) == 0);
    CHECK(cublasLtMatmulDescCreate(&desc, 68, 0) == 0 && cublasLtMatmulPreferenceCreate(&preference) == 0);
    auto choose = [&] {
        CHECK(cublasLtMatmulAlgoGetHeuristic(nullptr, desc, one, one, one, one, preference, 1, result,
                                             &count) == 0);
        CHECK(count == 1);
    };
    auto multiply = [&](void* layout) {
        return cublasLtMatmul(nullptr, desc, &alpha, x.as<float>() + 1, layout, x.as<void>(), one, &beta,
                              y.as<void>(), one, y.as<void>(), one, result, nullptr, 0, nullptr);
    };
    choose();
    reports("matrix A lies 4 bytes into its allocation", [&] { multiply(one); });
    for (int which : {5, 6, 7, 8})
        CHECK(cublasLtMatmulPreferenceSetAttribute(preference, which, &alignment, sizeof alignment) == 0);
    choose();
    CHECK(multiply(one) == 0 && y.values()[0] == 1);
    CHECK(says("not chosen for this product", [&] { CHECK(multiply(other) == CUBLAS_INVALID_VALUE); }));
}

void answers_as_the_driver() {
    void* none = nullptr;
    CHECK(cuModuleGetFunction(&none, module_of_test, "no_such_kernel") == NOT_FOUND);
    CHECK(launch("affine", {1}, {1025}, 0) == INVALID_VALUE &&
          launch("affine", {0}, {32}, 0) == INVALID_VALUE);
    CHECK(says("cuGetExportTable", [] { CHECK(cuGetExportTable(nullptr, nullptr) == NOT_SUPPORTED); }));
    CHECK(says("kernel block_sum is not heddle's own", [] {
        void *foreign = nullptr, *function = nullptr;
        CHECK(cuModuleLoadData(&foreign, "") == 0 &&
              cuModuleGetFunction(&function, foreign, "block_sum") == 0);
        CHECK(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr) == NOT_SUPPORTED);
        const char* text = nullptr;
        CHECK(cuGetErrorString(NOT_SUPPORTED, &text) == 0 && strstr(text, "block_sum"));
    }));
    cuCtxSetCurrent(nullptr);
    CHECK(launch("affine", {1}, {1}, 0) == INVALID_CONTEXT);
}

// Sends the trace of this process to a file of its own and gives the file's name.
std::string begin_trace() {
    char name[] = "/tmp/cuda-stand-in-XXXXXX";
    int file = mkstemp(name);
    CHECK(file >= 0 && setenv("HEDDLE_STAND_IN_TRACE", name, 1) == 0);
    close(file);
    return name;
}

void traced(const std::string& name) {
    std::ifstream file(name);
    std::ostringstream text;
    text << file.rdbuf();
    remove(name.c_str());
    for (const char* line : {"launch block_sum grid 5 1 1 block 96 1 1 shared 0\n",
                             "copy-to-device 14000 bytes\n", "product 5 x 3, A 7 x 5, types 0 to 0\n"})
        CHECK(text.str().find(line) != std::string::npos);
}

}  // namespace

int main() {
    std::string trace = begin_trace();
    CHECK(cuInit(0) == 0);
    void* context = nullptr;
    CHECK(cuDevicePrimaryCtxRetain(&context, 0) == 0 && cuCtxSetCurrent(context) == 0);
    compile();
    converts_every_value();
    rounds_to_nearest_even(host_bf16_from_float, host_bf16_to_float, 0x7F80);
    rounds_to_nearest_even(host_f16_from_float, host_f16_to_float, 0x7C00);
    converts_extremes();
    sums_blocks();
    runs_without_barriers();
    shares_memory();
    exchanges_values();
    multiplies_fragments("product_bf16", host_bf16_from_float);
    multiplies_fragments("product_f16", host_f16_from_float);
    for (int transposes = 0; transposes < 4; transposes++)
        multiplies_matrices(transposes / 2, transposes % 2);
    multiplies_rounded(14, host_bf16_from_float, 1 + 0x1p-9f, 1);
    multiplies_rounded(2, host_f16_from_float, 1 + 0x1p-10f, 1 + 0x1p-10f);
    reports_faults();
    checks_algorithms();
    answers_as_the_driver();
    traced(trace);
    puts("the stand-in passes its own test");
}
