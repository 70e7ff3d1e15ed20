//! What is done to the scores of the next token before one is chosen, in HF's order.

use crate::generation::logits_warpers::{LogitNormalization, MinP, Temperature, TopK, TopP, Typical};
use crate::generation::settings::Settings;

/// Changes the scores of one row; `ids` is its sequence so far: image tokens, prompt and new ids.
pub(super) trait LogitsProcessor {
    fn process(&self, ids: &[u32], scores: &mut [f32]);
}

/// All processors that these settings call for.
pub struct LogitsProcessors {
    /// Those that ask which ids they are, and those that see scores alone, behind them.
    by_id: Vec<Box<dyn LogitsProcessor>>,
    by_score: Vec<Box<dyn LogitsProcessor>>,
    top: Option<Top>,
}

/// What is left of a row where processors have done no more than lower scores: the likeliest, each over the temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Top {
    pub count: usize,
    pub temperature: f32,
}

impl LogitsProcessors {
    pub fn new(settings: &Settings) -> Self {
        let mut by_id: Vec<Box<dyn LogitsProcessor>> = vec![];
        let eos = || settings.eos_token_ids.clone();
        if settings.repetition_penalty != 1.0 {
            by_id.push(Box::new(RepetitionPenalty(settings.repetition_penalty)));
        }
        if settings.no_repeat_ngram_size > 0 {
            by_id.push(Box::new(NoRepeatNGram(settings.no_repeat_ngram_size)));
        }
        let words: Vec<_> = settings.bad_words_ids.iter().filter(|word| !eos().iter().any(|eos| word[..] == [*eos])).cloned().collect();
        if !words.is_empty() {
            by_id.push(Box::new(NoBadWords(words)));
        }
        if settings.min_length > settings.prefix_length && !eos().is_empty() {
            by_id.push(Box::new(MinLength { length: settings.min_length, eos: eos() }));
        }
        if let Some(bos) = settings.forced_bos_token_id {
            by_id.push(Box::new(ForcedAt { length: 1, ids: vec![bos] }));
        }
        if !settings.forced_eos_token_ids.is_empty() {
            by_id.push(Box::new(ForcedAt { length: settings.max_length - 1, ids: settings.forced_eos_token_ids.clone() }));
        }
        if !settings.suppress_tokens.is_empty() {
            by_id.push(Box::new(Suppress { at: None, ids: settings.suppress_tokens.clone() }));
        }
        if !settings.begin_suppress_tokens.is_empty() {
            // A forced first token is the beginning itself; suppression starts behind it.
            let forced = settings.forced_bos_token_id.is_some() && settings.prefix_length <= 1;
            let at = settings.prefix_length + usize::from(forced);
            by_id.push(Box::new(Suppress { at: Some(at), ids: settings.begin_suppress_tokens.clone() }));
        }
        let mut by_score = if settings.do_sample { warpers(settings) } else { vec![] };
        if settings.renormalize_logits {
            by_score.push(Box::new(LogitNormalization));
        }
        let top = Self::top_of(settings, !by_id.is_empty());
        Self { by_id, by_score, top }
    }

    fn top_of(settings: &Settings, asks_for_ids: bool) -> Option<Top> {
        let forces = settings.forced_bos_token_id.is_some() || !settings.forced_eos_token_ids.is_empty();
        let lowers = settings.repetition_penalty >= 1.0 && !forces;
        // Of what is drawn, one beam keeps one at least, which top_k does by itself. Normalization may make equals of the best two.
        let (count, temperature) = match settings.do_sample {
            true => (settings.top_k, settings.temperature as f32),
            false => (usize::from(asks_for_ids && !settings.renormalize_logits), 1.0),
        };
        (lowers && settings.num_beams == 1 && count > 0).then_some(Top { count, temperature })
    }

    /// Where the likeliest few decide, once `process_ids` has lowered some of them.
    pub fn top(&self) -> Option<Top> {
        self.top
    }

    /// Without processors the greedy choice can stay on the device.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.by_score.is_empty()
    }

    pub fn asks_for_ids(&self) -> bool {
        !self.by_id.is_empty()
    }

    /// The first half of `process`: `scores` are those of all ids.
    pub fn process_ids(&self, ids: &[u32], scores: &mut [f32]) {
        self.by_id.iter().for_each(|processor| processor.process(ids, scores));
    }

    /// The second half: `scores` may be of some ids alone, in their order, where the others are out.
    pub fn process_scores(&self, scores: &mut [f32]) {
        self.by_score.iter().for_each(|processor| processor.process(&[], scores));
    }

    pub fn process(&self, ids: &[u32], scores: &mut [f32]) {
        self.process_ids(ids, scores);
        self.process_scores(scores);
    }
}

/// What narrows the choice where tokens are drawn.
fn warpers(settings: &Settings) -> Vec<Box<dyn LogitsProcessor>> {
    let mut list: Vec<Box<dyn LogitsProcessor>> = vec![];
    // A beam needs something to go on with when all end tokens are among the likeliest.
    let keep = if settings.num_beams > 1 { (settings.eos_token_ids.len() + 1).max(2) } else { 1 };
    if settings.temperature != 1.0 {
        list.push(Box::new(Temperature(settings.temperature as f32)));
    }
    if settings.top_k > 0 {
        list.push(Box::new(TopK(settings.top_k.max(keep))));
    }
    if settings.top_p < 1.0 {
        list.push(Box::new(TopP { top_p: settings.top_p, keep }));
    }
    if settings.min_p > 0.0 {
        list.push(Box::new(MinP { min_p: settings.min_p as f32, keep }));
    }
    if settings.typical_p < 1.0 {
        list.push(Box::new(Typical { mass: settings.typical_p as f32, keep }));
    }
    list
}

fn ban(scores: &mut [f32], id: u32) {
    if let Some(score) = scores.get_mut(id as usize) {
        *score = f32::NEG_INFINITY;
    }
}

/// Each id of the sequence counts once: a negative score is multiplied, a positive one divided.
struct RepetitionPenalty(f32);

impl LogitsProcessor for RepetitionPenalty {
    fn process(&self, ids: &[u32], scores: &mut [f32]) {
        let mut seen = ids.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for id in seen {
            if let Some(score) = scores.get_mut(id as usize) {
                *score = if *score < 0.0 { *score * self.0 } else { *score / self.0 };
            }
        }
    }
}

/// An id that would make a run of n ids occur again. With n = 1, every id that was seen.
struct NoRepeatNGram(usize);

impl LogitsProcessor for NoRepeatNGram {
    fn process(&self, ids: &[u32], scores: &mut [f32]) {
        let n = self.0;
        if ids.len() + 1 < n {
            return;
        }
        let last = &ids[ids.len() + 1 - n..];
        for run in ids.windows(n) {
            if run[..n - 1] == *last {
                ban(scores, run[n - 1]);
            }
        }
    }
}

/// The last id of a word whose other ids were just said; words of one id always.
struct NoBadWords(Vec<Vec<u32>>);

impl LogitsProcessor for NoBadWords {
    fn process(&self, ids: &[u32], scores: &mut [f32]) {
        for word in &self.0 {
            // HF looks only at words that are no longer than the sequence.
            let Some((last, before)) = word.split_last() else { continue };
            if before.is_empty() || (word.len() <= ids.len() && ids.ends_with(before)) {
                ban(scores, *last);
            }
        }
    }
}

/// No end before `length` ids.
struct MinLength {
    length: usize,
    eos: Vec<u32>,
}

impl LogitsProcessor for MinLength {
    fn process(&self, ids: &[u32], scores: &mut [f32]) {
        if ids.len() < self.length {
            self.eos.iter().for_each(|id| ban(scores, *id));
        }
    }
}

/// Only these ids when the sequence has `length` ids.
struct ForcedAt {
    length: usize,
    ids: Vec<u32>,
}

impl LogitsProcessor for ForcedAt {
    fn process(&self, ids: &[u32], scores: &mut [f32]) {
        if ids.len() == self.length {
            scores.fill(f32::NEG_INFINITY);
            for id in &self.ids {
                if let Some(score) = scores.get_mut(*id as usize) {
                    *score = 0.0;
                }
            }
        }
    }
}

/// Never these ids, or not at one place.
struct Suppress {
    at: Option<usize>,
    ids: Vec<u32>,
}

impl LogitsProcessor for Suppress {
    fn process(&self, ids: &[u32], scores: &mut [f32]) {
        if self.at.is_none_or(|at| at == ids.len()) {
            self.ids.iter().for_each(|id| ban(scores, *id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::settings::tests::settings;

    const OUT: f32 = f32::NEG_INFINITY;

    fn after(processor: impl LogitsProcessor, ids: &[u32], mut scores: Vec<f32>) -> Vec<f32> {
        processor.process(ids, &mut scores);
        scores
    }

    #[test]
    fn a_repeated_id_is_punished_once() {
        assert_eq!(after(RepetitionPenalty(2.0), &[0, 0, 2], vec![4.0, 4.0, -1.0]), [2.0, 4.0, -2.0]);
    }

    #[test]
    fn a_pair_does_not_come_twice() {
        assert_eq!(after(NoRepeatNGram(2), &[1, 2, 0, 1], vec![0.0; 4]), [0.0, 0.0, OUT, 0.0]);
        assert_eq!(after(NoRepeatNGram(1), &[1, 3], vec![0.0; 4]), [0.0, OUT, 0.0, OUT]);
        assert_eq!(after(NoRepeatNGram(3), &[1], vec![0.0; 2]), [0.0, 0.0]);
    }

    #[test]
    fn bad_words_end_before_their_last_id() {
        let words = vec![vec![0], vec![1, 2]];
        assert_eq!(after(NoBadWords(words.clone()), &[3, 1], vec![0.0; 4]), [OUT, 0.0, OUT, 0.0]);
        assert_eq!(after(NoBadWords(words), &[1, 3], vec![0.0; 4]), [OUT, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn forced_ids_leave_no_other() {
        assert_eq!(after(ForcedAt { length: 2, ids: vec![1] }, &[3, 3], vec![5.0; 3]), [OUT, 0.0, OUT]);
        assert_eq!(after(ForcedAt { length: 2, ids: vec![1] }, &[3], vec![5.0; 3]), [5.0; 3]);
    }

    #[test]
    fn beams_keep_something_to_go_on_with() {
        let left = |json: &str| {
            let mut scores = [5.0, 4.0, 3.0, 2.0, 1.0];
            LogitsProcessors::new(&settings(json)).process(&[], &mut scores);
            scores.iter().filter(|score| **score > OUT).count()
        };
        for narrow in [r#""top_k": 1"#, r#""top_p": 0.01"#, r#""min_p": 1"#, r#""typical_p": 0.01"#] {
            assert_eq!(left(&format!(r#"{{"do_sample": true, {narrow}}}"#)), 1, "{narrow}");
            assert_eq!(left(&format!(r#"{{"do_sample": true, "num_beams": 2, {narrow}}}"#)), 2, "{narrow}");
            assert_eq!(left(&format!(r#"{{"do_sample": true, "num_beams": 2, "eos_token_id": [3, 4], {narrow}}}"#)), 3, "{narrow}");
            assert_eq!(left(&format!(r#"{{"do_sample": true, "num_beams": 2, "eos_token_id": [], {narrow}}}"#)), 2, "{narrow}");
        }
        assert!(LogitsProcessors::new(&settings("{}")).is_empty(), "greedy search with nothing asked stays on the device");
    }

    #[test]
    fn temperature_comes_before_what_it_widens() {
        let mut scores = [4.0, 2.0, 0.0];
        // e⁴ : e² : 1 leaves one for 0.8; e : e^½ : 1 leaves two.
        let settings = settings(r#"{"do_sample": true, "temperature": 4, "top_p": 0.8, "renormalize_logits": true}"#);
        LogitsProcessors::new(&settings).process(&[], &mut scores);
        assert_eq!(scores[2], OUT);
        let total: f32 = scores.iter().map(|score| score.exp()).sum();
        assert!(scores[1] > OUT && (total - 1.0).abs() < 1e-6, "{scores:?}");
    }
}
