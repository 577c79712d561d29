//! A WASI that is not there, for languages whose runtime asks for one.
//!
//! Environment and arguments are empty, there are no folders, random numbers come from the node's seed, clocks stand still.
//! Everything else ends the plugin with the name of what it called.

use wasmtime::{
    StoreContextMut,
    component::{Component, Linker, LinkerInstance, Val},
};

use crate::state::HostState;

/// Defines what the component imports of WASI.
pub(crate) fn define_stubs(
    linker: &mut Linker<HostState>,
    component: &Component,
    imports: &[String],
) -> wasmtime::Result<()> {
    // What is defined here comes first; the rest is filled up with traps.
    for import in imports.iter().filter(|import| import.starts_with("wasi:")) {
        let interface = import.split('@').next().unwrap_or(import);
        let mut instance = linker.instance(import)?;
        match interface {
            "wasi:cli/environment" => environment(&mut instance)?,
            "wasi:random/random" | "wasi:random/insecure" => random(&mut instance)?,
            "wasi:random/insecure-seed" => {
                instance.func_wrap(
                    "insecure-seed",
                    |mut store: StoreContextMut<'_, HostState>, (): ()| {
                        Ok(((draw(store.data_mut()), draw(store.data_mut())),))
                    },
                )?;
            }
            "wasi:clocks/monotonic-clock" => {
                instance.func_wrap("now", |_: StoreContextMut<'_, HostState>, (): ()| Ok((0_u64,)))?;
                instance.func_wrap("resolution", |_: StoreContextMut<'_, HostState>, (): ()| Ok((1_u64,)))?;
            }
            "wasi:clocks/wall-clock" => {
                for name in ["now", "resolution"] {
                    answer(&mut instance, name, move || {
                        let field = |name: &str, value| (name.to_owned(), value);
                        Val::Record(vec![
                            field("seconds", Val::U64(u64::from(name == "resolution"))),
                            field("nanoseconds", Val::U32(0)),
                        ])
                    })?;
                }
            }
            "wasi:filesystem/preopens" => {
                answer(&mut instance, "get-directories", || Val::List(Vec::new()))?;
            }
            _ => {}
        }
    }
    linker.define_unknown_imports_as_traps(component)
}

/// A function without parameters that gives the same every time. Its value is checked against the type that the plugin
/// imports it with, which may name a resource that is not there.
fn answer(
    instance: &mut LinkerInstance<'_, HostState>,
    name: &str,
    value: impl Fn() -> Val + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    instance.func_new(name, move |_, _, _, results| {
        results.iter_mut().for_each(|result| *result = value());
        Ok(())
    })
}

fn environment(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("get-environment", |_: StoreContextMut<'_, HostState>, (): ()| {
        Ok((Vec::<(String, String)>::new(),))
    })?;
    instance.func_wrap("get-arguments", |_: StoreContextMut<'_, HostState>, (): ()| {
        Ok((Vec::<String>::new(),))
    })?;
    instance.func_wrap("initial-cwd", |_: StoreContextMut<'_, HostState>, (): ()| Ok((None::<String>,)))
}

fn random(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    /// More is a mistake, or a way to fill memory.
    const MOST: u64 = 1 << 20;
    let bytes = |mut store: StoreContextMut<'_, HostState>, (count,): (u64,)| {
        if count > MOST {
            wasmtime::bail!("{count} random bytes at once");
        }
        let state = store.data_mut();
        Ok(((0..count).map(|_| draw(state) as u8).collect::<Vec<u8>>(),))
    };
    let number = |mut store: StoreContextMut<'_, HostState>, (): ()| Ok((draw(store.data_mut()),));
    instance.func_wrap("get-random-bytes", bytes)?;
    instance.func_wrap("get-random-u64", number)?;
    instance.func_wrap("get-insecure-random-bytes", bytes)?;
    instance.func_wrap("get-insecure-random-u64", number)
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn draw(state: &mut HostState) -> u64 {
    state.random = state.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = state.random;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
