//! What narrows or bends the choice when the next token is drawn. Each does what HF's class of the same name does, to the
//! ties; numbers are f32 and running sums f64, as in torch on a CPU.

use crate::generation::logits_process::LogitsProcessor;

/// scores [V] → log-probabilities, in place. Sums in f64.
pub(super) fn log_softmax(scores: &mut [f32]) {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = scores.iter().map(|score| f64::from((score - highest).exp())).sum();
    let log_total = total.ln() as f32;
    scores.iter_mut().for_each(|score| *score = *score - highest - log_total);
}

/// The probability of each of these scores among them.
fn softmax(scores: impl Iterator<Item = f32> + Clone) -> Vec<f32> {
    let highest = scores.clone().fold(f32::NEG_INFINITY, f32::max);
    let mut values: Vec<f32> = scores.map(|score| (score - highest).exp()).collect();
    let total = values.iter().copied().map(f64::from).sum::<f64>() as f32;
    values.iter_mut().for_each(|value| *value /= total);
    values
}

/// Running sums, each rounded from f64.
fn cumulative(values: &[f32]) -> impl Iterator<Item = f32> {
    values.iter().scan(0.0f64, |sum, value| {
        *sum += f64::from(*value);
        Some(*sum as f32)
    })
}

/// Where scores are left; −inf has probability 0 and changes none of the sums below.
fn possible(scores: &[f32]) -> Vec<usize> {
    (0..scores.len()).filter(|place| scores[*place] > f32::NEG_INFINITY).collect()
}

/// HF `TemperatureLogitsWarper`.
pub(super) struct Temperature(pub f32);

impl LogitsProcessor for Temperature {
    fn process(&self, _ids: &[u32], scores: &mut [f32]) {
        scores.iter_mut().for_each(|score| *score /= self.0);
    }
}

/// Whatever is below the k-th highest goes; what equals it stays. HF `TopKLogitsWarper`.
pub(super) struct TopK(pub usize);

impl LogitsProcessor for TopK {
    fn process(&self, _ids: &[u32], scores: &mut [f32]) {
        if self.0 >= scores.len() {
            return;
        }
        let mut sorted = scores.to_vec();
        let (_, lowest_kept, _) = sorted.select_nth_unstable_by(self.0 - 1, |a, b| b.total_cmp(a));
        for score in scores {
            if *score < *lowest_kept {
                *score = f32::NEG_INFINITY;
            }
        }
    }
}

/// The unlikeliest go whose probabilities together are at most 1 − top_p; of equals the first goes first.
/// HF `TopPLogitsWarper`.
pub(super) struct TopP {
    pub top_p: f64,
    pub keep: usize,
}

impl LogitsProcessor for TopP {
    fn process(&self, _ids: &[u32], scores: &mut [f32]) {
        let mut ascending = possible(scores);
        ascending.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        let probabilities = softmax(ascending.iter().map(|place| scores[*place]));
        let out = (1.0 - self.top_p) as f32;
        let removable = ascending.len().saturating_sub(self.keep);
        for (place, sum) in ascending.iter().zip(cumulative(&probabilities)).take(removable) {
            if sum <= out {
                scores[*place] = f32::NEG_INFINITY;
            }
        }
    }
}

/// Whatever has less than this part of the likeliest one's probability goes. HF `MinPLogitsWarper`.
pub(super) struct MinP {
    pub min_p: f32,
    pub keep: usize,
}

impl LogitsProcessor for MinP {
    fn process(&self, _ids: &[u32], scores: &mut [f32]) {
        let probabilities = softmax(scores.iter().copied());
        let least = self.min_p * probabilities.iter().copied().fold(0.0, f32::max);
        let kept = top_k(&probabilities, self.keep);
        for (place, score) in scores.iter_mut().enumerate() {
            if probabilities[place] < least && !kept.contains(&place) {
                *score = f32::NEG_INFINITY;
            }
        }
    }
}

/// Those stay whose information is closest to the expected one, until they have `mass` together; the likeliest may go.
/// HF `TypicalLogitsWarper`; Meister et al., Locally Typical Sampling.
pub(super) struct Typical {
    pub mass: f32,
    pub keep: usize,
}

impl LogitsProcessor for Typical {
    fn process(&self, _ids: &[u32], scores: &mut [f32]) {
        let mut log_probabilities = scores.to_vec();
        log_softmax(&mut log_probabilities);
        let mut closest = possible(scores);
        let information = |place: &usize| f64::from(log_probabilities[*place].exp() * log_probabilities[*place]);
        let entropy = -closest.iter().map(information).sum::<f64>() as f32;
        let distance = |place: usize| (-log_probabilities[place] - entropy).abs();
        closest.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)));
        let probabilities = softmax(closest.iter().map(|place| scores[*place]));
        let last = cumulative(&probabilities).filter(|sum| *sum < self.mass).count();
        let Some(last) = closest.get(last.min(closest.len().saturating_sub(1))) else { return };
        let furthest = distance(*last);
        for place in closest.iter().skip(self.keep) {
            if distance(*place) > furthest {
                scores[*place] = f32::NEG_INFINITY;
            }
        }
    }
}

/// HF `LogitNormalization`, behind all others.
pub(super) struct LogitNormalization;

impl LogitsProcessor for LogitNormalization {
    fn process(&self, _ids: &[u32], scores: &mut [f32]) {
        log_softmax(scores);
    }
}

/// The places of the k highest values, highest first; of equal ones the first place first.
pub(super) fn top_k(values: &[f32], k: usize) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::with_capacity(k + 1);
    for (place, value) in values.iter().enumerate() {
        if best.len() < k || best.last().is_some_and(|last| *value > values[*last]) {
            best.insert(best.partition_point(|other| values[*other] >= *value), place);
            best.truncate(k);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::sampler::Generator;

    const OUT: f32 = f32::NEG_INFINITY;

    /// Rows of 12 to 40 scores: some equal, some out already.
    fn rows() -> impl Iterator<Item = Vec<f32>> {
        let mut random = Generator::new(7, 0);
        (0..400).map(move |_| {
            let length = 12 + random.below(29);
            (0..length)
                .map(|_| match random.below(10) {
                    0 => OUT,
                    1..4 => random.below(5) as f32 - 2.0,
                    _ => (random.uniform() * 8.0 - 4.0) as f32,
                })
                .collect()
        })
    }

    fn probabilities(scores: &[f32]) -> Vec<f64> {
        let weights: Vec<f64> = scores.iter().map(|score| f64::from(*score).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / total).collect()
    }

    /// Each row keeps exactly those places that `stays` names, with their scores. Rows that f32 may decide otherwise than f64
    /// are not among these: `stays` is `None` there, of few rows.
    fn keeps(name: &str, processor: &impl LogitsProcessor, stays: impl Fn(&[f32]) -> Option<Vec<bool>>) {
        let mut decided = 0;
        for row in rows() {
            let Some(stays) = stays(&row) else { continue };
            decided += 1;
            let mut found = row.clone();
            processor.process(&[], &mut found);
            let wanted: Vec<f32> = row.iter().zip(&stays).map(|(score, stays)| if *stays { *score } else { OUT }).collect();
            assert_eq!(found, wanted, "{name} of {row:?}");
        }
        assert!(decided > 300, "{name}: only {decided} rows");
    }

    /// The places in the order of `key`, first those of lower key, then of lower place.
    fn ordered(key: &[f64]) -> Vec<usize> {
        let mut places: Vec<usize> = (0..key.len()).collect();
        places.sort_by(|a, b| key[*a].total_cmp(&key[*b]).then(a.cmp(b)));
        places
    }

    #[test]
    fn top_k_keeps_those_with_fewer_than_k_above_them() {
        for k in [1, 3, 10, 50] {
            keeps("top_k", &TopK(k), |row| Some(row.iter().map(|score| row.iter().filter(|other| *other > score).count() < k).collect()));
        }
    }

    #[test]
    fn top_p_keeps_the_least_that_reaches_it() {
        for (top_p, keep) in [(0.05, 1), (0.3, 1), (0.5, 2), (0.9, 3), (0.999, 1)] {
            keeps("top_p", &TopP { top_p, keep }, |row| {
                let probabilities = probabilities(row);
                let order = ordered(&row.iter().map(|score| f64::from(*score)).collect::<Vec<_>>());
                let mut stays = vec![true; row.len()];
                let mut sum = 0.0;
                for place in &order[..row.len() - keep] {
                    sum += probabilities[*place];
                    if (sum - (1.0 - top_p)).abs() < 1e-5 {
                        return None;
                    }
                    stays[*place] = sum > 1.0 - top_p;
                }
                Some(stays)
            });
        }
    }

    #[test]
    fn min_p_keeps_what_is_not_far_below_the_likeliest() {
        for (min_p, keep) in [(0.02, 1), (0.2, 1), (1.0, 4)] {
            keeps("min_p", &MinP { min_p, keep }, |row| {
                let probabilities = probabilities(row);
                let highest = probabilities.iter().copied().fold(0.0, f64::max);
                let likeliest = ordered(&probabilities.iter().map(|p| -p).collect::<Vec<_>>());
                if probabilities.iter().any(|p| *p != highest && (p - f64::from(min_p) * highest).abs() < 1e-6 * highest) {
                    return None;
                }
                // The likeliest one itself is not below itself, whatever rounding says.
                Some(
                    (0..row.len())
                        .map(|place| probabilities[place] >= f64::from(min_p) * highest || likeliest[..keep].contains(&place))
                        .collect(),
                )
            });
        }
    }

    #[test]
    fn typical_p_keeps_the_closest_to_the_entropy() {
        for (mass, keep) in [(0.2, 1), (0.5, 1), (0.9, 3)] {
            keeps("typical_p", &Typical { mass, keep }, |row| {
                let probabilities = probabilities(row);
                let entropy: f64 = -probabilities.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>();
                let distance: Vec<f64> = probabilities.iter().map(|p| (-p.ln() - entropy).abs()).collect();
                let order = ordered(&distance);
                let (mut stays, mut sum, mut furthest) = (vec![false; row.len()], 0.0, 0.0);
                for (rank, place) in order.iter().enumerate() {
                    // Two places, one on each side of the entropy, whose order is a matter of rounding.
                    if rank > 0 && row[*place] != row[order[rank - 1]] && (distance[*place] - furthest).abs() < 1e-5 {
                        return None;
                    }
                    stays[*place] = sum < f64::from(mass) || rank < keep || distance[*place] <= furthest;
                    if sum < f64::from(mass) {
                        furthest = distance[*place];
                    }
                    sum += probabilities[*place];
                    if (sum - f64::from(mass)).abs() < 1e-5 {
                        return None;
                    }
                }
                Some(stays)
            });
        }
    }

    #[test]
    fn temperature_divides_and_normalization_sums_to_one() {
        let mut scores = vec![2.0, -1.0, OUT];
        Temperature(0.5).process(&[], &mut scores);
        assert_eq!(scores, [4.0, -2.0, OUT]);
        for mut row in rows() {
            LogitNormalization.process(&[], &mut row);
            let total: f64 = row.iter().map(|score| f64::from(*score).exp()).sum();
            assert!((total - 1.0).abs() < 1e-5, "{total}");
        }
    }

    #[test]
    fn the_highest_come_first_and_equals_in_their_order() {
        assert_eq!(top_k(&[1.0, 3.0, OUT, 3.0, 2.0], 4), [1, 3, 4, 0]);
        assert_eq!(top_k(&[OUT, OUT], 5), [0, 1]);
        for row in rows() {
            let wanted = ordered(&row.iter().map(|score| -f64::from(*score)).collect::<Vec<_>>());
            assert_eq!(top_k(&row, 7), wanted[..7]);
        }
    }
}
