//! Text ↔ ids: HF's fast tokenizers, from the files that `save_pretrained` writes.

use serde_json::Value;
use tokenizers::tokenizer::{AddedToken, PostProcessor, TruncationDirection};

use super::well_formed::WellFormed;
use crate::error::{Error, Result};

/// Ids of a batch. With padding, rows of one length; 0 in the mask is padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub input_ids: Vec<Vec<u32>>,
    pub attention_mask: Vec<Vec<u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Padding {
    #[default]
    None,
    /// To the longest row.
    Longest,
    /// To `max_length`.
    MaxLength,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaddingSide {
    Left,
    Right,
}

pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// tokenizer_config.json, over special_tokens_map.json.
    config: Value,
    special_tokens: Value,
    /// The end of a text may still change when more ids come: clean-up joins words and punctuation.
    pub(crate) cleans: bool,
}

fn invalid(file: &str, reason: impl ToString) -> Error {
    Error::config(file, reason)
}

impl Tokenizer {
    /// tokenizer.json, and tokenizer_config.json and special_tokens_map.json where they exist.
    /// Errors: tokenizer-invalid, config-invalid.
    pub fn from_files(tokenizer: &[u8], config: Option<&[u8]>, special_tokens: Option<&[u8]>) -> Result<Self> {
        // The tokenizers crate panics on some texts that are no JSON.
        let broken = |error: &dyn std::fmt::Display| Error::TokenizerInvalid { reason: error.to_string() };
        serde_json::from_slice::<WellFormed>(tokenizer).map_err(|error| broken(&error))?;
        let mut inner = tokenizers::Tokenizer::from_bytes(tokenizer).map_err(|error| broken(&error))?;
        // HF decides on both in each call; what the file says is left over from somebody's last one.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| broken(&error))?;
        let json = |file: &str, bytes: Option<&[u8]>| match bytes {
            Some(bytes) => serde_json::from_slice::<Value>(bytes).map_err(|error| invalid(file, error)),
            None => Ok(Value::Null),
        };
        let config = json("tokenizer_config.json", config)?;
        let special_tokens = json("special_tokens_map.json", special_tokens)?;
        let cleans = config["clean_up_tokenization_spaces"].as_bool().unwrap_or(false)
            || matches!(inner.get_decoder(), Some(tokenizers::DecoderWrapper::WordPiece(_)));
        Ok(Self { inner, config, special_tokens, cleans })
    }

    /// The content of a special token: `pad_token`, `bos_token`, …
    fn special_token(&self, name: &str) -> Option<&str> {
        [&self.config, &self.special_tokens].into_iter().find_map(|file| {
            let token = &file[name];
            token.as_str().or_else(|| token["content"].as_str())
        })
    }

    /// The id of `pad_token`, `bos_token`, `eos_token`, `unk_token`, `cls_token` or `sep_token`.
    pub fn special_token_id(&self, name: &str) -> Option<u32> {
        self.special_token(name).and_then(|token| self.token_to_id(token))
    }

    /// Adds a special token that text is matched against as it stands, if there is none of this name. → its id.
    pub fn add_special_token(&mut self, token: &str) -> Result<u32> {
        if self.token_to_id(token).is_none() {
            self.inner.add_special_tokens(&[AddedToken::from(token, true).normalized(false)]);
        }
        self.token_to_id(token).ok_or_else(|| Error::TokenizerInvalid { reason: format!("{token} could not be added") })
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Tokens, added ones included.
    pub fn len(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn padding_side(&self) -> PaddingSide {
        match self.config["padding_side"].as_str() {
            Some("left") => PaddingSide::Left,
            _ => PaddingSide::Right,
        }
    }

    /// Errors: tokenizer-invalid.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding =
            self.inner.encode(text, add_special_tokens).map_err(|error| Error::TokenizerInvalid { reason: error.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// At most `max_length` ids, special ones included.
    fn encode_truncated(&self, text: &str, max_length: usize) -> Result<Vec<u32>> {
        let error = |error: tokenizers::Error| Error::TokenizerInvalid { reason: error.to_string() };
        let mut encoding = self.inner.encode(text, false).map_err(error)?;
        let processor = self.inner.get_post_processor();
        let special = processor.map_or(0, |processor| processor.added_tokens(false));
        let room = max_length.checked_sub(special).ok_or_else(|| Error::input("max_length", "leaves no room for the special tokens"))?;
        let direction = match self.config["truncation_side"].as_str() {
            Some("left") => TruncationDirection::Left,
            _ => TruncationDirection::Right,
        };
        encoding.truncate(room, 0, direction);
        let encoding = match processor {
            Some(processor) => processor.process(encoding, None, true).map_err(error)?,
            None => encoding,
        };
        Ok(encoding.get_ids().to_vec())
    }

    /// Special tokens, truncation and padding as HF's `__call__`. Errors: input-invalid, tokenizer-invalid.
    pub fn encode_batch(
        &self,
        texts: &[&str],
        padding: Padding,
        truncate_to: Option<usize>,
        pad_to: Option<usize>,
        side: Option<PaddingSide>,
    ) -> Result<Encoded> {
        let mut input_ids = texts
            .iter()
            .map(|text| match truncate_to {
                Some(max_length) => self.encode_truncated(text, max_length),
                None => self.encode(text, true),
            })
            .collect::<Result<Vec<_>>>()?;
        let mut attention_mask: Vec<Vec<u32>> = input_ids.iter().map(|row| vec![1; row.len()]).collect();
        let length = match padding {
            Padding::None => return Ok(Encoded { input_ids, attention_mask }),
            Padding::Longest => input_ids.iter().map(Vec::len).max().unwrap_or(0),
            Padding::MaxLength => pad_to.ok_or_else(|| Error::input("padding", "max_length needs a max_length"))?,
        };
        let pad = self.special_token_id("pad_token").ok_or_else(|| Error::input("padding", "the tokenizer has no pad_token"))?;
        let side = side.unwrap_or_else(|| self.padding_side());
        for (row, mask) in input_ids.iter_mut().zip(&mut attention_mask) {
            let missing = length.saturating_sub(row.len());
            let at = if side == PaddingSide::Left { 0 } else { row.len() };
            row.splice(at..at, std::iter::repeat_n(pad, missing));
            mask.splice(at..at, std::iter::repeat_n(0, missing));
        }
        Ok(Encoded { input_ids, attention_mask })
    }

    /// Ids outside the vocabulary are left out; bytes that are no UTF-8 become U+FFFD. Errors: tokenizer-invalid.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        let text = self.inner.decode(ids, skip_special_tokens).map_err(|error| Error::TokenizerInvalid { reason: error.to_string() })?;
        Ok(if self.config["clean_up_tokenization_spaces"].as_bool().unwrap_or(false) { clean_up(text) } else { text })
    }
}

/// HF `clean_up_tokenization`.
fn clean_up(mut text: String) -> String {
    for (wide, tight) in [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ] {
        text = text.replace(wide, tight);
    }
    text
}
