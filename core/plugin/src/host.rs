//! The host: engines, the clock that ends endless calls, and plugins made ready from bytes.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use wasmtime::{
    Config, Engine, EngineWeak,
    component::{Component, InstancePre, Linker},
};

use crate::{
    Limits, World,
    abi::Description,
    compile::{CompileError, Compiler, CompilerCommand},
    describe::{self, ConfigProblem},
    failure::Failure,
    limits::CompileLimits,
    scan::{Form, ScanError, form, scan},
    session::{Session, Settings, describe_plugin},
    state::{HostState, define_host},
    wasi::define_stubs,
};

/// Length of an epoch: deadlines are kept to about this.
pub(crate) const EPOCH: Duration = Duration::from_millis(5);

/// Settings of a host.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Folder of compiled code; made if it is missing, and private.
    pub aot: PathBuf,
    /// What compiles.
    pub compiler: CompilerCommand,
    /// What compiling may take.
    pub compile: CompileLimits,
    /// What a plugin may take while it says what it is.
    pub describe: Limits,
}

/// How a file is made a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoadOptions {
    /// Imports of WASI are allowed and lead nowhere.
    pub stub_wasi: bool,
    /// Instructions are counted.
    pub fuel: bool,
    /// Bytes of its stack; see [`Limits::stack`].
    pub stack: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { stub_wasi: false, fuel: false, stack: Limits::default().stack }
    }
}

/// A file that is no usable plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It was refused at sight.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// It did not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// Its imports do not fit.
    #[error("its interface does not fit: {0}")]
    Link(String),
    /// It did not describe itself.
    #[error(transparent)]
    Describe(Box<Failure>),
    /// It described itself badly.
    #[error("its description is wrong: {0}")]
    Description(String),
    /// The engine could not be made.
    #[error("the engine could not be made: {0}")]
    Engine(String),
}

/// Runs plugins. Clones are one host.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    /// By whether they count instructions, and bytes of stack; made when a plugin wants one.
    engines: Mutex<BTreeMap<(bool, usize), Engine>>,
    compiler: Compiler,
    describe: Limits,
}

/// An engine that gives equal bits everywhere. Wants nothing from the system but memory.
pub(crate) fn engine(fuel: bool, stack: usize) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .epoch_interruption(true)
        .consume_fuel(fuel)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        // Calls between the modules of one component go through code that sees the memories of both; no plugin's own
        // module may have two (see `scan`).
        .wasm_multi_memory(true)
        .max_wasm_stack(stack.min(Limits::MOST_STACK));
    Engine::new(&config)
}

/// Lets an engine's epochs pass as long as somebody has it.
fn tick(engine: EngineWeak) -> std::io::Result<()> {
    let ticking = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(EPOCH);
        }
    };
    std::thread::Builder::new().name("plugin epochs".into()).spawn(ticking).map(drop)
}

fn ticking_engine(fuel: bool, stack: usize) -> Result<Engine, LoadError> {
    let failed = |error: &dyn std::fmt::Display| LoadError::Engine(error.to_string());
    let engine = engine(fuel, stack).map_err(|error| failed(&error))?;
    tick(engine.weak()).map_err(|error| failed(&error))?;
    Ok(engine)
}

impl Host {
    /// A host.
    pub fn new(options: HostOptions) -> Self {
        let HostOptions { aot: folder, compiler: command, compile: limits, describe } = options;
        let compiler = Compiler { folder, command, limits };
        Self(Arc::new(Inner { engines: Mutex::default(), compiler, describe }))
    }

    fn engine(&self, options: LoadOptions) -> Result<Engine, LoadError> {
        let LoadOptions { fuel, stack, .. } = options;
        // A panic leaves the map whole: inserting is the only change.
        let mut engines = self.0.engines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = engines.get(&(fuel, stack)) {
            return Ok(engine.clone());
        }
        let engine = ticking_engine(fuel, stack)?;
        engines.insert((fuel, stack), engine.clone());
        Ok(engine)
    }

    /// The component in a file, not yet looked over: the file itself, or what a core module that says its interface becomes.
    ///
    /// # Errors
    /// [`LoadError`] if the file is neither.
    pub fn component<'a>(&self, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, LoadError> {
        Ok(match form(bytes)? {
            Form::Component => Cow::Borrowed(bytes),
            Form::Module => Cow::Owned(self.0.compiler.encode(bytes)?),
        })
    }

    /// Makes a file's bytes a plugin: looks them over, compiles them unless that was done before, and asks the plugin what
    /// it is. `name` stands in messages until the plugin has said its own.
    ///
    /// # Errors
    /// [`LoadError`]; nothing in the bytes makes this panic or take longer than the limits allow.
    pub fn load(&self, name: &str, bytes: &[u8], options: LoadOptions) -> Result<Plugin, LoadError> {
        let (engine, compiler) = (&self.engine(options)?, &self.0.compiler);
        let (facts, component) = match compiler.kept(engine, bytes)? {
            Some(kept) => kept,
            None => {
                let component = self.component(bytes)?;
                let facts = scan(&component, options.stub_wasi)?;
                let component = compiler.compile(engine, bytes, &component, &facts, options.fuel)?;
                (facts, component)
            }
        };
        let world = facts.check(options.stub_wasi)?;
        let link = |error: wasmtime::Error| LoadError::Link(crate::text::printable(&format!("{error:#}")));
        let pre = linked(engine, &component, &facts.imports, options.stub_wasi).map_err(link)?;
        let description = describe_plugin(&pre, name, &facts.exports, &self.0.describe, options.fuel)
            .map_err(|failure| LoadError::Describe(Box::new(failure)))?;
        let description = describe::check(description, world).map_err(LoadError::Description)?;
        let validator = describe::validator(&description.config_schema).map_err(LoadError::Description)?;
        Ok(Plugin(Arc::new(Ready {
            pre,
            world,
            description,
            validator,
            digest: *blake3::hash(bytes).as_bytes(),
            imports: facts.imports,
            exports: facts.exports,
            functions: facts.functions,
            bytes: bytes.len(),
            options,
        })))
    }
}

fn linked(
    engine: &Engine,
    component: &Component,
    imports: &[String],
    stub_wasi: bool,
) -> wasmtime::Result<InstancePre<HostState>> {
    let mut linker = Linker::new(engine);
    define_host(&mut linker)?;
    if stub_wasi {
        define_stubs(&mut linker, component, imports)?;
    }
    linker.instantiate_pre(component)
}

/// A plugin, ready to be opened. Clones are one plugin.
#[derive(Clone)]
pub struct Plugin(pub(crate) Arc<Ready>);

pub(crate) struct Ready {
    pub pre: InstancePre<HostState>,
    pub world: World,
    pub description: Description,
    pub validator: jsonschema::Validator,
    pub digest: [u8; 32],
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    pub functions: u32,
    pub bytes: usize,
    pub options: LoadOptions,
}

impl Plugin {
    /// What it does.
    pub fn world(&self) -> World {
        self.0.world
    }

    /// What it says of itself, checked.
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// BLAKE3 of its file.
    pub fn digest(&self) -> &[u8; 32] {
        &self.0.digest
    }

    /// The instances that it imports.
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }

    /// Functions of all its modules, and bytes of its file.
    pub fn size(&self) -> (u32, usize) {
        (self.0.functions, self.0.bytes)
    }

    /// Everything that its schema finds wrong with a config; the plugin itself may find more when it is opened.
    pub fn check_config(&self, config: &serde_json::Value) -> Vec<ConfigProblem> {
        describe::problems(&self.0.validator, config)
    }

    /// Starts it with a config, a seed and limits. The first instance is made at once, so that a config it refuses is
    /// known now.
    ///
    /// # Errors
    /// A [`Failure`] of kind [`Config`](crate::FailureKind::Config), or any that starting gives.
    pub fn open(&self, settings: Settings) -> Result<Session, Failure> {
        Session::open(self.clone(), settings)
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("name", &self.0.description.name).finish_non_exhaustive()
    }
}
