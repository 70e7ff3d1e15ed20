//! One product by itself: x [rows, columns] with a packed matrix [out, columns], on made-up numbers.

use std::ops::Range;

use burn_tensor::{Tensor, TensorData};

use crate::device::Device;
use crate::error::Result;
use crate::layers::Linear;
use crate::ops::read_floats;
use crate::weights::quant::{Quant, pack_f16, pack_rows, quantize, unpack_row, words_per_row};
use crate::weights::{Part, Request, Role, Weights};

pub struct Product {
    pub quant: Quant,
    /// rows, out, columns
    pub shape: [usize; 3],
    linear: Linear,
    x: Tensor<2>,
}

impl Product {
    /// Errors: weight-invalid, kernel.
    pub fn new(device: &Device, quant: Quant, shape @ [rows, out, columns]: [usize; 3]) -> Result<Self> {
        const KEY: &str = "weight";
        let weights = Weights::new(device, [(KEY.into(), Request { role: Role::Matrix, shape: vec![out, columns], joined: None })].into());
        put_in_parts(&weights, KEY, (quant, columns), out, |rows| part(quant, columns, &Self::weights(columns, rows)))?;
        let linear = Linear::load(&weights, [columns, out], false)?;
        let x = Tensor::from_data(TensorData::new(Self::activations(rows, columns), [rows, columns]), &device.burn);
        Ok(Self { quant, shape, linear, x })
    }

    /// Does it so many times. Errors: kernel, device-lost.
    pub async fn run(&self, times: usize) -> Result<()> {
        let mut last = None;
        for _ in 0..times {
            last = Some(self.linear.forward(&self.x)?);
        }
        if let Some(last) = last {
            // What is read comes after all that was launched.
            read_floats(last.slice([0..1, 0..1])).await?;
        }
        Ok(())
    }

    /// [rows, out], in order. Errors: kernel, device-lost.
    pub async fn values(&self) -> Result<Vec<f32>> {
        read_floats(self.linear.forward(&self.x)?).await
    }

    /// Three plain loops over what the packed weights stand for, of one row of x: slow, and the definition of right.
    pub fn reference(&self, row: usize) -> Vec<f32> {
        let [rows, out, columns] = self.shape;
        let x = &Self::activations(rows, columns)[row * columns..][..columns];
        let mut weights = vec![0.0; columns];
        let product = |out: usize| {
            match part(self.quant, columns, &Self::weights(columns, out..out + 1)) {
                Part::F32(values) => weights = values,
                Part::Packed { quant, words } => unpack_row(quant, columns, &words, &mut weights),
            }
            x.iter().zip(&weights).map(|(x, weight)| f64::from(*x) * f64::from(*weight)).sum::<f64>() as f32
        };
        (0..out).map(product).collect()
    }

    fn weights(columns: usize, rows: Range<usize>) -> Vec<f32> {
        (rows.start * columns..rows.end * columns).map(|place| 0.05 * noise(place)).collect()
    }

    fn activations(rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|place| noise(place ^ 0x5555)).collect()
    }
}

/// Whole rows of f32 as they are put.
fn part(quant: Quant, columns: usize, values: &[f32]) -> Part {
    let words = match quant {
        Quant::F32 => return Part::F32(values.to_vec()),
        Quant::F16 => {
            let halves: Vec<u16> = values.iter().map(|value| half::f16::from_f32(*value).to_bits()).collect();
            pack_f16(columns, &halves)
        }
        Quant::Q8 | Quant::Q4 => {
            let packed = quantize(quant, columns, values);
            pack_rows(quant, columns, &packed.words, &packed.scales)
        }
    };
    Part::Packed { quant, words }
}

/// Puts the rows of a packed matrix, as many at once as a shard holds. Errors: weight-invalid, kernel.
pub(super) fn put_in_parts(
    weights: &Weights,
    key: &str,
    (quant, columns): (Quant, usize),
    rows: usize,
    part: impl Fn(Range<usize>) -> Part,
) -> Result<()> {
    const PART_WORDS: usize = 4 << 20;
    let step = (PART_WORDS / words_per_row(quant, columns).max(1)).max(1);
    for first in (0..rows).step_by(step) {
        let part_rows = first..rows.min(first + step);
        weights.put(key, part_rows.clone(), part(part_rows))?;
    }
    Ok(())
}

/// A number of its place, in −1..1: the same on every device.
pub(crate) fn noise(place: usize) -> f32 {
    let mut bits = (place as u32).wrapping_mul(0x9e37_79b9);
    bits = (bits ^ (bits >> 16)).wrapping_mul(0x85eb_ca6b);
    bits = (bits ^ (bits >> 13)).wrapping_mul(0xc2b2_ae35);
    ((bits ^ (bits >> 16)) >> 8) as f32 / 8_388_608.0 - 1.0
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_what_plain_loops_make_of_it() {
        for quant in Quant::ALL {
            let product = Product::new(&Device::cpu(), quant, [3, 70, 45]).unwrap();
            let found = pollster::block_on(product.values()).unwrap();
            for row in 0..3 {
                for (found, expected) in found[row * 70..].iter().zip(product.reference(row)) {
                    // Activations may be eight bits wide.
                    assert!((found - expected).abs() < 0.02, "{quant} row {row}: {found}, expected {expected}");
                }
            }
            pollster::block_on(product.run(2)).unwrap();
        }
    }
}
