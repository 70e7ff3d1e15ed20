//! Ids in, one at a time; text out that is never taken back.

use crate::error::Result;
use crate::processor::tokenizer::Tokenizer;

/// All that it has given out, joined, is the decoding of all its ids without special tokens.
#[derive(Default)]
pub struct TextStreamer {
    ids: Vec<u32>,
    given: String,
}

impl TextStreamer {
    /// The text that is certain now and was not before. Errors: tokenizer-invalid.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String> {
        self.ids.push(id);
        let text = tokenizer.decode(&self.ids, true)?;
        let certain = certain_part(&text, tokenizer.cleans);
        Ok(self.give(certain))
    }

    /// The rest, when no more ids come. Errors: tokenizer-invalid.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        let text = tokenizer.decode(&self.ids, true)?;
        Ok(self.give(&text))
    }

    fn give(&mut self, text: &str) -> String {
        let piece = text.strip_prefix(self.given.as_str()).unwrap_or_default().to_string();
        self.given.push_str(&piece);
        piece
    }
}

/// Without what the next id may still change: bytes that are no character yet, and, where words are joined to their
/// punctuation, the last word with the spaces and apostrophes before it.
fn certain_part(text: &str, cleans: bool) -> &str {
    let whole = text.trim_end_matches('\u{fffd}');
    if !cleans {
        return whole;
    }
    let joins = |c: char| c.is_whitespace() || c == '\'';
    whole.rfind(joins).map_or("", |at| whole[..at].trim_end_matches(joins))
}
