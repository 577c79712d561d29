//! Assembles plugins: core modules in WAT, with the component-type section that makes them plugins.

use std::{
    fmt::Write,
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

use arrow_array::{ArrayRef, StringArray};
use heddle_plugin::{
    Answer, Batch, CompileLimits, CompilerCommand, Failure, Host, HostOptions, Isolation, Limits,
    LoadOptions, Plugin, Session, Settings,
};
use serde_json::json;

/// A filter; every part may be replaced by something worse.
pub struct Guest {
    /// Declarations at the top of the module: more imports, globals, functions.
    pub top: String,
    /// Pages of memory, as written.
    pub memory: String,
    /// Body of `describe`, giving the address of a description.
    pub describe: String,
    /// Body of `open`, giving the address of a result.
    pub open: String,
    /// Body of `apply`; locals are `$rows`, `$columns`, `$count`.
    pub apply: String,
    /// Body of `realloc`.
    pub realloc: String,
    /// The description in memory.
    pub description: Description,
    pub world: &'static str,
}

/// What the guest says of itself.
pub struct Description {
    pub name: String,
    pub schema: String,
    pub reads: Vec<(&'static str, u8, bool, bool)>,
    pub writes: Vec<(String, u8, bool, bool)>,
    pub reasons: Vec<String>,
    pub state: u8,
}

/// Where results of calls are laid out.
pub const RESULT: u32 = 64;
/// Where the description begins.
const DESCRIPTION: u32 = 128;
/// Zeros to answer with.
pub const ZEROS: u32 = 32 << 10;

impl Default for Guest {
    fn default() -> Self {
        Self {
            top: String::new(),
            memory: "2".into(),
            describe: format!("(i32.const {DESCRIPTION})"),
            open: "(i32.const 0)".into(),
            apply: answer(ZEROS, "(local.get $rows)"),
            realloc: "(local $at i32) (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
              (global.set $heap (i32.add (local.get $at) (local.get $new)))
              (block $fits (br_if $fits (i32.le_u (global.get $heap) (i32.shl (memory.size) (i32.const 16))))
                (drop (memory.grow (i32.add (i32.shr_u (local.get $new) (i32.const 16)) (i32.const 1)))))
              (local.get $at)".into(),
            description: Description {
                name: "guest".into(),
                schema: String::new(),
                reads: vec![("text", TEXTS, false, true)],
                writes: Vec::new(),
                reasons: vec!["bad".into()],
                state: 0,
            },
            world: "filter-plugin",
        }
    }
}

/// The column type of texts.
pub const TEXTS: u8 = 6;

/// An answer that is a list: `ok(ptr, len)`.
pub fn answer(address: u32, len: &str) -> String {
    format!(
        "(i32.store8 (i32.const {RESULT}) (i32.const 0)) (i32.store offset=4 (i32.const {RESULT}) (i32.const {address}))
         (i32.store offset=8 (i32.const {RESULT}) {len}) (i32.const {RESULT})"
    )
}

impl Guest {
    /// The module's text.
    pub fn text(&self) -> String {
        let image = self.description.image();
        let apply = self.world.trim_end_matches("-plugin");
        format!(
            r#"(module
  (import "heddle:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
  (import "heddle:plugin/host@0.1.0" "count" (func $count_up (param i32 i32 i64)))
  {}
  (memory (export "memory") {})
  (global $heap (mut i32) (i32.const 65536))
  (data (i32.const {DESCRIPTION}) "{image}")
  (func (export "heddle:plugin/lifecycle@0.1.0#describe") (result i32) {})
  (func (export "heddle:plugin/lifecycle@0.1.0#open") (param $config i32) (param $len i32) (param $seed i64) (result i32) {})
  (func $apply (export "heddle:plugin/{apply}@0.1.0#apply") (param $rows i32) (param $columns i32) (param $count i32) (result i32) {})
  (func (export "cabi_realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32) {})
)"#,
            self.top, self.memory, self.describe, self.open, self.apply, self.realloc
        )
    }

    /// The binary module with its interface.
    pub fn bytes(&self) -> Vec<u8> {
        with_interface(wat::parse_str(self.text()).unwrap(), self.world)
    }
}

/// Adds the section that names the world.
pub fn with_interface(module: Vec<u8>, world: &str) -> Vec<u8> {
    with_packages(module, &[], world)
}

/// Adds the section that names a world of the last of these packages, which know the interface's own.
pub fn with_packages(mut module: Vec<u8>, packages: &[&str], world: &str) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let text = include_str!("../../../../plugins/wit/0.1/plugin.wit");
    let mut package = resolve.push_str("plugin.wit", text).unwrap();
    for text in packages {
        package = resolve.push_str("more.wit", text).unwrap();
    }
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    wit_component::embed_component_metadata(
        &mut module,
        &resolve,
        world,
        wit_component::StringEncoding::UTF8,
    )
    .unwrap();
    module
}

impl Description {
    /// The record as it lies in memory at [`DESCRIPTION`], as the text of a data segment.
    fn image(&self) -> String {
        let mut tail = Vec::new();
        let base = DESCRIPTION + 68;
        let mut put = |bytes: &[u8]| {
            while tail.len() % 4 != 0 {
                tail.push(0);
            }
            let at = base + tail.len() as u32;
            tail.extend_from_slice(bytes);
            [at.to_le_bytes(), (bytes.len() as u32).to_le_bytes()].concat()
        };
        let mut head = Vec::new();
        for text in [self.name.as_str(), "1.0.0", "a guest", self.schema.as_str()] {
            head.extend(put(text.as_bytes()));
        }
        let reads =
            self.reads.iter().map(|(name, ty, many, nullable)| ((*name).to_owned(), *ty, *many, *nullable));
        for specs in [reads.collect::<Vec<_>>(), self.writes.clone()] {
            let mut list = Vec::new();
            for (name, ty, many, nullable) in &specs {
                list.extend(put(name.as_bytes()));
                list.extend([*ty, u8::from(*many), u8::from(*nullable), 0]);
            }
            let mut place = put(&list);
            place[4..].copy_from_slice(&(specs.len() as u32).to_le_bytes());
            head.extend(place);
        }
        let mut list = Vec::new();
        for code in &self.reasons {
            list.extend(put(code.as_bytes()));
            list.extend(put(b"no good"));
        }
        let mut place = put(&list);
        place[4..].copy_from_slice(&(self.reasons.len() as u32).to_le_bytes());
        head.extend(place);
        head.extend([self.state, 0, 0, 0]);
        head.extend([0; 8]);
        assert_eq!(head.len(), 68);
        assert!(
            DESCRIPTION as usize + 68 + tail.len() < ZEROS as usize,
            "the description is too long for its place"
        );
        head.extend(tail);
        head.iter().fold(String::new(), |mut text, byte| {
            write!(text, "\\{byte:02x}").unwrap();
            text
        })
    }
}

/// A host whose compiled code lies in a folder of this run.
pub static HOST: LazyLock<Host> = LazyLock::new(|| host(aot("shared"), CompileLimits::default()));

/// A folder for compiled code that is empty when the run starts.
pub fn aot(name: &str) -> PathBuf {
    let folder =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("aot-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

pub fn host(aot: PathBuf, compile: CompileLimits) -> Host {
    let program = env!("CARGO_BIN_EXE_heddle-plugin-compiler").into();
    let compiler = CompilerCommand { program, arguments: Vec::new() };
    Host::new(HostOptions { aot, compiler, compile, describe: settings().limits })
}

pub fn settings() -> Settings {
    let limits = Limits {
        deadline: Duration::from_millis(250),
        memory: 16 << 20,
        copy_out: 1 << 20,
        ..Limits::default()
    };
    Settings { config: json!({}), seed: 0, limits, isolation: Isolation::Session }
}

pub fn load(guest: &Guest) -> Plugin {
    HOST.load("guest", &guest.bytes(), LoadOptions::default()).unwrap()
}

pub fn open(guest: &Guest) -> Result<Session, Failure> {
    load(guest).open(settings())
}

/// A filter's answer for a batch.
pub fn filter(session: &Session, batch: &Batch) -> Result<Answer<Vec<u8>>, Failure> {
    session.filter(&session.prepare(batch)?)
}

/// Records with one text each.
pub fn batch(index: u64, texts: &[Option<&str>]) -> Batch {
    let array: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    Batch { index, rows: texts.len(), columns: vec![("text".into(), array)] }
}
