//! The token loop: step → process → choose → stop. The callback hears each step and may end it; between steps the caller's
//! other work gets its turn.

use std::ops::ControlFlow;

use burn_tensor::{Int, Tensor};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::generation::beam_search::BeamSearch;
use crate::generation::logits_process::LogitsProcessors;
use crate::generation::sampler::{Generator, sample};
use crate::generation::settings::Settings;
use crate::generation::stopping_criteria::{Finish, StopRule, StoppingCriteria};
use crate::models::{LanguageModel, Prompt, ids_tensor};
use crate::ops::{argmax, read_floats, read_ints, state::highest};
use crate::pace::Pace;

/// What generation starts from.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// B rows for the language model.
    pub prompt: Prompt,
    /// [B, n] Ids that count as said and are returned in front: image tokens and prompt (OPT), the start token (T5); empty rows
    /// where only embeddings are given.
    pub prefix: Vec<Vec<u32>>,
}

/// `num_return_sequences` rows for each prompt, side by side.
#[derive(Debug)]
pub struct Generated {
    /// Prefix and new ids, rows filled to one length.
    pub ids: Vec<Vec<u32>>,
    /// Of beams, best first: sum of log-probabilities / new tokens^length_penalty, a row each.
    pub sequences_scores: Option<Vec<f32>>,
    pub finish: Finish,
}

/// HF `generate`: greedy search, sampling, beam search, beam sampling, as `settings` ask. `stop` has to be there where there
/// are stop strings. `on_step` hears each row's newest id, or nothing where beams may still change what was said, and may end it.
/// Errors: device-lost, kernel, input-invalid, option-unsupported.
pub async fn generate(
    device: &Device,
    model: &LanguageModel,
    inputs: Inputs,
    settings: &Settings,
    stop: Option<StopRule<'_>>,
    on_step: &mut dyn FnMut(&[u32]) -> ControlFlow<()>,
) -> Result<Generated> {
    if !settings.stop_strings.is_empty() && stop.is_none() {
        return Err(Error::OptionUnsupported { option: "stop_strings".into(), reason: "needs a tokenizer".into() });
    }
    let (rows, prefix) = (inputs.prompt.rows(), settings.prefix_length);
    if inputs.prefix.len() != rows || inputs.prefix.iter().any(|ids| ids.len() != prefix) {
        return Err(Error::input("input_ids", format!("expected {rows} rows of {prefix} ids in front")));
    }
    let mut criteria = StoppingCriteria::new(settings, stop);
    if settings.num_beams > 1 {
        with_beams(device, model, inputs, settings, &mut criteria, on_step).await
    } else {
        row_by_row(device, model, inputs, settings, &mut criteria, on_step).await
    }
}

/// Greedy search and sampling: each row goes its way.
async fn row_by_row(
    device: &Device,
    model: &LanguageModel,
    inputs: Inputs,
    settings: &Settings,
    criteria: &mut StoppingCriteria<'_>,
    on_step: &mut dyn FnMut(&[u32]) -> ControlFlow<()>,
) -> Result<Generated> {
    let copies = settings.num_return_sequences;
    let (mut decoding, mut logits) = model.start(device, &inputs.prompt, settings.new_tokens(), copies).await?;
    let mut ids = repeated(&inputs.prefix, copies);
    let mut finished = vec![None; ids.len()];
    let mut choice = Choice::new(settings, ids.len());
    // Kernels want at least one id; −1 is none.
    let eos = if settings.eos_token_ids.is_empty() { vec![u32::MAX] } else { settings.eos_token_ids.clone() };
    let eos = ids_tensor(device, &eos);
    let pad = settings.pad_token_id;
    let mut pace = Pace::default();
    loop {
        let next = choice.next(device, logits, &ids, &finished).await?;
        decoding.advance(&next, &eos, pad as i32)?;
        let chosen = read_ints(next).await?;
        let newest: Vec<u32> = chosen.into_iter().zip(&finished).map(|(id, finished)| finished.map_or(id as u32, |_| pad)).collect();
        for ((row, id), finished) in ids.iter_mut().zip(&newest).zip(&mut finished) {
            row.push(*id);
            if finished.is_none() {
                *finished = criteria.finished(row);
            }
        }
        let stopped = on_step(&newest).is_break();
        let all: Option<Vec<Finish>> = finished.iter().copied().collect();
        if stopped || all.is_some() {
            let finish = if stopped { Finish::Stopped } else { Finish::of_rows(all.unwrap_or_default()) };
            return Ok(Generated { ids, sequences_scores: None, finish });
        }
        pace.breathe().await;
        logits = model.step(&mut decoding).await?;
    }
}

/// Beam search and beam sampling.
async fn with_beams(
    device: &Device,
    model: &LanguageModel,
    inputs: Inputs,
    settings: &Settings,
    criteria: &mut StoppingCriteria<'_>,
    on_step: &mut dyn FnMut(&[u32]) -> ControlFlow<()>,
) -> Result<Generated> {
    let beams = settings.num_beams;
    let (mut decoding, mut logits) = model.start(device, &inputs.prompt, settings.new_tokens(), beams).await?;
    let mut search = BeamSearch::new(settings, &inputs.prefix);
    let rows = inputs.prefix.len() * beams;
    // Ends are the search's business: a row of the device goes on as another beam.
    let no_eos = ids_tensor(device, &[u32::MAX]);
    let mut pace = Pace::default();
    loop {
        let mut scores = read_rows(logits, rows).await?;
        let step = search.step(&mut scores, criteria);
        let stopped = on_step(&[]).is_break() && !step.done;
        if stopped {
            search.interrupt();
        }
        if step.done || stopped {
            let found = search.finish();
            let finish = if stopped { Finish::Stopped } else { found.finish };
            return Ok(Generated { ids: found.ids, sequences_scores: Some(found.sequences_scores), finish });
        }
        decoding.advance(&ids_tensor(device, &step.tokens), &no_eos, settings.pad_token_id as i32)?;
        decoding.reorder(device, &step.order)?;
        pace.breathe().await;
        logits = model.step(&mut decoding).await?;
    }
}

/// How the next id of each row is chosen.
struct Choice {
    processors: LogitsProcessors,
    /// One for each row where ids are drawn; none where the best is taken.
    generators: Vec<Generator>,
    pad: u32,
}

impl Choice {
    fn new(settings: &Settings, rows: usize) -> Self {
        let generators = if settings.do_sample { Generator::for_rows(settings.seed, rows) } else { vec![] };
        Self { processors: LogitsProcessors::new(settings), generators, pad: settings.pad_token_id }
    }

    /// logits [rows, V], or [B, V] where a prompt's rows are still alike → [rows]. What is only compared stays on the device.
    async fn next(&mut self, device: &Device, logits: Tensor<2>, ids: &[Vec<u32>], finished: &[Option<Finish>]) -> Result<Tensor<1, Int>> {
        if self.processors.is_empty() && self.generators.is_empty() {
            return argmax(&logits);
        }
        let width = logits.dims()[1];
        let mut scores = read_rows(logits, ids.len()).await?;
        let next: Vec<u32> = scores
            .chunks_exact_mut(width)
            .enumerate()
            .map(|(row, scores)| {
                if finished[row].is_some() {
                    return self.pad;
                }
                self.processors.process(&ids[row], scores);
                let place = self.generators.get_mut(row).map_or_else(|| highest(scores), |generator| sample(scores, generator));
                place as u32
            })
            .collect();
        Ok(ids_tensor(device, &next))
    }
}

/// logits [B, V] or [rows, V] → rows·V numbers, a prompt's row as often as it needs to be.
async fn read_rows(logits: Tensor<2>, rows: usize) -> Result<Vec<f32>> {
    let [found, width] = logits.dims();
    let values = read_floats(logits).await?;
    if found == rows {
        return Ok(values);
    }
    if found == 0 || !rows.is_multiple_of(found) {
        return Err(Error::kernel("logits", format!("{found} rows for {rows} sequences")));
    }
    Ok(values.chunks_exact(width).flat_map(|row| row.repeat(rows / found)).collect())
}

/// Each row so many times, side by side.
fn repeated(rows: &[Vec<u32>], copies: usize) -> Vec<Vec<u32>> {
    rows.iter().flat_map(|row| std::iter::repeat_n(row.clone(), copies)).collect()
}
