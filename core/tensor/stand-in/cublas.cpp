// cuBLAS as far as dfdx needs it to make a device. Its products are not here on purpose: heddle's go through
// cublasLt, so a call of one of these, which the build adds as CUBLAS_STATUS_NOT_SUPPORTED, is a fault to be
// found.
#include <cstdio>

namespace {
constexpr int SUCCESS = 0, NOT_SUPPORTED = 15;
int handle;
}  // namespace

extern "C" {

int cublasCreate_v2(void** created) {
    *created = &handle;
    return SUCCESS;
}

int cublasDestroy_v2(void*) { return SUCCESS; }
int cublasSetStream_v2(void*, void*) { return SUCCESS; }
int cublasSetWorkspace_v2(void*, void*, unsigned long) { return SUCCESS; }
int cublasSetMathMode(void*, int) { return SUCCESS; }

int stand_in_unsupported(const char* name) {
    fprintf(stderr, "CUDA stand-in: %s is not supported: matrix products go through cublasLt\n", name);
    return NOT_SUPPORTED;
}

}  // extern "C"
