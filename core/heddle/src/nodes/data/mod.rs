//! Data sources, the records artifact that they give, and how its columns and images are read.

mod columns;
mod filter;
mod image;
mod records;
mod source;
mod text;
mod webdataset;

pub use columns::{column_text, column_texts};
pub use filter::{Filters, read_filters};
pub use image::read_augment;
pub use records::{Records, Settings};
pub use source::Common;
pub use text::{read_captions, read_templates};
pub use webdataset::WebDataset;
