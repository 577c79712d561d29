// The driver's calls that allocate, set and copy memory. Each is done when it returns, so a stream is in
// order.
#include "driver.h"
#include "memory.h"
#include "trace.h"

#include <cstdlib>
#include <cstring>

using namespace stand_in;

namespace {

int copy(const char* what, void* to, const void* from, size_t bytes) {
    if (!has_context()) return no_context();
    trace("%s %zu bytes\n", what, bytes);
    memmove(to, from, bytes);
    return SUCCESS;
}

void* device(Pointer address, size_t bytes, const char* what) {
    check_range(address, bytes, what);
    return reinterpret_cast<void*>(address);
}

int pool;

}  // namespace

extern "C" {

int cuMemGetInfo_v2(size_t* free, size_t* total) {
    *free = free_bytes();
    *total = total_bytes();
    return has_context() ? SUCCESS : no_context();
}

int cuMemAllocAsync(Pointer* address, size_t bytes, Stream) {
    if (!has_context()) return no_context();
    trace("allocate %zu bytes\n", bytes);
    *address = allocate(bytes);
    return *address ? SUCCESS : error(OUT_OF_MEMORY, "the stand-in's device memory is used up");
}

int cuMemAlloc_v2(Pointer* address, size_t bytes) {
    return bytes ? cuMemAllocAsync(address, bytes, nullptr)
                 : error(INVALID_VALUE, "an allocation of no bytes");
}

int cuMemFree_v2(Pointer address) {
    if (!has_context()) return no_context();
    return release(address) ? SUCCESS : error(INVALID_VALUE, "freed what is not allocated");
}

int cuMemFreeAsync(Pointer address, Stream) { return cuMemFree_v2(address); }

int cuMemsetD8_v2(Pointer to, unsigned char value, size_t bytes) {
    if (!has_context()) return no_context();
    trace("memset %zu bytes\n", bytes);
    memset(device(to, bytes, "cuMemsetD8"), value, bytes);
    return SUCCESS;
}

int cuMemsetD8Async(Pointer to, unsigned char value, size_t bytes, Stream) {
    return cuMemsetD8_v2(to, value, bytes);
}

int cuMemsetD32_v2(Pointer to, unsigned value, size_t count) {
    if (!has_context()) return no_context();
    trace("memset %zu bytes\n", count * sizeof value);
    auto words = static_cast<unsigned*>(device(to, count * sizeof value, "cuMemsetD32"));
    for (size_t i = 0; i < count; i++) words[i] = value;
    return SUCCESS;
}

int cuMemsetD32Async(Pointer to, unsigned value, size_t count, Stream) {
    return cuMemsetD32_v2(to, value, count);
}

int cuMemcpyHtoD_v2(Pointer to, const void* from, size_t bytes) {
    return copy("copy-to-device", device(to, bytes, "cuMemcpyHtoD"), from, bytes);
}

int cuMemcpyDtoH_v2(void* to, Pointer from, size_t bytes) {
    return copy("copy-to-host", to, device(from, bytes, "cuMemcpyDtoH"), bytes);
}

int cuMemcpyDtoD_v2(Pointer to, Pointer from, size_t bytes) {
    return copy("copy-on-device", device(to, bytes, "cuMemcpyDtoD, target"),
                device(from, bytes, "cuMemcpyDtoD, source"), bytes);
}

int cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t bytes, Stream) {
    return cuMemcpyHtoD_v2(to, from, bytes);
}

int cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t bytes, Stream) {
    return cuMemcpyDtoH_v2(to, from, bytes);
}
int cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, Stream) {
    return cuMemcpyDtoD_v2(to, from, bytes);
}

int cuMemAllocHost_v2(void** address, size_t bytes) {
    *address = malloc(bytes);
    return *address ? SUCCESS : OUT_OF_MEMORY;
}

int cuMemFreeHost(void* address) {
    free(address);
    return SUCCESS;
}

int cuDeviceGetDefaultMemPool(void** found, int) {
    *found = &pool;
    return SUCCESS;
}

int cuMemPoolSetAttribute(void*, int, void*) { return SUCCESS; }
int cuMemPoolTrimTo(void*, size_t) { return SUCCESS; }

}  // extern "C"
