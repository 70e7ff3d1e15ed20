//! What a token costs behind a long context: a language model of a config's sizes, its weights made up, goes on behind caches that
//! are full up to some position without ever having computed it.

use std::cell::RefCell;
use std::ops::Range;

use crate::bench::product::{noise, put_in_parts};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::{Decoding, LanguageModel, TextConfig};
use crate::ops::start_reading;
use crate::weights::quant::{BLOCK, Quant, words_per_row};
use crate::weights::{Part, Role, Weights};

pub struct Context {
    device: Device,
    model: LanguageModel,
    decoding: RefCell<Option<Decoding>>,
}

impl Context {
    /// Errors: those of loading a language model.
    pub fn new(device: &Device, config: &TextConfig, quant: Quant) -> Result<Self> {
        let load = |weights: &Weights| LanguageModel::load(config, weights);
        let plan = Weights::plan(load)?;
        let weights = Weights::new(device, plan.clone());
        for (key, request) in plan.iter() {
            let (rows, columns) = (request.shape[0], request.shape[1..].iter().product::<usize>());
            if request.role != Role::Matrix {
                weights.put(key, 0..rows, Part::F32((0..rows * columns).map(|place| 1.0 + 0.1 * noise(place)).collect()))?;
                continue;
            }
            let part = |rows: Range<usize>| Part::Packed { quant, words: rows.flat_map(|row| made_up(quant, columns, row)).collect() };
            put_in_parts(&weights, key, (quant, columns), rows, part)?;
        }
        Ok(Self { device: device.clone(), model: load(&weights)?, decoding: RefCell::default() })
    }

    /// Starts behind `positions` positions. Errors: input-invalid, option-unsupported.
    pub fn begin(&self, positions: usize) -> Result<()> {
        let decoding = self.model.seeded(&self.device, positions)?;
        self.decoding.replace(Some(decoding));
        Ok(())
    }

    /// So many tokens more. Errors: kernel, device-lost; input-invalid before `begin`.
    pub async fn steps(&self, count: usize) -> Result<()> {
        let mut decoding = self.decoding.take().ok_or_else(|| Error::input("context", "has not begun"))?;
        for _ in 0..count {
            let next = self.model.choose(&mut decoding).await?;
            start_reading(next).await?;
        }
        self.decoding.replace(Some(decoding));
        Ok(())
    }
}

/// A packed row: any integers, with small scales.
fn made_up(quant: Quant, columns: usize, row: usize) -> Vec<u32> {
    let words = words_per_row(quant, columns);
    let bits = |place: usize| noise(row * words + place).to_bits().wrapping_mul(0x9e37_79b9);
    let quants = match quant {
        Quant::F32 => return (0..words).map(|place| (0.02 * noise(row * words + place)).to_bits()).collect(),
        Quant::F16 => 0,
        Quant::Q8 => columns.div_ceil(BLOCK) * 8,
        Quant::Q4 => columns.div_ceil(BLOCK) * 4,
    };
    // Two times 0.0024, as f16.
    (0..words).map(|place| if place < quants { bits(place) } else { 0x18ea_18ea }).collect()
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_behind_any_position() {
        let config: TextConfig = TextConfig::Opt(
            serde_json::from_str(
                r#"{ "model_type": "opt", "hidden_size": 64, "word_embed_proj_dim": 64, "ffn_dim": 96, "num_hidden_layers": 2,
                     "num_attention_heads": 2, "vocab_size": 70, "max_position_embeddings": 128 }"#,
            )
            .unwrap(),
        );
        for quant in Quant::ALL {
            let context = Context::new(&Device::cpu(), &config, quant).unwrap();
            assert!(pollster::block_on(context.steps(1)).is_err());
            for positions in [1, 100] {
                context.begin(positions).unwrap();
                pollster::block_on(context.steps(3)).unwrap();
                assert_eq!(context.decoding.borrow().as_ref().map(|decoding| decoding.state.length()), Some(positions + 3));
            }
            assert!(context.begin(128).is_err(), "behind the last position there is none");
        }
    }
}
