//! One body, compiled for several instruction sets, chosen when it is called.
//!
//! Release builds target plain x86-64, where the compiler may use SSE2 only. [`multiversion!`] compiles a
//! loop again for AVX2 and for AVX-512 and asks the processor which copy it can run. The body is ordinary
//! portable Rust: no intrinsics.
//!
//! Inside a body the constant `FMA` says whether a fused multiply-add is one instruction there;
//! [`super::math::fma`] reads it. The compiler never fuses by itself, so that a row's tail, done one element
//! at a time, gets the same bits as its vectorised middle.
//!
//! Must not know: what the bodies compute. Closures handed to other threads do not belong *into* a body: they
//! would be compiled for the baseline. Split the work outside, call the body per piece.

/// What the processor can run; the standard library caches the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Whatever the build targets.
    Baseline,
    /// 256-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// The best level of this processor.
#[inline]
pub fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        if avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            return Level::Avx512;
        }
        if avx2 {
            return Level::Avx2;
        }
    }
    Level::Baseline
}

/// Whether the baseline itself has a fused multiply-add.
pub const BASELINE_FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// Defines functions whose body exists once per [`Level`]; see the module's doc.
macro_rules! multiversion {
    ($(
        $(#[$meta:meta])*
        $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block
    )*) => {$(
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<const FMA: bool>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512vl")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    body::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    body::<true>($($arg),*)
                }
                match $crate::kernels::simd::level() {
                    // SAFETY: `level` has found these features on this processor.
                    $crate::kernels::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernels::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernels::simd::Level::Baseline => {}
                }
            }
            body::<{ $crate::kernels::simd::BASELINE_FMA }>($($arg),*)
        }
    )*};
}
pub(super) use multiversion;
