//! The token loop: step → process → choose → stop. The callback hears each step and may end it; between steps the caller's
//! other work gets its turn.

use std::ops::ControlFlow;

use burn_tensor::{Int, Tensor};

use crate::device::Device;
use crate::error::Result;
use crate::generation::config::Settings;
use crate::generation::logits_process::LogitsProcessors;
use crate::models::LanguageModel;
use crate::models::ids_tensor;
use crate::ops::{advance, argmax, read_floats, read_ints, state::highest};
use crate::pace::Pace;

/// What generation starts from.
pub struct Inputs {
    /// [rows·n, width]
    pub inputs_embeds: Tensor<2>,
    /// [rows, n]
    pub attention_mask: Vec<Vec<u32>>,
    /// Ids that count as said and are returned in front: image tokens and prompt; empty rows where only embeddings are given.
    pub prefix: Vec<Vec<u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// Every row has said an end token.
    Eos,
    Length,
    /// The callback ended it.
    Stopped,
}

pub struct Generated {
    /// Prefix and new ids, rows padded to one length.
    pub ids: Vec<Vec<u32>>,
    pub finish: Finish,
}

/// Greedy search. `on_step` gets each row's newest id. Errors: device-lost, kernel, input-invalid.
pub async fn generate(
    device: &Device,
    model: &LanguageModel,
    inputs: Inputs,
    settings: &Settings,
    on_step: &mut dyn FnMut(&[u32]) -> ControlFlow<()>,
) -> Result<Generated> {
    let processors = LogitsProcessors::new(settings);
    let positions = inputs.attention_mask.first().map_or(0, Vec::len);
    let new_tokens = settings.max_length - settings.prefix_length;
    let mut decoding = model.start(device, &inputs.attention_mask, positions + new_tokens - 1)?;
    // Kernels want at least one id; −1 is none.
    let eos = if settings.eos_token_ids.is_empty() { vec![u32::MAX] } else { settings.eos_token_ids.clone() };
    let eos_on_device = ids_tensor(device, &eos);
    let mut pace = Pace::default();
    let mut ids = inputs.prefix;
    let mut finished = vec![false; ids.len()];
    let mut logits = model.prefill(&inputs.inputs_embeds, &mut decoding).await?;
    let mut taken = positions;
    loop {
        let next = choose(device, logits, &processors, &ids).await?;
        advance(&mut decoding.state, &next, taken, &eos_on_device, settings.pad_token_id as i32)?;
        taken = 1;
        let newest: Vec<u32> = read_ints(next)
            .await?
            .into_iter()
            .zip(&finished)
            .map(|(id, finished)| if *finished { settings.pad_token_id } else { id as u32 })
            .collect();
        for ((row, id), finished) in ids.iter_mut().zip(&newest).zip(&mut finished) {
            row.push(*id);
            *finished |= settings.eos_token_ids.contains(id);
        }
        if on_step(&newest).is_break() {
            return Ok(Generated { ids, finish: Finish::Stopped });
        }
        if finished.iter().all(|finished| *finished) {
            return Ok(Generated { ids, finish: Finish::Eos });
        }
        if ids.iter().all(|row| row.len() >= settings.max_length) {
            return Ok(Generated { ids, finish: Finish::Length });
        }
        pace.breathe().await;
        logits = model.step(&mut decoding).await?;
    }
}

/// The next id of each row. Without processors the logits stay on the device.
async fn choose(device: &Device, logits: Tensor<2>, processors: &LogitsProcessors, ids: &[Vec<u32>]) -> Result<Tensor<1, Int>> {
    if processors.is_empty() {
        return argmax(&logits);
    }
    let width = logits.dims()[1];
    let mut scores = read_floats(logits).await?;
    let next: Vec<u32> = scores
        .chunks_exact_mut(width)
        .zip(ids)
        .map(|(scores, ids)| {
            processors.process(ids, scores);
            highest(scores) as u32
        })
        .collect();
    Ok(ids_tensor(device, &next))
}
