//! A whole captioning model: picture in, words out as they come.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use burn_tensor::{Tensor, TensorData};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::generation::{Finish, GenerationConfig};
use crate::models::Blip2Config;
use crate::pace;
use crate::processor::{Blip2Processor, RgbImage, TextOptions, TextStreamer};
use crate::tasks::{Blip2ForConditionalGeneration, GenerateInputs};
use crate::weights::Weights;

pub struct Blip2 {
    pub processor: Blip2Processor,
    pub captioner: Blip2ForConditionalGeneration,
}

/// What a picture is to the language model, kept on the device: every question about it starts from here.
#[derive(Debug, Clone)]
pub struct ImageFeatures {
    /// [1, Q, width of the language model]
    features: Tensor<3>,
    pub encode_ms: f64,
}

#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Timings {
    pub first_token_ms: f64,
    pub total_ms: f64,
    pub tokens: usize,
}

/// New text only, without the prompt and without spaces around it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Answer {
    pub text: String,
    /// All ids: image tokens, prompt, new ones.
    pub ids: Vec<u32>,
    pub finish: Finish,
    pub timings: Timings,
}

impl Blip2 {
    /// `files` are config.json, tokenizer.json and the others of a model folder, by name.
    /// Errors: config-invalid, tokenizer-invalid, model-unsupported, weight-missing, weight-shape.
    pub fn load(device: &Device, files: &BTreeMap<String, Vec<u8>>, weights: &Weights) -> Result<Self> {
        let json = files.get("config.json").ok_or_else(|| Error::config("config.json", "is missing"))?;
        let config = Blip2Config::from_json(json)?;
        Ok(Self {
            processor: Blip2Processor::from_files(files)?,
            captioner: Blip2ForConditionalGeneration::load(device, &config, weights)?,
        })
    }

    /// Vision tower, Q-Former and projection. Errors: kernel, device-lost.
    pub async fn encode(&self, image: &RgbImage) -> Result<ImageFeatures> {
        let started = pace::now();
        let pixels = self.processor.image_processor.preprocess(&[image])?;
        let pixels = Tensor::from_data(TensorData::new(pixels.values, pixels.shape), &self.captioner.device.burn);
        let features = self.captioner.get_image_features(&pixels, false).await?;
        pace::macrotask().await;
        Ok(ImageFeatures { features, encode_ms: pace::now() - started })
    }

    /// The text that continues `prompt` (a caption where it is `None`). `on_piece` gets the new text as it becomes certain;
    /// joined, the pieces are the text before it is trimmed. Errors: input-invalid, option-unsupported, kernel, device-lost.
    pub async fn generate(
        &self,
        image: &ImageFeatures,
        prompt: Option<&str>,
        config: &GenerationConfig,
        on_piece: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let started = pace::now();
        let inputs = match prompt {
            None => GenerateInputs::Image,
            Some(prompt) => {
                let encoded = self.processor.text(&[prompt], true, &TextOptions::default())?;
                GenerateInputs::Ids { input_ids: encoded.input_ids, attention_mask: Some(encoded.attention_mask) }
            }
        };
        let tokenizer = &self.processor.tokenizer;
        let mut streamer = TextStreamer::default();
        let (mut text, mut timings, mut failed) = (String::new(), Timings::default(), None);
        let mut on_step = |ids: &[u32]| {
            if timings.tokens == 0 {
                timings.first_token_ms = pace::now() - started;
            }
            timings.tokens += 1;
            match streamer.push(tokenizer, ids[0]) {
                Ok(piece) => {
                    text.push_str(&piece);
                    on_piece(&piece)
                }
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let generated = self.captioner.generate(&image.features, inputs, config, &mut on_step).await?;
        if let Some(error) = failed {
            return Err(error);
        }
        let rest = streamer.finish(tokenizer)?;
        if !rest.is_empty() {
            text.push_str(&rest);
            let _ = on_piece(&rest);
        }
        timings.total_ms = pace::now() - started;
        let ids = generated.ids.into_iter().next().unwrap_or_default();
        Ok(Answer { text: text.trim().to_string(), ids, finish: generated.finish, timings })
    }
}
