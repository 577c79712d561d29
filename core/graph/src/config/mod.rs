//! TOML text to [`Experiment`] and [`ModelFile`]: includes, parameters, overrides, model graph references,
//! ablations and sweeps. It knows no kind of node: the tables of nodes stay tables, and [`Reader`] is how kinds
//! read them later.

mod cache;
mod docs;
mod document;
mod experiment;
mod field;
mod files;
mod from_value;
mod graph_ref;
mod include;
mod inputs;
mod keep;
mod load;
mod merge;
mod model;
mod node;
mod overrides;
mod params;
mod reader;
mod remote;
mod run;
mod share;
mod size;
mod sweep;
mod value;

pub use cache::CacheSettings;
pub use docs::{ChoiceDoc, FieldDoc, FieldShape, VariantDoc};
pub use document::{Document, FileKind, SCHEMA, file_kind};
pub(crate) use document::{EXPERIMENT_KEYS, MODEL_KEYS};
pub use experiment::Experiment;
pub use field::{Choice, Field};
pub use files::{FileField, FilesField, InputFile};
pub use from_value::{FromValue, Number, Wrong};
pub(crate) use inputs::INPUT_TYPES;
pub use inputs::{Dialogue, InputDecl, OutputDecl, TextOf};
pub use keep::{Keep, Stored};
pub use load::{document_fields, load, load_model, load_model_partial, load_partial, read_toml};
pub use model::{GraphId, ModelFile};
pub use node::ConfigNode;
pub use overrides::{COMMAND_LINE, Override};
pub(crate) use reader::ReadEnv;
pub use reader::{Reader, Reading, Variant};
pub use run::{Device, Executor, RunSettings};
pub use size::Size;
pub use sweep::{Cell, MAX_CELLS};
pub use value::{Entry, Table, Value, ValueKind, table_json};
