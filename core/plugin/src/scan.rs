//! Looks a plugin over before anything compiles it: compilation is where neither deadline nor memory limit reaches.
//!
//! The bytes of a file enter [`form`], which says whether they are a component or a core module with an interface; the
//! compiler's child process makes a component of the latter ([`encode`]). A component enters [`scan`], its [`Facts`]
//! leave: every function has been validated, the world and the imports are known.

use wasmparser::{
    ComponentExternalKind, Encoding, FuncValidatorAllocations, Operator, Parser, Payload, ValidPayload,
    Validator, WasmFeatures,
};

use crate::World;

/// The package and version that this host speaks.
pub const PACKAGE: &str = "heddle:plugin";
/// Its version; a plugin of any patch release fits.
pub const VERSION: &str = "0.1.0";

const FILE_BYTES: usize = 64 << 20;
/// All functions of all modules; the largest real plugin, CPython, has 13,500.
const FUNCTIONS: u32 = 50_000;
/// One function's body; CPython's largest has 427 KB.
const BODY_BYTES: usize = 1 << 20;
const CODE_BYTES: u64 = 32 << 20;
/// Locals of one function; CPython's most have 271.
const LOCALS: u64 = 1_000;
/// Blocks within blocks.
const BLOCK_DEPTH: u32 = 1_000;
/// Targets of one `br_table`.
const BRANCHES: u32 = 100_000;
/// Components within components, and modules within those.
const DEPTH: usize = 16;
const MODULES: usize = 100;

/// A file that is no plugin.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Not WebAssembly.
    #[error("not a WebAssembly file; it begins with {0}")]
    NotWasm(String),
    /// Text where binary is wanted.
    #[error("WebAssembly text; a plugin is the binary that is assembled from it (`wasm-tools parse`)")]
    Text,
    /// A module without an interface.
    #[error(
        "a core module without a component-type section: build it with wit-bindgen or an SDK, or encode it with \
         `wasm-tools component new`"
    )]
    PlainModule,
    /// A core module that does not become a component.
    #[error("the core module does not become a component: {0}")]
    Encode(String),
    /// Invalid bytes.
    #[error("invalid at byte {offset}: {message}")]
    Invalid {
        /// Where.
        offset: u64,
        /// What the validator says.
        message: String,
    },
    /// A limit of the scan.
    #[error("{what}: {found}, the limit is {limit}")]
    Limit {
        /// Of what there is too much.
        what: &'static str,
        /// How much.
        found: u64,
        /// How much there may be.
        limit: u64,
    },
    /// No interface of ours.
    #[error("it exports no interface of {PACKAGE} (filter, transform, score, dedup or fold); it exports {0}")]
    NoWorld(String),
    /// Several.
    #[error("it exports several interfaces of {PACKAGE} ({0}); a plugin has one")]
    ManyWorlds(String),
    /// Another version.
    #[error("built for {PACKAGE}@{found}, this program has {PACKAGE}@{VERSION}")]
    Version {
        /// The plugin's.
        found: String,
    },
    /// WASI without leave.
    #[error(
        "it imports `{0}`: plugins have no files, clocks or network. If only its language's runtime wants that, set \
         `wasi = \"stub\"` on the node"
    )]
    Wasi(String),
    /// Anything else.
    #[error("it imports `{0}`, which no plugin has; all there is, is `{PACKAGE}/host@{VERSION}`")]
    Import(String),
}

/// What a file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A component.
    Component,
    /// A core module that says its interface.
    Module,
}

/// What there is to know of a valid component.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Facts {
    /// The instances that it imports.
    pub imports: Vec<String>,
    /// The instances that it exports.
    pub exports: Vec<String>,
    /// Functions of all its modules.
    pub functions: u32,
}

/// Features of the language that plugins may use: deterministic ones.
fn features() -> WasmFeatures {
    let mut features = WasmFeatures::WASM2;
    features.insert(WasmFeatures::COMPONENT_MODEL);
    features.insert(WasmFeatures::EXTENDED_CONST);
    features.remove(WasmFeatures::THREADS);
    features.remove(WasmFeatures::RELAXED_SIMD);
    features.remove(WasmFeatures::MEMORY64);
    features
}

/// Tells what a file is made of.
///
/// # Errors
/// [`ScanError`] if it is no plugin.
pub fn form(bytes: &[u8]) -> Result<Form, ScanError> {
    if bytes.len() > FILE_BYTES {
        return Err(limit("bytes of the file", bytes.len() as u64, FILE_BYTES as u64));
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(not_wasm(bytes));
    }
    if !Parser::is_core_wasm(bytes) {
        return Ok(Form::Component);
    }
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| invalid(&error))? {
            Payload::CustomSection(section) if section.name().starts_with("component-type") => {
                return Ok(Form::Module);
            }
            _ => {}
        }
    }
    Err(ScanError::PlainModule)
}

/// Makes a component of a core module that says its interface. Whoever wrote the interface can make this panic or use
/// up the stack: only the compiler's child process calls it.
pub(crate) fn encode(module: &[u8]) -> Result<Vec<u8>, String> {
    let encoder = wit_component::ComponentEncoder::default().validate(false).module(module);
    encoder.and_then(|mut encoder| encoder.encode()).map_err(|error| format!("{error:#}"))
}

/// Scans a component; `stub_wasi` allows imports of WASI.
///
/// # Errors
/// [`ScanError`] says what is wrong and what would be right.
pub fn scan(component: &[u8], stub_wasi: bool) -> Result<Facts, ScanError> {
    let (imports, exports, functions) = validate(component)?;
    let facts = Facts { imports, exports, functions };
    facts.check(stub_wasi)?;
    Ok(facts)
}

impl Facts {
    /// The plugin's world, if it is one of this host's and nothing else is imported; `stub_wasi` allows WASI.
    ///
    /// # Errors
    /// [`ScanError`].
    pub fn check(&self, stub_wasi: bool) -> Result<World, ScanError> {
        let world = world(&self.exports)?;
        check_imports(&self.imports, stub_wasi)?;
        Ok(world)
    }
}

fn not_wasm(bytes: &[u8]) -> ScanError {
    let start = bytes.trim_ascii_start();
    if start.starts_with(b"(module") || start.starts_with(b"(component") || start.starts_with(b";;") {
        return ScanError::Text;
    }
    let shown: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    ScanError::NotWasm(if shown.is_empty() { "nothing, it is empty".into() } else { shown.join(" ") })
}

fn limit(what: &'static str, found: u64, limit: u64) -> ScanError {
    ScanError::Limit { what, found, limit }
}

fn invalid(error: &wasmparser::BinaryReaderError) -> ScanError {
    ScanError::Invalid { offset: error.offset() as u64, message: crate::text::printable(error.message()) }
}

/// Names of imports and exports of the outer component, and how many functions there are.
fn validate(bytes: &[u8]) -> Result<(Vec<String>, Vec<String>, u32), ScanError> {
    let mut validator = Validator::new_with_features(features());
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let (mut functions, mut code, mut depth, mut modules) = (0_u32, 0_u64, 0_usize, 0_usize);
    let mut allocations = FuncValidatorAllocations::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| invalid(&error))?;
        match &payload {
            Payload::Version { encoding, .. } => {
                depth += 1;
                modules += usize::from(*encoding == Encoding::Module);
                if depth > DEPTH {
                    return Err(limit("components within components", depth as u64, DEPTH as u64));
                }
                if modules > MODULES {
                    return Err(limit("modules", modules as u64, MODULES as u64));
                }
            }
            Payload::End(_) => depth -= 1,
            Payload::CodeSectionStart { count, size, .. } => {
                functions = functions.saturating_add(*count);
                code += u64::from(*size);
                if functions > FUNCTIONS {
                    return Err(limit("functions", functions.into(), FUNCTIONS.into()));
                }
                if code > CODE_BYTES {
                    return Err(limit("bytes of code", code, CODE_BYTES));
                }
            }
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section.clone() {
                    imports.push(crate::text::printable(import.map_err(|error| invalid(&error))?.name.name));
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section.clone() {
                    let export = export.map_err(|error| invalid(&error))?;
                    if export.kind == ComponentExternalKind::Instance {
                        exports.push(crate::text::printable(export.name.name));
                    }
                }
            }
            Payload::CodeSectionEntry(body) => check_body(body)?,
            _ => {}
        }
        if let ValidPayload::Func(function, body) =
            validator.payload(&payload).map_err(|error| invalid(&error))?
        {
            let mut function = function.into_validator(std::mem::take(&mut allocations));
            function.validate(&body).map_err(|error| invalid(&error))?;
            allocations = function.into_allocations();
        }
    }
    Ok((imports, exports, functions))
}

fn check_body(body: &wasmparser::FunctionBody<'_>) -> Result<(), ScanError> {
    let size = body.range().len();
    if size > BODY_BYTES {
        return Err(limit("bytes of one function", size as u64, BODY_BYTES as u64));
    }
    let mut locals = 0_u64;
    for declared in body.get_locals_reader().map_err(|error| invalid(&error))? {
        locals += u64::from(declared.map_err(|error| invalid(&error))?.0);
    }
    if locals > LOCALS {
        return Err(limit("locals of one function", locals, LOCALS));
    }
    let mut depth = 0_u32;
    for operator in body.get_operators_reader().map_err(|error| invalid(&error))? {
        match operator.map_err(|error| invalid(&error))? {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => depth += 1,
            Operator::End => depth = depth.saturating_sub(1),
            Operator::BrTable { targets } if targets.len() > BRANCHES => {
                return Err(limit("targets of one br_table", targets.len().into(), BRANCHES.into()));
            }
            _ => {}
        }
        if depth > BLOCK_DEPTH {
            return Err(limit("blocks within blocks", depth.into(), BLOCK_DEPTH.into()));
        }
    }
    Ok(())
}

/// `name@version` of an interface of ours; `None` for any other.
fn ours(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PACKAGE)?.strip_prefix('/')?.split_once('@')
}

/// Whether a plugin of this version runs here: 0.1.anything.
fn fits(version: &str) -> bool {
    version
        .strip_prefix("0.1.")
        .is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit()))
}

fn world(exports: &[String]) -> Result<World, ScanError> {
    let mut worlds = Vec::new();
    for (name, version) in exports.iter().filter_map(|export| ours(export)) {
        if !fits(version) {
            return Err(ScanError::Version { found: version.to_owned() });
        }
        worlds.extend(World::ALL.into_iter().filter(|world| world.name() == name));
    }
    match worlds[..] {
        [world] if exports.iter().any(|export| ours(export).is_some_and(|(name, _)| name == "lifecycle")) => {
            Ok(world)
        }
        [] | [_] => Err(ScanError::NoWorld(listed(exports))),
        _ => Err(ScanError::ManyWorlds(listed(exports))),
    }
}

fn check_imports(imports: &[String], stub_wasi: bool) -> Result<(), ScanError> {
    for import in imports {
        match ours(import) {
            Some((_, version)) if !fits(version) => {
                return Err(ScanError::Version { found: version.to_owned() });
            }
            Some(("host" | "types", _)) => {}
            _ if import.starts_with("wasi:") && stub_wasi => {}
            _ if import.starts_with("wasi:") => return Err(ScanError::Wasi(import.clone())),
            _ => return Err(ScanError::Import(import.clone())),
        }
    }
    Ok(())
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        names => names.iter().take(10).cloned().collect::<Vec<_>>().join(", "),
    }
}
