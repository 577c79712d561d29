//! Which backend a run computes on: chosen once, where the run starts.

use std::sync::Arc;

use heddle_graph::config::Device;

/// What enters cache keys of nodes that compute on tensors: device class, element type, generation of the
/// kernels. Raise the number when a kernel's results change.
pub const NUMERICS: &str = "cpu f32 1";

/// A device that this build does not have.
#[derive(Debug, thiserror::Error)]
#[error("device `cuda:{0}` is not part of this build of heddle; use `cpu` or `auto`")]
pub struct UnknownDevice(usize);

/// The device of a run, from `[run] device`.
pub fn choose(device: Device) -> Result<&'static str, UnknownDevice> {
    match device {
        Device::Cpu | Device::Auto => Ok("cpu"),
        Device::Cuda(number) => Err(UnknownDevice(number)),
    }
}

/// The pool that tensor work of a run goes through; `threads` from `--threads`, else `[run] threads`, else all.
pub fn pool(threads: Option<usize>) -> Result<Arc<rayon::ThreadPool>, rayon::ThreadPoolBuildError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .thread_name(|index| format!("heddle-{index}"))
        .build()
        .map(Arc::new)
}

/// Bytes of memory of this machine; none where the system does not say.
pub fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kib)
}
