// Turns kernels into the table that the driver looks names up in; comes behind the source of the kernels,
// with STAND_IN_KERNEL(name) for each of them.
#pragma once

#include "abi.h"

namespace stand_in {

template <typename T>
constexpr bool IS_POINTER = false;
template <typename T>
constexpr bool IS_POINTER<T*> = true;
template <typename T>
constexpr bool IS_POINTER<T* __restrict__> = true;

template <int... I>
struct Indices {};

template <auto Function>
struct Entry;

template <typename... P, void (*Function)(P...)>
struct Entry<Function> {
    static constexpr int COUNT = sizeof...(P);
    static constexpr bool POINTERS[COUNT + 1] = {IS_POINTER<P>..., false};

    static void call(void** arguments) { unpack(arguments, Indices<__integer_pack(COUNT)...>{}); }

    template <int... I>
    static void unpack(void** arguments, Indices<I...>) {
        Function(*static_cast<P*>(arguments[I])...);
    }
};

}  // namespace stand_in

#define STAND_IN_KERNEL(name)                                                \
    {#name, stand_in::Entry<&::name>::call, stand_in::Entry<&::name>::COUNT, \
     stand_in::Entry<&::name>::POINTERS},

// The linker's names for the zero-initialised data of this library, which is its shared memory and nothing
// else: no start-up code is linked in, and CUDA gives `__shared__` variables no initial values.
extern char __bss_start[] __attribute__((visibility("hidden")));
extern char _end[] __attribute__((visibility("hidden")));

#define STAND_IN_PROGRAM(table)                       \
    extern "C" __attribute__((visibility("default"))) \
    const stand_in::Program stand_in_program = {table, sizeof table / sizeof *table, __bss_start, _end};
