// The driver's calls that load modules and launch kernels. A module is what the stand-in's NVRTC made, or
// foreign: its functions can be looked up, and their launch is an error that names them.
#include "block.h"
#include "driver.h"
#include "memory.h"
#include "trace.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>

using namespace stand_in;

namespace {

// A kernel of heddle's, or the name of one that is not.
struct Function {
    std::string name;
    const Program* program = nullptr;
    const Kernel* kernel = nullptr;
    unsigned max_dynamic_bytes = SHARED_BYTES;
};

struct Module {
    const Program* program = nullptr;  // null where the image was none of the stand-in's NVRTC
    std::map<std::string, Function> functions;
};

std::mutex launching;

int load(Module** module, const char* image) {
    if (!has_context()) return no_context();
    auto loaded = std::make_unique<Module>();
    static const std::string mark = "// heddle stand-in: ";
    if (strncmp(image, mark.c_str(), mark.size()) == 0) {
        std::string path(image + mark.size());
        path.erase(path.find('\n'));
        void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!library) return error(INVALID_IMAGE, dlerror());
        loaded->program = static_cast<const Program*>(dlsym(library, "stand_in_program"));
    }
    *module = loaded.release();
    return SUCCESS;
}

bool beyond_limits(dim3 grid, dim3 block) {
    bool empty = !grid.x || !grid.y || !grid.z || !block.x || !block.y || !block.z;
    return empty || grid.x > 0x7FFFFFFF || grid.y > 65535 || grid.z > 65535 || block.x > 1024 ||
           block.y > 1024 || block.z > 64 || 1ull * block.x * block.y * block.z > 1024;
}

// A pointer to host memory would work here and nowhere else.
void check_pointers(const Kernel& kernel, void** arguments) {
    for (int i = 0; i < kernel.parameters; i++) {
        if (!kernel.is_pointer[i]) continue;
        Pointer address = *static_cast<Pointer*>(arguments[i]);
        if (address && !is_device_address(address))
            fail("kernel %s: parameter %d, %#llx, does not point to device memory", kernel.name, i, address);
    }
}

}  // namespace

extern "C" {

int cuModuleLoadData(Module** module, const void* image) {
    return load(module, static_cast<const char*>(image));
}

int cuModuleLoadDataEx(Module** module, const void* image, unsigned, int*, void**) {
    return cuModuleLoadData(module, image);
}

int cuModuleLoad(Module** module, const char* path) {
    std::ifstream file(path);
    if (!file) return error(FILE_NOT_FOUND, path);
    std::ostringstream text;
    text << file.rdbuf();
    return load(module, text.str().c_str());
}

int cuModuleUnload(Module* module) {
    delete module;
    return SUCCESS;
}

int cuModuleGetFunction(Function** function, Module* module, const char* name) {
    Function found{name};
    if (const Program* program = module->program) {
        for (int i = 0; i < program->count; i++)
            if (strcmp(program->kernels[i].name, name) == 0) found.kernel = &program->kernels[i];
        if (!found.kernel) return error(NOT_FOUND, std::string("the module has no kernel ") + name);
        found.program = program;
    }
    *function = &module->functions.emplace(name, found).first->second;
    return SUCCESS;
}

int cuFuncSetAttribute(Function* function, int which, int value) {
    constexpr int MAX_DYNAMIC_SHARED_SIZE_BYTES = 8;
    if (which != MAX_DYNAMIC_SHARED_SIZE_BYTES) return SUCCESS;
    if (value < 0 || static_cast<unsigned>(value) > SHARED_BYTES_OPT_IN)
        return error(INVALID_VALUE, function->name + ": more shared memory than a block can have");
    function->max_dynamic_bytes = static_cast<unsigned>(value);
    return SUCCESS;
}

int cuFuncGetAttribute(int* value, int which, Function* function) {
    constexpr int MAX_THREADS_PER_BLOCK = 0, MAX_DYNAMIC_SHARED_SIZE_BYTES = 8;
    *value = which == MAX_THREADS_PER_BLOCK           ? 1024
             : which == MAX_DYNAMIC_SHARED_SIZE_BYTES ? static_cast<int>(function->max_dynamic_bytes)
                                                      : 0;
    return SUCCESS;
}

int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Function*, int threads, size_t) {
    *blocks = 2048 / threads;
    return SUCCESS;
}

int cuLaunchKernel(Function* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                   unsigned block_y, unsigned block_z, unsigned dynamic_bytes, Stream, void** arguments,
                   void**) {
    if (!has_context()) return no_context();
    if (!function->kernel) {
        std::string message =
            "kernel " + function->name + " is not heddle's own: the stand-in has no code for it";
        fprintf(stderr, "CUDA stand-in: %s\n", message.c_str());
        return error(NOT_SUPPORTED, message);
    }
    dim3 grid(grid_x, grid_y, grid_z), block(block_x, block_y, block_z);
    if (beyond_limits(grid, block))
        return error(INVALID_VALUE, function->name + ": grid or block beyond the limits");
    if (dynamic_bytes > function->max_dynamic_bytes)
        return error(INVALID_VALUE,
                     function->name + ": more shared memory than the function's attribute allows");
    std::lock_guard<std::mutex> guard(launching);
    check_pointers(*function->kernel, arguments);
    trace("launch %s grid %u %u %u block %u %u %u shared %u\n", function->name.c_str(), grid_x, grid_y,
          grid_z, block_x, block_y, block_z, dynamic_bytes);
    report_faults();
    run_grid({function->program, function->kernel, grid, block, dynamic_bytes, arguments});
    return SUCCESS;
}

}  // extern "C"
