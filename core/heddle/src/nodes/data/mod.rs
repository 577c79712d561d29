//! Data sources, the records artifact that they give, and how its columns and images are read.

mod class_folders;
mod coco;
mod columns;
mod decode;
mod deduplicate;
mod dirt;
mod filter;
mod image;
mod ports;
mod records;
mod sieve;
mod source;
mod table;
mod text;
mod webdataset;
mod where_;

pub use class_folders::ClassFolders;
pub use coco::Coco;
pub use columns::{column_text, column_texts};
pub use decode::Decode;
pub use deduplicate::Deduplicate;
pub use dirt::Dirt;
pub use filter::{Filters, read_filters};
pub use image::read_augment;
pub use ports::{records_in, same_records};
pub use records::{Records, Settings};
pub use sieve::{Sieve, sieve_ports};
pub use source::Common;
pub use table::Table;
pub use text::{read_captions, read_templates};
pub use webdataset::WebDataset;
pub use where_::Where;
