//! The types of `plugins/wit/0.1` as they cross the boundary: borrowed on the way in, owned on the way out.

use wasmtime::component::{ComponentType, Lift, Lower};

/// Values on their way in; they point into Arrow buffers wherever the layout is the same.
#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
pub enum ValuesIn<'a> {
    #[component(name = "bools")]
    Bools(&'a [u8]),
    #[component(name = "u32s")]
    U32s(&'a [u32]),
    #[component(name = "u64s")]
    U64s(&'a [u64]),
    #[component(name = "s64s")]
    S64s(&'a [i64]),
    #[component(name = "f32s")]
    F32s(&'a [f32]),
    #[component(name = "f64s")]
    F64s(&'a [f64]),
    #[component(name = "texts")]
    Texts(PackedIn<'a>),
    #[component(name = "coded")]
    Coded(DictIn<'a>),
    #[component(name = "blobs")]
    Blobs(PackedIn<'a>),
}

#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub struct PackedIn<'a> {
    pub offsets: &'a [u32],
    pub bytes: &'a [u8],
}

#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub struct DictIn<'a> {
    pub codes: &'a [u32],
    pub values: &'a [String],
}

#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub struct ColumnIn<'a> {
    pub name: &'a str,
    pub rows: Option<&'a [u32]>,
    pub validity: Option<&'a [u8]>,
    pub values: ValuesIn<'a>,
}

#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub struct BatchIn<'a> {
    pub rows: u32,
    pub columns: &'a [ColumnIn<'a>],
}

/// Values as a plugin gave them; nothing is checked yet.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift)]
#[component(variant)]
pub enum Values {
    /// 0 or 1.
    #[component(name = "bools")]
    Bools(Vec<u8>),
    /// Unsigned, 32 bits.
    #[component(name = "u32s")]
    U32s(Vec<u32>),
    /// Unsigned, 64 bits.
    #[component(name = "u64s")]
    U64s(Vec<u64>),
    /// Signed, 64 bits.
    #[component(name = "s64s")]
    S64s(Vec<i64>),
    /// Single precision.
    #[component(name = "f32s")]
    F32s(Vec<f32>),
    /// Double precision.
    #[component(name = "f64s")]
    F64s(Vec<f64>),
    /// UTF-8.
    #[component(name = "texts")]
    Texts(Packed),
    /// Few distinct strings.
    #[component(name = "coded")]
    Coded(Dict),
    /// Bytes.
    #[component(name = "blobs")]
    Blobs(Packed),
}

/// Value `i` is `bytes[offsets[i] .. offsets[i + 1]]`.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift)]
#[component(record)]
pub struct Packed {
    /// One more than there are values.
    pub offsets: Vec<u32>,
    /// All values, one after the other.
    pub bytes: Vec<u8>,
}

/// Value `i` is `values[codes[i]]`.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift)]
#[component(record)]
pub struct Dict {
    /// Places in `values`.
    pub codes: Vec<u32>,
    /// The distinct strings.
    pub values: Vec<String>,
}

/// A column as a plugin gave it; nothing is checked yet.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift)]
#[component(record)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Where each record's values begin, with one more at the end; `None` for one value a record.
    pub rows: Option<Vec<u32>>,
    /// A byte a value, 0 where it is absent.
    pub validity: Option<Vec<u8>>,
    /// The values.
    pub values: Values,
}

/// Hashes of records as a plugin gave them; nothing is checked yet.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift)]
#[component(record)]
pub struct Keys {
    /// Record `r` has `hashes[rows[r] .. rows[r + 1]]`.
    pub rows: Vec<u32>,
    /// All hashes.
    pub hashes: Vec<u64>,
}

/// The type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub enum ColumnType {
    /// Truth values.
    #[component(name = "bools")]
    Bools,
    /// Unsigned, 32 bits.
    #[component(name = "u32s")]
    U32s,
    /// Unsigned, 64 bits.
    #[component(name = "u64s")]
    U64s,
    /// Signed, 64 bits.
    #[component(name = "s64s")]
    S64s,
    /// Single precision.
    #[component(name = "f32s")]
    F32s,
    /// Double precision.
    #[component(name = "f64s")]
    F64s,
    /// UTF-8.
    #[component(name = "texts")]
    Texts,
    /// Few distinct strings.
    #[component(name = "coded")]
    Coded,
    /// Bytes.
    #[component(name = "blobs")]
    Blobs,
}

/// A column that a plugin reads or writes.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift)]
#[component(record)]
pub struct ColumnSpec {
    /// Its name; a path into structs may be read (`captions.language`).
    pub name: String,
    /// The type of its values.
    pub ty: ColumnType,
    /// Whether a record may have any number of values.
    pub many: bool,
    /// Whether values may be absent.
    pub nullable: bool,
}

/// Why a filter drops records.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift)]
#[component(record)]
pub struct DropReason {
    /// A word for reports.
    pub code: String,
    /// A sentence for people.
    pub help: String,
}

/// Whether answers depend on earlier batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub enum State {
    /// On the batch, the config and the seed alone.
    #[component(name = "none")]
    None,
    /// On the batches before as well: one instance sees all batches in order.
    #[component(name = "ordered")]
    Ordered,
}

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift)]
#[component(record)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// One line.
    pub summary: String,
    /// JSON Schema of the config table; empty where there is none.
    #[component(name = "config-schema")]
    pub config_schema: String,
    /// Columns that it reads.
    pub reads: Vec<ColumnSpec>,
    /// Columns that it gives.
    pub writes: Vec<ColumnSpec>,
    /// Why it drops.
    pub reasons: Vec<DropReason>,
    /// Whether answers depend on earlier batches.
    pub state: State,
    /// The most records a batch.
    #[component(name = "max-batch")]
    pub max_batch: Option<u32>,
}

/// An error that a plugin returned.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift)]
#[component(variant)]
pub enum GuestError {
    #[component(name = "config")]
    Config(ConfigError),
    #[component(name = "data")]
    Data(String),
    #[component(name = "failed")]
    Failed(String),
}

#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift)]
#[component(record)]
pub struct ConfigError {
    pub path: String,
    pub message: String,
}

/// How grave a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub enum Level {
    /// For the plugin's author.
    #[component(name = "debug")]
    Debug,
    /// For everybody.
    #[component(name = "info")]
    Info,
    /// Something is odd.
    #[component(name = "warn")]
    Warn,
    /// Something is wrong.
    #[component(name = "error")]
    Error,
}

impl Keys {
    /// The hashes of each record; of an answer that was checked.
    pub fn of_records(&self) -> impl Iterator<Item = &[u64]> {
        self.rows
            .windows(2)
            .map(|ends| self.hashes.get(ends[0] as usize..ends[1] as usize).unwrap_or_default())
    }
}
