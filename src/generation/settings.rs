//! A `GenerationConfig` that met a language model and a prompt: nothing is left open, and nothing is wrong.

use crate::error::{Error, Result};
use crate::generation::config::{DEFAULT_TOP_K, EarlyStopping, GenerationConfig, NO_EARLY_STOPPING, StopStrings};
use crate::models::TokenIds;

/// New tokens where nobody says how many; also HF's default of `max_length`, which means this.
const DEFAULT_NEW_TOKENS: usize = 20;

/// Every option with its value. Lengths count the returned prefix.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Length of the returned prefix: image tokens and prompt (OPT), the start token (T5), or 0 where only embeddings are given.
    pub prefix_length: usize,
    pub max_length: usize,
    /// No end token in front of so many ids.
    pub min_length: usize,
    pub repetition_penalty: f32,
    pub no_repeat_ngram_size: usize,
    pub bad_words_ids: Vec<Vec<u32>>,
    pub suppress_tokens: Vec<u32>,
    pub begin_suppress_tokens: Vec<u32>,
    pub forced_bos_token_id: Option<u32>,
    pub forced_eos_token_ids: Vec<u32>,
    pub eos_token_ids: Vec<u32>,
    pub pad_token_id: u32,
    pub do_sample: bool,
    pub temperature: f64,
    /// 0: no limit.
    pub top_k: usize,
    pub top_p: f64,
    pub min_p: f64,
    pub typical_p: f64,
    pub seed: Option<u64>,
    pub num_beams: usize,
    pub num_return_sequences: usize,
    pub early_stopping: EarlyStopping,
    pub length_penalty: f64,
    pub stop_strings: Vec<String>,
    pub renormalize_logits: bool,
}

/// What the settings are resolved against: the language model, and the prompt's size.
pub struct Limits {
    /// Ids that are returned in front of the new ones.
    pub prefix_length: usize,
    /// Positions that the prompt takes in the decoder's cache.
    pub positions: usize,
    pub vocab_size: usize,
    /// `None`: the model's positions have no end (T5).
    pub max_position_embeddings: Option<usize>,
    pub eos_token_ids: Vec<u32>,
    pub pad_token_id: Option<u32>,
    /// The language model's own options: what old files keep in their `text_config`.
    pub defaults: GenerationConfig,
}

impl Limits {
    /// Positions behind the prompt.
    fn room(&self) -> usize {
        self.max_position_embeddings.map_or(usize::MAX / 2, |positions| positions.saturating_sub(self.positions))
    }

    /// Ids that `max_length` and `min_length` count in front of the new ones: with embeddings alone, the embeddings.
    fn taken(&self) -> usize {
        if self.prefix_length == 0 { self.positions } else { self.prefix_length }
    }
}

impl GenerationConfig {
    /// Checks everything before any work on the device. Errors: option-unsupported, input-invalid.
    pub fn resolve(&self, limits: &Limits) -> Result<Settings> {
        let all = self.or(&limits.defaults);
        all.check_ranges()?;
        self.refuse_what_has_no_effect(&all)?;
        let eos_token_ids = all.eos_token_id.as_ref().map_or_else(|| limits.eos_token_ids.clone(), TokenIds::to_vec);
        let pad_token_id = all.pad_token_id.or(limits.pad_token_id).or_else(|| eos_token_ids.first().copied()).unwrap_or(0);
        let settings = Settings {
            prefix_length: limits.prefix_length,
            max_length: limits.prefix_length + self.new_tokens(limits)?,
            min_length: limits.prefix_length + self.fewest_tokens(limits),
            repetition_penalty: all.repetition_penalty.unwrap_or(1.0),
            no_repeat_ngram_size: all.no_repeat_ngram_size.unwrap_or(0),
            bad_words_ids: all.bad_words_ids.unwrap_or_default(),
            suppress_tokens: all.suppress_tokens.unwrap_or_default(),
            begin_suppress_tokens: all.begin_suppress_tokens.unwrap_or_default(),
            forced_bos_token_id: all.forced_bos_token_id,
            forced_eos_token_ids: all.forced_eos_token_id.as_ref().map(TokenIds::to_vec).unwrap_or_default(),
            eos_token_ids,
            pad_token_id,
            do_sample: all.do_sample.unwrap_or(false),
            temperature: all.temperature.unwrap_or(1.0),
            top_k: all.top_k.unwrap_or(DEFAULT_TOP_K),
            top_p: all.top_p.unwrap_or(1.0),
            min_p: all.min_p.unwrap_or(0.0),
            typical_p: all.typical_p.unwrap_or(1.0),
            seed: all.seed,
            num_beams: all.num_beams.unwrap_or(1),
            num_return_sequences: all.num_return_sequences.unwrap_or(1),
            early_stopping: all.early_stopping.unwrap_or(NO_EARLY_STOPPING),
            length_penalty: all.length_penalty.unwrap_or(1.0),
            stop_strings: all.stop_strings.as_ref().map(StopStrings::to_vec).unwrap_or_default(),
            renormalize_logits: all.renormalize_logits.unwrap_or(false),
        };
        settings.check_ids(limits.vocab_size)?;
        Ok(settings)
    }

    /// New tokens at most. What the caller says, of either name, goes before the model's own.
    fn new_tokens(&self, limits: &Limits) -> Result<usize> {
        let (room, taken, defaults) = (limits.room(), limits.taken(), &limits.defaults);
        let behind = |max_length: usize| match max_length.checked_sub(taken) {
            Some(new) if new > 0 => Ok(new),
            _ => Err(Error::input("max_length", format!("{max_length} leaves no room behind a prompt of {taken} tokens"))),
        };
        let new_tokens = match (self.max_new_tokens, self.max_length, defaults.max_new_tokens, defaults.max_length) {
            (Some(new), ..) => new,
            (None, Some(max_length), ..) => behind(max_length)?,
            // What the caller did not ask for is cut to what there is.
            (None, None, Some(new), _) => new.min(room),
            (None, None, None, Some(max_length)) if max_length != DEFAULT_NEW_TOKENS => behind(max_length)?.min(room),
            _ => DEFAULT_NEW_TOKENS.min(room),
        };
        // The last token is chosen and never fed back, so it needs no position.
        if new_tokens == 0 || new_tokens > room + 1 {
            let most = limits.max_position_embeddings.map_or_else(|| "no such limit".into(), |most| most.to_string());
            let reason = format!("{new_tokens} new tokens behind {} positions; the model has {most}", limits.positions);
            return Err(Error::input("max_new_tokens", reason));
        }
        Ok(new_tokens)
    }

    /// New tokens at least.
    fn fewest_tokens(&self, limits: &Limits) -> usize {
        let behind = |min_length: Option<usize>| min_length.map(|length| length.saturating_sub(limits.taken()));
        let own = self.min_new_tokens.or_else(|| behind(self.min_length));
        own.or(limits.defaults.min_new_tokens).or_else(|| behind(limits.defaults.min_length)).unwrap_or(0)
    }
}

impl Settings {
    /// New tokens at most, in each row.
    pub fn new_tokens(&self) -> usize {
        self.max_length - self.prefix_length
    }

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
pub(super) mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            prefix_length: 9,
            positions: 9,
            vocab_size: 100,
            max_position_embeddings: Some(32),
            eos_token_ids: vec![5],
            pad_token_id: Some(1),
            defaults: GenerationConfig::default(),
        }
    }

    /// Settings for a vocabulary of 100 and no prefix, as `json` asks.
    pub fn settings(json: &str) -> Settings {
        let config: GenerationConfig = serde_json::from_str(json).unwrap();
        config.resolve(&Limits { prefix_length: 0, positions: 0, ..limits() }).unwrap()
    }

    fn max_length(config: GenerationConfig, limits: &Limits) -> Result<usize> {
        config.resolve(limits).map(|settings| settings.max_length)
    }

    #[test]
    fn lengths_follow_hf() {
        let max = |config: GenerationConfig| max_length(config, &limits());
        assert_eq!(max(GenerationConfig::default()), Ok(29));
        assert_eq!(max(GenerationConfig { max_new_tokens: Some(3), max_length: Some(30), ..Default::default() }), Ok(12));
        assert_eq!(max(GenerationConfig { max_length: Some(18), ..Default::default() }), Ok(18));
        assert_eq!(max(GenerationConfig { max_length: Some(9), ..Default::default() }).unwrap_err().code(), "input-invalid");
        assert_eq!(max(GenerationConfig { max_new_tokens: Some(25), ..Default::default() }).unwrap_err().code(), "input-invalid");
        assert_eq!(max(GenerationConfig { max_new_tokens: Some(0), ..Default::default() }).unwrap_err().code(), "input-invalid");
    }

    #[test]
    fn positions_without_an_end_have_room_for_all() {
        let endless = Limits { prefix_length: 1, positions: 1, max_position_embeddings: None, ..limits() };
        assert_eq!(max_length(GenerationConfig::default(), &endless), Ok(21));
        assert_eq!(max_length(GenerationConfig { max_new_tokens: Some(5000), ..Default::default() }, &endless), Ok(5001));
    }

    #[test]
    fn the_caller_goes_before_the_model_under_either_name() {
        let with = |defaults: GenerationConfig| Limits { defaults, ..limits() };
        let new = |count| GenerationConfig { max_new_tokens: Some(count), ..Default::default() };
        let length = |count| GenerationConfig { max_length: Some(count), ..Default::default() };
        assert_eq!(max_length(GenerationConfig::default(), &with(length(12))), Ok(12));
        assert_eq!(max_length(new(5), &with(length(12))), Ok(14));
        assert_eq!(max_length(length(12), &with(new(5))), Ok(12));
        assert_eq!(max_length(GenerationConfig::default(), &with(length(20))), Ok(29), "HF's own default stands for 20 new ones");
        assert_eq!(max_length(GenerationConfig::default(), &with(length(500))), Ok(32));
        let fewest = |config: GenerationConfig, defaults| config.resolve(&with(defaults)).unwrap().min_length;
        let least = |json: &str| serde_json::from_str::<GenerationConfig>(json).unwrap();
        assert_eq!(fewest(least(r#"{"min_new_tokens": 2, "min_length": 20}"#), least("{}")), 11);
        assert_eq!(fewest(least(r#"{"min_length": 12}"#), least(r#"{"min_new_tokens": 1}"#)), 12);
        assert_eq!(fewest(least("{}"), least(r#"{"min_length": 3}"#)), 9);
    }

    #[test]
    fn with_embeddings_alone_lengths_count_them() {
        let embeds = Limits { prefix_length: 0, ..limits() };
        let config = GenerationConfig { max_length: Some(12), min_length: Some(11), ..Default::default() };
        let settings = config.resolve(&embeds).unwrap();
        assert_eq!((settings.max_length, settings.min_length), (3, 2));
    }

    #[test]
    fn defaults_are_those_of_hf() {
        let plain = settings("{}");
        assert_eq!((plain.do_sample, plain.num_beams, plain.num_return_sequences), (false, 1, 1));
        assert_eq!((plain.temperature, plain.top_k, plain.top_p, plain.typical_p), (1.0, 50, 1.0, 1.0));
        assert_eq!((plain.early_stopping, plain.length_penalty), (EarlyStopping::When(false), 1.0));
    }

    #[test]
    fn what_has_no_effect_is_refused_by_name() {
        let refused = |json: &str| serde_json::from_str::<GenerationConfig>(json).unwrap().resolve(&limits()).unwrap_err();
        assert!(matches!(refused(r#"{"temperature": 0.5}"#), Error::OptionUnsupported { option, .. } if option == "temperature"));
        assert!(matches!(refused(r#"{"length_penalty": 2}"#), Error::OptionUnsupported { option, .. } if option == "length_penalty"));
        assert!(matches!(refused(r#"{"num_return_sequences": 2}"#), Error::InputInvalid { .. }));
    }

    #[test]
    fn ids_outside_the_vocabulary_are_refused() {
        let config = GenerationConfig { suppress_tokens: Some(vec![100]), ..Default::default() };
        assert_eq!(config.resolve(&limits()).unwrap_err().code(), "input-invalid");
    }
}
