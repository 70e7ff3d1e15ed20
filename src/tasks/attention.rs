//! Which part of a picture each word of a text goes back to: one pass in which the model is made to say, or to read, the text.
//!
//! A word looks at the queries (the language model's attention, or the Q-Former's own where texts are matched), and each query
//! has looked at the patches (the Q-Former's cross-attention). Both are HF's `attentions`, averaged over layers and heads and
//! made to sum to 1 over what is looked at; their product is the map. That is a picture of where numbers flow, not a proof of
//! what the model saw.

use burn_tensor::{Tensor, TensorData};

use crate::error::{Error, Result};
use crate::models::{ImageOptions, LanguageOptions};
use crate::ops::read_floats;
use crate::processor::{Encoded, RgbImage, TextOptions, Tokenizer};
use crate::tasks::{Blip2, ForwardInputs, ImageTextRetrieval, RetrievalImage};

/// What can be painted over a picture for each token of a text.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct AttentionMap {
    /// A piece of the text for each of its ids; joined they are the text as it is decoded. One is empty where bytes are no
    /// character yet: the next one has it.
    pub tokens: Vec<String>,
    /// [tokens, Q], each token's sum to 1.
    pub queries: Vec<f32>,
    /// [Q, rows, columns], each query's sum to 1.
    pub patches: Vec<f32>,
    /// [tokens, rows, columns], each token's sum to 1.
    pub map: Vec<f32>,
    /// Of patches, from the top.
    pub rows: usize,
    /// Of patches, from the left.
    pub columns: usize,
    pub num_queries: usize,
}

impl AttentionMap {
    /// queries [tokens][Q]; seen [Q][1 + P], the class token first.
    fn new(tokens: Vec<String>, queries: Vec<Vec<f32>>, seen: &[Vec<f32>], [rows, columns]: [usize; 2]) -> Self {
        let patches: Vec<Vec<f32>> = seen.iter().map(|row| shares(row.iter().skip(1).copied())).collect();
        let through = |queries: &Vec<f32>| {
            let patch = |place: usize| queries.iter().zip(&patches).map(|(share, patches)| share * patches[place]).sum::<f32>();
            shares((0..rows * columns).map(patch))
        };
        let map = queries.iter().flat_map(through).collect();
        let (num_queries, queries, patches) = (seen.len(), queries.concat(), patches.concat());
        Self { tokens, queries, patches, map, rows, columns, num_queries }
    }
}

impl Blip2 {
    /// Of the text that the model says about a picture, after `prompt` or as a caption. An answer has no spaces around it: where
    /// the model goes on behind the prompt, a word gets the space before it that separates the two.
    /// Errors: input-invalid where the text is empty or does not fit behind the prompt, tokenizer-invalid, kernel, device-lost.
    pub async fn attention(&self, image: &RgbImage, prompt: Option<&str>, text: &str) -> Result<AttentionMap> {
        let forced = self.forced(prompt, text)?;
        let pixels = self.processor.image_processor.preprocess(&[image])?;
        let pixel_values = Tensor::from_data(TensorData::new(pixels.values, pixels.shape), &self.captioner.device.burn);
        let options = ImageOptions { output_qformer_attentions: true, ..ImageOptions::default() };
        let seen = self.captioner.model.image(&pixel_values, options).await?;
        let inputs = ForwardInputs {
            input_ids: &forced.input_ids,
            attention_mask: None,
            decoder_input_ids: forced.decoder_input_ids.as_deref(),
            labels: None,
            options: LanguageOptions { output_attentions: true, ..LanguageOptions::default() },
        };
        let said = self.captioner.forward(&seen.language_projection, inputs).await?.language_model;
        let said = mean(if forced.decoder_input_ids.is_some() { said.cross_attentions } else { said.attentions }).await?;
        let said = said.iter().skip(forced.first).take(forced.tokens.len());
        let queries = said.map(|row| shares(forced.image_places.iter().map(|place| row[*place]))).collect();
        let patch_size = self.captioner.model.config.vision_config.patch_size;
        let grid = [pixels.shape[2] / patch_size, pixels.shape[3] / patch_size];
        Ok(AttentionMap::new(forced.tokens, queries, &mean(seen.qformer.cross_attentions).await?, grid))
    }

    fn forced(&self, prompt: Option<&str>, text: &str) -> Result<Forced> {
        let Self { processor, captioner } = self;
        let language_model = &captioner.model.language_model;
        let beside = language_model.is_encoder_decoder();
        let asked = match prompt {
            None => captioner.image_only_ids()?,
            Some(prompt) => processor.text(&[prompt], true, &TextOptions::default())?.input_ids.concat(),
        };
        let spaced = !beside && prompt.is_some_and(|prompt| needs_space(prompt, text));
        let ids = encode(&processor.tokenizer, &if spaced { format!(" {text}") } else { text.to_string() })?;
        captioner.check_ids("prompt", &asked)?;
        captioner.check_ids("text", &ids)?;
        let image_token = captioner.model.config.image_token_index;
        let image_places = (0..asked.len()).filter(|place| Some(asked[*place]) == image_token).collect();
        // Each token is said by the position before it; behind the last one nothing is asked.
        let fed = &ids[..ids.len() - 1];
        let (input_ids, decoder_input_ids, first) = match beside {
            true => {
                let start = captioner.decoder_start()?;
                (asked, Some(vec![std::iter::once(start).chain(fed.iter().copied()).collect()]), 0)
            }
            false => ([asked.as_slice(), fed].concat(), None, asked.len() - 1),
        };
        if let Some(limit) = language_model.max_position_embeddings().filter(|limit| input_ids.len() > *limit) {
            let reason = format!("with image and prompt {} positions; the model has {limit}", input_ids.len());
            return Err(Error::input("text", reason));
        }
        let mut tokens = pieces(&processor.tokenizer, &ids)?;
        if let Some(piece) = tokens.iter_mut().find(|piece| spaced && !piece.is_empty()) {
            *piece = piece.trim_start().to_string();
        }
        Ok(Forced { tokens, input_ids: vec![input_ids], decoder_input_ids, image_places, first })
    }
}

/// A text as a language model is made to say it.
struct Forced {
    tokens: Vec<String>,
    /// [1, S], image tokens in their places
    input_ids: Vec<Vec<u32>>,
    /// [1, T], for a decoder beside an encoder
    decoder_input_ids: Option<Vec<Vec<u32>>>,
    /// Where `input_ids` hold image tokens.
    image_places: Vec<usize>,
    /// The position that says the first token.
    first: usize,
}

impl ImageTextRetrieval {
    /// Of a text that is matched with an image (ITM). Errors: input-invalid where the text is empty or longer than the model can
    /// read; tokenizer-invalid, kernel, device-lost.
    pub async fn attention(&self, image: &RetrievalImage, text: &str) -> Result<AttentionMap> {
        let states = self.last_hidden_state(image).await?;
        let tokenizer = &self.processor.tokenizer;
        let ids = encode(tokenizer, text)?;
        let Encoded { input_ids, attention_mask } = self.text(&[text])?;
        let config = &self.model.config;
        let queries = config.num_query_tokens;
        // Image tokens before the text are not in the pass, the queries are.
        let read = input_ids.concat().split_off(config.image_token_index.map_or(0, |_| queries));
        // What stands around the text, [CLS] and [SEP], is no part of it.
        let first = read.windows(ids.len()).position(|window| window == ids);
        let first = first.ok_or_else(|| Error::TokenizerInvalid { reason: format!("{ids:?} are not among the ids {read:?}") })?;
        let grid = grid(image.picture(), config.vision_config.patch_size);
        let joint = self.model.itm_attentions(&states, &input_ids, &attention_mask).await?;
        let said = mean(joint.attentions).await?;
        let said = said.iter().skip(queries + first).take(ids.len());
        let of_queries = said.map(|row| shares(row[..queries].iter().copied())).collect();
        Ok(AttentionMap::new(pieces(tokenizer, &ids)?, of_queries, &mean(joint.cross_attentions).await?, grid))
    }
}

/// Rows and columns of the patches of a picture.
fn grid(picture: &RgbImage, patch_size: usize) -> [usize; 2] {
    [picture.height / patch_size, picture.width / patch_size]
}

/// The ids of a text alone. Errors: input-invalid where there are none.
fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let ids = tokenizer.encode(text, false)?;
    if ids.is_empty() { Err(Error::input("text", "is empty")) } else { Ok(ids) }
}

fn needs_space(prompt: &str, text: &str) -> bool {
    prompt.ends_with(|c: char| !c.is_whitespace()) && text.starts_with(char::is_alphanumeric)
}

/// Of one row's attentions [1, heads, n, m], a tensor a layer: [n][m].
async fn mean(attentions: Vec<Tensor<4>>) -> Result<Vec<Vec<f32>>> {
    let columns = attentions.first().map(|weights| weights.dims()[3]);
    let columns = columns.ok_or_else(|| Error::kernel("attention", "no layer has given its weights"))?;
    let values = read_floats(Tensor::cat(attentions, 1).mean_dim(1)).await?;
    Ok(values.chunks_exact(columns).map(<[f32]>::to_vec).collect())
}

/// To a sum of 1; the same for each where all are 0.
fn shares(values: impl Iterator<Item = f32>) -> Vec<f32> {
    let values: Vec<f32> = values.collect();
    let total: f32 = values.iter().sum();
    let even = 1.0 / values.len() as f32;
    values.into_iter().map(|value| if total > 0.0 { value / total } else { even }).collect()
}

/// What each id adds to the text. What it leaves open (bytes that are no character yet, a word that its punctuation may still
/// join) is added by a later one.
fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Result<Vec<String>> {
    let text = tokenizer.decode(ids, true)?;
    let (mut given, mut pieces) = (0, vec![]);
    for count in 1..=ids.len() {
        let certain = common_start(&text, &tokenizer.decode(&ids[..count], true)?);
        let end = if count == ids.len() { text.len() } else { certain.max(given) };
        pieces.push(text[given..end].to_string());
        given = end;
    }
    Ok(pieces)
}

/// How many bytes two texts have in common before they differ.
fn common_start(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_what_words_see_through_queries_without_the_class_token() {
        let queries = vec![vec![1.0, 0.0], vec![0.25, 0.75]];
        let seen = [vec![0.5, 0.25, 0.25, 0.0], vec![0.2, 0.0, 0.4, 0.4]];
        let map = AttentionMap::new(vec!["a".into(), " b".into()], queries, &seen, [1, 3]);
        assert_eq!(map.patches, [0.5, 0.5, 0.0, 0.0, 0.5, 0.5]);
        assert_eq!(map.map, [0.5, 0.5, 0.0, 0.125, 0.5, 0.375]);
        assert_eq!((map.rows, map.columns, map.num_queries), (1, 3, 2));
    }

    #[test]
    fn shares_sum_to_one_also_where_nothing_is_seen() {
        assert_eq!(shares([1.0, 3.0].into_iter()), [0.25, 0.75]);
        assert_eq!(shares([0.0, 0.0].into_iter()), [0.5, 0.5]);
    }

    #[test]
    fn an_answer_is_set_off_from_the_prompt_by_a_space_that_neither_has() {
        assert!(needs_space("Answer:", "a dog"));
        for (prompt, text) in [("Answer: ", "a dog"), ("Answer:", " a dog"), ("a photo of", ", say"), ("", "a dog"), ("Answer:", "")] {
            assert!(!needs_space(prompt, text), "{prompt:?} {text:?}");
        }
    }

    #[test]
    fn what_two_texts_share_ends_between_characters() {
        assert_eq!(common_start("café", "cafè"), 3);
        assert_eq!(common_start("café", "caf\u{fffd}"), 3);
        assert_eq!(common_start("don't", "do n"), 2);
        assert_eq!(common_start("é", "é"), 2);
    }
}
