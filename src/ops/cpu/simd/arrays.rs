//! Plain arrays: the definition of right, and what is left to the compiler where no other lanes are.

use std::array::from_fn;

pub(super) type F32 = [f32; 4];
pub(super) type I32 = [i32; 4];
pub(super) type I16 = [i16; 8];

macro_rules! by_lane {
    ($($name:ident $type:ty, $a:ident $b:ident $value:expr;)*) => {$(
        #[inline(always)]
        pub(super) fn $name(a: $type, b: $type) -> $type {
            from_fn(|lane| {
                let ($a, $b) = (a[lane], b[lane]);
                $value
            })
        }
    )*};
}

by_lane! {
    add_f32 F32, a b a + b;
    sub_f32 F32, a b a - b;
    mul_f32 F32, a b a * b;
    div_f32 F32, a b a / b;
    max F32, a b if a < b { b } else { a };
    min F32, a b if b < a { b } else { a };
    with_sign F32, a b a.copysign(b);
    add_i32 I32, a b a.wrapping_add(b);
    sub_i32 I32, a b a.wrapping_sub(b);
    and_i32 I32, a b a & b;
    and_i16 I16, a b a & b;
}

#[inline(always)]
pub(super) fn splat_f32(value: f32) -> F32 {
    [value; 4]
}

#[inline(always)]
pub(super) fn splat_i32(value: i32) -> I32 {
    [value; 4]
}

#[inline(always)]
pub(super) fn splat_pair(pair: i32) -> I16 {
    let (low, high) = (pair as i16, (pair >> 16) as i16);
    [low, high, low, high, low, high, low, high]
}

#[inline(always)]
pub(super) fn load_f32(values: &[f32; 4]) -> F32 {
    *values
}

#[inline(always)]
pub(super) fn store_f32(lanes: F32, values: &mut [f32; 4]) {
    *values = lanes;
}

#[inline(always)]
pub(super) fn load_i16(values: &[i16; 8]) -> I16 {
    *values
}

#[inline(always)]
pub(super) fn store_i16(lanes: I16, values: &mut [i16; 8]) {
    *values = lanes;
}

#[inline(always)]
pub(super) fn widen_i8(values: &[i8; 8]) -> I16 {
    values.map(i16::from)
}

#[inline(always)]
pub(super) fn widen_i16(values: &[i16; 4]) -> I32 {
    values.map(i32::from)
}

#[inline(always)]
pub(super) fn unless_low(lanes: F32, value: F32, bound: F32) -> F32 {
    from_fn(|lane| if value[lane] <= bound[lane] { 0.0 } else { lanes[lane] })
}

#[inline(always)]
pub(super) fn sums(a: F32, b: F32, c: F32, d: F32) -> F32 {
    [a, b, c, d].map(|[a, b, c, d]| (a + c) + (b + d))
}

#[inline(always)]
pub(super) fn f32_bits(lanes: F32) -> I32 {
    lanes.map(|lane| lane.to_bits() as i32)
}

#[inline(always)]
pub(super) fn float_bits(lanes: I32) -> F32 {
    lanes.map(|lane| f32::from_bits(lane as u32))
}

#[inline(always)]
pub(super) fn to_floats(lanes: I32) -> F32 {
    lanes.map(|lane| lane as f32)
}

#[inline(always)]
pub(super) fn array_i32(lanes: I32) -> [i32; 4] {
    lanes
}

#[inline(always)]
pub(super) fn shift_left<const BITS: i32>(lanes: I32) -> I32 {
    lanes.map(|lane| lane << BITS)
}

#[inline(always)]
pub(super) fn divide<const BITS: i32>(lanes: I32) -> I32 {
    lanes.map(|lane| lane >> BITS)
}

#[inline(always)]
pub(super) fn shift_right<const BITS: i32>(lanes: I16) -> I16 {
    lanes.map(|lane| ((lane as u16) >> BITS) as i16)
}

#[inline(always)]
pub(super) fn narrow(low: I32, high: I32) -> I16 {
    from_fn(|lane| {
        let value = if lane < 4 { low[lane] } else { high[lane - 4] };
        value.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
    })
}

#[inline(always)]
pub(super) fn dot(a: I16, b: I16) -> I32 {
    let products: [i32; 8] = from_fn(|place| i32::from(a[place]) * i32::from(b[place]));
    from_fn(|lane| products[2 * lane].wrapping_add(products[2 * lane + 1]))
}
