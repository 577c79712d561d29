//! Which backend a run computes on: chosen once, where the run starts.

use std::sync::Arc;

use heddle_graph::config::Device;
use heddle_tensor::{Cpu, HostTensor, Precision, TensorError};

/// Where tensors live and what computes on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compute {
    /// The processor.
    Cpu,
    /// A GPU by number.
    Cuda(usize),
}

/// What a node computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Of the operands of matrix products and of attention.
    pub precision: Precision,
    /// Whether it needs gradients.
    pub learns: bool,
    /// Records a pass, where that is in no key.
    pub batch: usize,
}

/// A device or precision that this build or this machine does not have.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A GPU, in a build for processors.
    #[error(
        "device `cuda:{0}` is not part of this build of heddle; build it with `--features cuda`, or use `cpu` or `auto`"
    )]
    #[cfg(not(feature = "cuda"))]
    NotBuilt(usize),
    /// A precision that the processor has no instructions for.
    #[error("precision `{precision}` needs {needs}")]
    Precision {
        /// What was asked for.
        precision: Precision,
        /// What is missing.
        needs: &'static str,
    },
    /// The device does not open.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// A backend ready to compute; `on_backend!` takes it apart.
pub enum Opened {
    /// The processor.
    Cpu(Cpu),
    /// A GPU.
    #[cfg(feature = "cuda")]
    Cuda(heddle_tensor::Cuda),
}

/// The device of a run, from `[run] device`. A named GPU is opened when it is needed, so that a machine without one
/// can plan (with a build for processors, or with CUDA's libraries in place).
pub fn choose(device: Device) -> Compute {
    match device {
        Device::Cpu => Compute::Cpu,
        Device::Cuda(number) => Compute::Cuda(number),
        Device::Auto => automatic(),
    }
}

#[cfg(feature = "cuda")]
fn automatic() -> Compute {
    match heddle_tensor::Cuda::new(0, Precision::F32) {
        Ok(_) => Compute::Cuda(0),
        Err(_) => Compute::Cpu,
    }
}

#[cfg(not(feature = "cuda"))]
fn automatic() -> Compute {
    Compute::Cpu
}

impl Compute {
    /// What enters cache keys of nodes that compute on tensors: device class and generation of its kernels; the
    /// precision is the nodes' own. Raise the number when a kernel's results change. On a GPU, cuBLAS chooses the order
    /// of its sums by the number of rows, so that the batch counts as well.
    pub fn numerics(self, need: Need) -> String {
        match self {
            Self::Cpu if need.learns => "cpu 4".to_owned(),
            Self::Cpu => "cpu 2".to_owned(),
            Self::Cuda(_) if need.learns => "cuda 1".to_owned(),
            Self::Cuda(_) => format!("cuda 1, batches of {}", need.batch),
        }
    }

    /// Images of a pass as this device takes them: a GPU's bits depend on how many there are, so that the last few are filled up.
    pub fn whole_batch(self, mut images: HostTensor, batch: usize) -> HostTensor {
        if let (Self::Cuda(_), Some(count)) = (self, images.shape.first_mut().filter(|count| **count < batch))
        {
            *count = batch;
            images.data.resize(images.shape.iter().product(), 0.0);
        }
        images
    }

    /// Opens the device.
    ///
    /// # Errors
    /// [`DeviceError`]
    pub fn open(self, need: Need) -> Result<Opened, DeviceError> {
        match self {
            Self::Cpu => cpu(need).map(Opened::Cpu),
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => Ok(Opened::Cuda(heddle_tensor::Cuda::new(number, need.precision)?)),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(number) => Err(DeviceError::NotBuilt(number)),
        }
    }
}

fn cpu(need: Need) -> Result<Cpu, DeviceError> {
    let lacks = |needs| Err(DeviceError::Precision { precision: need.precision, needs });
    match need.precision {
        Precision::F32 if need.learns => Ok(Cpu::default()),
        Precision::F32 => Ok(Cpu::inference()),
        Precision::Bf16 if need.learns => {
            lacks("a GPU for training; on the processor it is for frozen towers")
        }
        Precision::Bf16 => match Cpu::bf16() {
            Some(cpu) => Ok(cpu),
            None => lacks("a processor with `avx512_bf16`"),
        },
        Precision::Tf32 | Precision::F16 => lacks("a GPU"),
    }
}

impl std::fmt::Display for Compute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// `on_backend!(opened, |backend| expression)`: the expression for whichever backend was opened; it is compiled once
/// for each.
macro_rules! on_backend {
    ($opened:expr, |$backend:ident| $body:expr) => {
        match $opened {
            $crate::device::Opened::Cpu($backend) => $body,
            #[cfg(feature = "cuda")]
            $crate::device::Opened::Cuda($backend) => $body,
        }
    };
}
pub(crate) use on_backend;

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

#[cfg(test)]
mod tests {
    use super::*;

    const NEED: Need = Need { precision: Precision::F32, learns: false, batch: 64 };

    #[test]
    fn the_batch_counts_where_the_device_lets_it_change_bits() {
        let other = Need { batch: 65, ..NEED };
        assert_eq!(Compute::Cpu.numerics(NEED), Compute::Cpu.numerics(other));
        assert_ne!(Compute::Cuda(0).numerics(NEED), Compute::Cuda(0).numerics(other));
        // A stage's own batch is a parameter in its key.
        let learns = |batch| Need { learns: true, batch, ..NEED };
        assert_eq!(Compute::Cuda(0).numerics(learns(1)), Compute::Cuda(1).numerics(learns(2)));
        assert_ne!(Compute::Cuda(0).numerics(learns(1)), Compute::Cpu.numerics(learns(1)));
    }

    #[test]
    fn a_processor_says_what_it_lacks() {
        let refused = |precision, learns| {
            let need = Need { precision, learns, ..NEED };
            Compute::Cpu.open(need).err().map(|error| error.to_string())
        };
        assert_eq!(refused(Precision::F32, true), None);
        assert_eq!(refused(Precision::Tf32, false).as_deref(), Some("precision `tf32` needs a GPU"));
        let training = "precision `bf16` needs a GPU for training; on the processor it is for frozen towers";
        assert_eq!(refused(Precision::Bf16, true).as_deref(), Some(training));
    }
}
