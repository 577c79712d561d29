//! Batches: which records each step takes, and having them ready in time.

mod bad;
mod images;
mod order;
mod pictures;
mod prefetch;

pub use bad::{BadRecords, TooManyBad};
pub use images::{Images, load_image, load_images};
pub use order::{Batches, DistinctBatches, OrderError, ShuffledBatches, epoch_order};
pub use pictures::{Pictures, PicturesError, PicturesOptions};
pub use prefetch::{Prefetch, PrefetchOptions};
