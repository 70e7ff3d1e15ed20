//! A whole captioning model: picture in, words out as they come.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;

use burn_tensor::Tensor;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::generation::{Finish, Generated, GenerationConfig, Inputs, StopRule, StopStrings, ends_in_stop_string};
#[cfg(not(target_family = "wasm"))]
use crate::models::Class;
use crate::models::{Blip2Config, Blip2Model, Prompt, config_json};
use crate::pace;
use crate::processor::{Blip2Processor, RgbImage, TextOptions, TextStreamer, Tokenizer};
use crate::tasks::any_model::on_device;
use crate::tasks::{Arguments, Blip2ForConditionalGeneration, GenerateInputs, ImageFeatures, PictureEncoder, Plain};
use crate::weights::Weights;

/// A captioning model with its processor: what a program usually wants.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use blip2_web::device::Device;
/// use blip2_web::generation::GenerationConfig;
/// use blip2_web::processor::load_image;
/// use blip2_web::tasks::Blip2;
///
/// let blip2 = Blip2::from_pretrained(&Device::cpu(), "demo/model")?;
/// let picture = load_image(&std::fs::read("demo/samples/01-bee.png").expect("a file"))?;
/// let image = pollster::block_on(blip2.encode(&picture))?;
///
/// let mut streamed = String::new();
/// let mut on_piece = |piece: &str| {
///     streamed.push_str(piece);
///     ControlFlow::Continue(())
/// };
/// let caption = pollster::block_on(blip2.generate(&image, None, &GenerationConfig::default(), &mut on_piece))?;
/// assert_eq!(caption.text, streamed.trim());
///
/// let five_beams = GenerationConfig { num_beams: Some(5), num_return_sequences: Some(3), ..GenerationConfig::default() };
/// let asked = Some("Question: What is this? Answer:");
/// let answer = pollster::block_on(blip2.generate(&image, asked, &five_beams, &mut |_| ControlFlow::Continue(())))?;
/// assert_eq!(answer.candidates.len(), 3);
/// # Ok::<(), blip2_web::Error>(())
/// ```
pub struct Blip2 {
    pub processor: Rc<Blip2Processor>,
    pub captioner: Blip2ForConditionalGeneration,
}

/// Questions about one picture whose encoding is kept.
const KEPT_ENCODINGS: usize = 8;

#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Timings {
    pub first_token_ms: f64,
    pub total_ms: f64,
    pub tokens: usize,
}

/// New text only, without the prompt and without spaces around it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Answer {
    /// The best candidate's.
    pub text: String,
    /// All ids of the best candidate: image tokens, prompt, new ones; of T5 those of its decoder.
    pub ids: Vec<u32>,
    pub finish: Finish,
    pub timings: Timings,
    /// `num_return_sequences` of them, best first where they have scores.
    pub candidates: Vec<Candidate>,
}

impl Answer {
    /// Of a call that was stopped before it had any.
    pub fn stopped_at_once() -> Self {
        Self { text: String::new(), ids: vec![], finish: Finish::Stopped, timings: Timings::default(), candidates: vec![] }
    }
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Candidate {
    pub text: String,
    /// HF's `sequences_scores`: the sum of log-probabilities over length^length_penalty. Of beams alone.
    pub score: Option<f32>,
}

impl Blip2 {
    /// From a model folder on disk. Errors: file, size-mismatch, checksum-mismatch, and those of `load`.
    #[cfg(not(target_family = "wasm"))]
    pub fn from_pretrained(device: &Device, folder: impl AsRef<std::path::Path>) -> Result<Self> {
        let (files, weights) = super::open(device, folder, Class::Blip2ForConditionalGeneration)?;
        Self::load(device, &files, &weights)
    }

    /// `files` are config.json, tokenizer.json and the others of a model folder, by name.
    /// Errors: config-invalid, tokenizer-invalid, model-unsupported, weight-missing, weight-shape.
    pub fn load(device: &Device, files: &BTreeMap<String, Vec<u8>>, weights: &Weights) -> Result<Self> {
        Self::behind(&PictureEncoder::load(None, device, files, weights)?, files, weights)
    }

    /// The rest of it behind a picture encoder of the same model that is loaded already. Errors: as `load`.
    pub fn behind(encoder: &PictureEncoder, files: &BTreeMap<String, Vec<u8>>, weights: &Weights) -> Result<Self> {
        let model = Blip2Model::behind(encoder.model.clone(), &Blip2Config::from_json(config_json(files)?)?, weights)?;
        let captioner = Blip2ForConditionalGeneration { device: encoder.device.clone(), model };
        Ok(Self { processor: encoder.processor.clone(), captioner })
    }

    /// Vision tower, Q-Former and projection. Errors: kernel, device-lost.
    pub async fn encode(&self, image: &RgbImage) -> Result<ImageFeatures> {
        let Self { processor, captioner: Blip2ForConditionalGeneration { device, model } } = self;
        PictureEncoder { device: device.clone(), processor: processor.clone(), model: model.image_encoder.clone() }.encode(image).await
    }

    /// The text that continues `prompt` (a caption where it is `None`). `on_piece` gets the new text as it becomes certain;
    /// joined, the pieces are the text before it is trimmed. Beams have nothing certain before their end: the text then comes
    /// whole. Errors: input-invalid, option-unsupported, kernel, device-lost.
    pub async fn generate(
        &self,
        image: &ImageFeatures,
        prompt: Option<&str>,
        config: &GenerationConfig,
        on_piece: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let mut telling = Telling::new(&self.processor.tokenizer, on_piece);
        let inputs = self.inputs(image, prompt).await?;
        let prefix = inputs.prefix.first().map_or(0, Vec::len);
        let generated = self.generate_from(inputs, config, &mut |ids| telling.step(ids)).await?;
        let candidates = self.candidates(&generated, prefix)?;
        let best = candidates.first().map(|candidate| candidate.text.clone()).unwrap_or_default();
        let (text, timings) = telling.finish(generated.sequences_scores.is_some().then_some(best.as_str()))?;
        let ids = generated.ids.into_iter().next().unwrap_or_default();
        Ok(Answer { text: text.trim().to_string(), ids, finish: generated.finish, timings, candidates })
    }

    /// HF `generate` on tensors: pixel_values [B, 3, H, W], input_ids and attention_mask [B, S] where there is a text.
    /// Errors: input-invalid, option-unsupported, kernel, device-lost.
    pub async fn generate_ids(
        &self,
        arguments: Arguments,
        config: &GenerationConfig,
        on_step: &mut dyn FnMut(&[u32]) -> ControlFlow<()>,
    ) -> Result<Generated> {
        let pixel_values = on_device(&self.captioner.device, "pixel_values", arguments.pixel_values)?;
        let features = self.captioner.get_image_features(&pixel_values, arguments.interpolate_pos_encoding).await?;
        let inputs = match (arguments.input_ids, arguments.inputs_embeds) {
            (None, None) => GenerateInputs::Image,
            (Some(input_ids), None) => GenerateInputs::Ids { input_ids, attention_mask: arguments.attention_mask },
            (None, Some(inputs_embeds)) => self.embeds(inputs_embeds, arguments.attention_mask)?,
            (Some(_), Some(_)) => return Err(Error::input("inputs_embeds", "stands instead of input_ids, not beside them")),
        };
        let inputs = self.captioner.inputs(&features, inputs).await?;
        self.generate_from(inputs, config, on_step).await
    }

    /// With the tokenizer that stop strings need.
    async fn generate_from(
        &self,
        inputs: Inputs,
        config: &GenerationConfig,
        on_step: &mut dyn FnMut(&[u32]) -> ControlFlow<()>,
    ) -> Result<Generated> {
        let strings = config.stop_strings.as_ref().map(StopStrings::to_vec).unwrap_or_default();
        let mut failed = None;
        let mut stop = |ids: &[u32]| said_stop(&self.processor.tokenizer, ids, &strings, &mut failed);
        let stop: Option<StopRule> = if strings.is_empty() { None } else { Some(&mut stop) };
        let generated = self.captioner.generate_from(inputs, config, stop, on_step).await?;
        failed.map_or(Ok(generated), Err)
    }

    /// inputs_embeds [B, S, width], all attended where nothing else is said.
    fn embeds(&self, inputs_embeds: Plain, attention_mask: Option<Vec<Vec<u32>>>) -> Result<GenerateInputs> {
        let embeds: Tensor<3> = on_device(&self.captioner.device, "inputs_embeds", Some(inputs_embeds))?;
        let [batch, positions, width] = embeds.dims();
        let attention_mask = attention_mask.unwrap_or_else(|| vec![vec![1; positions]; batch]);
        if attention_mask.len() != batch || attention_mask.iter().any(|row| row.len() != positions) {
            return Err(Error::input("attention_mask", format!("is not [{batch}, {positions}]")));
        }
        if width != self.captioner.model.language_model.embed_dim() {
            return Err(Error::input(
                "inputs_embeds",
                format!("{width} wide, the embeddings are {}", self.captioner.model.language_model.embed_dim()),
            ));
        }
        Ok(GenerateInputs::Embeds { inputs_embeds: Box::new(embeds.reshape([batch * positions, width])), attention_mask })
    }

    /// Prompt and picture as the language model takes them; the work of an encoder is done once for each prompt.
    async fn inputs(&self, image: &ImageFeatures, prompt: Option<&str>) -> Result<Inputs> {
        let key = prompt.map(str::to_string);
        if let Some((_, inputs)) = image.encoded.borrow().iter().find(|(kept, _)| *kept == key) {
            return Ok(inputs.clone());
        }
        let asked = match prompt {
            None => GenerateInputs::Image,
            Some(prompt) => {
                let encoded = self.processor.text(&[prompt], true, &TextOptions::default())?;
                GenerateInputs::Ids { input_ids: encoded.input_ids, attention_mask: Some(encoded.attention_mask) }
            }
        };
        let mut inputs = self.captioner.inputs(&image.features, asked).await?;
        if let (Prompt::Embeds { keys, .. }, [ids]) = (&mut inputs.prompt, &inputs.prefix[..]) {
            *keys = Some(image.keys(ids, self.captioner.image_token()?));
        }
        if self.captioner.model.language_model.is_encoder_decoder() {
            let mut kept = image.encoded.borrow_mut();
            if kept.len() == KEPT_ENCODINGS {
                kept.remove(0);
            }
            kept.push((key, inputs.clone()));
        }
        Ok(inputs)
    }

    fn candidates(&self, generated: &Generated, prefix: usize) -> Result<Vec<Candidate>> {
        let score = |row: usize| generated.sequences_scores.as_ref().and_then(|scores| scores.get(row).copied());
        let candidate = |(row, ids): (usize, &Vec<u32>)| {
            let text = self.processor.decode(&ids[prefix.min(ids.len())..], true)?;
            Ok(Candidate { text: text.trim().to_string(), score: score(row) })
        };
        generated.ids.iter().enumerate().map(candidate).collect()
    }
}

/// Whether the text of the newest id ends one of the strings. What cannot be decoded ends too, and `failed` says why.
fn said_stop(tokenizer: &Tokenizer, ids: &[u32], strings: &[String], failed: &mut Option<Error>) -> bool {
    let Some((_, before)) = ids.split_last() else { return false };
    match tokenizer.decode(before, false).and_then(|before| Ok((before, tokenizer.decode(ids, false)?))) {
        Ok((before, text)) => ends_in_stop_string(&before, &text, strings),
        Err(error) => {
            *failed = Some(error);
            true
        }
    }
}

/// The pieces of an answer on their way to whoever listens.
struct Telling<'a> {
    tokenizer: &'a Tokenizer,
    on_piece: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
    streamer: TextStreamer,
    text: String,
    timings: Timings,
    started: f64,
    failed: Option<Error>,
}

impl<'a> Telling<'a> {
    fn new(tokenizer: &'a Tokenizer, on_piece: &'a mut dyn FnMut(&str) -> ControlFlow<()>) -> Self {
        let (streamer, text, timings) = (TextStreamer::default(), String::new(), Timings::default());
        Self { tokenizer, on_piece, streamer, text, timings, started: pace::now(), failed: None }
    }

    /// The newest id of each row; none where nothing is certain yet.
    fn step(&mut self, ids: &[u32]) -> ControlFlow<()> {
        if self.timings.tokens == 0 {
            self.timings.first_token_ms = pace::now() - self.started;
        }
        self.timings.tokens += 1;
        let Some(id) = ids.first() else { return (self.on_piece)("") };
        match self.streamer.push(self.tokenizer, *id) {
            Ok(piece) => self.tell(&piece),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn tell(&mut self, piece: &str) -> ControlFlow<()> {
        self.text.push_str(piece);
        (self.on_piece)(piece)
    }

    /// What was held back, or `whole` where nothing was told on the way.
    fn finish(mut self, whole: Option<&str>) -> Result<(String, Timings)> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let rest = match whole {
            Some(text) => text.to_string(),
            None => self.streamer.finish(self.tokenizer)?,
        };
        if !rest.is_empty() {
            let _ = self.tell(&rest);
        }
        self.timings.total_ms = pace::now() - self.started;
        Ok((self.text, self.timings))
    }
}
