//! Which text is of which image: pictures are encoded once, then asked by any number of texts.

use std::collections::BTreeMap;
use std::rc::Rc;

use burn_tensor::{Tensor, TensorData};

use crate::device::Device;
use crate::error::{Error, Result};
#[cfg(not(target_family = "wasm"))]
use crate::models::Class;
use crate::models::{Blip2Config, Blip2ForImageTextRetrieval, Blip2VisionModel, VisionOptions, config_json};
use crate::ops::read_floats;
use crate::pace;
use crate::processor::{Blip2Processor, Encoded, Padding, PaddingSide, RgbImage, TextOptions};
use crate::tasks::hidden_states::{Budget, HiddenStates};
use crate::weights::Weights;

/// Texts that go through the Q-Former together: few enough that what is between its layers stays small.
const TEXTS_AT_ONCE: usize = 32;
/// Pairs of image and text that do; the image of each is beside it.
const PAIRS_AT_ONCE: usize = 8;

/// Pictures by how well they fit a text, and texts by how well they fit a picture: HF `Blip2ForImageTextRetrieval` with its processor.
///
/// ```
/// use blip2_web::device::Device;
/// use blip2_web::processor::load_image;
/// use blip2_web::tasks::ImageTextRetrieval;
///
/// let model = ImageTextRetrieval::from_pretrained(&Device::cpu(), "demo/retrieval")?;
/// let mut images = vec![];
/// for name in ["01-bee.png", "02-bicycle.png", "04-moon.png"] {
///     let picture = load_image(&std::fs::read(format!("demo/samples/{name}")).expect("a file"))?;
///     images.push(pollster::block_on(model.encode(&picture))?);
/// }
/// // All by cosine (ITC), the best one looked at again together with the text (ITM).
/// let ranked = pollster::block_on(model.rank(&images.iter().collect::<Vec<_>>(), "a bicycle", 1))?;
/// assert_eq!(ranked[0].index, 1);
/// assert!(ranked[0].itc > ranked[1].itc && ranked[0].itm.is_some() && ranked[1].itm.is_none());
/// # Ok::<(), blip2_web::Error>(())
/// ```
pub struct ImageTextRetrieval {
    pub device: Device,
    pub processor: Blip2Processor,
    pub model: Blip2ForImageTextRetrieval,
    budget: Budget,
}

/// What a picture is to the model, kept on the device.
#[derive(Debug, Clone)]
pub struct RetrievalImage {
    /// [1, Q, D]: all that ITC needs.
    image_embeds: Tensor<3>,
    /// [1, 1 + P, Hv]: what ITM needs besides, and by far the larger part. Kept within the model's budget.
    last_hidden_state: Rc<HiddenStates>,
    /// The picture at the model's size, to be encoded again when its hidden states had to go.
    picture: Rc<RgbImage>,
    pub encode_ms: f64,
}

impl RetrievalImage {
    /// [1, Q, D], each of length 1.
    pub fn image_embeds(&self) -> &Tensor<3> {
        &self.image_embeds
    }

    /// The picture at the model's size.
    pub fn picture(&self) -> &RgbImage {
        &self.picture
    }

    /// Whether ITM can go on without encoding the picture again.
    pub fn is_whole(&self) -> bool {
        self.last_hidden_state.get().is_some()
    }
}

/// An image's place in an order by how well it fits a text.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Ranked {
    /// Its place in the list that was given.
    pub index: usize,
    /// Cosine, −1 to 1.
    pub itc: f32,
    /// Probability that the text is of the image, of those that were looked at again.
    pub itm: Option<f32>,
}

impl ImageTextRetrieval {
    /// From a model folder on disk. Errors: file, size-mismatch, checksum-mismatch, and those of `load`.
    #[cfg(not(target_family = "wasm"))]
    pub fn from_pretrained(device: &Device, folder: impl AsRef<std::path::Path>) -> Result<Self> {
        let (files, weights) = super::open(device, folder, Class::Blip2ForImageTextRetrieval)?;
        Self::load(device, &files, &weights)
    }

    /// `files` are config.json, tokenizer.json and the others of a model folder, by name.
    /// Errors: config-invalid, tokenizer-invalid, weight-missing, weight-shape.
    pub fn load(device: &Device, files: &BTreeMap<String, Vec<u8>>, weights: &Weights) -> Result<Self> {
        Self::load_with(None, device, files, weights)
    }

    /// The same with a vision tower that is loaded already, if there is one. Errors: as `load`.
    pub fn load_with(
        tower: Option<Rc<Blip2VisionModel>>,
        device: &Device,
        files: &BTreeMap<String, Vec<u8>>,
        weights: &Weights,
    ) -> Result<Self> {
        let model = Blip2ForImageTextRetrieval::load_with(tower, &Blip2Config::from_json(config_json(files)?)?, weights)?;
        Self::new(device, Blip2Processor::from_files(files)?, model)
    }

    /// Errors: config-invalid where the processor does not put the image tokens before a text that the model takes off it.
    pub fn new(device: &Device, processor: Blip2Processor, model: Blip2ForImageTextRetrieval) -> Result<Self> {
        let Blip2Config { image_token_index, num_query_tokens, .. } = model.config;
        if image_token_index.is_some() && processor.num_query_tokens != Some(num_query_tokens) {
            let found = processor.num_query_tokens;
            let reason =
                format!("num_query_tokens {found:?}; with an image_token_index the model takes {num_query_tokens} ids off each text");
            return Err(Error::config("processor_config.json", reason));
        }
        Ok(Self { device: device.clone(), processor, model, budget: Budget::default() })
    }

    /// Bytes on the device that pictures may keep for ITM; 256 MiB by itself. Those that have to give up are encoded again when
    /// they are matched.
    pub fn set_budget(&self, bytes: usize) {
        self.budget.set(bytes);
    }

    /// Vision tower, queries and projection. Errors: input-invalid, kernel, device-lost.
    pub async fn encode(&self, image: &RgbImage) -> Result<RetrievalImage> {
        let started = pace::now();
        let picture = self.processor.image_processor.at_its_size(image);
        let states = self.look(&picture).await?;
        let image_embeds = self.model.image_embeds(&states).await?;
        let last_hidden_state = Rc::new(HiddenStates::default());
        self.budget.keep(&last_hidden_state, states);
        pace::macrotask().await;
        Ok(RetrievalImage { image_embeds, last_hidden_state, picture: Rc::new(picture), encode_ms: pace::now() - started })
    }

    /// The vision tower over a picture of the model's size: [1, 1 + P, Hv].
    async fn look(&self, picture: &RgbImage) -> Result<Tensor<3>> {
        let pixels = self.processor.image_processor.preprocess(&[picture])?;
        let pixels = Tensor::from_data(TensorData::new(pixels.values, pixels.shape), &self.device.burn);
        Ok(self.model.vision.vision_model.forward(&pixels, VisionOptions::default()).await?.last_hidden_state)
    }

    /// The vision tower's last_hidden_state of a picture [1, 1 + P, Hv], kept or made again. Errors: kernel, device-lost.
    pub async fn last_hidden_state(&self, image: &RetrievalImage) -> Result<Tensor<3>> {
        if let Some(states) = image.last_hidden_state.get() {
            self.budget.touch(&image.last_hidden_state);
            return Ok(states);
        }
        let states = self.look(&image.picture).await?;
        self.budget.keep(&image.last_hidden_state, states.clone());
        Ok(states)
    }

    /// Ids as the model takes them: [CLS] first, padded on the right. Errors: input-invalid, tokenizer-invalid.
    pub fn text(&self, texts: &[&str]) -> Result<Encoded> {
        let options =
            TextOptions { padding: Padding::Longest, padding_side: Some(PaddingSide::Right), truncation: false, max_length: None };
        self.processor.text(texts, self.model.config.image_token_index.is_some(), &options)
    }

    /// Cosines [texts][images], −1 to 1: images and texts as they are, without having seen each other.
    /// Errors: input-invalid where a text is longer than the model can read, tokenizer-invalid, kernel, device-lost.
    pub async fn itc(&self, images: &[&RetrievalImage], texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        if images.is_empty() {
            return Ok(vec![vec![]; texts.len()]);
        }
        let image_embeds = Tensor::cat(images.iter().map(|image| image.image_embeds.clone()).collect(), 0);
        let mut scores = vec![];
        for texts in texts.chunks(TEXTS_AT_ONCE) {
            let Encoded { input_ids, attention_mask } = self.text(texts)?;
            let text_embeds = self.model.text_embeds(&input_ids, &attention_mask).await?;
            let logits = Blip2ForImageTextRetrieval::itc_logits(&image_embeds, &text_embeds)?;
            let per_text = read_floats(logits.transpose()).await?;
            scores.extend(per_text.chunks(images.len()).map(<[f32]>::to_vec));
        }
        Ok(scores)
    }

    /// Texts as vectors [texts][D], each of length 1. The cosine of a text and an image is the greatest of its dot products with the
    /// rows of `RetrievalImage::image_embeds`. Errors: as `itc`.
    pub async fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let mut embeds = vec![];
        for texts in texts.chunks(TEXTS_AT_ONCE) {
            let Encoded { input_ids, attention_mask } = self.text(texts)?;
            let text_embeds = self.model.text_embeds(&input_ids, &attention_mask).await?;
            let width = text_embeds.dims()[2];
            embeds.extend(read_floats(text_embeds).await?.chunks(width).map(<[f32]>::to_vec));
        }
        Ok(embeds)
    }

    /// The probability of each text to be of the image. Errors: as `itc`.
    pub async fn itm(&self, image: &RetrievalImage, texts: &[&str]) -> Result<Vec<f32>> {
        let pairs: Vec<(&RetrievalImage, &str)> = texts.iter().map(|text| (image, *text)).collect();
        self.match_probabilities(&pairs).await
    }

    /// The images by how well they fit the text, best first. The best `rerank` of them are matched with it (ITM) and ordered
    /// by that; they stay before the others. Errors: as `itc`.
    pub async fn rank(&self, images: &[&RetrievalImage], text: &str, rerank: usize) -> Result<Vec<Ranked>> {
        let scores = self.itc(images, &[text]).await?.into_iter().flatten();
        let mut ranked: Vec<Ranked> = scores.enumerate().map(|(index, itc)| Ranked { index, itc, itm: None }).collect();
        ranked.sort_by(|a, b| b.itc.total_cmp(&a.itc));
        let best = ranked.len().min(rerank);
        let pairs: Vec<(&RetrievalImage, &str)> = ranked[..best].iter().map(|ranked| (images[ranked.index], text)).collect();
        let probabilities = self.match_probabilities(&pairs).await?;
        for (ranked, probability) in ranked.iter_mut().zip(probabilities) {
            ranked.itm = Some(probability);
        }
        ranked[..best].sort_by(|a, b| b.itm.unwrap_or(0.0).total_cmp(&a.itm.unwrap_or(0.0)));
        Ok(ranked)
    }

    async fn match_probabilities(&self, pairs: &[(&RetrievalImage, &str)]) -> Result<Vec<f32>> {
        let mut probabilities = vec![];
        for pairs in pairs.chunks(PAIRS_AT_ONCE) {
            let mut states = vec![];
            for (image, _) in pairs {
                states.push(self.last_hidden_state(image).await?);
            }
            let texts: Vec<&str> = pairs.iter().map(|(_, text)| *text).collect();
            let Encoded { input_ids, attention_mask } = self.text(&texts)?;
            let logits = self.model.itm_logits(&Tensor::cat(states, 0), &input_ids, &attention_mask).await?;
            probabilities.extend(match_probability(&read_floats(logits).await?));
        }
        Ok(probabilities)
    }
}

/// ITM logits [B, 2] → the softmax of each row's second: [B].
pub fn match_probability(logits: &[f32]) -> Vec<f32> {
    logits.as_chunks().0.iter().map(|[differs, matches]: &[f32; 2]| 1.0 / (1.0 + (differs - matches).exp())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_is_the_second_of_two_and_large_logits_stay_numbers() {
        assert_eq!(match_probability(&[0.0, 0.0, -200.0, 200.0, 200.0, -200.0]), [0.5, 1.0, 0.0]);
        assert!((match_probability(&[0.0, 3f32.ln()])[0] - 0.75).abs() < 1e-6);
    }
}
