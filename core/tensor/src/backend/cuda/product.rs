//! Matrix products by cublasLt.
//!
//! cublasLt counts in columns. A row-major `[r, c]` matrix is its column-major `[c, r]` matrix, so that the
//! row-major `C = A B` is its `C^T = B^T A^T`: the operands change places, and so do the sizes. [`Plan::new`]
//! is the one place that knows this. What the library finds out about a shape (descriptors, algorithm) is
//! kept per shape.
//!
//! Sums are in single precision whatever the operands are. Algorithms come from the library's heuristic,
//! which is a function of shape and device, so that equal calls give equal bits.
//!
//! Must not know: what is multiplied.

use std::{
    collections::{HashMap, hash_map::Entry},
    ffi::c_void,
    sync::{Mutex, PoisonError},
};

use cudarc::{
    cublaslt::{result, sys},
    driver::CudaSlice,
};

use super::{
    address::Address,
    array::{Kind, View},
    driver::{Driver, address_of},
};
use crate::error::{OnDevice, TensorError};

/// What the library may use beside its operands; 32 MiB is what NVIDIA recommends for Hopper.
const WORKSPACE: usize = 32 << 20;

/// How an operand lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Layout {
    /// As it is multiplied, row-major.
    Plain,
    /// Its transpose, row-major.
    Transposed,
}

/// `out (+)= scale a b`, `[m, k]` times `[k, n]`.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) a: (View, Layout),
    pub(super) b: (View, Layout),
    pub(super) out: View,
    /// Whether the product is added to what is there.
    pub(super) add: bool,
    /// A factor in device memory; `None` for one.
    pub(super) scale: Option<Address>,
}

/// Everything that decides how a product is run.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    sizes: [usize; 3],
    operands: Kind,
    out: Kind,
    layouts: [Layout; 2],
    scaled: bool,
    alignments: [u32; 3],
}

impl Key {
    fn of(product: &Product) -> Self {
        let Product { m, n, k, a, b, out, scale, .. } = *product;
        Self {
            sizes: [m, n, k],
            operands: a.0.kind,
            out: out.kind,
            layouts: [a.1, b.1],
            scaled: scale.is_some(),
            alignments: [a.0, b.0, out].map(|view| view.address.alignment()),
        }
    }
}

/// The library with what it has found out.
pub(super) struct Products {
    handle: sys::cublasLtHandle_t,
    tf32: bool,
    workspace: CudaSlice<u8>,
    /// 0 and 1 in device memory.
    constants: CudaSlice<f32>,
    plans: Mutex<HashMap<Key, Plan>>,
}

// SAFETY: a cublasLt handle and its descriptors belong to no thread; the library allows concurrent calls on
// one handle, and descriptors are only written while they are made. The shared workspace is safe because all
// products run on one stream, one after the other.
unsafe impl Send for Products {}
// SAFETY: as above.
unsafe impl Sync for Products {}

impl Products {
    /// `tf32`: whether single-precision operands may be rounded to ten bits of fraction.
    ///
    /// # Errors
    /// [`TensorError::Device`]
    pub(super) fn new(driver: &Driver, tf32: bool) -> Result<Self, TensorError> {
        let (workspace, constants) = (driver.allocate(WORKSPACE)?, driver.upload(&[0.0_f32, 1.0])?);
        let handle = result::create_handle().on_device()?;
        Ok(Self { handle, tf32, workspace, constants, plans: Mutex::default() })
    }

    /// Runs a product.
    ///
    /// # Errors
    /// [`TensorError::Device`] if the library has no way to multiply these.
    pub(super) fn run(&self, driver: &Driver, product: &Product) -> Result<(), TensorError> {
        if product.m == 0 || product.n == 0 {
            return Ok(());
        }
        driver.device().bind_to_thread().on_device()?;
        let key = Key::of(product);
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = match plans.entry(key) {
            Entry::Occupied(plan) => plan.into_mut(),
            Entry::Vacant(place) => place.insert(Plan::new(self.handle, &key, self.tf32)?),
        };
        let (alpha, beta) = self.factors(product);
        let pointer = |view: View| view.address.0 as *mut c_void;
        let out = pointer(product.out);
        // SAFETY: the plan's descriptors describe these addresses (both are made from the product), which are
        // live device memory of the described sizes; the factors are where the plan's pointer mode expects
        // them.
        let run = unsafe {
            result::matmul(
                self.handle,
                plan.operation,
                alpha,
                beta,
                pointer(product.b.0),
                plan.first,
                pointer(product.a.0),
                plan.second,
                out,
                plan.out,
                out,
                plan.out,
                &plan.algorithm,
                address_of(&self.workspace).0 as *mut c_void,
                WORKSPACE,
                driver.device().cu_stream().cast(),
            )
        };
        run.map_err(|error| TensorError::Device(format!("{}: {error}", describe(&key))))
    }

    /// Where the library finds the factors of the product and of what is there: on the device if the first
    /// is.
    fn factors(&self, product: &Product) -> (*const c_void, *const c_void) {
        static ON_HOST: [f32; 2] = [0.0, 1.0];
        let host = |index: usize| std::ptr::from_ref(&ON_HOST[index]).cast::<c_void>();
        let add = usize::from(product.add);
        match product.scale {
            None => (host(1), host(add)),
            Some(scale) => {
                let beta = address_of(&self.constants).plus(add * size_of::<f32>());
                (scale.0 as *const c_void, beta.0 as *const c_void)
            }
        }
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        // SAFETY: made by `new` and used by nobody any more. A failure leaks some host memory.
        let _leaked = unsafe { result::destroy_handle(self.handle) };
    }
}

fn describe(key: &Key) -> String {
    let [m, n, k] = key.sizes;
    format!("product [{m}, {k}] x [{k}, {n}] of {:?} into {:?}", key.operands, key.out)
}

/// How one kind of product is run. Operands in the library's order: `first` is our `b`.
struct Plan {
    operation: sys::cublasLtMatmulDesc_t,
    first: sys::cublasLtMatrixLayout_t,
    second: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Plan {
    fn new(handle: sys::cublasLtHandle_t, key: &Key, tf32: bool) -> Result<Self, TensorError> {
        let [m, n, k] = key.sizes;
        let compute = match (key.operands, tf32) {
            (Kind::F32, true) => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            _ => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        };
        let mut plan = Self {
            operation: result::create_matmul_desc(compute, sys::cudaDataType_t::CUDA_R_32F).on_device()?,
            first: std::ptr::null_mut(),
            second: std::ptr::null_mut(),
            out: std::ptr::null_mut(),
            algorithm: sys::cublasLtMatmulAlgo_t::default(),
        };
        plan.first = layout(key.operands, k, n, key.layouts[1])?;
        plan.second = layout(key.operands, m, k, key.layouts[0])?;
        plan.out = layout(key.out, m, n, Layout::Plain)?;
        plan.set_operation(key).on_device()?;
        let preference = Preference::new(key).on_device()?;
        let found = result::get_matmul_algo_heuristic(
            handle,
            plan.operation,
            plan.first,
            plan.second,
            plan.out,
            plan.out,
            preference.0,
        );
        plan.algorithm =
            found.map_err(|error| TensorError::Device(format!("{}: {error}", describe(key))))?.algo;
        Ok(plan)
    }

    fn set_operation(&self, key: &Key) -> Result<(), result::CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let flag = |layout: Layout| i32::from(layout == Layout::Transposed);
        let mode = match key.scaled {
            false => sys::cublasLtPointerMode_t::CUBLASLT_POINTER_MODE_HOST,
            true => sys::cublasLtPointerMode_t::CUBLASLT_POINTER_MODE_DEVICE,
        };
        let settings = [
            (Attribute::CUBLASLT_MATMUL_DESC_TRANSA, flag(key.layouts[1])),
            (Attribute::CUBLASLT_MATMUL_DESC_TRANSB, flag(key.layouts[0])),
            (Attribute::CUBLASLT_MATMUL_DESC_POINTER_MODE, mode as i32),
        ];
        settings.into_iter().try_for_each(|(attribute, value)| {
            let value = std::ptr::from_ref(&value).cast();
            // SAFETY: these three attributes are 32-bit integers, and the value lives until the call returns.
            unsafe { result::set_matmul_desc_attribute(self.operation, attribute, value, size_of::<i32>()) }
        })
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        let layouts = [self.first, self.second, self.out].into_iter().filter(|layout| !layout.is_null());
        for layout in layouts {
            // SAFETY: made by `Plan::new` and used by nobody any more. A failure leaks some host memory.
            let _leaked = unsafe { result::destroy_matrix_layout(layout) };
        }
        // SAFETY: as above.
        let _leaked = unsafe { result::destroy_matmul_desc(self.operation) };
    }
}

/// The library's view of a row-major operand `[rows, columns]`, or of its transpose where that is what is
/// stored.
fn layout(
    kind: Kind,
    rows: usize,
    columns: usize,
    stored: Layout,
) -> Result<sys::cublasLtMatrixLayout_t, TensorError> {
    let (rows, columns) = match stored {
        Layout::Plain => (rows, columns),
        Layout::Transposed => (columns, rows),
    };
    let kind = match kind {
        Kind::F32 => sys::cudaDataType_t::CUDA_R_32F,
        Kind::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
        Kind::F16 => sys::cudaDataType_t::CUDA_R_16F,
    };
    result::create_matrix_layout(kind, columns as u64, rows as u64, columns as i64).on_device()
}

/// What the heuristic may count on.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn new(key: &Key) -> Result<Self, result::CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let preference = Self(result::create_matmul_pref()?);
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE)?;
        let [a, b, out] = key.alignments;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &b)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &a)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &out)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &out)?;
        Ok(preference)
    }

    fn set<T>(
        &self,
        attribute: sys::cublasLtMatmulPreferenceAttributes_t,
        value: &T,
    ) -> Result<(), result::CublasError> {
        // SAFETY: the workspace's size is a `size_t` and the alignments are `uint32_t`, as given; both live
        // until the call returns.
        unsafe {
            result::set_matmul_pref_attribute(
                self.0,
                attribute,
                std::ptr::from_ref(value).cast(),
                size_of::<T>(),
            )
        }
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: made by `new` and used by nobody any more. A failure leaks some host memory.
        let _leaked = unsafe { result::destroy_matmul_pref(self.0) };
    }
}
