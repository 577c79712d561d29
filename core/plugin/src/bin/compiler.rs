//! The child process that compiles plugins, for this crate's tests; the `heddle` program is its own.

fn main() -> std::process::ExitCode {
    heddle_plugin::compiler_main()
}
