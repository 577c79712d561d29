//! Python: componentize-py, which puts CPython and the modules into one component.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use super::tool;
use crate::cli::exit::Failure;

/// What is read of `pyproject.toml`.
#[derive(Deserialize)]
struct Project {
    #[serde(default)]
    tool: Tools,
}

#[derive(Deserialize, Default)]
struct Tools {
    #[serde(default)]
    heddle: Heddle,
}

/// `[tool.heddle]`.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Heddle {
    world: String,
    module: String,
}

impl Default for Heddle {
    fn default() -> Self {
        Self { world: "filter-plugin".into(), module: "app".into() }
    }
}

/// Builds the component.
pub fn build(dir: &Path, scratch: &Path) -> Result<PathBuf, Failure> {
    let Heddle { world, module } = settings(dir)?;
    let Some(componentize) = tool::find("componentize-py", &[dir.join(".venv/bin")]) else {
        let how = "`pip install componentize-py`, in the plugin's `.venv` or anywhere on PATH";
        return Err(tool::missing("componentize-py is not installed", how));
    };
    // The tool is started in the plugin's folder.
    let componentize =
        std::path::absolute(componentize).map_err(Failure::io("looking for componentize-py"))?;
    let component = scratch.join("python.wasm");
    let mut command = Command::new(componentize);
    command.current_dir(dir).args(["--quiet", "--wit-path", "wit", "--world", &world]);
    // CPython asks for files, clocks and more; here all of that is cut off.
    command.args(["componentize", "--stub-wasi", &module, "--output"]).arg(&component);
    tool::run(&mut command)?;
    Ok(component)
}

fn settings(dir: &Path) -> Result<Heddle, Failure> {
    let path = dir.join("pyproject.toml");
    let text = fs::read_to_string(&path).map_err(Failure::io(format!("reading {}", path.display())))?;
    let project: Project = toml::from_str(&text)
        .map_err(|error| Failure::Other(format!("{}: {}", path.display(), error.to_string().trim())))?;
    Ok(project.tool.heddle)
}
