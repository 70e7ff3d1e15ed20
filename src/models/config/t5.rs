//! HF `T5Config`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::models::config::{FILE, TokenIds, bounded, layers, text};
use crate::ops::Activation;

/// HF `T5Config`, with the fields of generation that old files keep in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct T5Config {
    pub vocab_size: usize,
    #[serde(alias = "hidden_size")]
    pub d_model: usize,
    /// Width of a head; all heads together need not be as wide as the model.
    #[serde(alias = "head_dim")]
    pub d_kv: usize,
    pub d_ff: usize,
    /// Of the encoder.
    #[serde(alias = "num_hidden_layers")]
    pub num_layers: usize,
    /// `num_layers` where absent.
    pub num_decoder_layers: Option<usize>,
    #[serde(alias = "num_attention_heads")]
    pub num_heads: usize,
    pub relative_attention_num_buckets: usize,
    /// In positions.
    pub relative_attention_max_distance: usize,
    /// Training only.
    pub dropout_rate: f64,
    /// Of another class's head.
    pub classifier_dropout: f64,
    pub layer_norm_epsilon: f64,
    /// Training only.
    pub initializer_factor: f64,
    pub feed_forward_proj: FeedForwardProj,
    /// Where a file has it, it wins over what `feed_forward_proj` says.
    pub dense_act_fn: Option<Activation>,
    /// Where a file has it, it wins over what `feed_forward_proj` says.
    pub is_gated_act: Option<bool>,
    pub is_encoder_decoder: bool,
    /// Always used, whatever the file says.
    pub use_cache: bool,
    /// Whether the head is the embedding; its input is then scaled by d_model^-½.
    pub tie_word_embeddings: bool,
    pub pad_token_id: Option<u32>,
    pub bos_token_id: Option<u32>,
    pub eos_token_id: Option<TokenIds>,
    pub decoder_start_token_id: Option<u32>,
    /// See `TextConfig::generation_fields`.
    #[serde(flatten, deserialize_with = "text::legacy_generation")]
    pub legacy_generation: Map<String, Value>,
}

impl Default for T5Config {
    fn default() -> Self {
        Self {
            vocab_size: 32128,
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            num_layers: 6,
            num_decoder_layers: None,
            num_heads: 8,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            dropout_rate: 0.1,
            classifier_dropout: 0.0,
            layer_norm_epsilon: 1e-6,
            initializer_factor: 1.0,
            feed_forward_proj: FeedForwardProj::default(),
            dense_act_fn: None,
            is_gated_act: None,
            is_encoder_decoder: true,
            use_cache: true,
            tie_word_embeddings: true,
            pad_token_id: Some(0),
            bos_token_id: None,
            eos_token_id: Some(TokenIds::One(1)),
            decoder_start_token_id: None,
            legacy_generation: Map::new(),
        }
    }
}

impl T5Config {
    pub const MODEL_TYPE: &'static str = "t5";

    /// The activation of the feed-forward layers: `dense_act_fn`, else that of `feed_forward_proj`.
    pub fn dense_act(&self) -> Activation {
        self.dense_act_fn.unwrap_or(self.feed_forward_proj.dense_act_fn)
    }

    /// Whether the feed-forward layers are wo(act(wi_0·x)·wi_1·x) rather than wo(act(wi·x)).
    pub fn is_gated(&self) -> bool {
        self.is_gated_act.unwrap_or(self.feed_forward_proj.is_gated_act)
    }

    pub fn decoder_layers(&self) -> usize {
        self.num_decoder_layers.unwrap_or(self.num_layers)
    }

    /// Width of all heads together.
    pub fn inner_dim(&self) -> usize {
        self.num_heads.saturating_mul(self.d_kv)
    }

    /// Derived fields filled in, as HF's constructor does.
    pub(super) fn resolved(self) -> Self {
        Self {
            num_decoder_layers: Some(self.decoder_layers()),
            dense_act_fn: Some(self.dense_act()),
            is_gated_act: Some(self.is_gated()),
            ..self
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        const NAME: &str = "text_config";
        bounded(NAME, &[self.vocab_size, self.d_model, self.d_kv, self.d_ff, self.num_heads, self.inner_dim()])?;
        layers(NAME, self.num_layers)?;
        layers(NAME, self.decoder_layers())?;
        let (buckets, distance) = (self.relative_attention_num_buckets, self.relative_attention_max_distance);
        bounded(NAME, &[buckets, distance])?;
        // The encoder halves the buckets for the two directions, and half of those are exact: at least one must be.
        if buckets < 4 {
            return Err(Error::config(FILE, format!("{NAME}: relative_attention_num_buckets {buckets} is less than 4")));
        }
        // The decoder's first half is exact; the rest grows with the logarithm of max_distance over that half.
        if distance <= buckets / 2 {
            let reason = format!("relative_attention_max_distance {distance} leaves no room for {buckets} buckets");
            return Err(Error::config(FILE, format!("{NAME}: {reason}")));
        }
        if !self.is_encoder_decoder {
            return Err(Error::config(FILE, format!("{NAME}: a T5 that is no encoder-decoder")));
        }
        Ok(())
    }
}

/// HF `feed_forward_proj`: "ACTIVATION" or "gated-ACTIVATION", where "gated-gelu" means `gelu_new`, as it did before `gelu_new`
/// had a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FeedForwardProj {
    text: String,
    dense_act_fn: Activation,
    is_gated_act: bool,
}

impl Default for FeedForwardProj {
    fn default() -> Self {
        Self { text: "relu".into(), dense_act_fn: Activation::Relu, is_gated_act: false }
    }
}

impl TryFrom<String> for FeedForwardProj {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let gated = text.strip_prefix("gated-");
        let dense_act_fn = match gated {
            Some("gelu") => Activation::GeluNew,
            _ => serde_json::from_value(gated.unwrap_or(&text).into())
                .map_err(|_| format!("feed_forward_proj: {text:?} is neither an activation nor \"gated-\" and one"))?,
        };
        Ok(Self { dense_act_fn, is_gated_act: gated.is_some(), text })
    }
}

impl From<FeedForwardProj> for String {
    fn from(proj: FeedForwardProj) -> Self {
        proj.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: serde_json::Value) -> T5Config {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_explicit_activation_wins_over_the_derived_one() {
        for (json, activation, gated) in [
            (serde_json::json!({}), Activation::Relu, false),
            (serde_json::json!({"feed_forward_proj": "silu"}), Activation::Silu, false),
            (serde_json::json!({"feed_forward_proj": "gelu"}), Activation::Gelu, false),
            (serde_json::json!({"feed_forward_proj": "gated-silu"}), Activation::Silu, true),
            (serde_json::json!({"feed_forward_proj": "gated-gelu"}), Activation::GeluNew, true),
            (serde_json::json!({"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu"}), Activation::Gelu, true),
            (serde_json::json!({"feed_forward_proj": "gated-gelu", "is_gated_act": false}), Activation::GeluNew, false),
        ] {
            let config = config(json.clone());
            assert_eq!((config.dense_act(), config.is_gated()), (activation, gated), "{json}");
            let resolved = config.resolved();
            assert_eq!((resolved.dense_act(), resolved.is_gated()), (activation, gated), "{json}, resolved");
        }
    }

    #[test]
    fn what_feed_forward_proj_cannot_be_is_refused() {
        for name in ["gated-", "gated-gated-gelu", "dense-relu", "hardtanh", ""] {
            let error = serde_json::from_value::<T5Config>(serde_json::json!({"feed_forward_proj": name})).unwrap_err();
            assert!(error.to_string().contains("feed_forward_proj"), "{error}");
        }
    }

    #[test]
    fn a_field_has_the_names_that_other_models_give_it() {
        let json = serde_json::json!({"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 5, "head_dim": 7});
        let config = config(json);
        assert_eq!((config.d_model, config.num_heads, config.num_layers, config.d_kv), (24, 3, 5, 7));
        assert_eq!((config.decoder_layers(), config.inner_dim()), (5, 21));
    }
}
