//! The program: arguments, command, exit code.

use std::process::ExitCode;

/// Training frees and takes the same large buffers every step; the system's allocator gives them back to the kernel in
/// between, and faulting them in again cost 15 % of a step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The child that compiles a plugin, see `plugins`.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == heddle::plugins::COMPILER_ARGUMENT) {
        return heddle_plugin::compiler_main();
    }
    heddle::memory::keep_freed_memory();
    heddle::cli::main(std::env::args_os())
}
