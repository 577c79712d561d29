//! What a run used as one file, for another cache: `heddle cache export` and `import`.

mod file;
mod transfer;

pub use file::Contents;
pub use transfer::{BundleError, export, import};
