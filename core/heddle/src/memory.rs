//! The allocator's manners.

/// mimalloc's `mi_option_purge_delay`, which its Rust bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Tells mimalloc to keep freed memory for itself. Training frees and takes the same large buffers every step; given
/// back to the system in between, they would be mapped and zeroed again: some per cent of a step.
pub fn keep_freed_memory() {
    // SAFETY: sets one integer of the allocator; any value is allowed, and a negative one means never.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) }
}
