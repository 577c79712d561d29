//! Rust: cargo, for `wasm32-unknown-unknown`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::tool;
use crate::cli::exit::Failure;

const TARGET: &str = "wasm32-unknown-unknown";

/// Builds the package in a folder and gives the module.
pub fn build(dir: &Path) -> Result<PathBuf, Failure> {
    let Some(cargo) = tool::find("cargo", &[]) else {
        let how = format!("https://rustup.rs installs it, then `rustup target add {TARGET}`");
        return Err(tool::missing("cargo is not installed", &how));
    };
    let mut command = Command::new(cargo);
    // Messages as JSON say where the module is, whatever the target folder is.
    command.args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    command.current_dir(dir);
    compiler(dir)?.apply(&mut command);
    let messages = tool::run(&mut command)?;
    module(&messages).ok_or_else(|| {
        Failure::Other(format!(
            "cargo built no WebAssembly module; `{}` needs `crate-type = [\"cdylib\"]` under `[lib]`",
            dir.join("Cargo.toml").display()
        ))
    })
}

/// What compiles for the target.
enum Compiler {
    /// The toolchain has the target.
    Toolchain,
    /// Debian's rustc for WebAssembly: it has its sources, and the target's library is built from them.
    Debian {
        /// The linker; Debian has none that cargo could use as it is.
        linker: PathBuf,
    },
}

impl Compiler {
    fn apply(&self, command: &mut Command) {
        match self {
            Self::Toolchain => {}
            Self::Debian { linker } => {
                command.env("RUSTC", DEBIAN).env("RUSTC_BOOTSTRAP", "1");
                command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
                command.arg("-Zbuild-std=std,panic_abort");
            }
        }
    }
}

const DEBIAN: &str = "/usr/bin/rustc";

fn compiler(dir: &Path) -> Result<Compiler, Failure> {
    let ask = |program: &str, words: &[&str]| tool::ask(Command::new(program).args(words).current_dir(dir));
    let sysroot = ask("rustc", &["--print", "sysroot"]).map(PathBuf::from);
    let has_target = |sysroot: &PathBuf| sysroot.join("lib/rustlib").join(TARGET).is_dir();
    if sysroot.as_ref().is_some_and(has_target) {
        return Ok(Compiler::Toolchain);
    }
    debian(sysroot.as_deref()).ok_or_else(|| {
        let how = format!("`rustup target add {TARGET}`, or on Debian `apt install rustc-web rust-web-src`");
        tool::missing(&format!("the Rust compiler has no library for {TARGET}"), &how)
    })
}

fn debian(sysroot: Option<&Path>) -> Option<Compiler> {
    let version = tool::ask(Command::new(DEBIAN).arg("--version"))?;
    let version = version.split(' ').nth(1)?;
    if !Path::new(&format!("/usr/src/rustc-{version}/library/std")).is_dir() {
        return None;
    }
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let linker = sysroot?.join("lib/rustlib").join(host).join("bin/rust-lld");
    linker.is_file().then_some(Compiler::Debian { linker })
}

/// The module in cargo's messages: a `cdylib`'s.
fn module(messages: &str) -> Option<PathBuf> {
    let artefact = |line: &str| -> Option<PathBuf> {
        let message: Value = serde_json::from_str(line).ok()?;
        let kinds = message["target"]["kind"].as_array()?;
        if !kinds.iter().any(|kind| kind == "cdylib") {
            return None;
        }
        let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
        files.filter(|file| file.ends_with(".wasm")).map(PathBuf::from).next()
    };
    // The package itself comes after what it depends on.
    messages.lines().rev().find_map(artefact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_the_last_cdylib() {
        let line = |kind: &str, file: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"]}},"filenames":["{file}"]}}"#
            )
        };
        let messages =
            [line("cdylib", "/a.wasm"), line("cdylib", "/b.wasm"), line("lib", "/c.rlib")].join("\n");
        assert_eq!(module(&messages), Some(PathBuf::from("/b.wasm")));
        assert_eq!(module(&line("lib", "/c.rlib")), None);
        assert_eq!(module("warning: no JSON"), None);
    }
}
