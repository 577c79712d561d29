// What the compiled kernels and the driver have to agree upon. Included on both sides; needs no other header,
// since kernels are compiled with as little in scope as NVRTC gives them.
#pragma once

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Set for the running thread by the driver.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace stand_in {

// A place in a kernel where threads wait for each other.
struct Site {
    const char* what;
    const char* file;
    int line;
};

// A kernel as the driver calls it for one thread: `arguments` are those of cuLaunchKernel.
struct Kernel {
    const char* name;
    void (*call)(void** arguments);
    int parameters;
    const bool* is_pointer;  // of each parameter
};

// Everything in a compiled program; exported under the name `stand_in_program`.
struct Program {
    const Kernel* kernels;
    int count;
    char* shared_begin;  // all `__shared__` variables of the program
    char* shared_end;
};

constexpr int WARP = 32;

// What each lane of a warp hands in for a common operation.
union Slot {
    unsigned long long bits;
    void* pointer;
};

// `__syncthreads`.
void wait_for_block(Site site);
// Hands in this lane's value, waits for the warp, and gives the values of all its lanes. Before any lane goes
// on, `last` runs once over them if it is there. The result stays valid until this lane's next exchange.
const Slot* exchange(Slot own, unsigned mask, Site site, void (*last)(const Slot*) = nullptr);
// This thread's lane.
int lane();
// Dynamic shared memory of the block.
void* dynamic_shared();

}  // namespace stand_in
