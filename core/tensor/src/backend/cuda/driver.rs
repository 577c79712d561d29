//! The device's driver: memory, loaded programs, launches.
//!
//! A kernel's parameters are untyped at this level. [`Driver::launch`] is given what the kernel's own comment
//! asks for: pointers to live device memory of the sizes that the other parameters say, 64-bit integers,
//! floats, and structs laid out as in the kernel's source. All work goes to the one stream that dfdx uses as
//! well, so that it runs in the order of the calls, and memory freed by the host stays until the work before
//! is done.
//!
//! Must not know: tensors, tapes, operations.

use std::{
    collections::{HashMap, hash_map::Entry},
    ffi::{CString, c_void},
    sync::{Arc, Mutex, PoisonError},
};

use cudarc::driver::{CudaDevice, CudaSlice, DevicePtr, DevicePtrMut, result, sys};

use super::{address::Address, compile, sources::Program};
use crate::error::{OnDevice, TensorError};

/// A thread block's dynamic shared memory beyond this has to be asked for.
const SHARED_WITHOUT_ASKING: usize = 48 * 1024;

/// What a kernel takes as a parameter.
pub(super) trait Argument {
    /// Where the parameter's bytes lie.
    fn bytes(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

impl Argument for Address {}
impl Argument for f32 {}
/// `long long` on the device.
impl Argument for usize {}
/// `long long` on the device.
impl Argument for i64 {}

/// Blocks of threads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    /// Blocks in each direction.
    pub(super) blocks: [usize; 3],
    /// Threads of a block in each direction.
    pub(super) threads: [usize; 3],
    /// Dynamic shared memory of a block.
    pub(super) shared_bytes: usize,
}

impl Grid {
    /// Most threads of a block that works on a row.
    const THREADS: usize = 256;
    /// Most blocks that go through a flat array; each then takes several parts.
    pub(super) const MOST_BLOCKS: usize = 1024;

    /// A block for each of `rows` rows, with threads for as many columns at a time as `along_row` takes.
    pub(super) fn rows(rows: usize, columns: usize) -> Self {
        Self::row_parts(rows, 1, columns)
    }

    /// As [`Grid::rows`], with `parts` blocks for each row.
    pub(super) fn row_parts(rows: usize, parts: usize, columns: usize) -> Self {
        let at_once = [8, 4, 1].into_iter().find(|&count| columns.is_multiple_of(count)).unwrap_or(1);
        let work = columns / at_once;
        let threads = work.next_multiple_of(32).clamp(32, Self::THREADS);
        Self { blocks: [rows, parts, 1], threads: [threads, 1, 1], shared_bytes: 0 }
    }

    /// Blocks for a flat array. Their number depends on its length alone, so that sums have the same parts on
    /// every device.
    pub(super) fn flat(len: usize) -> Self {
        let blocks = len.div_ceil(8 * Self::THREADS).clamp(1, Self::MOST_BLOCKS);
        Self { blocks: [blocks, 1, 1], threads: [Self::THREADS, 1, 1], shared_bytes: 0 }
    }

    /// One block of so many threads.
    pub(super) fn one_block(threads: usize) -> Self {
        Self { blocks: [1, 1, 1], threads: [threads, 1, 1], shared_bytes: 0 }
    }
}

/// A CUDA function, loaded for the lifetime of its module.
#[derive(Clone, Copy)]
struct Function {
    handle: sys::CUfunction,
    /// Dynamic shared memory that it may use.
    shared_bytes: usize,
}

/// A loaded module; unloaded with the driver.
struct Module {
    handle: sys::CUmodule,
    functions: HashMap<&'static str, Function>,
}

/// One device.
pub(super) struct Driver {
    device: Arc<CudaDevice>,
    /// Such as `sm_90`.
    architecture: String,
    modules: Mutex<HashMap<Program, Module>>,
}

// SAFETY: the raw handles are CUDA modules and functions. They belong to the device's context, not to a
// thread, the driver API may be called from any thread, and the table of them is behind a mutex.
unsafe impl Send for Driver {}
// SAFETY: as above.
unsafe impl Sync for Driver {}

impl Driver {
    /// Looks for a device, and says what is missing. Has to succeed before dfdx opens the device, because
    /// that panics without one.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn probe(ordinal: usize) -> Result<(), TensorError> {
        let refused = |error: result::DriverError| TensorError::Device(format!("CUDA is not there: {error}"));
        result::init().map_err(refused)?;
        let count = result::device::get_count().map_err(refused)?;
        let number = i32::try_from(ordinal).ok().filter(|&number| number < count);
        let number = number.ok_or_else(|| {
            TensorError::Device(format!("there is no CUDA device {ordinal}: the driver sees {count}"))
        })?;
        result::device::get(number).map_err(refused).map(drop)
    }

    /// A device that dfdx has opened.
    ///
    /// # Errors
    /// [`TensorError::Device`], also for a device that is too old for 16-bit products.
    pub(super) fn new(device: Arc<CudaDevice>) -> Result<Self, TensorError> {
        use sys::CUdevice_attribute_enum as Attribute;
        let major = device.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR).on_device()?;
        let minor = device.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR).on_device()?;
        if major < 8 {
            let reason = format!("compute capability {major}.{minor} is below 8.0, which the kernels need");
            return Err(TensorError::Device(reason));
        }
        device.bind_to_thread().on_device()?;
        keep_freed_memory(&device)?;
        Ok(Self { device, architecture: format!("sm_{major}{minor}"), modules: Mutex::default() })
    }

    /// cudarc's handle of the device.
    pub(super) fn device(&self) -> &Arc<CudaDevice> {
        &self.device
    }

    /// Uninitialised memory. At least one byte, because an empty allocation fails on some devices.
    ///
    /// # Errors
    /// [`TensorError::Device`] when memory runs out.
    pub(super) fn allocate<T: cudarc::driver::DeviceRepr>(
        &self,
        len: usize,
    ) -> Result<CudaSlice<T>, TensorError> {
        // SAFETY: whoever allocates writes before anything reads.
        unsafe { self.device.alloc(len.max(1)) }.on_device()
    }

    /// Copies host memory to the device, without waiting for work in progress. The host memory may go at
    /// once: it is pageable, and the driver returns from such a copy when it has staged it (CUDA driver API,
    /// "API synchronization behavior").
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn upload<T: cudarc::driver::DeviceRepr>(
        &self,
        data: &[T],
    ) -> Result<CudaSlice<T>, TensorError> {
        if data.is_empty() {
            return self.allocate(1);
        }
        let memory = self.allocate(data.len())?;
        // SAFETY: the memory has as many elements as the data, and see above for how long that is read.
        unsafe { result::memcpy_htod_async(address_of(&memory).0, data, *self.device.cu_stream()) }
            .on_device()?;
        Ok(memory)
    }

    /// Copies bytes within the device.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<(), TensorError> {
        copy(&self.device, from, to, bytes)
    }

    /// Starts a kernel. See the module documentation for what the arguments have to be.
    ///
    /// # Errors
    /// [`TensorError::Device`] if the program cannot be compiled or the launch is refused.
    pub(super) fn launch(
        &self,
        program: Program,
        kernel: &'static str,
        grid: Grid,
        arguments: &[&dyn Argument],
    ) -> Result<(), TensorError> {
        if grid.blocks.contains(&0) {
            return Ok(());
        }
        self.device.bind_to_thread().on_device()?;
        let function = self.function(program, kernel, grid.shared_bytes)?;
        let mut parameters: Vec<*mut c_void> = arguments.iter().map(|argument| argument.bytes()).collect();
        let size = |[x, y, z]: [usize; 3]| (x as u32, y as u32, z as u32);
        // SAFETY: the function is loaded in the bound context; the parameters point to values that live until
        // the call returns, in the number, order and types of the kernel's own declaration.
        let launched = unsafe {
            result::launch_kernel(
                function.handle,
                size(grid.blocks),
                size(grid.threads),
                grid.shared_bytes as u32,
                *self.device.cu_stream(),
                &mut parameters,
            )
        };
        launched.map_err(|error| TensorError::Device(format!("kernel `{kernel}`: {error}")))
    }

    /// A kernel of a program, which is compiled when its first kernel is asked for.
    fn function(
        &self,
        program: Program,
        kernel: &'static str,
        shared_bytes: usize,
    ) -> Result<Function, TensorError> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let module = match modules.entry(program) {
            Entry::Occupied(module) => module.into_mut(),
            Entry::Vacant(place) => place.insert(self.load(program)?),
        };
        let known = module.functions.get(kernel).copied();
        let mut function = match known {
            Some(function) => function,
            None => Function { handle: module.find(kernel)?, shared_bytes: SHARED_WITHOUT_ASKING },
        };
        if shared_bytes > function.shared_bytes {
            raise_shared_memory(function.handle, kernel, shared_bytes)?;
            function.shared_bytes = shared_bytes;
        }
        module.functions.insert(kernel, function);
        Ok(function)
    }

    fn load(&self, program: Program) -> Result<Module, TensorError> {
        let image = compile::image(program, &self.architecture)?;
        // SAFETY: the image is a whole CUBIN for this device, and the context is bound.
        let handle = unsafe { result::module::load_data(image.as_ptr().cast()) };
        let handle = handle.map_err(|error| TensorError::Device(format!("loading kernels: {error}")))?;
        Ok(Module { handle, functions: HashMap::new() })
    }
}

impl Module {
    fn find(&self, kernel: &str) -> Result<sys::CUfunction, TensorError> {
        let name = CString::new(kernel).on_device()?;
        // SAFETY: the module is loaded and stays so.
        let function = unsafe { result::module::get_function(self.handle, name) };
        function.map_err(|error| TensorError::Device(format!("kernel `{kernel}`: {error}")))
    }
}

fn raise_shared_memory(function: sys::CUfunction, kernel: &str, bytes: usize) -> Result<(), TensorError> {
    let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    // SAFETY: the function belongs to a loaded module.
    let raised = unsafe { sys::cuFuncSetAttribute(function, attribute, bytes as i32) }.result();
    raised.map_err(|error| {
        TensorError::Device(format!("{bytes} bytes of shared memory for `{kernel}`: {error}"))
    })
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.device.bind_to_thread().is_err() {
            return;
        }
        let modules = self.modules.get_mut().unwrap_or_else(PoisonError::into_inner);
        for module in modules.values() {
            // SAFETY: loaded by `load`, and no function of it can be launched any more. A failure leaves it
            // loaded until the context goes, which harms nobody.
            let _left_loaded = unsafe { result::module::unload(module.handle) };
        }
    }
}

/// Lets the device's memory pool keep what is freed, so that the next allocation of a stream-ordered program
/// costs about a microsecond instead of a call into the operating system.
fn keep_freed_memory(device: &CudaDevice) -> Result<(), TensorError> {
    let attribute = sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED;
    if device.attribute(attribute).on_device()? == 0 {
        return Ok(());
    }
    let mut pool = std::ptr::null_mut();
    let mut threshold = u64::MAX;
    // SAFETY: `pool` and `threshold` are valid for writing and reading during the calls; the device is open.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&mut pool, *device.cu_device()).result().on_device()?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, attribute, std::ptr::from_mut(&mut threshold).cast())
            .result()
            .on_device()
    }
}

/// Copies bytes within a device.
///
/// # Errors
/// [`TensorError::Device`]
pub(super) fn copy(device: &CudaDevice, from: Address, to: Address, bytes: usize) -> Result<(), TensorError> {
    if bytes == 0 {
        return Ok(());
    }
    device.bind_to_thread().on_device()?;
    // SAFETY: both ranges are live device memory of that many bytes (the callers' tensors and buffers).
    unsafe { result::memcpy_dtod_async(to.0, from.0, bytes, *device.cu_stream()) }.on_device()
}

/// Where owned memory lies.
pub(super) fn address_of<T>(slice: &CudaSlice<T>) -> Address {
    Address(*slice.device_ptr())
}

/// Where memory lies that is about to be written.
pub(super) fn address_of_mut<T>(slice: &mut CudaSlice<T>) -> Address {
    Address(*slice.device_ptr_mut())
}
