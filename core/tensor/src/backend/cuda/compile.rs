//! From a program's source to machine code, by NVRTC, once per process.
//!
//! Must not know: what is in a program.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use cudarc::nvrtc;

use super::sources::{self, Program};
use crate::error::TensorError;

/// Compiled programs by architecture, for the lifetime of the process: compiling takes seconds.
type Images = Mutex<HashMap<(Program, String), Arc<[u8]>>>;

/// A program as machine code, compiled when it is first asked for.
///
/// # Errors
/// [`TensorError::Device`] with the compiler's messages.
pub(super) fn image(program: Program, architecture: &str) -> Result<Arc<[u8]>, TensorError> {
    static IMAGES: LazyLock<Images> = LazyLock::new(Images::default);
    let mut images = IMAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (program, architecture.to_owned());
    if let Some(image) = images.get(&key) {
        return Ok(image.clone());
    }
    let image: Arc<[u8]> = compile(&sources::text(program), architecture)?.into();
    images.insert(key, image.clone());
    Ok(image)
}

/// Compiles CUDA C++ for one architecture. A CUBIN rather than PTX: a driver refuses PTX of a newer compiler
/// than it knows, and takes any CUBIN of its device's architecture.
fn compile(source: &str, architecture: &str) -> Result<Vec<u8>, TensorError> {
    let failed =
        |what: &str, error: nvrtc::result::NvrtcError| TensorError::Device(format!("{what}: {error}"));
    let program = nvrtc::result::create_program(source).map_err(|error| failed("NVRTC", error))?;
    // `-default-device`: the loops' lambdas are device functions without saying so.
    let options =
        [format!("--gpu-architecture={architecture}"), "--std=c++17".into(), "-default-device".into()];
    // SAFETY: the program was just created and is destroyed once, below.
    let image = unsafe {
        match nvrtc::result::compile_program(program, &options) {
            Ok(()) => read_image(program).map_err(|error| failed("reading compiled kernels", error)),
            Err(error) => Err(failed(&format!("compiling kernels:\n{}", log_of(program)), error)),
        }
    };
    // SAFETY: see above; a failure would leak some host memory and nothing else.
    let _leaked = unsafe { nvrtc::result::destroy_program(program) };
    image
}

/// # Safety
/// `program` was created and not destroyed.
unsafe fn log_of(program: nvrtc::sys::nvrtcProgram) -> String {
    // SAFETY: as the caller promises.
    let log = unsafe { nvrtc::result::get_program_log(program) }.unwrap_or_default();
    let bytes: Vec<u8> = log.iter().map(|&c| c as u8).take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// # Safety
/// `program` was compiled and not destroyed.
unsafe fn read_image(program: nvrtc::sys::nvrtcProgram) -> Result<Vec<u8>, nvrtc::result::NvrtcError> {
    let mut size = 0;
    // SAFETY: as the caller promises; the image has room for as many bytes as were announced.
    unsafe {
        nvrtc::sys::nvrtcGetCUBINSize(program, &mut size).result()?;
        let mut image = vec![0_u8; size];
        nvrtc::sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast()).result()?;
        Ok(image)
    }
}
