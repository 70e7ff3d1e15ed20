//! Four floats, four integers or eight short integers at a time: SIMD128 in wasm, SSE2 on x86-64, and arrays elsewhere. No
//! operation is fused and none is relaxed, so that all give the same bits.

use std::ops::{Add, BitAnd, Div, Mul, Sub};

#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct F32x4(lanes::F32);

#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct I32x4(lanes::I32);

#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct I16x8(lanes::I16);

impl F32x4 {
    #[inline(always)]
    pub fn splat(value: f32) -> Self {
        Self(lanes::splat_f32(value))
    }

    #[inline(always)]
    pub fn zero() -> Self {
        Self::splat(0.0)
    }

    #[inline(always)]
    pub fn load(values: &[f32; 4]) -> Self {
        Self(lanes::load_f32(values))
    }

    #[inline(always)]
    pub fn store(self, values: &mut [f32; 4]) {
        lanes::store_f32(self.0, values);
    }

    #[inline(always)]
    pub fn to_array(self) -> [f32; 4] {
        let mut values = [0.0; 4];
        self.store(&mut values);
        values
    }

    /// Lane by lane `other` where it is larger, else this: a NaN in `other` is passed over.
    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        Self(lanes::max(self.0, other.0))
    }

    /// Lane by lane `other` where it is smaller, else this.
    #[inline(always)]
    pub fn min(self, other: Self) -> Self {
        Self(lanes::min(self.0, other.0))
    }

    #[inline(always)]
    pub fn abs(self) -> Self {
        (self.bits() & I32x4::splat(i32::MAX)).float_bits()
    }

    /// This size with the sign of `sign`.
    #[inline(always)]
    pub fn signed_as(self, sign: Self) -> Self {
        Self(lanes::with_sign(self.0, sign.0))
    }

    /// 0 in the lanes where `value` is at most `bound`.
    #[inline(always)]
    pub fn unless_low(self, value: Self, bound: Self) -> Self {
        Self(lanes::unless_low(self.0, value.0, bound.0))
    }

    /// The sums of four, each in its lane.
    #[inline(always)]
    pub fn sums([a, b, c, d]: [Self; 4]) -> Self {
        Self(lanes::sums(a.0, b.0, c.0, d.0))
    }

    /// The lanes' sum, in pairs.
    #[inline(always)]
    pub fn sum(self) -> f32 {
        let [a, b, c, d] = self.to_array();
        (a + c) + (b + d)
    }

    #[inline(always)]
    pub fn highest(self) -> f32 {
        let [a, b, c, d] = self.to_array();
        a.max(b).max(c.max(d))
    }

    #[inline(always)]
    pub fn bits(self) -> I32x4 {
        I32x4(lanes::f32_bits(self.0))
    }
}

impl I32x4 {
    #[inline(always)]
    pub fn splat(value: i32) -> Self {
        Self(lanes::splat_i32(value))
    }

    /// Four short integers, widened.
    #[inline(always)]
    pub fn widen(values: &[i16; 4]) -> Self {
        Self(lanes::widen_i16(values))
    }

    #[inline(always)]
    pub fn shift_left<const BITS: i32>(self) -> Self {
        Self(lanes::shift_left::<BITS>(self.0))
    }

    /// Divided by 2^BITS, rounded down.
    #[inline(always)]
    pub fn divide<const BITS: i32>(self) -> Self {
        Self(lanes::divide::<BITS>(self.0))
    }

    /// The same numbers as floats.
    #[inline(always)]
    pub fn to_floats(self) -> F32x4 {
        F32x4(lanes::to_floats(self.0))
    }

    /// The floats that these are the bits of.
    #[inline(always)]
    pub fn float_bits(self) -> F32x4 {
        F32x4(lanes::float_bits(self.0))
    }

    #[inline(always)]
    pub fn sum(self) -> i32 {
        lanes::array_i32(self.0).iter().sum()
    }
}

impl I16x8 {
    #[inline(always)]
    pub fn splat(value: i16) -> Self {
        Self::splat_pair(i32::from(value as u16) << 16 | i32::from(value as u16))
    }

    /// The low and the high half of `pair` in turn.
    #[inline(always)]
    pub fn splat_pair(pair: i32) -> Self {
        Self(lanes::splat_pair(pair))
    }

    #[inline(always)]
    pub fn load(values: &[i16; 8]) -> Self {
        Self(lanes::load_i16(values))
    }

    #[inline(always)]
    pub fn store(self, values: &mut [i16; 8]) {
        lanes::store_i16(self.0, values);
    }

    /// Eight bytes, widened.
    #[inline(always)]
    pub fn widen(values: &[i8; 8]) -> Self {
        Self(lanes::widen_i8(values))
    }

    /// Two times four integers, each cut to what 16 bits hold.
    #[inline(always)]
    pub fn narrow(low: I32x4, high: I32x4) -> Self {
        Self(lanes::narrow(low.0, high.0))
    }

    /// Zeros come in from the left.
    #[inline(always)]
    pub fn shift_right<const BITS: i32>(self) -> Self {
        Self(lanes::shift_right::<BITS>(self.0))
    }

    /// Products of neighbours, added in pairs.
    #[inline(always)]
    pub fn dot(self, other: Self) -> I32x4 {
        I32x4(lanes::dot(self.0, other.0))
    }
}

macro_rules! operators {
    ($($type:ident $trait:ident $name:ident $lanes:ident)*) => {$(
        impl $trait for $type {
            type Output = Self;

            #[inline(always)]
            fn $name(self, other: Self) -> Self {
                Self(lanes::$lanes(self.0, other.0))
            }
        }
    )*};
}

operators! {
    F32x4 Add add add_f32
    F32x4 Sub sub sub_f32
    F32x4 Mul mul mul_f32
    F32x4 Div div div_f32
    I32x4 Add add add_i32
    I32x4 Sub sub sub_i32
    I32x4 BitAnd bitand and_i32
    I16x8 BitAnd bitand and_i16
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[path = "wasm.rs"]
mod lanes;
#[cfg(target_arch = "x86_64")]
#[path = "x86.rs"]
mod lanes;
#[cfg(not(any(all(target_arch = "wasm32", target_feature = "simd128"), target_arch = "x86_64")))]
#[path = "arrays.rs"]
mod lanes;

/// What other lanes are held to.
#[cfg(test)]
#[allow(dead_code)]
mod arrays;

#[cfg(test)]
mod tests {
    use super::*;

    const FLOATS: [[f32; 4]; 4] =
        [[1.5, -2.25, 0.0, 3e4], [-0.0, 7.5, -1e-30, f32::INFINITY], [f32::NAN, -87.0, 1e30, 2.0], [0.1, 0.2, -0.3, f32::MIN]];

    fn same(found: F32x4, expected: [f32; 4], name: &str) {
        let bits = |values: [f32; 4]| values.map(|value| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() });
        assert_eq!(bits(found.to_array()), bits(expected), "{name}: {:?}, expected {expected:?}", found.to_array());
    }

    #[test]
    fn floats_are_to_the_bit_what_arrays_give() {
        for a in FLOATS {
            for b in FLOATS {
                let (x, y) = (F32x4::load(&a), F32x4::load(&b));
                same(x + y, arrays::add_f32(a, b), "add");
                same(x - y, arrays::sub_f32(a, b), "sub");
                same(x * y, arrays::mul_f32(a, b), "mul");
                same(x / y, arrays::div_f32(a, b), "div");
                same(x.max(y), arrays::max(a, b), "max");
                same(x.min(y), arrays::min(a, b), "min");
                same(x.signed_as(y), arrays::with_sign(a, b), "signed_as");
                same(y.unless_low(x, F32x4::splat(1.0)), arrays::unless_low(b, a, [1.0; 4]), "unless_low");
                same(F32x4::sums([x, y, x, y]), arrays::sums(a, b, a, b), "sums");
            }
            same(F32x4::load(&a).abs(), a.map(f32::abs), "abs");
            same(F32x4::load(&a).bits().float_bits(), a, "bits");
        }
    }

    #[test]
    fn integers_are_what_arrays_give() {
        let bytes: [i8; 8] = [0, 1, -1, 127, -128, 5, -77, 64];
        let shorts: [i16; 8] = [0, 1, -1, i16::MAX, i16::MIN, 300, -4_000, 15];
        let stored = |lanes: I16x8| {
            let mut values = [0; 8];
            lanes.store(&mut values);
            values
        };
        let floats = |lanes: I32x4| lanes.to_floats().to_array();
        let (widened, loaded) = (I16x8::widen(&bytes), I16x8::load(&shorts));
        assert_eq!(stored(widened), arrays::widen_i8(&bytes));
        assert_eq!(floats(widened.dot(loaded)), arrays::dot(bytes.map(i16::from), shorts).map(|value| value as f32));
        assert_eq!(stored(loaded.shift_right::<4>()), arrays::shift_right::<4>(shorts));
        assert_eq!(stored(loaded & I16x8::splat(15)), shorts.map(|value| value & 15));
        let pair = (-3i32 << 16) | 9;
        assert_eq!(stored(I16x8::splat_pair(pair)), arrays::splat_pair(pair));
        let four = [shorts[3], shorts[4], shorts[5], shorts[6]];
        assert_eq!(floats(I32x4::widen(&four)), four.map(f32::from));
        assert_eq!(floats(I32x4::widen(&four).shift_left::<13>()), arrays::shift_left::<13>(four.map(i32::from)).map(|value| value as f32));
        assert_eq!(floats(I32x4::widen(&four).divide::<4>()), arrays::divide::<4>(four.map(i32::from)).map(|value| value as f32));
        let (low, high) = ([1, -70_000, 70_000, 5], [-5, 32_767, -32_769, 0]);
        let lanes = |[a, b, c, d]: [i32; 4]| F32x4::load(&[a, b, c, d].map(|bits| f32::from_bits(bits as u32))).bits();
        assert_eq!(stored(I16x8::narrow(lanes(low), lanes(high))), arrays::narrow(low, high));
        assert_eq!((lanes(low) + lanes(high)).sum(), arrays::add_i32(low, high).iter().sum::<i32>());
        assert_eq!((lanes(low) - lanes(high)).sum(), arrays::sub_i32(low, high).iter().sum::<i32>());
    }
}
