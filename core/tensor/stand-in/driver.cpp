// The CUDA driver's calls for errors, devices, contexts, streams and events; memory and modules have files of
// their own.
//
// Of the calls that cudarc declares, those that heddle and dfdx make are here; the build adds the others,
// which answer CUDA_ERROR_NOT_SUPPORTED.
#include "driver.h"

#include "abi.h"
#include "memory.h"
#include "trace.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

using namespace stand_in;

namespace {

struct Event {
    std::chrono::steady_clock::time_point time;
};

bool initialised = false;
int primary_context;
thread_local void* context = nullptr;
thread_local std::string last_message;

// clang-format off
int attribute(int which) {
    switch (which) {
        case 1: case 2: case 3: return 1024;     // threads a block, block x, block y
        case 4: return 64;                       // block z
        case 5: return 0x7FFFFFFF;               // grid x
        case 6: case 7: return 65535;            // grid y, grid z
        case 8: return SHARED_BYTES;             // shared memory a block
        case 10: return WARP;
        case 12: case 82: return 65536;          // registers a block, a multiprocessor
        case 16: return 132;                     // multiprocessors
        case 38: return 50 << 20;                // L2
        case 39: return 2048;                    // threads a multiprocessor
        case 75: return 9;                       // compute capability, major
        case 81: return 228 << 10;               // shared memory a multiprocessor
        case 97: return SHARED_BYTES_OPT_IN;
        case 115: return 1;                      // memory pools
        default: return 0;                       // compute capability, minor, and what is not there
    }
}

const char* name_of(int result) {
    switch (result) {
        case SUCCESS: return "CUDA_SUCCESS";
        case INVALID_VALUE: return "CUDA_ERROR_INVALID_VALUE";
        case OUT_OF_MEMORY: return "CUDA_ERROR_OUT_OF_MEMORY";
        case NOT_INITIALIZED: return "CUDA_ERROR_NOT_INITIALIZED";
        case NO_DEVICE: return "CUDA_ERROR_NO_DEVICE";
        case INVALID_DEVICE: return "CUDA_ERROR_INVALID_DEVICE";
        case INVALID_IMAGE: return "CUDA_ERROR_INVALID_IMAGE";
        case INVALID_CONTEXT: return "CUDA_ERROR_INVALID_CONTEXT";
        case FILE_NOT_FOUND: return "CUDA_ERROR_FILE_NOT_FOUND";
        case NOT_FOUND: return "CUDA_ERROR_NOT_FOUND";
        case NOT_SUPPORTED: return "CUDA_ERROR_NOT_SUPPORTED";
        default: return "CUDA_ERROR_UNKNOWN";
    }
}
// clang-format on

}  // namespace

namespace stand_in {

int error(Result result, const std::string& message) {
    last_message = message;
    return result;
}

bool has_context() { return context; }
int no_context() { return error(INVALID_CONTEXT, "this thread has no current context"); }

}  // namespace stand_in

extern "C" {

int cuInit(unsigned) {
    if (getenv("HEDDLE_STAND_IN_NO_DEVICE")) return error(NO_DEVICE, "HEDDLE_STAND_IN_NO_DEVICE is set");
    initialised = true;
    return SUCCESS;
}

int cuDriverGetVersion(int* version) {
    *version = 13000;
    return SUCCESS;
}

// Errors.

int cuGetErrorName(int result, const char** name) {
    *name = name_of(result);
    return SUCCESS;
}

// The driver has one text for each error; here it is what went wrong in this thread's last failing call.
int cuGetErrorString(int result, const char** text) {
    *text = last_message.empty() ? name_of(result) : last_message.c_str();
    return SUCCESS;
}

int stand_in_unsupported(const char* name) {
    fprintf(stderr, "CUDA stand-in: %s is not supported\n", name);
    return error(NOT_SUPPORTED, std::string(name) + " is not supported by the stand-in");
}

// Devices and contexts.

int cuDeviceGetCount(int* count) {
    *count = 1;
    return initialised ? SUCCESS : NOT_INITIALIZED;
}

int cuDeviceGet(int* device, int ordinal) {
    *device = 0;
    if (!initialised) return NOT_INITIALIZED;
    return ordinal == 0 ? SUCCESS : error(INVALID_DEVICE, "there is one device");
}

int cuDeviceGetName(char* name, int length, int) {
    snprintf(name, static_cast<size_t>(length), "CUDA stand-in");
    return SUCCESS;
}

int cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = total_bytes();
    return SUCCESS;
}

int cuDeviceGetAttribute(int* value, int which, int) {
    *value = attribute(which);
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void** retained, int) {
    *retained = &primary_context;
    return SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }

int cuCtxSetCurrent(void* current) {
    context = current;
    return SUCCESS;
}

int cuCtxGetCurrent(void** current) {
    *current = context;
    return SUCCESS;
}

int cuCtxSynchronize() {
    trace("synchronize context\n");
    return context ? SUCCESS : no_context();
}

// Streams and events.

int cuStreamCreate(Stream* stream, unsigned) {
    *stream = new char;
    return SUCCESS;
}

int cuStreamDestroy_v2(Stream stream) {
    delete static_cast<char*>(stream);
    return SUCCESS;
}

int cuStreamSynchronize(Stream) {
    trace("synchronize stream\n");
    return context ? SUCCESS : no_context();
}

int cuStreamQuery(Stream) { return SUCCESS; }
int cuStreamWaitEvent(Stream, Event*, unsigned) { return SUCCESS; }

int cuEventCreate(Event** event, unsigned) {
    *event = new Event{};
    return SUCCESS;
}

int cuEventDestroy_v2(Event* event) {
    delete event;
    return SUCCESS;
}

int cuEventRecord(Event* event, Stream) {
    event->time = std::chrono::steady_clock::now();
    return SUCCESS;
}

int cuEventQuery(Event*) { return SUCCESS; }
int cuEventSynchronize(Event*) { return SUCCESS; }

int cuEventElapsedTime(float* milliseconds, Event* start, Event* end) {
    *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
    return SUCCESS;
}

}  // extern "C"
