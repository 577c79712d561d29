// A stack to run on, and the change from one to another.
#pragma once

#include <cstddef>
#include <cstdint>

#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace stand_in {

#ifdef __x86_64__

// The registers that a call preserves lie on the stack; its pointer is the whole context.
struct Context {
    void* stack_pointer = nullptr;
};

extern "C" void stand_in_switch(void** save, void* load);
asm(R"(
.text
.globl stand_in_switch
.hidden stand_in_switch
.type stand_in_switch, @function
stand_in_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size stand_in_switch, . - stand_in_switch
)");

inline void prepare(Context& context, char*, char* top, void (*entry)()) {
    auto slots = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15});
    slots[-2] = reinterpret_cast<void*>(entry);  // `ret` leaves the stack as a call of `entry` would
    for (int saved = 3; saved <= 8; saved++) slots[-saved] = nullptr;
    context.stack_pointer = slots - 8;
}

inline void change(Context& from, Context& to) { stand_in_switch(&from.stack_pointer, to.stack_pointer); }

#else

struct Context {
    ucontext_t context;
};

inline void prepare(Context& context, char* bottom, char* top, void (*entry)()) {
    getcontext(&context.context);
    context.context.uc_stack.ss_sp = bottom;
    context.context.uc_stack.ss_size = static_cast<size_t>(top - bottom);
    makecontext(&context.context, entry, 0);
}

inline void change(Context& from, Context& to) { swapcontext(&from.context, &to.context); }

#endif

}  // namespace stand_in
