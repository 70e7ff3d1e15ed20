//! What a caller may ask of `generate`, under HF's names. An option that is not here is an error, never silence.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::models::TokenIds;

/// HF `GenerationConfig`: what is absent takes the language model's own value, or HF's default.
///
/// ```
/// use blip2_web::generation::GenerationConfig;
///
/// let config: GenerationConfig = serde_json::from_str(r#"{"num_beams": 5, "early_stopping": "never", "length_penalty": 0.5}"#).expect("options");
/// assert_eq!(config.num_beams, Some(5));
/// assert!(serde_json::from_str::<GenerationConfig>(r#"{"num_beam": 5}"#).is_err());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerationConfig {
    /// Counts the prompt and the image tokens.
    pub max_length: Option<usize>,
    /// Counts new tokens only, and wins over `max_length`.
    pub max_new_tokens: Option<usize>,
    /// Counts the prompt and the image tokens.
    pub min_length: Option<usize>,
    /// Counts new tokens only, and wins over `min_length`.
    pub min_new_tokens: Option<usize>,
    pub repetition_penalty: Option<f32>,
    pub no_repeat_ngram_size: Option<usize>,
    pub bad_words_ids: Option<Vec<Vec<u32>>>,
    pub suppress_tokens: Option<Vec<u32>>,
    pub begin_suppress_tokens: Option<Vec<u32>>,
    pub forced_bos_token_id: Option<u32>,
    pub forced_eos_token_id: Option<TokenIds>,
    pub eos_token_id: Option<TokenIds>,
    pub pad_token_id: Option<u32>,
    /// Draw the next token instead of taking the likeliest.
    pub do_sample: Option<bool>,
    /// Scores are divided by it before a token is drawn. 1 where absent.
    pub temperature: Option<f64>,
    /// Draw among so many tokens; 0: among all. 50 where absent, as in HF.
    pub top_k: Option<usize>,
    /// Draw among the likeliest tokens that have this probability together. 1, all, where absent.
    pub top_p: Option<f64>,
    /// Draw among tokens that have at least this part of the likeliest one's probability. 0, all, where absent.
    pub min_p: Option<f64>,
    /// Draw among the tokens closest to the expected information that have this probability together. 1, all, where absent.
    pub typical_p: Option<f64>,
    /// Not HF's, whose seed is global: the same seed draws the same tokens. Another one each time where absent.
    pub seed: Option<u64>,
    /// Sequences that are followed side by side; 1 to 64, and 1 is none beside the one.
    pub num_beams: Option<usize>,
    /// Answers for each prompt; 1 to 64, of beams at most `num_beams`.
    pub num_return_sequences: Option<usize>,
    pub early_stopping: Option<EarlyStopping>,
    /// A beam's score is divided by its number of new tokens to this power: above 0 favours long answers. 1 where absent.
    pub length_penalty: Option<f64>,
    /// Text that ends an answer, and stays in it.
    pub stop_strings: Option<StopStrings>,
    /// Make log-probabilities of the scores again after they were processed.
    pub renormalize_logits: Option<bool>,
}

/// When beam search ends: `true`, as soon as there are `num_beams` answers; `false`, when a better one is unlikely; "never",
/// when there cannot be a better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EarlyStopping {
    When(bool),
    Never(Never),
}

/// The word "never".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Never {
    Never,
}

/// One text or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StopStrings {
    One(String),
    Many(Vec<String>),
}

impl StopStrings {
    pub fn to_vec(&self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text.clone()],
            Self::Many(texts) => texts.clone(),
        }
    }
}

pub(super) const DEFAULT_TOP_K: usize = 50;
pub(super) const NO_EARLY_STOPPING: EarlyStopping = EarlyStopping::When(false);
/// Each beam has a cache, and each answer too.
const MOST_SEQUENCES: usize = 64;

impl GenerationConfig {
    /// These options, and those of `defaults` where they say nothing.
    pub fn or(&self, defaults: &Self) -> Self {
        Self {
            max_length: self.max_length.or(defaults.max_length),
            max_new_tokens: self.max_new_tokens.or(defaults.max_new_tokens),
            min_length: self.min_length.or(defaults.min_length),
            min_new_tokens: self.min_new_tokens.or(defaults.min_new_tokens),
            repetition_penalty: self.repetition_penalty.or(defaults.repetition_penalty),
            no_repeat_ngram_size: self.no_repeat_ngram_size.or(defaults.no_repeat_ngram_size),
            bad_words_ids: self.bad_words_ids.as_ref().or(defaults.bad_words_ids.as_ref()).cloned(),
            suppress_tokens: self.suppress_tokens.as_ref().or(defaults.suppress_tokens.as_ref()).cloned(),
            begin_suppress_tokens: self.begin_suppress_tokens.as_ref().or(defaults.begin_suppress_tokens.as_ref()).cloned(),
            forced_bos_token_id: self.forced_bos_token_id.or(defaults.forced_bos_token_id),
            forced_eos_token_id: self.forced_eos_token_id.as_ref().or(defaults.forced_eos_token_id.as_ref()).cloned(),
            eos_token_id: self.eos_token_id.as_ref().or(defaults.eos_token_id.as_ref()).cloned(),
            pad_token_id: self.pad_token_id.or(defaults.pad_token_id),
            do_sample: self.do_sample.or(defaults.do_sample),
            temperature: self.temperature.or(defaults.temperature),
            top_k: self.top_k.or(defaults.top_k),
            top_p: self.top_p.or(defaults.top_p),
            min_p: self.min_p.or(defaults.min_p),
            typical_p: self.typical_p.or(defaults.typical_p),
            seed: self.seed.or(defaults.seed),
            num_beams: self.num_beams.or(defaults.num_beams),
            num_return_sequences: self.num_return_sequences.or(defaults.num_return_sequences),
            early_stopping: self.early_stopping.or(defaults.early_stopping),
            length_penalty: self.length_penalty.or(defaults.length_penalty),
            stop_strings: self.stop_strings.as_ref().or(defaults.stop_strings.as_ref()).cloned(),
            renormalize_logits: self.renormalize_logits.or(defaults.renormalize_logits),
        }
    }

    /// The same with one more option, by its name. Errors: option-unsupported where there is none of this name, input-invalid.
    pub fn with(&self, option: &str, value: Value) -> Result<Self> {
        let mut all = serde_json::to_value(self).map_err(|error| Error::input(option, error))?;
        let place =
            all.get_mut(option).ok_or_else(|| Error::OptionUnsupported { option: option.into(), reason: "no such option".into() })?;
        *place = value;
        serde_json::from_value(all).map_err(|error| Error::input(option, error))
    }

    /// Errors: input-invalid, with the option's name.
    pub(super) fn check_ranges(&self) -> Result<()> {
        let wrong = |wrong: bool, option: &str, reason: &str| if wrong { Err(Error::input(option, reason)) } else { Ok(()) };
        let outside = |value: Option<f64>, inside: fn(f64) -> bool| value.is_some_and(|value| !inside(value));
        let share = |value: f64| value > 0.0 && value <= 1.0;
        let penalty = self.repetition_penalty.map(f64::from);
        wrong(outside(penalty, |value| value > 0.0 && value.is_finite()), "repetition_penalty", "has to be above 0")?;
        wrong(outside(self.temperature, |value| value > 0.0 && value.is_finite()), "temperature", "has to be above 0")?;
        wrong(outside(self.top_p, share), "top_p", "has to be above 0 and at most 1")?;
        wrong(outside(self.min_p, |value| (0.0..=1.0).contains(&value)), "min_p", "has to be from 0 to 1")?;
        wrong(outside(self.typical_p, share), "typical_p", "has to be above 0 and at most 1")?;
        wrong(outside(self.length_penalty, f64::is_finite), "length_penalty", "has to be a finite number")?;
        let empty_word = self.bad_words_ids.as_ref().is_some_and(|words| words.iter().any(Vec::is_empty));
        wrong(empty_word, "bad_words_ids", "holds an empty list")?;
        let stops = self.stop_strings.as_ref().map(StopStrings::to_vec);
        let empty_stop = stops.is_some_and(|stops| stops.is_empty() || stops.iter().any(String::is_empty));
        wrong(empty_stop, "stop_strings", "is empty, or holds an empty text")?;
        self.check_counts()
    }

    fn check_counts(&self) -> Result<()> {
        let (beams, answers) = (self.num_beams.unwrap_or(1), self.num_return_sequences.unwrap_or(1));
        for (option, count) in [("num_beams", beams), ("num_return_sequences", answers)] {
            if !(1..=MOST_SEQUENCES).contains(&count) {
                return Err(Error::input(option, format!("{count} is not from 1 to {MOST_SEQUENCES}")));
            }
        }
        let reason = match (beams > 1, self.do_sample == Some(true)) {
            (true, _) if answers > beams => format!("{answers} answers of {beams} beams"),
            (false, false) if answers > 1 => "greedy search has one answer; needs num_beams above 1, or do_sample".into(),
            _ => return Ok(()),
        };
        Err(Error::input("num_return_sequences", reason))
    }

    /// What this caller asks for has to have an effect in `all`, which is this over the model's defaults; HF only warns.
    /// A value that is HF's default asks for nothing. Errors: option-unsupported.
    pub(super) fn refuse_what_has_no_effect(&self, all: &Self) -> Result<()> {
        let sampling = [
            ("temperature", self.temperature.is_some_and(|value| value != 1.0)),
            ("top_k", self.top_k.is_some_and(|value| value != DEFAULT_TOP_K)),
            ("top_p", self.top_p.is_some_and(|value| value != 1.0)),
            ("min_p", self.min_p.is_some_and(|value| value != 0.0)),
            ("typical_p", self.typical_p.is_some_and(|value| value != 1.0)),
            ("seed", self.seed.is_some()),
        ];
        let beams = [
            ("early_stopping", self.early_stopping.is_some_and(|value| value != NO_EARLY_STOPPING)),
            ("length_penalty", self.length_penalty.is_some_and(|value| value != 1.0)),
        ];
        let without = |needed: bool, options: &[(&str, bool)], reason: &str| match options.iter().find(|(_, given)| *given && needed) {
            Some((option, _)) => Err(Error::OptionUnsupported { option: (*option).into(), reason: reason.into() }),
            None => Ok(()),
        };
        without(all.do_sample != Some(true), &sampling, "needs do_sample")?;
        without(all.num_beams.unwrap_or(1) == 1, &beams, "needs num_beams above 1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> GenerationConfig {
        serde_json::from_str(json).unwrap()
    }

    /// The option that is refused, and the code of the error.
    fn refusal(json: &str) -> Option<(String, &'static str)> {
        let config = read(json);
        match config.check_ranges().and_then(|()| config.refuse_what_has_no_effect(&config)).err()? {
            Error::InputInvalid { argument, .. } => Some((argument, "input-invalid")),
            Error::OptionUnsupported { option, .. } => Some((option, "option-unsupported")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_and_forms_are_those_of_hf() {
        assert_eq!(read(r#"{"early_stopping": true}"#).early_stopping, Some(EarlyStopping::When(true)));
        assert_eq!(read(r#"{"early_stopping": "never"}"#).early_stopping, Some(EarlyStopping::Never(Never::Never)));
        assert_eq!(read(r#"{"stop_strings": "a"}"#).stop_strings.unwrap().to_vec(), ["a"]);
        assert_eq!(read(r#"{"stop_strings": ["a", "b"]}"#).stop_strings.unwrap().to_vec(), ["a", "b"]);
        for unknown in [r#"{"temprature": 1}"#, r#"{"sequence_bias": []}"#, r#"{"early_stopping": "maybe"}"#] {
            assert!(serde_json::from_str::<GenerationConfig>(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn options_are_set_by_name() {
        let set = |option: &str, json: &str| read(r#"{"num_beams": 3}"#).with(option, serde_json::from_str(json).unwrap());
        assert_eq!(set("length_penalty", "2"), Ok(read(r#"{"num_beams": 3, "length_penalty": 2}"#)));
        assert_eq!(set("num_beams", "5"), Ok(read(r#"{"num_beams": 5}"#)));
        assert_eq!(set("early_stopping", r#""never""#), Ok(read(r#"{"num_beams": 3, "early_stopping": "never"}"#)));
        assert!(matches!(set("num_beam", "5"), Err(Error::OptionUnsupported { option, .. }) if option == "num_beam"));
        assert!(matches!(set("num_beams", r#""five""#), Err(Error::InputInvalid { argument, .. }) if argument == "num_beams"));
        assert!(matches!(set("num_beams", "-1"), Err(Error::InputInvalid { argument, .. }) if argument == "num_beams"));
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for (json, option) in [
            (r#"{"do_sample": true, "temperature": 0}"#, "temperature"),
            (r#"{"do_sample": true, "top_p": 0}"#, "top_p"),
            (r#"{"do_sample": true, "top_p": 1.5}"#, "top_p"),
            (r#"{"do_sample": true, "min_p": -0.1}"#, "min_p"),
            (r#"{"do_sample": true, "typical_p": 0}"#, "typical_p"),
            (r#"{"repetition_penalty": 0}"#, "repetition_penalty"),
            (r#"{"num_beams": 0}"#, "num_beams"),
            (r#"{"num_beams": 65}"#, "num_beams"),
            (r#"{"num_return_sequences": 2}"#, "num_return_sequences"),
            (r#"{"num_beams": 2, "num_return_sequences": 3}"#, "num_return_sequences"),
            (r#"{"bad_words_ids": [[]]}"#, "bad_words_ids"),
            (r#"{"stop_strings": []}"#, "stop_strings"),
            (r#"{"stop_strings": ["a", ""]}"#, "stop_strings"),
        ] {
            assert_eq!(refusal(json), Some((option.into(), "input-invalid")), "{json}");
        }
        for json in [r#"{"num_beams": 5, "num_return_sequences": 5}"#, r#"{"do_sample": true, "num_return_sequences": 3}"#] {
            assert_eq!(refusal(json), None, "{json}");
        }
    }

    #[test]
    fn options_without_effect_are_refused_by_name() {
        for (json, option) in [
            (r#"{"temperature": 0.7}"#, "temperature"),
            (r#"{"top_k": 0}"#, "top_k"),
            (r#"{"num_beams": 2, "top_p": 0.9}"#, "top_p"),
            (r#"{"min_p": 0.1}"#, "min_p"),
            (r#"{"typical_p": 0.9}"#, "typical_p"),
            (r#"{"do_sample": false, "seed": 1}"#, "seed"),
            (r#"{"early_stopping": "never"}"#, "early_stopping"),
            (r#"{"do_sample": true, "length_penalty": 2}"#, "length_penalty"),
        ] {
            assert_eq!(refusal(json), Some((option.into(), "option-unsupported")), "{json}");
        }
        let defaults = r#"{"temperature": 1, "top_k": 50, "top_p": 1, "typical_p": 1, "early_stopping": false, "length_penalty": 1}"#;
        for json in [defaults, r#"{"do_sample": true, "seed": 1}"#, r#"{"num_beams": 2, "length_penalty": 2}"#] {
            assert_eq!(refusal(json), None, "{json}");
        }
    }

    #[test]
    fn defaults_fill_only_what_is_absent() {
        let both = read(r#"{"num_beams": 2}"#).or(&read(r#"{"num_beams": 5, "min_length": 3}"#));
        assert_eq!(both, read(r#"{"num_beams": 2, "min_length": 3}"#));
        // What the model brings and the caller turned off is no mistake of the caller.
        let model = read(r#"{"num_beams": 5, "length_penalty": 2, "temperature": 0.5}"#);
        let caller = read(r#"{"num_beams": 1}"#);
        assert_eq!(caller.refuse_what_has_no_effect(&caller.or(&model)), Ok(()));
    }
}
