//! Against a plain transcript of the algorithm, against all sequences there are, and against greedy search.

use super::*;
use crate::generation::settings::tests::settings;

const VOCABULARY: usize = 7;
const EOS: u32 = 5;

/// A language model without a network: logits that depend on everything said so far.
fn logits(model: u64, ids: &[u32], vocabulary: usize) -> Vec<f32> {
    let seed = ids.iter().fold(model, |seed, id| seed.wrapping_mul(1_000_003).wrapping_add(u64::from(*id) + 1));
    let mut generator = Generator::new(seed, 0);
    (0..vocabulary).map(|_| (generator.uniform() * 5.0) as f32).collect()
}

/// The search, with a model that knows its rows only by the tokens and the order it is told.
fn search(settings: &Settings, model: u64, prefix: &[Vec<u32>], vocabulary: usize) -> (Beams, usize) {
    let mut criteria = StoppingCriteria::new(settings, None);
    let mut search = BeamSearch::new(settings, prefix);
    let mut said: Vec<Vec<u32>> = prefix.iter().flat_map(|ids| vec![ids.clone(); settings.num_beams]).collect();
    for steps in 1.. {
        let mut scores: Vec<f32> = said.iter().flat_map(|ids| logits(model, ids, vocabulary)).collect();
        let step = search.step(&mut scores, &mut criteria);
        if step.done {
            return (search.finish(), steps);
        }
        said = step.order.iter().map(|row| said[*row].clone()).collect();
        said.iter_mut().zip(&step.tokens).for_each(|(ids, token)| ids.push(*token));
    }
    unreachable!()
}

fn log_probabilities(model: u64, ids: &[u32], vocabulary: usize) -> Vec<f32> {
    let mut scores = logits(model, ids, vocabulary);
    log_softmax(&mut scores);
    scores
}

/// Places in descending order of their numbers, equals in their order.
fn descending(numbers: &[f32]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..numbers.len()).collect();
    places.sort_by(|a, b| numbers[*b].partial_cmp(&numbers[*a]).unwrap());
    places
}

/// The algorithm as HF writes it down: arrays of one size, all steps in one function, no early exits.
fn transcript(settings: &Settings, model: u64, prefix: &[Vec<u32>]) -> (Vec<Vec<u32>>, Vec<f32>, usize) {
    let (rows, beams, start) = (prefix.len(), settings.num_beams, settings.prefix_length);
    let early = settings.early_stopping == EarlyStopping::When(true);
    let never = settings.early_stopping == serde_json::from_str("\"never\"").unwrap();
    let power = |length: usize| (length as f64).powf(settings.length_penalty) as f32;
    let fill = if settings.pad_token_id == 0 { EOS } else { settings.pad_token_id };
    let full = |ids: &[u32]| {
        let mut ids = ids.to_vec();
        ids.resize(settings.max_length, fill);
        ids
    };
    let mut run: Vec<Vec<Vec<u32>>> = prefix.iter().map(|ids| vec![full(ids); beams]).collect();
    let mut run_scores = vec![vec![-1e9f32; beams]; rows];
    run_scores.iter_mut().for_each(|scores| scores[0] = 0.0);
    let mut fin = run.clone();
    let mut fin_scores = vec![vec![-1e9f32; beams]; rows];
    let mut done = vec![vec![false; beams]; rows];
    let mut lengths = vec![vec![0; beams]; rows];
    let mut open = vec![true; rows];
    let mut current = start;
    loop {
        let mut all_hit = true;
        for row in 0..rows {
            let mut scores = vec![];
            for beam in 0..beams {
                let log_probabilities = log_probabilities(model, &run[row][beam][..current], VOCABULARY);
                scores.extend(log_probabilities.iter().map(|score| score + run_scores[row][beam]));
            }
            let best = descending(&scores)[..2 * beams].to_vec();
            let candidates: Vec<Vec<u32>> = best
                .iter()
                .map(|place| {
                    let mut ids = run[row][place / VOCABULARY].clone();
                    ids[current] = (place % VOCABULARY) as u32;
                    ids
                })
                .collect();
            let sums: Vec<f32> = best.iter().map(|place| scores[*place]).collect();
            let hit: Vec<bool> = candidates.iter().map(|ids| ids[current] == EOS || current + 1 >= settings.max_length).collect();
            all_hit &= hit.iter().all(|hit| *hit);
            let running: Vec<f32> = sums.iter().zip(&hit).map(|(sum, hit)| if *hit { sum - 1e9 } else { *sum }).collect();
            let next = descending(&running)[..beams].to_vec();
            run[row] = next.iter().map(|place| candidates[*place].clone()).collect();
            run_scores[row] = next.iter().map(|place| running[*place]).collect();
            let row_done = done[row].iter().all(|done| *done);
            for (rank, ids) in candidates.into_iter().enumerate() {
                let mut score = sums[rank] / power(current + 1 - start);
                score -= if early && row_done { 1e9 } else { 0.0 };
                score -= if open[row] { 0.0 } else { 1e9 };
                score -= if hit[rank] && rank < beams { 0.0 } else { 1e9 };
                fin[row].push(ids);
                fin_scores[row].push(score);
                done[row].push(hit[rank] && rank < beams);
                lengths[row].push(current + 1 - start);
            }
            let kept = descending(&fin_scores[row])[..beams].to_vec();
            fin[row] = kept.iter().map(|place| fin[row][*place].clone()).collect();
            fin_scores[row] = kept.iter().map(|place| fin_scores[row][*place]).collect();
            done[row] = kept.iter().map(|place| done[row][*place]).collect();
            lengths[row] = kept.iter().map(|place| lengths[row][*place]).collect();
        }
        current += 1;
        for row in 0..rows {
            let length = if never && settings.length_penalty > 0.0 { settings.max_length } else { current };
            let possible = run_scores[row][0] / power(length - start);
            let worst = fin_scores[row].iter().copied().fold(f32::INFINITY, f32::min);
            open[row] &= done[row].iter().any(|done| possible > if *done { worst } else { -1e9 });
        }
        let all_done = early && done.iter().flatten().all(|done| *done);
        if !open.iter().any(|open| *open) || all_done || all_hit {
            break;
        }
    }
    let count = settings.num_return_sequences;
    let longest = lengths.iter().flat_map(|lengths| &lengths[..count]).max().unwrap();
    let ids = fin.iter().flat_map(|fin| fin[..count].iter().map(|ids| ids[..start + longest].to_vec())).collect();
    (ids, fin_scores.iter().flat_map(|scores| scores[..count].to_vec()).collect(), current - start)
}

#[test]
fn the_transcript_says_the_same() {
    let (mut early_ends, mut ends_by_length) = (0, 0);
    for model in 0..40 {
        for early_stopping in ["true", "false", "\"never\""] {
            for length_penalty in [-1.0, 0.0, 1.0, 2.0] {
                for (beams, answers, pad, prefix) in
                    [(2, 1, 1, vec![vec![]]), (3, 2, 0, vec![vec![0, 3], vec![0, 4], vec![6, 6]]), (5, 5, 1, vec![vec![0]])]
                {
                    let json = format!(
                        r#"{{"num_beams": {beams}, "num_return_sequences": {answers}, "max_new_tokens": 7, "pad_token_id": {pad},
                            "early_stopping": {early_stopping}, "length_penalty": {length_penalty:?}}}"#
                    );
                    let mut settings = settings(&json);
                    settings.prefix_length = prefix[0].len();
                    settings.max_length += settings.prefix_length;
                    let (found, steps) = search(&settings, model, &prefix, VOCABULARY);
                    let (ids, scores, wanted_steps) = transcript(&settings, model, &prefix);
                    assert_eq!((found.ids, found.sequences_scores, steps), (ids, scores, wanted_steps), "model {model}, {json}");
                    early_ends += usize::from(steps < 7);
                    ends_by_length += usize::from(steps == 7);
                }
            }
        }
    }
    assert!(early_ends > 100 && ends_by_length > 100, "{early_ends} searches ended early, {ends_by_length} did not");
}

#[test]
fn wide_enough_beams_find_the_best_of_all_sequences() {
    for model in 0..30 {
        for length_penalty in [0.5f64, 1.0, 2.0] {
            // 4 ids, 3 of which go on: 3·3·4 candidates at the third step, and all of them are ranked.
            let json = format!(
                r#"{{"num_beams": 36, "max_new_tokens": 3, "eos_token_id": 3, "early_stopping": "never", "length_penalty": {length_penalty:?}}}"#
            );
            let settings = settings(&json);
            let mut best = (f64::NEG_INFINITY, vec![]);
            let mut open = vec![(0.0, vec![])];
            while let Some((sum, ids)) = open.pop() {
                for (id, score) in log_probabilities(model, &ids, 4).into_iter().enumerate() {
                    let (sum, ids) = (sum + f64::from(score), [&ids[..], &[id as u32]].concat());
                    if id != 3 && ids.len() < 3 {
                        open.push((sum, ids));
                    } else if sum / (ids.len() as f64).powf(length_penalty) > best.0 {
                        best = (sum / (ids.len() as f64).powf(length_penalty), ids);
                    }
                }
            }
            let (found, _) = search(&settings, model, &[vec![]], 4);
            assert_eq!(found.ids, [best.1], "model {model}, {json}");
            assert!((f64::from(found.sequences_scores[0]) - best.0).abs() < 1e-5, "{found:?}, expected {}", best.0);
        }
    }
}

#[test]
fn one_beam_that_stops_early_is_greedy_search() {
    let settings = settings(r#"{"num_beams": 1, "max_new_tokens": 9}"#);
    let settings = Settings { early_stopping: EarlyStopping::When(true), ..settings };
    for model in 0..100 {
        let mut greedy = vec![];
        while greedy.len() < 9 && greedy.last() != Some(&EOS) {
            greedy.push(top_k(&logits(model, &greedy, VOCABULARY), 1)[0] as u32);
        }
        let (found, _) = search(&settings, model, &[vec![]], VOCABULARY);
        let ended = greedy.last() == Some(&EOS);
        assert_eq!(found.ids, [greedy]);
        assert_eq!(found.finish, if ended { Finish::Eos } else { Finish::Length });
    }
}

#[test]
fn scores_are_sums_of_log_probabilities_by_length() {
    let settings = settings(r#"{"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 6, "length_penalty": 1.5}"#);
    for model in 0..50 {
        let (found, _) = search(&settings, model, &[vec![]], VOCABULARY);
        assert!(found.sequences_scores.is_sorted_by(|a, b| a >= b));
        for (ids, score) in found.ids.iter().zip(&found.sequences_scores) {
            let length = ids.iter().position(|id| *id == EOS).map_or(ids.len(), |end| end + 1);
            let sum: f64 = (0..length).map(|at| f64::from(log_probabilities(model, &ids[..at], VOCABULARY)[ids[at] as usize])).sum();
            assert!((sum / (length as f64).powf(1.5) - f64::from(*score)).abs() < 1e-5, "{ids:?}: {score}");
            assert!(ids[length..].iter().all(|id| *id == 1), "{ids:?} is filled with the pad id");
        }
    }
}

#[test]
fn processors_see_each_beam_on_its_own() {
    let settings =
        settings(r#"{"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 5, "no_repeat_ngram_size": 1, "min_new_tokens": 4}"#);
    for model in 0..50 {
        let (found, _) = search(&settings, model, &[vec![]], VOCABULARY);
        for ids in found.ids {
            let mut distinct = ids.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!((distinct.len(), ids.len()), (5, 5), "{ids:?}");
            assert!(!ids[..4].contains(&EOS), "{ids:?}");
        }
    }
}

#[test]
fn cold_draws_are_beam_search_and_warm_ones_follow_the_seed() {
    let plain = settings(r#"{"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 6}"#);
    let cold =
        settings(r#"{"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 6, "do_sample": true, "temperature": 1e-4, "top_k": 0}"#);
    let warm = |seed: u64| {
        let json = format!(r#"{{"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 6, "do_sample": true, "seed": {seed}}}"#);
        (0..20).map(|model| search(&settings(&json), model, &[vec![], vec![]], VOCABULARY).0.ids).collect::<Vec<_>>()
    };
    for model in 0..20 {
        assert_eq!(search(&cold, model, &[vec![]], VOCABULARY).0.ids, search(&plain, model, &[vec![]], VOCABULARY).0.ids);
    }
    assert_eq!(warm(1), warm(1));
    assert_ne!(warm(1), warm(2));
    assert!(warm(1).iter().any(|ids| ids[0] != ids[2]), "two rows of one prompt drew the same each time");
}

#[test]
fn a_stop_string_ends_a_beam() {
    let settings = settings(r#"{"num_beams": 3, "max_new_tokens": 8, "eos_token_id": []}"#);
    let mut ends = 0;
    for model in 0..30 {
        let mut stop = |ids: &[u32]| ids.ends_with(&[2]);
        let mut criteria = StoppingCriteria::new(&settings, Some(&mut stop));
        let mut search = BeamSearch::new(&settings, &[vec![]]);
        let mut said = vec![vec![]; 3];
        loop {
            let mut scores: Vec<f32> = said.iter().flat_map(|ids| logits(model, ids, VOCABULARY)).collect();
            let step = search.step(&mut scores, &mut criteria);
            if step.done {
                break;
            }
            said = step.order.iter().zip(&step.tokens).map(|(row, token)| [&said[*row][..], &[*token]].concat()).collect();
        }
        let found = search.finish();
        let ids = &found.ids[0];
        assert!(!ids[..ids.len() - 1].contains(&2), "{ids:?}");
        assert_eq!(found.finish == Finish::StopString, ids.ends_with(&[2]), "{found:?}");
        ends += usize::from(found.finish == Finish::StopString);
    }
    assert!(ends > 5, "only {ends} of 30 ended so");
}

#[test]
fn an_interrupted_search_returns_what_it_follows() {
    let settings = settings(r#"{"num_beams": 2, "num_return_sequences": 2, "max_new_tokens": 8, "eos_token_id": []}"#);
    let mut search = BeamSearch::new(&settings, &[vec![]]);
    let mut scores = [logits(1, &[], VOCABULARY), logits(1, &[], VOCABULARY)].concat();
    let step = search.step(&mut scores, &mut StoppingCriteria::new(&settings, None));
    search.interrupt();
    let found = search.finish();
    assert_eq!(found.ids, [[step.tokens[0]], [step.tokens[1]]]);
    assert_eq!(found.finish, Finish::Stopped);
}
