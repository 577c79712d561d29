// How a grid runs: block after block, each thread of a block on a fibre of its own where it has to wait.
#pragma once

#include "abi.h"

#include <cstddef>

namespace stand_in {

struct Launch {
    const Program* program;
    const Kernel* kernel;
    dim3 grid, block;
    size_t dynamic_bytes;
    void** arguments;
};

// Runs all blocks; ends the process where threads of a block do not meet at a barrier. One launch at a time.
void run_grid(const Launch& launch);

}  // namespace stand_in
