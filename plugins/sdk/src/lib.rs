//! What a heddle plugin in Rust is written with: typed columns of a batch, captions, and one macro that exports a type.
//!
//! ```ignore
//! struct Short { words: usize }
//!
//! impl Filter for Short {
//!     fn describe() -> Description { .. }
//!     fn open(config: Config<'_>, _seed: u64) -> Result<Self, Error> { .. }
//!     fn apply(&mut self, batch: &Batch) -> Result<Vec<u8>, Error> { .. }
//! }
//!
//! heddle_plugin_sdk::export_filter!(Short);
//! ```
//!
//! A plugin's crate enables the feature of what it is: `filter`, `transform`, `score`, `dedup` or `fold`. Rules are plain
//! functions; they are tested with `cargo test` on the machine at hand.

pub mod captions;
mod columns;
mod describe;
pub mod words;

#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        inline: "package heddle:sdk; world sdk { import heddle:plugin/types@0.1.0; import heddle:plugin/host@0.1.0; }",
        path: "../wit/0.1",
        world: "heddle:sdk/sdk",
        generate_all,
    });
}

pub use bindings::heddle::plugin::types::{
    Batch, Column, ColumnSpec, ColumnType, Description, DropReason, Error, Packed, State, Values,
};
pub use columns::{Coded, Numbers, Texts, columns_of};
pub use describe::{Config, reads, reasons, stateless};

/// Writes a line to the run's log.
pub fn log(message: &str) {
    #[cfg(target_arch = "wasm32")]
    bindings::heddle::plugin::host::log(bindings::heddle::plugin::host::Level::Info, message);
    #[cfg(not(target_arch = "wasm32"))]
    let _ = message;
}

/// Adds to a counter of the run's report.
pub fn count(counter: &str, by: u64) {
    #[cfg(target_arch = "wasm32")]
    bindings::heddle::plugin::host::count(counter, by);
    #[cfg(not(target_arch = "wasm32"))]
    let _ = (counter, by);
}

/// Keeps or drops records.
pub trait Filter: Sized + 'static {
    /// What the plugin is.
    fn describe() -> Description;
    /// Starts with a config that the schema accepts.
    fn open(config: Config<'_>, seed: u64) -> Result<Self, Error>;
    /// A byte a record: 0 keeps, `k` drops for reason `k - 1`.
    fn apply(&mut self, batch: &Batch) -> Result<Vec<u8>, Error>;
}

/// Gives columns.
pub trait Transform: Sized + 'static {
    /// What the plugin is.
    fn describe() -> Description;
    /// Starts with a config that the schema accepts.
    fn open(config: Config<'_>, seed: u64) -> Result<Self, Error>;
    /// The columns that it declares, each with a cell a record.
    fn apply(&mut self, batch: &Batch) -> Result<Vec<Column>, Error>;
}

/// Gives a number a record.
pub trait Score: Sized + 'static {
    /// What the plugin is.
    fn describe() -> Description;
    /// Starts with a config that the schema accepts.
    fn open(config: Config<'_>, seed: u64) -> Result<Self, Error>;
    /// A number a record.
    fn apply(&mut self, batch: &Batch) -> Result<Vec<f32>, Error>;
}

/// Gives hashes; records that share one are duplicates.
pub trait Dedup: Sized + 'static {
    /// What the plugin is.
    fn describe() -> Description;
    /// Starts with a config that the schema accepts.
    fn open(config: Config<'_>, seed: u64) -> Result<Self, Error>;
    /// The hashes of every record.
    fn apply(&mut self, batch: &Batch) -> Result<Vec<Vec<u64>>, Error>;
}

/// Gathers statistics.
pub trait Fold: Sized + 'static {
    /// What the plugin is.
    fn describe() -> Description;
    /// Starts with a config that the schema accepts.
    fn open(config: Config<'_>, seed: u64) -> Result<Self, Error>;
    /// Takes in a batch.
    fn update(&mut self, batch: &Batch) -> Result<(), Error>;
    /// What was gathered so far.
    fn partial(&mut self) -> Result<Vec<u8>, Error>;
    /// Adds what another instance gathered on later records.
    fn merge(&mut self, other: &[u8]) -> Result<(), Error>;
    /// The result, a JSON document.
    fn finish(&mut self) -> Result<String, Error>;
}

macro_rules! world {
    ($feature:literal, $module:ident, $world:literal) => {
        #[cfg(all(feature = $feature, target_arch = "wasm32"))]
        #[doc(hidden)]
        pub mod $module {
            wit_bindgen::generate!({
                path: "../wit/0.1",
                world: $world,
                with: {
                    "heddle:plugin/types@0.1.0": crate::bindings::heddle::plugin::types,
                    "heddle:plugin/host@0.1.0": crate::bindings::heddle::plugin::host,
                },
                pub_export_macro: true,
                default_bindings_module: "heddle_plugin_sdk",
            });
        }
    };
}

world!("filter", filter_world, "filter-plugin");
world!("transform", transform_world, "transform-plugin");
world!("score", score_world, "score-plugin");
world!("dedup", dedup_world, "dedup-plugin");
world!("fold", fold_world, "fold-plugin");

/// What every export has: the instance, and how it starts.
#[doc(hidden)]
#[macro_export]
macro_rules! __lifecycle {
    ($plugin:ty, $kind:ident, $world:ident) => {
        struct Exported;

        ::std::thread_local! {
            static INSTANCE: ::std::cell::RefCell<Option<$plugin>> = const { ::std::cell::RefCell::new(None) };
        }

        fn with<T>(call: impl FnOnce(&mut $plugin) -> Result<T, $crate::Error>) -> Result<T, $crate::Error> {
            INSTANCE.with(|instance| match &mut *instance.borrow_mut() {
                Some(instance) => call(instance),
                None => Err($crate::Error::Failed("a call before `open`".into())),
            })
        }

        impl $crate::$world::exports::heddle::plugin::lifecycle::Guest for Exported {
            fn describe() -> $crate::Description {
                <$plugin as $crate::$kind>::describe()
            }

            fn open(config: String, seed: u64) -> Result<(), $crate::Error> {
                let opened = <$plugin as $crate::$kind>::open($crate::Config::new(&config), seed)?;
                INSTANCE.with(|instance| *instance.borrow_mut() = Some(opened));
                Ok(())
            }
        }

        $crate::$world::export!(Exported with_types_in $crate::$world);
    };
}

/// Exports a type that is a [`Filter`].
#[macro_export]
macro_rules! export_filter {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            $crate::__lifecycle!($plugin, Filter, filter_world);

            impl $crate::filter_world::exports::heddle::plugin::filter::Guest for Exported {
                fn apply(batch: $crate::Batch) -> Result<Vec<u8>, $crate::Error> {
                    with(|plugin| $crate::Filter::apply(plugin, &batch))
                }
            }
        };
    };
}

/// Exports a type that is a [`Transform`].
#[macro_export]
macro_rules! export_transform {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            $crate::__lifecycle!($plugin, Transform, transform_world);

            impl $crate::transform_world::exports::heddle::plugin::transform::Guest for Exported {
                fn apply(batch: $crate::Batch) -> Result<Vec<$crate::Column>, $crate::Error> {
                    with(|plugin| $crate::Transform::apply(plugin, &batch))
                }
            }
        };
    };
}

/// Exports a type that is a [`Score`].
#[macro_export]
macro_rules! export_score {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            $crate::__lifecycle!($plugin, Score, score_world);

            impl $crate::score_world::exports::heddle::plugin::score::Guest for Exported {
                fn apply(batch: $crate::Batch) -> Result<Vec<f32>, $crate::Error> {
                    with(|plugin| $crate::Score::apply(plugin, &batch))
                }
            }
        };
    };
}

/// Exports a type that is a [`Dedup`].
#[macro_export]
macro_rules! export_dedup {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::dedup_world::exports::heddle::plugin::dedup::{Guest, Keys};
            $crate::__lifecycle!($plugin, Dedup, dedup_world);

            impl Guest for Exported {
                fn apply(batch: $crate::Batch) -> Result<Keys, $crate::Error> {
                    let records = with(|plugin| $crate::Dedup::apply(plugin, &batch))?;
                    let mut keys = Keys { rows: vec![0], hashes: Vec::new() };
                    for hashes in records {
                        keys.hashes.extend(hashes);
                        keys.rows.push(keys.hashes.len() as u32);
                    }
                    Ok(keys)
                }
            }
        };
    };
}

/// Exports a type that is a [`Fold`].
#[macro_export]
macro_rules! export_fold {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            $crate::__lifecycle!($plugin, Fold, fold_world);

            impl $crate::fold_world::exports::heddle::plugin::fold::Guest for Exported {
                fn update(batch: $crate::Batch) -> Result<(), $crate::Error> {
                    with(|plugin| $crate::Fold::update(plugin, &batch))
                }
                fn partial() -> Result<Vec<u8>, $crate::Error> {
                    with($crate::Fold::partial)
                }
                fn merge(other: Vec<u8>) -> Result<(), $crate::Error> {
                    with(|plugin| $crate::Fold::merge(plugin, &other))
                }
                fn finish() -> Result<String, $crate::Error> {
                    with($crate::Fold::finish)
                }
            }
        };
    };
}
