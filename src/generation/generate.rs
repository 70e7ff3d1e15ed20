//! The token loop: step → process → choose → stop. The callback hears each step and may end it; between steps the caller's
//! other work gets its turn.

use std::ops::ControlFlow;

use burn_tensor::Tensor;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::generation::beam_search::BeamSearch;
use crate::generation::logits_process::LogitsProcessors;
use crate::generation::sampler::{Generator, sample};
use crate::generation::settings::Settings;
use crate::generation::stopping_criteria::{Finish, StopRule, StoppingCriteria};
use crate::models::{Decoding, LanguageModel, Prompt, ids_tensor};
use crate::ops::{MAX_TOP_K, argmax, argmax::highest, read_floats, start_reading, top_k};
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
    let prefix = inputs.prefix.first().map_or(0, Vec::len);
    let (mut decoding, logits) = model.start(device, &inputs.prompt, settings.new_tokens(), copies).await?;
    decoding.set_ends(&settings.eos_token_ids, settings.pad_token_id);
    let mut rows = RowByRow {
        ids: repeated(&inputs.prefix, copies),
        finished: vec![None; inputs.prefix.len() * copies],
        pad: settings.pad_token_id,
        criteria,
        on_step,
    };
    let mut choice = Choice::new(settings, rows.ids.len());
    let finish = if choice.is_argmax() {
        greedily(model, &mut decoding, logits, settings.new_tokens(), &mut rows).await?
    } else {
        by_choice(device, model, &mut decoding, logits, &mut choice, &mut rows).await?
    };
    let said = rows.ids.first().map_or(&[][..], |ids| &ids[prefix..]);
    model.keep(decoding, said);
    Ok(Generated { ids: rows.ids, sequences_scores: None, finish })
}

/// What has been said, and who hears of it.
struct RowByRow<'a, 'b> {
    ids: Vec<Vec<u32>>,
    finished: Vec<Option<Finish>>,
    pad: u32,
    criteria: &'a mut StoppingCriteria<'b>,
    on_step: &'a mut dyn FnMut(&[u32]) -> ControlFlow<()>,
}

impl RowByRow<'_, '_> {
    /// Takes each row's next id. Says why it ended, when it did.
    fn take(&mut self, chosen: Vec<i32>) -> Option<Finish> {
        let pad = self.pad;
        let newest: Vec<u32> = chosen.into_iter().zip(&self.finished).map(|(id, finished)| finished.map_or(id as u32, |_| pad)).collect();
        for ((row, id), finished) in self.ids.iter_mut().zip(&newest).zip(&mut self.finished) {
            row.push(*id);
            if finished.is_none() {
                *finished = self.criteria.finished(row);
            }
        }
        let stopped = (self.on_step)(&newest).is_break();
        let all: Option<Vec<Finish>> = self.finished.iter().copied().collect();
        if stopped { Some(Finish::Stopped) } else { all.map(Finish::of_rows) }
    }
}

/// The choice is made where the logits are, and the next step is queued before the last one's token has been read: one step is
/// in vain when it turns out to have been the last.
async fn greedily(
    model: &LanguageModel,
    decoding: &mut Decoding,
    logits: Tensor<2>,
    new_tokens: usize,
    rows: &mut RowByRow<'_, '_>,
) -> Result<Finish> {
    let mut pace = Pace::default();
    let first = argmax(&logits)?;
    decoding.advance(&first)?;
    let mut reading = start_reading(first);
    for taken in 1.. {
        // On the CPU nothing goes on meanwhile.
        let ahead = match taken < new_tokens && decoding.is_queued() {
            true => Some(start_reading(model.choose(decoding).await?)),
            false => None,
        };
        if let Some(finish) = rows.take(reading.await?) {
            return Ok(finish);
        }
        pace.breathe().await;
        reading = match ahead {
            Some(ahead) => ahead,
            None => start_reading(model.choose(decoding).await?),
        };
    }
    Ok(Finish::Stopped)
}

/// Scores come to the host, are processed, and an id is drawn or the best is taken.
async fn by_choice(
    device: &Device,
    model: &LanguageModel,
    decoding: &mut Decoding,
    mut logits: Tensor<2>,
    choice: &mut Choice,
    rows: &mut RowByRow<'_, '_>,
) -> Result<Finish> {
    let mut pace = Pace::default();
    loop {
        let chosen = match choice.of_top(&logits, &rows.ids, &rows.finished, decoding.is_queued()).await? {
            Some(chosen) => chosen,
            None => choice.next(logits, &rows.ids, &rows.finished).await?,
        };
        decoding.advance(&ids_tensor(device, &chosen))?;
        if let Some(finish) = rows.take(chosen.into_iter().map(|id| id as i32).collect()) {
            return Ok(finish);
        }
        pace.breathe().await;
        logits = model.step(decoding).await?;
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
    decoding.set_ends(&[], settings.pad_token_id);
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
            model.keep(decoding, &[]);
            let finish = if stopped { Finish::Stopped } else { found.finish };
            return Ok(Generated { ids: found.ids, sequences_scores: Some(found.sequences_scores), finish });
        }
        decoding.advance(&ids_tensor(device, &step.tokens))?;
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

    /// Whether the best is taken, unprocessed.
    fn is_argmax(&self) -> bool {
        self.processors.is_empty() && self.generators.is_empty()
    }

    /// The same by the scores of the likeliest alone, where those decide and it saves reading the others from a device. None also
    /// where one of the others may be as likely as the last that counts.
    async fn of_top(
        &mut self,
        logits: &Tensor<2>,
        ids: &[Vec<u32>],
        finished: &[Option<Finish>],
        is_queued: bool,
    ) -> Result<Option<Vec<u32>>> {
        let [found, width] = logits.dims();
        let most = width.min(MAX_TOP_K);
        let Some(top) = self.processors.top().filter(|top| is_queued && top.count < most) else { return Ok(None) };
        let copies = copies(found, ids.len())?;
        // Ids may be lowered that are among the likeliest; so many more are looked at.
        let count = if self.processors.asks_for_ids() { most } else { top.count + 1 };
        let (values, places) = top_k(logits, count)?;
        // One read: both are queued before either is waited for.
        let places = start_reading(places);
        let (values, places) = (read_floats(values).await?, places.await?);
        let mut rows = vec![];
        for row in (0..ids.len()).filter(|row| finished[*row].is_none()) {
            let at = row / copies * count;
            let (values, places) = (&values[at..at + count], &places[at..at + count]);
            let likeliest = self.lowered(&ids[row], values, places, width);
            // Nobody has more than the last of these, before and after.
            let decides = |least: f32| nth_highest(&likeliest, top.count) / top.temperature > least / top.temperature;
            if count < width && !decides(values[count - 1]) {
                return Ok(None);
            }
            rows.push((row, likeliest));
        }
        let mut chosen = vec![self.pad; ids.len()];
        for (row, likeliest) in rows {
            let mut scores: Vec<f32> = likeliest.iter().map(|(_, score)| *score).collect();
            self.processors.process_scores(&mut scores);
            let place = self.generators.get_mut(row).map_or_else(|| highest(&scores), |generator| sample(&scores, generator));
            chosen[row] = likeliest[place].0;
        }
        Ok(Some(chosen))
    }

    /// The likeliest of a row by the order of ids, which draws go by, with what its processors leave of their scores.
    fn lowered(&self, ids: &[u32], values: &[f32], places: &[i32], width: usize) -> Vec<(u32, f32)> {
        let mut likeliest: Vec<(u32, f32)> = places.iter().map(|place| *place as u32).zip(values.iter().copied()).collect();
        likeliest.sort_unstable_by_key(|(id, _)| *id);
        if self.processors.asks_for_ids() {
            let mut scores = vec![f32::NEG_INFINITY; width];
            likeliest.iter().for_each(|(id, score)| scores[*id as usize] = *score);
            self.processors.process_ids(ids, &mut scores);
            likeliest.iter_mut().for_each(|(id, score)| *score = scores[*id as usize]);
        }
        likeliest
    }

    /// logits [rows, V], or [B, V] where a prompt's rows are still alike → an id for each row.
    async fn next(&mut self, logits: Tensor<2>, ids: &[Vec<u32>], finished: &[Option<Finish>]) -> Result<Vec<u32>> {
        let width = logits.dims()[1];
        let mut scores = read_rows(logits, ids.len()).await?;
        let choose = |(row, scores): (usize, &mut [f32])| {
            if finished[row].is_some() {
                return self.pad;
            }
            self.processors.process(&ids[row], scores);
            self.generators.get_mut(row).map_or_else(|| highest(scores), |generator| sample(scores, generator)) as u32
        };
        Ok(scores.chunks_exact_mut(width).enumerate().map(choose).collect())
    }
}

/// The n-th highest of these scores, n ≥ 1.
fn nth_highest(likeliest: &[(u32, f32)], n: usize) -> f32 {
    let mut scores: Vec<f32> = likeliest.iter().map(|(_, score)| *score).collect();
    let (_, nth, _) = scores.select_nth_unstable_by(n - 1, |one, other| other.total_cmp(one));
    *nth
}

/// logits [B, V] or [rows, V] → rows·V numbers, a prompt's row as often as it needs to be.
async fn read_rows(logits: Tensor<2>, rows: usize) -> Result<Vec<f32>> {
    let [found, width] = logits.dims();
    let copies = copies(found, rows)?;
    let values = read_floats(logits).await?;
    Ok(if copies == 1 { values } else { values.chunks_exact(width).flat_map(|row| row.repeat(copies)).collect() })
}

/// How many of so many sequences each of the rows found stands for. Errors: kernel unless as many each, and at least one.
fn copies(found: usize, sequences: usize) -> Result<usize> {
    if found == 0 || sequences == 0 || !sequences.is_multiple_of(found) {
        return Err(Error::kernel("logits", format!("{found} rows for {sequences} sequences")));
    }
    Ok(sequences / found)
}

/// Each row so many times, side by side.
fn repeated(rows: &[Vec<u32>], copies: usize) -> Vec<Vec<u32>> {
    rows.iter().flat_map(|row| std::iter::repeat_n(row.clone(), copies)).collect()
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn_tensor::TensorData;
    use pollster::block_on;

    use super::*;
    use crate::generation::settings::tests::settings;

    /// Multiples of 1/64, so that some are alike.
    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 23) as f32 / 64.0 - 4.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// How often the likeliest decided, of 40 rows of logits; each time as all of the row does.
    fn decided(json: &str, width: usize, said: usize) -> usize {
        let settings = settings(json);
        let device = Device::cpu();
        let decided = (0..40).filter(|seed| {
            let logits = Tensor::<2>::from_data(TensorData::new(noise(2 * width, seed + 1), [2, width]), &device.burn);
            // What has been said is what is likely.
            let (_, places) = top_k(&logits, said).unwrap();
            let places = block_on(start_reading(places)).unwrap();
            let ids: Vec<Vec<u32>> = places.chunks_exact(said).map(|row| row.iter().map(|place| *place as u32).collect()).collect();
            let few = block_on(Choice::new(&settings, 2).of_top(&logits, &ids, &[None, None], true)).unwrap();
            let all = block_on(Choice::new(&settings, 2).next(logits, &ids, &[None, None])).unwrap();
            few.is_some_and(|few| {
                assert_eq!(few, all, "{json}, {width} wide, {said} said, seed {seed}");
                true
            })
        });
        decided.count()
    }

    #[test]
    fn where_the_likeliest_decide_they_choose_what_all_would() {
        let greedy = [
            r#""repetition_penalty": 1.7"#,
            r#""no_repeat_ngram_size": 1"#,
            r#""suppress_tokens": [3, 5]"#,
            r#""bad_words_ids": [[1], [2, 3]]"#,
        ];
        for (place, lowered) in greedy.iter().enumerate() {
            let drawn = format!(r#"{{"do_sample": true, "seed": 7, "top_k": 5, "temperature": 0.7, {lowered}}}"#);
            for width in [20, 128, 300] {
                let of_greedy = decided(&format!("{{{lowered}}}"), width, 9);
                let of_drawn = decided(&drawn, width, 9);
                assert!(of_greedy > 30 && of_drawn > 30, "{lowered}, {width} wide: {of_greedy} and {of_drawn} of 40");
            }
            // With all of them said and out, who is left is not among them.
            if place == 1 {
                assert!(decided(&format!("{{{lowered}}}"), 300, 128) < 10, "{lowered}");
            }
        }
    }

    #[test]
    fn what_raises_or_normalizes_a_score_needs_all_of_them() {
        let needs_all = [
            r#"{"repetition_penalty": 0.8}"#,
            r#"{"suppress_tokens": [3], "forced_bos_token_id": 7}"#,
            r#"{"suppress_tokens": [3], "renormalize_logits": true}"#,
            r#"{"do_sample": true, "top_k": 0}"#,
            r#"{"do_sample": true, "top_k": 128}"#,
        ];
        for json in needs_all {
            assert_eq!(decided(json, 300, 9), 0, "{json}");
        }
    }
}
