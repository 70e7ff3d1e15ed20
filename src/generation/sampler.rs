//! Draws: the same seed draws the same tokens on every target.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::generation::logits_warpers::top_k;
use crate::ops::argmax::highest;
use crate::pace;

/// SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014; numbers as in Vigna's
/// `splitmix64.c`. The n-th number is a hash of seed and n, so nothing of it depends on the machine.
#[derive(Debug, Clone)]
pub struct Generator(u64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Generator {
    /// Each row of a batch draws on its own: what one row draws does not depend on how many there are, or when they end.
    pub fn new(seed: u64, row: usize) -> Self {
        Self(mix(seed ^ mix((row as u64).wrapping_add(1).wrapping_mul(STEP))))
    }

    /// One generator for each of `rows`; without a seed another sequence at each call.
    pub fn for_rows(seed: Option<u64>, rows: usize) -> Vec<Self> {
        let seed = seed.unwrap_or_else(fresh_seed);
        (0..rows).map(|row| Self::new(seed, row)).collect()
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// In [0, 1), of 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number below `count`.
    #[cfg(test)]
    pub fn below(&mut self, count: usize) -> usize {
        (self.uniform() * count as f64) as usize
    }
}

/// Clock, count of calls, and natively the randomness of the system's that hash maps are seeded with.
fn fresh_seed() -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    RandomState::new().hash_one((pace::now().to_bits(), CALLS.fetch_add(1, Ordering::Relaxed)))
}

/// The places whose probability is not 0, and their weights: exp(score − highest), in f64.
fn weights(scores: &[f32]) -> Vec<(usize, f64)> {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |score: f32| f64::from(score - highest).exp();
    scores.iter().enumerate().map(|(place, score)| (place, weight(*score))).filter(|(_, weight)| *weight > 0.0).collect()
}

/// Which of `weights` holds a point drawn on their sum: the inverse of the cumulative distribution, in order of places.
fn draw(weights: &[(usize, f64)], generator: &mut Generator) -> Option<usize> {
    let point = generator.uniform() * weights.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut sum = 0.0;
    let found = weights.iter().position(|(_, weight)| {
        sum += weight;
        sum > point
    });
    // Rounding may put the point on the very end.
    found.or_else(|| weights.len().checked_sub(1))
}

/// scores [V] → one place, drawn with the probabilities of their softmax.
pub fn sample(scores: &[f32], generator: &mut Generator) -> usize {
    let weights = weights(scores);
    draw(&weights, generator).map_or_else(|| highest(scores), |at| weights[at].0)
}

/// scores [V] → k different places in the order they are drawn, each with the probabilities of the softmax of what is left.
/// Where fewer have a probability, those of highest score follow.
pub fn sample_without_replacement(scores: &[f32], k: usize, generator: &mut Generator) -> Vec<usize> {
    let mut weights = weights(scores);
    let mut drawn = Vec::with_capacity(k);
    while drawn.len() < k {
        let Some(at) = draw(&weights, generator) else { break };
        drawn.push(weights.remove(at).0);
    }
    if drawn.len() < k {
        let rest: Vec<usize> = top_k(scores, k).into_iter().filter(|place| !drawn.contains(place)).collect();
        drawn.extend(rest);
        drawn.truncate(k);
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::logits_process::LogitsProcessors;
    use crate::generation::settings::tests::settings;

    const DRAWS: usize = 20_000;

    /// Σ (counted − expected)² / expected; what is impossible was not drawn.
    fn chi_square(counts: &[usize], probabilities: &[f64]) -> f64 {
        let total: usize = counts.iter().sum();
        let mut sum = 0.0;
        for (count, probability) in counts.iter().zip(probabilities) {
            assert!(*probability > 0.0 || *count == 0, "{count} draws of what is impossible");
            let expected = probability * total as f64;
            sum += if expected > 0.0 { (*count as f64 - expected).powi(2) / expected } else { 0.0 };
        }
        sum
    }

    #[test]
    fn draws_have_the_probabilities_of_the_processed_scores() {
        let logits = [1.0, -0.5, 2.0, 0.3, 2.5, -3.0, 0.0, 1.2];
        // Of each: what the processed scores have to leave of the places, likeliest first.
        for (json, left) in [
            (r#"{"do_sample": true, "top_k": 0}"#, 8),
            (r#"{"do_sample": true, "temperature": 0.6, "top_k": 5}"#, 5),
            (r#"{"do_sample": true, "temperature": 1.7, "top_k": 0, "top_p": 0.8}"#, 5),
        ] {
            let settings = settings(json);
            let mut scores = logits;
            LogitsProcessors::new(&settings).process(&[], &mut scores);
            let kept = top_k(&logits, left);
            let temperature = settings.temperature;
            let weight = |place: usize| if kept.contains(&place) { (f64::from(logits[place]) / temperature).exp() } else { 0.0 };
            let total: f64 = (0..8).map(weight).sum();
            let probabilities: Vec<f64> = (0..8).map(|place| weight(place) / total).collect();
            let mut counts = [0; 8];
            let mut generator = Generator::new(11, 0);
            (0..DRAWS).for_each(|_| counts[sample(&scores, &mut generator)] += 1);
            // 7 degrees of freedom: above 24.3 once in a thousand.
            let found = chi_square(&counts, &probabilities);
            assert!(found < 24.3, "{json}: {found} of {counts:?}");
        }
    }

    #[test]
    fn without_replacement_each_draw_is_one_of_what_is_left() {
        let probabilities = [0.5, 0.3, 0.2];
        let scores: Vec<f32> = probabilities.iter().map(|p: &f64| p.ln() as f32).collect();
        let mut generator = Generator::new(3, 0);
        let mut counts = [0; 9];
        for _ in 0..DRAWS {
            let drawn = sample_without_replacement(&scores, 2, &mut generator);
            counts[drawn[0] * 3 + drawn[1]] += 1;
        }
        let pair = |a: usize, b: usize| if a == b { 0.0 } else { probabilities[a] * probabilities[b] / (1.0 - probabilities[a]) };
        let expected: Vec<f64> = (0..9).map(|at| pair(at / 3, at % 3)).collect();
        // 5 degrees of freedom: above 20.5 once in a thousand.
        let found = chi_square(&counts, &expected);
        assert!(found < 20.5, "{found} of {counts:?}");
        let few = [f32::NEG_INFINITY, 0.0, -1e9, f32::NEG_INFINITY];
        assert_eq!(sample_without_replacement(&few, 3, &mut generator), [1, 2, 0]);
    }

    #[test]
    fn a_seed_says_all_and_rows_draw_apart() {
        let numbers = |seed, row| {
            let mut generator = Generator::new(seed, row);
            (0..1000).map(|_| generator.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(5, 0), numbers(5, 0));
        // The test vector of splitmix64.c for seed 1234567.
        let mut reference = Generator(1_234_567);
        assert_eq!([reference.next_u64(), reference.next_u64()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        let scores = [0.0; 4];
        let draws = |row| {
            let mut generator = Generator::new(5, row);
            (0..DRAWS).map(|_| sample(&scores, &mut generator)).collect::<Vec<_>>()
        };
        let mut counts = [0; 16];
        draws(0).iter().zip(draws(1)).for_each(|(a, b)| counts[a * 4 + b] += 1);
        // 15 degrees of freedom: above 37.7 once in a thousand.
        assert!(chi_square(&counts, &[1.0 / 16.0; 16]) < 37.7, "{counts:?}");
        assert_ne!(fresh_seed(), fresh_seed());
    }
}
