//! Expected tensors, and how close is close enough.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::parity::Files;

#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub values: Values,
}

impl Tensor {
    pub fn floats(&self, name: &str) -> Result<&[f32]> {
        match &self.values {
            Values::Floats(values) => Ok(values),
            _ => Err(Error::input(name, "is not f32")),
        }
    }

    /// [B, S] → rows.
    pub fn rows(&self, name: &str) -> Result<Vec<Vec<i64>>> {
        match (&self.values, &self.shape[..]) {
            (Values::Ints(values), [_, width]) if *width > 0 => Ok(values.chunks(*width).map(<[i64]>::to_vec).collect()),
            _ => Err(Error::input(name, "is not a table of i64")),
        }
    }

    /// [B, S] → rows of ids.
    pub fn ids(&self, name: &str) -> Result<Vec<Vec<u32>>> {
        let rows = self.rows(name)?;
        rows.into_iter()
            .map(|row| row.into_iter().map(|id| u32::try_from(id).map_err(|_| Error::input(name, "holds a negative id"))).collect())
            .collect()
    }
}

pub fn read(files: &Files, name: &str) -> Result<BTreeMap<String, Tensor>> {
    let bytes = files.get(name).ok_or_else(|| Error::input(name, "is not in the fixture"))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| Error::input(name, error))?;
    tensors
        .iter()
        .map(|(key, view)| {
            let values = match view.dtype() {
                Dtype::F32 => Values::Floats(view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
                Dtype::I64 => Values::Ints(view.data().as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()),
                Dtype::U8 => Values::Bytes(view.data().to_vec()),
                other => return Err(Error::input(key, format!("{other:?} is no dtype of fixtures"))),
            };
            Ok((key.to_string(), Tensor { shape: view.shape().to_vec(), values }))
        })
        .collect()
}

/// What f32 with another order of summation may differ by, relative to max(1, largest expected value).
const TOLERANCE: f32 = 2e-4;

/// Floats within the tolerance, everything else equal. Says how far off the worst value was.
pub fn close(name: &str, found: &Values, expected: &Values) -> Result<String> {
    match (found, expected) {
        (Values::Floats(found), Values::Floats(expected)) => {
            if found.len() != expected.len() {
                return Err(Error::input(name, format!("{} values, expected {}", found.len(), expected.len())));
            }
            let scale = expected.iter().fold(1.0f32, |most, value| most.max(value.abs()));
            let mut worst = 0.0f32;
            for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
                let difference = (found - expected).abs() / scale;
                if difference.is_nan() || difference > TOLERANCE {
                    let reason = format!("at {place}: found {found}, expected {expected}; {difference:e} of {scale} is over {TOLERANCE:e}");
                    return Err(Error::input(name, reason));
                }
                worst = worst.max(difference);
            }
            Ok(format!("{worst:.1e}"))
        }
        _ if found == expected => Ok(String::new()),
        _ => Err(Error::input(name, format!("found {found:?}, expected {expected:?}"))),
    }
}

/// The same bits.
pub fn exact(name: &str, found: &[f32], expected: &[f32]) -> Result<String> {
    if found.len() != expected.len() {
        return Err(Error::input(name, format!("{} values, expected {}", found.len(), expected.len())));
    }
    match found.iter().zip(expected).position(|(found, expected)| found.to_bits() != expected.to_bits()) {
        None => Ok("exact".into()),
        Some(place) => Err(Error::input(name, format!("at {place}: found {}, expected {}", found[place], expected[place]))),
    }
}
