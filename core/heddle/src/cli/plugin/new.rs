//! `heddle plugin new`: a complete plugin in one of four languages, to be changed.
//!
//! The files are those of `plugins/templates`, with the plugin's name in them, and the interface. The SDK for Rust is on no
//! registry, so it is written beside the plugin.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::cli::{
    args::{PluginLanguage, PluginNew},
    exit::{Exit, Failure},
    output,
};

/// A file's path in the new folder, and its bytes.
type File = (&'static str, &'static [u8]);

macro_rules! files {
    ($root:literal: $($name:literal $(from $source:literal)?),* $(,)?) => {
        &[$((
            $name,
            include_bytes!(files!(@path $root, $name $(, $source)?)),
        )),*]
    };
    (@path $root:literal, $name:literal) => {
        concat!("../../../../../plugins/", $root, "/", $name)
    };
    (@path $root:literal, $name:literal, $source:literal) => {
        concat!("../../../../../plugins/", $root, "/", $source)
    };
}

/// The name that templates have; the folder's name takes its place.
const TEMPLATE_NAME: &str = "my-filter";

const RUST: &[File] = files!["templates/rust":
    ".gitignore" from "gitignore",
    "Cargo.toml",
    "README.md",
    "cases.jsonl",
    "config.schema.json",
    "src/lib.rs",
];

const C: &[File] = files!["templates/c":
    ".gitignore" from "gitignore",
    "README.md",
    "bindings/filter_plugin.c",
    "bindings/filter_plugin.h",
    "bindings/filter_plugin_component_type.o",
    "cases.jsonl",
    "heddle.c",
    "heddle.h",
    "plugin.c",
];

const PYTHON: &[File] = files!["templates/python":
    ".gitignore" from "gitignore",
    "README.md",
    "app.py",
    "cases.jsonl",
    "config.schema.json",
    "heddle.py",
    "pyproject.toml",
];

const JS: &[File] = files!["templates/js":
    ".gitignore" from "gitignore",
    "README.md",
    "cases.jsonl",
    "heddle.js",
    "package.json",
    "plugin.js",
    "schema.js",
];

const SDK: &[File] = files![".":
    "sdk/Cargo.toml",
    "sdk/src/captions.rs",
    "sdk/src/columns.rs",
    "sdk/src/describe.rs",
    "sdk/src/lib.rs",
    "sdk/src/words.rs",
];

/// Where the SDK for Rust looks for the interface, and where the other tools are told to.
const RUST_WIT: &[File] = files![".": "wit/0.1/plugin.wit"];
const WIT: &[File] = files![".": "wit/plugin.wit" from "wit/0.1/plugin.wit"];

/// Runs the command.
pub fn run(options: &PluginNew) -> Result<Exit, Failure> {
    let dir = &options.dir;
    let name = name_of(dir)?;
    let (own, given) = files_of(options.language);
    let mut files: Vec<(PathBuf, Vec<u8>)> =
        own.iter().map(|(path, bytes)| (dir.join(path), named(bytes, &name))).collect();
    files.extend(given.iter().copied().flatten().map(|(path, bytes)| (dir.join(path), bytes.to_vec())));
    if let Some((path, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
        let message = format!("`{}` is there already; nothing was written", path.display());
        return Err(Failure::Other(message));
    }
    for (path, bytes) in &files {
        write(path, bytes)?;
    }
    output::result(&format!("wrote {} files to {}", files.len(), dir.display()));
    output::note(&format!(
        "next: heddle plugin build {0}\n      heddle plugin test {1} {2}",
        dir.display(),
        dir.join(format!("{name}.wasm")).display(),
        dir.join("cases.jsonl").display()
    ));
    Ok(Exit::Done)
}

/// The template's own files, which have the name in them, and those that are written as they are.
fn files_of(language: PluginLanguage) -> (&'static [File], &'static [&'static [File]]) {
    match language {
        PluginLanguage::Rust => (RUST, &[SDK, RUST_WIT]),
        PluginLanguage::C => (C, &[WIT]),
        PluginLanguage::Python => (PYTHON, &[WIT]),
        PluginLanguage::Js => (JS, &[WIT]),
    }
}

/// The folder's name, if a plugin can be called that.
fn name_of(dir: &Path) -> Result<String, Failure> {
    // Only to know what `.` is called.
    let full = std::path::absolute(dir).map_err(Failure::io(format!("looking for {}", dir.display())))?;
    let name = full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let right = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(letters);
    if !right || name.ends_with('-') || name.len() > 64 {
        return Err(Failure::Other(format!(
            "the plugin would be called `{name}`, after its folder; names are words like `short-captions`: lower-case \
             letters, digits and `-`, a letter first"
        )));
    }
    Ok(name)
}

/// A template's file with the plugin's name; binary files stay as they are.
fn named(bytes: &[u8], name: &str) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.replace(TEMPLATE_NAME, name).into_bytes(),
        Err(_) => bytes.to_vec(),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Failure::io(format!("making {}", folder.display())))?;
    }
    fs::write(path, bytes).map_err(Failure::io(format!("writing {}", path.display())))
}
