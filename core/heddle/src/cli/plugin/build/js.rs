//! JavaScript: jco, which puts QuickJS and the modules into one component.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use super::tool;
use crate::cli::exit::Failure;

/// What is read of `package.json`.
#[derive(Deserialize)]
struct Package {
    #[serde(default = "main")]
    main: String,
    #[serde(default)]
    heddle: Heddle,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Heddle {
    world: String,
}

impl Default for Heddle {
    fn default() -> Self {
        Self { world: "filter-plugin".into() }
    }
}

fn main() -> String {
    "plugin.js".into()
}

/// Builds the component.
pub fn build(dir: &Path, scratch: &Path) -> Result<PathBuf, Failure> {
    let Package { main, heddle } = settings(dir)?;
    if tool::find("node", &[]).is_none() {
        let how = "https://nodejs.org has it, on Debian `apt install nodejs npm`";
        return Err(tool::missing("Node.js, which runs jco, is not installed", how));
    }
    let Some(jco) = tool::find("jco", &[dir.join("node_modules/.bin")]) else {
        let how = "`npm install` in the plugin's folder, or `npm install -g @bytecodealliance/jco`";
        return Err(tool::missing("jco is not installed", how));
    };
    // The tool is started in the plugin's folder.
    let jco = std::path::absolute(jco).map_err(Failure::io("looking for jco"))?;
    let component = scratch.join("js.wasm");
    let mut command = Command::new(jco);
    command.current_dir(dir).args(["componentize", &main, "--wit", "wit", "--world-name", &heddle.world]);
    // StarlingMonkey, jco's other engine, is seven times as large and asks for WASI; QuickJS does without.
    command.args(["--backend", "quickjs", "--backend-qjs-disable-async", "--backend-qjs-stub-wasi"]);
    command.arg("--out").arg(&component);
    tool::run(&mut command)?;
    Ok(component)
}

fn settings(dir: &Path) -> Result<Package, Failure> {
    let path = dir.join("package.json");
    let text = fs::read(&path).map_err(Failure::io(format!("reading {}", path.display())))?;
    serde_json::from_slice(&text).map_err(|error| Failure::Other(format!("{}: {error}", path.display())))
}
