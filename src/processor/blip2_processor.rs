//! HF `Blip2Processor`: images, text, or both to what the models take.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::processor::image_processor::BlipImageProcessor;
use crate::processor::tokenizer::{Encoded, Padding, PaddingSide, Tokenizer};
/// HF `Blip2Processor`.
///
/// ```
/// use blip2_web::processor::{Blip2Processor, Padding, PaddingSide, TextOptions, decode};
/// use blip2_web::weights::ModelFolder;
///
/// let processor = Blip2Processor::from_files(&ModelFolder::open("demo/model")?.files)?;
/// let picture = decode(&std::fs::read("demo/samples/01-bee.png").expect("a file"))?;
/// let pixel_values = processor.image_processor.preprocess(&[&picture])?;
/// assert_eq!(pixel_values.shape, [1, 3, 128, 128]);
///
/// let options = TextOptions { padding: Padding::Longest, padding_side: Some(PaddingSide::Left), ..TextOptions::default() };
/// let text = processor.text(&["Question: What is this? Answer:", "a bee"], true, &options)?;
/// assert_eq!(text.input_ids[0].len(), text.input_ids[1].len());
/// assert_eq!(text.input_ids[1][0], processor.image_token_id());
/// assert_eq!(processor.batch_decode(&text.input_ids, true)?[1], "a bee");
/// # Ok::<(), blip2_web::Error>(())
/// ```
pub struct Blip2Processor {
    pub image_processor: BlipImageProcessor,
    pub tokenizer: Tokenizer,
    /// How many image tokens go in front of a text; absent in retrieval checkpoints.
    pub num_query_tokens: Option<usize>,
    image_token_id: u32,
}

/// How a batch of texts is made rectangular. `max_length` counts the image tokens.
#[derive(Debug, Clone, Copy, Default)]
pub struct TextOptions {
    pub padding: Padding,
    pub padding_side: Option<PaddingSide>,
    pub truncation: bool,
    pub max_length: Option<usize>,
}

impl Blip2Processor {
    /// From the files of a model folder, by name. Errors: config-invalid, tokenizer-invalid.
    pub fn from_files(files: &BTreeMap<String, Vec<u8>>) -> Result<Self> {
        let file = |name: &str| files.get(name).map(Vec::as_slice);
        let needed = |name: &str| file(name).ok_or_else(|| Error::config(name, "is missing"));
        let mut tokenizer =
            Tokenizer::from_files(needed("tokenizer.json")?, file("tokenizer_config.json"), file("special_tokens_map.json"))?;
        let num_query_tokens = match file("processor_config.json") {
            Some(bytes) => {
                let config: Value = serde_json::from_slice(bytes).map_err(|error| Error::config("processor_config.json", error))?;
                config["num_query_tokens"].as_u64().and_then(|count| usize::try_from(count).ok())
            }
            None => None,
        };
        let image_token_id = tokenizer.add_special_token("<image>")?;
        let image_processor = BlipImageProcessor::from_json(needed("preprocessor_config.json")?)?;
        Ok(Self { image_processor, tokenizer, num_query_tokens, image_token_id })
    }

    pub fn image_token_id(&self) -> u32 {
        self.image_token_id
    }

    /// Texts to ids. With images, `num_query_tokens` image tokens go in front of each row: before the first token of the
    /// text, and before any padding on the left. Errors: input-invalid, tokenizer-invalid.
    pub fn text(&self, texts: &[&str], with_images: bool, options: &TextOptions) -> Result<Encoded> {
        let room = match (options.max_length, self.num_query_tokens) {
            (None, _) => None,
            (Some(max_length), Some(queries)) => {
                let room = max_length.checked_sub(queries);
                Some(room.ok_or_else(|| Error::input("max_length", format!("{max_length} is under the {queries} image tokens")))?)
            }
            (Some(_), None) => return Err(Error::input("max_length", "the model has no num_query_tokens to take off it")),
        };
        let truncate_to = room.filter(|_| options.truncation);
        let mut encoded = self.tokenizer.encode_batch(texts, options.padding, truncate_to, room, options.padding_side)?;
        if let (true, Some(queries)) = (with_images, self.num_query_tokens) {
            for (row, mask) in encoded.input_ids.iter_mut().zip(&mut encoded.attention_mask) {
                row.splice(0..0, std::iter::repeat_n(self.image_token_id, queries));
                mask.splice(0..0, std::iter::repeat_n(1, queries));
            }
        }
        Ok(encoded)
    }

    /// Errors: tokenizer-invalid.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        self.tokenizer.decode(ids, skip_special_tokens)
    }

    /// Errors: tokenizer-invalid.
    pub fn batch_decode(&self, rows: &[Vec<u32>], skip_special_tokens: bool) -> Result<Vec<String>> {
        rows.iter().map(|ids| self.decode(ids, skip_special_tokens)).collect()
    }
}
