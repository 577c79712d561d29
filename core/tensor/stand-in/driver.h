// What the files of the driver share: results, the current context, and messages for errors.
#pragma once

#include <string>

namespace stand_in {

// CUresult, as far as it is used.
enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    FILE_NOT_FOUND = 301,
    NOT_FOUND = 500,
    NOT_SUPPORTED = 801,
};

using Pointer = unsigned long long;
using Stream = void*;

constexpr unsigned SHARED_BYTES = 48 << 10;          // dynamic shared memory of a block
constexpr unsigned SHARED_BYTES_OPT_IN = 227 << 10;  // the same with cuFuncSetAttribute

// The result, with a message for cuGetErrorString.
int error(Result result, const std::string& message);

// As on a device, most calls need a context that is current on the calling thread.
bool has_context();
int no_context();

}  // namespace stand_in
