//! C: clang, with wasi-libc and clang's runtime library for WebAssembly.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::tool;
use crate::cli::exit::Failure;

const TARGET: &str = "--target=wasm32-wasi";
const HOW: &str = "on Debian `apt install clang lld wasi-libc libclang-rt-14-dev-wasm32` (14 is clang's version), elsewhere \
                   unpack a wasi-sdk and set CC to its clang";

/// Compiles all C files of a folder and of `bindings/` in it, and gives the module.
pub fn build(dir: &Path, scratch: &Path) -> Result<PathBuf, Failure> {
    let clang = compiler()?;
    let module = scratch.join("module.wasm");
    let mut command = Command::new(clang);
    command.current_dir(dir);
    // A library without `main`; what crt1 would start is not there, and nothing of WASI is called.
    command.args([TARGET, "-mexec-model=reactor", "-nostartfiles", "-O2", "-g0"]);
    command.args(["-Wl,--no-entry", "-Wl,--strip-all", "-o"]).arg(&module);
    command.args(sources(dir)?);
    tool::run(&mut command)?;
    Ok(module)
}

/// `$CC` or clang, if it has all that it needs for WebAssembly.
fn compiler() -> Result<PathBuf, Failure> {
    let named = env::var_os("CC").filter(|name| !name.is_empty());
    let clang = tool::find(named.as_deref().unwrap_or("clang".as_ref()), &[]).ok_or_else(|| {
        let name = named.as_deref().unwrap_or("clang".as_ref()).to_string_lossy();
        tool::missing(&format!("{name} is not installed"), HOW)
    })?;
    let beside: Vec<PathBuf> = clang.parent().map(Path::to_owned).into_iter().collect();
    if tool::find("wasm-ld", &beside).is_none() {
        return Err(tool::missing("clang's linker for WebAssembly, wasm-ld, is not installed", HOW));
    }
    for (what, question) in [
        ("wasi-libc, the C library for WebAssembly,", &["-print-file-name=libc.a"][..]),
        ("clang's runtime library for WebAssembly", &["-print-libgcc-file-name", "--rtlib=compiler-rt"]),
    ] {
        let file = tool::ask(Command::new(&clang).arg(TARGET).args(question));
        if !file.is_some_and(|file| Path::new(&file).is_file()) {
            return Err(tool::missing(&format!("{what} is not installed"), HOW));
        }
    }
    Ok(clang)
}

/// The C and object files of a folder and of its `bindings/`, in an order that does not change, relative to the folder.
fn sources(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for folder in ["", "bindings"] {
        let path = dir.join(folder);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(_) if folder == "bindings" => {
                let how = "`heddle plugin new` writes it, wit-bindgen generates it from `wit/`";
                return Err(tool::missing(&format!("`{}` is not there", path.display()), how));
            }
            Err(error) => return Err(Failure::io(format!("reading {}", path.display()))(error)),
        };
        let names = entries.flatten().map(|entry| Path::new(folder).join(entry.file_name()));
        files.extend(names.filter(|name| name.extension().is_some_and(|end| end == "c" || end == "o")));
    }
    files.sort();
    Ok(files)
}
