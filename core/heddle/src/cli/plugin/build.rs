//! `heddle plugin build`: calls the tool of a plugin's language, and looks over what it made.
//!
//! ```text
//! DIR ──its files──▶ language ──the language's tool──▶ module or component ──component──▶ host ──▶ NAME.wasm
//! ```
//!
//! | language | a folder with | is built by |
//! |---|---|---|
//! | Rust | `Cargo.toml` | cargo, for `wasm32-unknown-unknown` |
//! | C | `plugin.c` | clang, with wasi-libc |
//! | Python | `pyproject.toml` | componentize-py |
//! | JavaScript | `package.json` | jco, with QuickJS |
//!
//! Before a tool runs it is looked for, with all that it needs; what is missing is named with the command that installs it.

mod c;
mod js;
mod python;
mod rust;
mod tool;

use std::{
    fs,
    path::{Path, PathBuf},
};

use heddle_plugin::{LoadOptions, Plugin};

use crate::{
    cli::{
        args::{PluginBuild, PluginLanguage},
        exit::{Exit, Failure},
        output,
    },
    plugins::{self, PluginError},
};

/// The file by which a plugin's language is known.
const MARKS: [(&str, PluginLanguage); 4] = [
    ("Cargo.toml", PluginLanguage::Rust),
    ("plugin.c", PluginLanguage::C),
    ("pyproject.toml", PluginLanguage::Python),
    ("package.json", PluginLanguage::Js),
];

/// Runs the command.
pub fn run(options: &PluginBuild) -> Result<Exit, Failure> {
    let dir = &options.dir;
    let language = language_of(dir)?;
    let scratch = tempfile::tempdir().map_err(Failure::io("making a temporary folder"))?;
    let made = match language {
        PluginLanguage::Rust => rust::build(dir)?,
        PluginLanguage::C => c::build(dir, scratch.path())?,
        PluginLanguage::Python => python::build(dir, scratch.path())?,
        PluginLanguage::Js => js::build(dir, scratch.path())?,
    };
    let component = scratch.path().join("component.wasm");
    make_component(&made, &component)?;
    let plugin = check(&component, dir)?;
    let path = match &options.output {
        Some(path) => path.clone(),
        None => dir.join(format!("{}.wasm", plugin.description().name)),
    };
    install(&component, &path)?;
    report(&plugin, dir, &path);
    Ok(Exit::Done)
}

fn language_of(dir: &Path) -> Result<PluginLanguage, Failure> {
    let found: Vec<_> = MARKS.iter().filter(|(file, _)| dir.join(file).is_file()).collect();
    let listed = |marks: &mut dyn Iterator<Item = &str>| marks.collect::<Vec<_>>().join(", ");
    match found[..] {
        [(_, language)] => Ok(*language),
        [] => Err(Failure::Other(format!(
            "`{}` is no plugin's folder: it has none of {}; `heddle plugin new` writes one",
            dir.display(),
            listed(&mut MARKS.iter().map(|(file, _)| *file))
        ))),
        _ => Err(Failure::Other(format!(
            "`{}` has {}; a plugin's folder has one of them, by which its language is known",
            dir.display(),
            listed(&mut found.iter().map(|(file, _)| *file))
        ))),
    }
}

/// Writes what a tool made as a component.
fn make_component(made: &Path, component: &Path) -> Result<(), Failure> {
    let bytes = fs::read(made).map_err(Failure::io(format!("reading {}", made.display())))?;
    let bytes = plugins::component(&bytes)
        .map_err(|error| Failure::Other(format!("what was built is no plugin: {error}")))?;
    fs::write(component, bytes).map_err(Failure::io("writing the component"))
}

/// The plugin as a node would load it.
fn check(component: &Path, dir: &Path) -> Result<Plugin, Failure> {
    plugins::load(&component.to_string_lossy(), LoadOptions::default()).map_err(|error| match error {
        // The file is a temporary one.
        PluginError::Load { error, .. } => {
            Failure::Other(format!("what `{}` builds is no plugin that can be used: {error}", dir.display()))
        }
        error => Failure::Other(error.to_string()),
    })
}

/// Puts the file in its place, whole or not at all.
fn install(component: &Path, path: &Path) -> Result<(), Failure> {
    let writing = || format!("writing {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Failure::io(format!("making {}", folder.display())))?;
    let bytes = fs::read(component).map_err(Failure::io("reading the component"))?;
    let part = path.with_extension("wasm.part");
    fs::write(&part, bytes).and_then(|()| fs::rename(&part, path)).map_err(Failure::io(writing()))
}

fn report(plugin: &Plugin, dir: &Path, path: &Path) {
    let description = plugin.description();
    let (_, bytes) = plugin.size();
    output::result(&format!(
        "{}: {} {}, a {} plugin, {bytes} bytes",
        path.display(),
        description.name,
        description.version,
        plugin.world().name()
    ));
    let cases: PathBuf = dir.join("cases.jsonl");
    if cases.is_file() {
        output::note(&format!("next: heddle plugin test {} {}", path.display(), cases.display()));
    }
}
