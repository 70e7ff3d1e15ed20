//! Several sequences side by side, the best of which are returned. HF `GenerationMixin._beam_search` of 4.5x, step by step:
//! every candidate that ends competes with those that ended before, and the others go on.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use crate::generation::config::EarlyStopping;
use crate::generation::logits_process::LogitsProcessors;
use crate::generation::logits_warpers::{log_softmax, top_k};
use crate::generation::sampler::{Generator, sample_without_replacement};
use crate::generation::settings::Settings;
use crate::generation::stopping_criteria::{Finish, StoppingCriteria};

/// What is taken off a score that must not win. HF's number; in f32 it leaves nothing of a score's own differences.
const NEVER: f32 = -1e9;

/// A sequence that is still followed; `score` is the sum of its processed log-probabilities.
#[derive(Debug, Clone)]
struct Running {
    ids: Vec<u32>,
    score: f32,
}

/// A sequence that is returned unless better ones come; `score` is per length^length_penalty. `finish` is `None` for what
/// only holds a place.
#[derive(Debug, Clone)]
struct Finished {
    ids: Vec<u32>,
    score: f32,
    finish: Option<Finish>,
}

/// The beams of one prompt.
#[derive(Debug)]
struct Row {
    running: Vec<Running>,
    finished: Vec<Finished>,
    /// Something that runs may still be better than what is finished.
    open: bool,
    generator: Generator,
}

/// One continuation of one beam.
struct Candidate {
    beam: usize,
    ids: Vec<u32>,
    score: f32,
    finish: Option<Finish>,
}

/// What the model does next: row r of B·num_beams goes on from the cache of row `order[r]`, with `tokens[r]`.
#[derive(Debug)]
pub struct BeamStep {
    pub tokens: Vec<u32>,
    pub order: Vec<usize>,
    /// Nothing comes next.
    pub done: bool,
}

/// What a search found: `num_return_sequences` rows for each prompt, best first.
#[derive(Debug)]
pub struct Beams {
    /// Prefix and new ids, filled to one length.
    pub ids: Vec<Vec<u32>>,
    /// Sum of log-probabilities / new tokens^length_penalty.
    pub sequences_scores: Vec<f32>,
    pub finish: Finish,
}

/// The state of a search: B prompts of `num_beams` beams each, a prompt's beams side by side.
pub struct BeamSearch {
    settings: Settings,
    processors: LogitsProcessors,
    rows: Vec<Row>,
    length: usize,
}

impl BeamSearch {
    /// `prefix` [B]: ids in front of the new ones, all of one length.
    pub fn new(settings: &Settings, prefix: &[Vec<u32>]) -> Self {
        let beams = settings.num_beams;
        let row = |(ids, generator): (&Vec<u32>, Generator)| Row {
            // All beams begin alike, so only the first may go on at first.
            running: (0..beams).map(|beam| Running { ids: ids.clone(), score: if beam == 0 { 0.0 } else { NEVER } }).collect(),
            finished: vec![Finished { ids: ids.clone(), score: NEVER, finish: None }; beams],
            open: true,
            generator,
        };
        Self {
            processors: LogitsProcessors::new(settings),
            rows: prefix.iter().zip(Generator::for_rows(settings.seed, prefix.len())).map(row).collect(),
            length: settings.prefix_length,
            settings: settings.clone(),
        }
    }

    /// One step of all beams. logits [B·num_beams, V] are used up.
    pub fn step(&mut self, logits: &mut [f32], criteria: &mut StoppingCriteria<'_>) -> BeamStep {
        let beams = self.settings.num_beams;
        let per_row = (logits.len() / self.rows.len().max(1)).max(1);
        let all_full = |row: &Row| row.finished.iter().all(|beam| beam.finish.is_some());
        let mut next = BeamStep { tokens: vec![], order: vec![], done: false };
        let mut all_ended = true;
        self.length += 1;
        for (index, scores) in logits.chunks_exact_mut(per_row).enumerate() {
            self.accumulate(index, scores);
            let candidates = self.candidates(index, scores, criteria);
            all_ended &= candidates.iter().all(|candidate| candidate.finish.is_some());
            let going_on = best_to_go_on(&candidates, beams);
            next.tokens.extend(going_on.iter().filter_map(|(place, _)| candidates[*place].ids.last()));
            next.order.extend(going_on.iter().map(|(place, _)| index * beams + candidates[*place].beam));
            let row = &mut self.rows[index];
            row.running = going_on.into_iter().map(|(place, score)| Running { ids: candidates[place].ids.clone(), score }).collect();
            self.keep_finished(index, candidates);
            self.close_what_cannot_improve(index);
        }
        let enough = self.settings.early_stopping == EarlyStopping::When(true) && self.rows.iter().all(all_full);
        next.done = enough || all_ended || !self.rows.iter().any(|row| row.open);
        next
    }

    /// Logits of a prompt's beams become scores of whole sequences, in place.
    fn accumulate(&self, index: usize, scores: &mut [f32]) {
        let width = (scores.len() / self.settings.num_beams).max(1);
        for (scores, beam) in scores.chunks_exact_mut(width).zip(&self.rows[index].running) {
            log_softmax(scores);
            self.processors.process(&beam.ids, scores);
            scores.iter_mut().for_each(|score| *score += beam.score);
        }
    }

    /// The best continuations, best first, or drawn ones in the order they were drawn. There are so many that `num_beams` are
    /// left to go on when all others end.
    fn candidates(&mut self, index: usize, scores: &[f32], criteria: &mut StoppingCriteria<'_>) -> Vec<Candidate> {
        let beams = self.settings.num_beams;
        let count = ((1 + self.settings.eos_token_ids.len()).max(2) * beams).min(scores.len());
        let width = (scores.len() / beams).max(1);
        let row = &mut self.rows[index];
        let places =
            if self.settings.do_sample { sample_without_replacement(scores, count, &mut row.generator) } else { top_k(scores, count) };
        let candidate = |place: usize| {
            let beam = place / width;
            let mut ids = row.running[beam].ids.clone();
            ids.push((place % width) as u32);
            Candidate { beam, score: scores[place], finish: criteria.finished(&ids), ids }
        };
        places.into_iter().map(candidate).collect()
    }

    /// An end counts only among the first `num_beams` candidates, and only while the row is open.
    fn keep_finished(&mut self, index: usize, candidates: Vec<Candidate>) {
        let beams = self.settings.num_beams;
        let penalty = self.length_penalty(self.length);
        let row = &mut self.rows[index];
        let full = self.settings.early_stopping == EarlyStopping::When(true) && row.finished.iter().all(|beam| beam.finish.is_some());
        let ended = candidates.into_iter().enumerate().map(|(rank, candidate)| {
            let finish = candidate.finish.filter(|_| rank < beams);
            let mut score = candidate.score / penalty;
            for barred in [full, !row.open, finish.is_none()] {
                score += if barred { NEVER } else { 0.0 };
            }
            Finished { ids: candidate.ids, score, finish }
        });
        row.finished.extend(ended);
        keep_best(&mut row.finished, beams);
    }

    fn close_what_cannot_improve(&mut self, index: usize) {
        let to_the_end = matches!(self.settings.early_stopping, EarlyStopping::Never(_)) && self.settings.length_penalty > 0.0;
        let penalty = self.length_penalty(if to_the_end { self.settings.max_length } else { self.length });
        let row = &mut self.rows[index];
        let possible = row.running.first().map_or(f32::NEG_INFINITY, |beam| beam.score / penalty);
        let worst = row.finished.iter().map(|beam| beam.score).fold(f32::INFINITY, f32::min);
        row.open &= row.finished.iter().any(|beam| possible > if beam.finish.is_some() { worst } else { NEVER });
    }

    /// What a sequence of `length` ids has its score divided by.
    fn length_penalty(&self, length: usize) -> f32 {
        let new_tokens = (length - self.settings.prefix_length) as f64;
        new_tokens.powf(self.settings.length_penalty) as f32
    }

    /// The search is left as it is: what runs takes the places that nothing finished has.
    pub fn interrupt(&mut self) {
        let penalty = self.length_penalty(self.length);
        for row in &mut self.rows {
            row.finished.retain(|beam| beam.finish.is_some());
            let places = self.settings.num_beams - row.finished.len().min(self.settings.num_beams);
            let running = row.running.iter().take(places);
            row.finished.extend(running.map(|beam| Finished {
                ids: beam.ids.clone(),
                score: beam.score / penalty,
                finish: Some(Finish::Stopped),
            }));
        }
    }

    pub fn finish(self) -> Beams {
        let count = self.settings.num_return_sequences;
        let returned: Vec<Finished> = self.rows.into_iter().flat_map(|row| row.finished.into_iter().take(count)).collect();
        let longest = returned.iter().map(|beam| beam.ids.len()).max().unwrap_or(0);
        // HF's `pad or eos[0]`: a pad id of 0 counts as none.
        let fill = match (self.settings.pad_token_id, self.settings.eos_token_ids.first()) {
            (0, Some(eos)) => *eos,
            (pad, _) => pad,
        };
        let filled = |beam: &Finished| {
            let mut ids = beam.ids.clone();
            ids.resize(longest, fill);
            ids
        };
        Beams {
            ids: returned.iter().map(filled).collect(),
            sequences_scores: returned.iter().map(|beam| beam.score).collect(),
            finish: Finish::of_rows(returned.iter().map(|beam| beam.finish.unwrap_or(Finish::Length))),
        }
    }
}

/// The candidates that run on, with their scores: those that do not end, unless there are too few.
fn best_to_go_on(candidates: &[Candidate], beams: usize) -> Vec<(usize, f32)> {
    let score = |candidate: &Candidate| candidate.score + if candidate.finish.is_some() { NEVER } else { 0.0 };
    let scores: Vec<f32> = candidates.iter().map(score).collect();
    top_k(&scores, beams).into_iter().map(|place| (place, scores[place])).collect()
}

/// Best first; of equals, who was there first.
fn keep_best(finished: &mut Vec<Finished>, count: usize) {
    // Adding 0 makes one of the two zeros.
    let descending = |a: &Finished, b: &Finished| -> Ordering { (b.score + 0.0).total_cmp(&(a.score + 0.0)) };
    finished.sort_by(descending);
    finished.truncate(count);
}
