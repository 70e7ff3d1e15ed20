//! What a caller may ask of `generate`, under HF's names. An option that is not here is an error, never silence.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::models::TokenIds;

/// HF `GenerationConfig`: what is absent takes the language model's own value, or HF's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerationConfig {
    /// Counts the prompt and the image tokens.
    pub max_length: Option<usize>,
    /// Counts new tokens only, and wins over `max_length`.
    pub max_new_tokens: Option<usize>,
    pub min_length: Option<usize>,
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
    /// Only 1: greedy.
    pub num_beams: Option<usize>,
    pub num_return_sequences: Option<usize>,
    pub do_sample: Option<bool>,
}

/// New tokens where nobody says how many.
const DEFAULT_NEW_TOKENS: usize = 20;

/// A `GenerationConfig` met with a language model and a prompt: nothing is left open.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Length of the returned prefix: image tokens and prompt, or 0 where only embeddings are given.
    pub prefix_length: usize,
    pub max_length: usize,
    pub min_length: usize,
    pub min_new_tokens: usize,
    pub repetition_penalty: f32,
    pub no_repeat_ngram_size: usize,
    pub bad_words_ids: Vec<Vec<u32>>,
    pub suppress_tokens: Vec<u32>,
    pub begin_suppress_tokens: Vec<u32>,
    pub forced_bos_token_id: Option<u32>,
    pub forced_eos_token_ids: Vec<u32>,
    pub eos_token_ids: Vec<u32>,
    pub pad_token_id: u32,
}

/// What the settings are resolved against.
pub struct Prompt {
    /// Ids that are returned in front of the new ones.
    pub prefix_length: usize,
    /// Positions that the prompt takes in the cache.
    pub positions: usize,
    pub vocab_size: usize,
    pub max_position_embeddings: usize,
    pub eos_token_ids: Vec<u32>,
    pub pad_token_id: Option<u32>,
}

impl GenerationConfig {
    /// Checks everything before any work on the device. Errors: option-unsupported, input-invalid.
    pub fn resolve(&self, prompt: &Prompt) -> Result<Settings> {
        self.refuse_what_is_not_implemented()?;
        let eos_token_ids = self.eos_token_id.as_ref().map_or_else(|| prompt.eos_token_ids.clone(), TokenIds::to_vec);
        let pad_token_id = self.pad_token_id.or(prompt.pad_token_id).or_else(|| eos_token_ids.first().copied()).unwrap_or(0);
        let prefix = prompt.prefix_length;
        let new_tokens_of = |max_length: usize| {
            // With embeddings alone HF takes the embeddings' length off max_length.
            let taken = if prefix == 0 { prompt.positions } else { prefix };
            match max_length.checked_sub(taken) {
                Some(new) if new > 0 => Ok(new),
                _ => Err(Error::input("max_length", format!("{max_length} leaves no room behind a prompt of {taken} tokens"))),
            }
        };
        let room = prompt.max_position_embeddings.saturating_sub(prompt.positions);
        let new_tokens = match (self.max_new_tokens, self.max_length) {
            (Some(new), _) => new,
            (None, Some(max_length)) => new_tokens_of(max_length)?,
            (None, None) => DEFAULT_NEW_TOKENS.min(room),
        };
        // The last token is chosen and never fed back, so it needs no position.
        if new_tokens == 0 || new_tokens > room + 1 {
            let reason =
                format!("{new_tokens} new tokens behind {} positions; the model has {}", prompt.positions, prompt.max_position_embeddings);
            return Err(Error::input("max_new_tokens", reason));
        }
        let settings = Settings {
            prefix_length: prefix,
            max_length: prefix + new_tokens,
            min_length: self.min_length.unwrap_or(0),
            min_new_tokens: self.min_new_tokens.unwrap_or(0),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            no_repeat_ngram_size: self.no_repeat_ngram_size.unwrap_or(0),
            bad_words_ids: self.bad_words_ids.clone().unwrap_or_default(),
            suppress_tokens: self.suppress_tokens.clone().unwrap_or_default(),
            begin_suppress_tokens: self.begin_suppress_tokens.clone().unwrap_or_default(),
            forced_bos_token_id: self.forced_bos_token_id,
            forced_eos_token_ids: self.forced_eos_token_id.as_ref().map(TokenIds::to_vec).unwrap_or_default(),
            eos_token_ids,
            pad_token_id,
        };
        settings.check_ids(prompt.vocab_size)?;
        Ok(settings)
    }

    fn refuse_what_is_not_implemented(&self) -> Result<()> {
        let refuse = |option: &str, reason: &str| Err(Error::OptionUnsupported { option: option.into(), reason: reason.into() });
        if self.num_beams.is_some_and(|beams| beams != 1) {
            return refuse("num_beams", "only greedy search is implemented so far");
        }
        if self.num_return_sequences.is_some_and(|count| count != 1) {
            return refuse("num_return_sequences", "greedy search has one answer");
        }
        if self.do_sample == Some(true) {
            return refuse("do_sample", "only greedy search is implemented so far");
        }
        if self.repetition_penalty.is_some_and(|penalty| !(penalty > 0.0 && penalty.is_finite())) {
            return Err(Error::input("repetition_penalty", "has to be above 0"));
        }
        if self.bad_words_ids.as_ref().is_some_and(|words| words.iter().any(Vec::is_empty)) {
            return Err(Error::input("bad_words_ids", "holds an empty list"));
        }
        Ok(())
    }
}

impl Settings {
    fn check_ids(&self, vocab_size: usize) -> Result<()> {
        let lists = [
            ("bad_words_ids", self.bad_words_ids.concat()),
            ("suppress_tokens", self.suppress_tokens.clone()),
            ("begin_suppress_tokens", self.begin_suppress_tokens.clone()),
            ("forced_bos_token_id", self.forced_bos_token_id.into_iter().collect()),
            ("forced_eos_token_id", self.forced_eos_token_ids.clone()),
            ("pad_token_id", vec![self.pad_token_id]),
        ];
        for (name, ids) in lists {
            if let Some(id) = ids.iter().find(|id| **id as usize >= vocab_size) {
                return Err(Error::input(name, format!("{id} is not in a vocabulary of {vocab_size}")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt() -> Prompt {
        Prompt {
            prefix_length: 9,
            positions: 9,
            vocab_size: 100,
            max_position_embeddings: 32,
            eos_token_ids: vec![5],
            pad_token_id: Some(1),
        }
    }

    #[test]
    fn lengths_follow_hf() {
        let max = |config: GenerationConfig| config.resolve(&prompt()).map(|settings| settings.max_length);
        assert_eq!(max(GenerationConfig::default()), Ok(29));
        assert_eq!(max(GenerationConfig { max_new_tokens: Some(3), max_length: Some(30), ..Default::default() }), Ok(12));
        assert_eq!(max(GenerationConfig { max_length: Some(18), ..Default::default() }), Ok(18));
        assert_eq!(max(GenerationConfig { max_length: Some(9), ..Default::default() }).unwrap_err().code(), "input-invalid");
        assert_eq!(max(GenerationConfig { max_new_tokens: Some(25), ..Default::default() }).unwrap_err().code(), "input-invalid");
    }

    #[test]
    fn what_is_not_implemented_is_refused_by_name() {
        let refused = |json: &str| serde_json::from_str::<GenerationConfig>(json).unwrap().resolve(&prompt()).unwrap_err();
        assert!(matches!(refused(r#"{"num_beams": 5}"#), Error::OptionUnsupported { option, .. } if option == "num_beams"));
        assert!(matches!(refused(r#"{"do_sample": true}"#), Error::OptionUnsupported { option, .. } if option == "do_sample"));
        assert!(serde_json::from_str::<GenerationConfig>(r#"{"temprature": 1}"#).is_err());
    }

    #[test]
    fn ids_outside_the_vocabulary_are_refused() {
        let config = GenerationConfig { suppress_tokens: Some(vec![100]), ..Default::default() };
        assert_eq!(config.resolve(&prompt()).unwrap_err().code(), "input-invalid");
    }
}
