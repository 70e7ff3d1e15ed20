//! SSE2, which every x86-64 has.

use std::arch::x86_64::*;

pub(super) type F32 = __m128;
pub(super) type I32 = __m128i;
pub(super) type I16 = __m128i;

macro_rules! by_lane {
    ($($name:ident $intrinsic:ident $type:ty;)*) => {$(
        #[inline(always)]
        pub(super) fn $name(a: $type, b: $type) -> $type {
            // SAFETY: every x86-64 has SSE2.
            unsafe { $intrinsic(a, b) }
        }
    )*};
}

by_lane! {
    add_f32 _mm_add_ps F32;
    sub_f32 _mm_sub_ps F32;
    mul_f32 _mm_mul_ps F32;
    div_f32 _mm_div_ps F32;
    add_i32 _mm_add_epi32 I32;
    sub_i32 _mm_sub_epi32 I32;
    and_i32 _mm_and_si128 I32;
    and_i16 _mm_and_si128 I16;
    narrow _mm_packs_epi32 I32;
    dot _mm_madd_epi16 I16;
}

macro_rules! others {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty { $value:expr })*) => {$(
        #[inline(always)]
        pub(super) fn $name($($argument: $type),*) -> $result {
            // SAFETY: every x86-64 has SSE2; arrays are as long as what is read or written.
            unsafe { $value }
        }
    )*};
}

others! {
    splat_f32(value: f32) -> F32 { _mm_set1_ps(value) }
    splat_i32(value: i32) -> I32 { _mm_set1_epi32(value) }
    splat_pair(pair: i32) -> I16 { _mm_set1_epi32(pair) }
    load_f32(values: &[f32; 4]) -> F32 { _mm_loadu_ps(values.as_ptr()) }
    store_f32(lanes: F32, values: &mut [f32; 4]) -> () { _mm_storeu_ps(values.as_mut_ptr(), lanes) }
    load_i16(values: &[i16; 8]) -> I16 { _mm_loadu_si128(values.as_ptr().cast()) }
    store_i16(lanes: I16, values: &mut [i16; 8]) -> () { _mm_storeu_si128(values.as_mut_ptr().cast(), lanes) }
    // Doubled, a number is its own upper half, which an arithmetic shift brings down.
    widen_i8(values: &[i8; 8]) -> I16 {{
        let bytes = _mm_loadl_epi64(values.as_ptr().cast());
        _mm_srai_epi16::<8>(_mm_unpacklo_epi8(bytes, bytes))
    }}
    widen_i16(values: &[i16; 4]) -> I32 {{
        let shorts = _mm_loadl_epi64(values.as_ptr().cast());
        _mm_srai_epi32::<16>(_mm_unpacklo_epi16(shorts, shorts))
    }}
    // The instruction gives its second operand where one is no number.
    max(a: F32, b: F32) -> F32 { _mm_max_ps(b, a) }
    min(a: F32, b: F32) -> F32 { _mm_min_ps(b, a) }
    with_sign(value: F32, sign: F32) -> F32 {{
        let mask = _mm_set1_ps(-0.0);
        _mm_or_ps(_mm_and_ps(mask, sign), _mm_andnot_ps(mask, value))
    }}
    unless_low(lanes: F32, value: F32, bound: F32) -> F32 { _mm_andnot_ps(_mm_cmple_ps(value, bound), lanes) }
    sums(a: F32, b: F32, c: F32, d: F32) -> F32 {{
        let ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
        let cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
        _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab))
    }}
    f32_bits(lanes: F32) -> I32 { _mm_castps_si128(lanes) }
    float_bits(lanes: I32) -> F32 { _mm_castsi128_ps(lanes) }
    to_floats(lanes: I32) -> F32 { _mm_cvtepi32_ps(lanes) }
    array_i32(lanes: I32) -> [i32; 4] {{
        let mut values = [0; 4];
        _mm_storeu_si128(values.as_mut_ptr().cast(), lanes);
        values
    }}
}

#[inline(always)]
pub(super) fn shift_left<const BITS: i32>(lanes: I32) -> I32 {
    // SAFETY: every x86-64 has SSE2.
    unsafe { _mm_slli_epi32::<BITS>(lanes) }
}

#[inline(always)]
pub(super) fn divide<const BITS: i32>(lanes: I32) -> I32 {
    // SAFETY: every x86-64 has SSE2.
    unsafe { _mm_srai_epi32::<BITS>(lanes) }
}

#[inline(always)]
pub(super) fn shift_right<const BITS: i32>(lanes: I16) -> I16 {
    // SAFETY: every x86-64 has SSE2.
    unsafe { _mm_srli_epi16::<BITS>(lanes) }
}
