//! SIMD128.

use std::arch::wasm32::*;

pub(super) type F32 = v128;
pub(super) type I32 = v128;
pub(super) type I16 = v128;

pub(super) use std::arch::wasm32::{
    f32x4_add as add_f32, f32x4_convert_i32x4 as to_floats, f32x4_div as div_f32, f32x4_mul as mul_f32, f32x4_splat as splat_f32,
    f32x4_sub as sub_f32, i16x8_narrow_i32x4 as narrow, i32x4_add as add_i32, i32x4_dot_i16x8 as dot, i32x4_splat as splat_i32,
    i32x4_splat as splat_pair, i32x4_sub as sub_i32, v128_and as and_i32, v128_and as and_i16,
};

#[inline(always)]
pub(super) fn load_f32(values: &[f32; 4]) -> v128 {
    // SAFETY: the array is 16 readable bytes; SIMD128 loads need no alignment.
    unsafe { v128_load(values.as_ptr().cast()) }
}

#[inline(always)]
pub(super) fn store_f32(lanes: v128, values: &mut [f32; 4]) {
    // SAFETY: the array is 16 writable bytes.
    unsafe { v128_store(values.as_mut_ptr().cast(), lanes) }
}

#[inline(always)]
pub(super) fn load_i16(values: &[i16; 8]) -> v128 {
    // SAFETY: the array is 16 readable bytes.
    unsafe { v128_load(values.as_ptr().cast()) }
}

#[inline(always)]
pub(super) fn store_i16(lanes: v128, values: &mut [i16; 8]) {
    // SAFETY: the array is 16 writable bytes.
    unsafe { v128_store(values.as_mut_ptr().cast(), lanes) }
}

#[inline(always)]
pub(super) fn widen_i8(values: &[i8; 8]) -> v128 {
    // SAFETY: the array is 8 readable bytes.
    unsafe { i16x8_load_extend_i8x8(values.as_ptr()) }
}

#[inline(always)]
pub(super) fn widen_i16(values: &[i16; 4]) -> v128 {
    // SAFETY: the array is 8 readable bytes.
    unsafe { i32x4_load_extend_i16x4(values.as_ptr()) }
}

#[inline(always)]
pub(super) fn max(a: v128, b: v128) -> v128 {
    f32x4_pmax(a, b)
}

#[inline(always)]
pub(super) fn min(a: v128, b: v128) -> v128 {
    f32x4_pmin(a, b)
}

#[inline(always)]
pub(super) fn with_sign(value: v128, sign: v128) -> v128 {
    v128_bitselect(sign, value, i32x4_splat(i32::MIN))
}

#[inline(always)]
pub(super) fn unless_low(lanes: v128, value: v128, bound: v128) -> v128 {
    v128_andnot(lanes, f32x4_le(value, bound))
}

#[inline(always)]
pub(super) fn sums(a: v128, b: v128, c: v128, d: v128) -> v128 {
    let halves = |a, b| f32x4_add(i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
    let (ab, cd) = (halves(a, b), halves(c, d));
    f32x4_add(i64x2_shuffle::<0, 2>(ab, cd), i64x2_shuffle::<1, 3>(ab, cd))
}

#[inline(always)]
pub(super) fn f32_bits(lanes: v128) -> v128 {
    lanes
}

#[inline(always)]
pub(super) fn float_bits(lanes: v128) -> v128 {
    lanes
}

#[inline(always)]
pub(super) fn array_i32(lanes: v128) -> [i32; 4] {
    [i32x4_extract_lane::<0>(lanes), i32x4_extract_lane::<1>(lanes), i32x4_extract_lane::<2>(lanes), i32x4_extract_lane::<3>(lanes)]
}

#[inline(always)]
pub(super) fn shift_left<const BITS: i32>(lanes: v128) -> v128 {
    i32x4_shl(lanes, BITS as u32)
}

#[inline(always)]
pub(super) fn divide<const BITS: i32>(lanes: v128) -> v128 {
    i32x4_shr(lanes, BITS as u32)
}

#[inline(always)]
pub(super) fn shift_right<const BITS: i32>(lanes: v128) -> v128 {
    u16x8_shr(lanes, BITS as u32)
}
