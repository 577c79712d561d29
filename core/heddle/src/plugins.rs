//! The process's plugin host: where compiled plugins are kept, what compiles them, and which are loaded.
//!
//! Compiled code lies in the user's cache folder (`$HEDDLE_PLUGIN_CACHE`, else `$XDG_CACHE_HOME/heddle/plugins`, else
//! `~/.cache/heddle/plugins`), not beside an experiment: it is native code, and a folder that was copied from elsewhere
//! must not bring any.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use heddle_plugin::{
    CompileLimits, CompilerCommand, Host, HostOptions, Limits, LoadError, LoadOptions, Plugin,
};

use crate::files;

/// The argument that makes this program the child that compiles.
pub const COMPILER_ARGUMENT: &str = "compile-plugin";

/// A plugin that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// Its file cannot be read.
    #[error("cannot read the plugin `{path}`: {reason}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The host does not start.
    #[error("plugins cannot be run here: {0}")]
    Host(String),
    /// The host refuses it.
    #[error("`{path}` is no plugin that can be used: {error}")]
    Load {
        /// The file.
        path: String,
        /// Why.
        error: LoadError,
    },
}

type Loaded = HashMap<([u8; 32], LoadOptions), Plugin>;

/// Loads a plugin; one that this process has loaded already is given again.
///
/// # Errors
/// [`PluginError`] names the file.
pub fn load(path: &str, options: LoadOptions) -> Result<Plugin, PluginError> {
    static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);
    let bytes = files::read(path).map_err(|reason| PluginError::Read { path: path.to_owned(), reason })?;
    let key = (*blake3::hash(&bytes).as_bytes(), options);
    // Held while it is loaded: two nodes with one plugin compile it once. A panic leaves the map whole.
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_default();
    if let Some(plugin) = loaded.get(&key) {
        return Ok(plugin.clone());
    }
    let name = files::name(path);
    let plugin = host()?
        .load(&name, &bytes, options)
        .map_err(|error| PluginError::Load { path: path.to_owned(), error })?;
    loaded.insert(key, plugin.clone());
    Ok(plugin)
}

/// The component in a file: the file itself, or what a core module that says its interface becomes.
///
/// # Errors
/// [`PluginError`].
pub fn component(bytes: &[u8]) -> Result<Vec<u8>, PluginError> {
    let component = host()?.component(bytes);
    let refused = |error| PluginError::Load { path: "core module".to_owned(), error };
    component.map(std::borrow::Cow::into_owned).map_err(refused)
}

fn host() -> Result<&'static Host, PluginError> {
    static HOST: OnceLock<Result<Host, String>> = OnceLock::new();
    let made = HOST.get_or_init(|| make_host(folder()));
    made.as_ref().map_err(|error| PluginError::Host(error.clone()))
}

/// A host of its own whose compiled code lies in this folder, which has to be private; for measurements.
///
/// # Errors
/// [`PluginError::Host`].
pub fn host_in(folder: &Path) -> Result<Host, PluginError> {
    make_host(folder.to_owned()).map_err(PluginError::Host)
}

fn make_host(aot: PathBuf) -> Result<Host, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let compiler = CompilerCommand { program, arguments: vec![COMPILER_ARGUMENT.to_owned()] };
    let compile = CompileLimits::default();
    Ok(Host::new(HostOptions { aot, compiler, compile, describe: Limits::default() }))
}

fn folder() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    set("HEDDLE_PLUGIN_CACHE")
        .or_else(|| Some(user()?.join("heddle/plugins")))
        .unwrap_or_else(|| std::env::temp_dir().join(format!("heddle-plugins-{}", std::process::id())))
}
