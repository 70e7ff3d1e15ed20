//! Captions and answers. HF `Blip2ForConditionalGeneration`.

use std::ops::ControlFlow;

use burn_tensor::Tensor;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::generation::{self, Generated, GenerationConfig, Inputs, StopRule};
use crate::models::{Blip2Config, Blip2Model, ImageOptions, LanguageOptions, LanguageOutput, Prompt, TextInputs};
use crate::ops::read_floats;
use crate::weights::Weights;
/// HF `Blip2ForConditionalGeneration`: ids in, ids out. `tasks::Blip2` is this with its processor, for pictures and texts.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use blip2_web::device::Device;
/// use blip2_web::generation::GenerationConfig;
/// use blip2_web::models::{Blip2Config, LanguageOptions, plan};
/// use blip2_web::tasks::{Blip2ForConditionalGeneration, ForwardInputs, GenerateInputs};
/// use blip2_web::weights::ModelFolder;
///
/// let (device, folder) = (Device::cpu(), ModelFolder::open("demo/model")?);
/// let json = &folder.files["config.json"];
/// let config = Blip2Config::from_json(json)?;
/// let model = Blip2ForConditionalGeneration::load(&device, &config, &folder.weights(&device, plan(json)?)?)?;
///
/// let size = config.vision_config.image_size;
/// let pixel_values = burn_tensor::Tensor::zeros([2, 3, size, size], &device.burn);
/// let features = pollster::block_on(model.get_image_features(&pixel_values, false))?;
/// let three = GenerationConfig { max_new_tokens: Some(3), ..GenerationConfig::default() };
/// let mut go_on = |_: &[u32]| ControlFlow::Continue(());
/// let generated = pollster::block_on(model.generate(&features, GenerateInputs::Image, &three, &mut go_on))?;
/// assert_eq!(generated.ids.len(), 2);
///
/// // How likely are they? Labels make the loss.
/// let labels: Vec<Vec<i64>> = generated.ids.iter().map(|row| row.iter().map(|id| i64::from(*id)).collect()).collect();
/// let inputs = ForwardInputs {
///     input_ids: &generated.ids,
///     attention_mask: None,
///     decoder_input_ids: None,
///     labels: Some(&labels),
///     options: LanguageOptions::default(),
/// };
/// assert!(pollster::block_on(model.forward(&features, inputs))?.loss.is_some_and(f32::is_finite));
/// # Ok::<(), blip2_web::Error>(())
/// ```
pub struct Blip2ForConditionalGeneration {
    pub device: Device,
    pub model: Blip2Model,
}

/// What `generate` is asked, beside the image features.
#[derive(Debug, Clone)]
pub enum GenerateInputs {
    /// The image tokens and the first token of the language model.
    Image,
    /// Ids with image tokens in them, and which of them are attended (all where `None`). [B, S]
    Ids { input_ids: Vec<Vec<u32>>, attention_mask: Option<Vec<Vec<u32>>> },
    /// Embeddings [B·S, width]: image tokens are the positions that equal the image token's embedding, and only new ids come back.
    Embeds { inputs_embeds: Box<Tensor<2>>, attention_mask: Vec<Vec<u32>> },
}

/// What `forward` is asked, beside the image features.
#[derive(Debug, Clone, Copy)]
pub struct ForwardInputs<'a> {
    /// [B, S], image tokens in their places
    pub input_ids: &'a [Vec<u32>],
    /// [B, S]; all attended where `None`
    pub attention_mask: Option<&'a [Vec<u32>]>,
    /// [B, T], for T5; made from the labels where `None`
    pub decoder_input_ids: Option<&'a [Vec<u32>]>,
    /// [B, L]: OPT's are those of the last L positions, T5's those of its decoder. −100 does not count.
    pub labels: Option<&'a [Vec<i64>]>,
    pub options: LanguageOptions,
}

/// HF `Blip2ForConditionalGenerationModelOutput`.
pub struct ConditionalOutput {
    /// Mean cross entropy, where there are labels.
    pub loss: Option<f32>,
    /// [B, S, vocabulary], or [B, T, vocabulary] of T5's decoder
    pub logits: Tensor<3>,
    pub language_model: LanguageOutput,
}

impl Blip2ForConditionalGeneration {
    /// Errors: model-unsupported, weight-missing, weight-shape.
    pub fn load(device: &Device, config: &Blip2Config, weights: &Weights) -> Result<Self> {
        Ok(Self { device: device.clone(), model: Blip2Model::load(config, weights)? })
    }

    /// HF `Blip2ForConditionalGeneration.get_image_features`: pixel_values [B, 3, H, W] → [B, Q, width of the language model], what
    /// stands for the image among the embeddings. (`Blip2Model`'s method of this name is another one.) Errors: input-invalid, kernel.
    pub async fn get_image_features(&self, pixel_values: &Tensor<4>, interpolate_pos_encoding: bool) -> Result<Tensor<3>> {
        let options = ImageOptions { interpolate_pos_encoding, ..ImageOptions::default() };
        Ok(self.model.image(pixel_values, options).await?.language_projection)
    }

    /// HF `forward`: logits of every position and, with labels, their loss. Errors: input-invalid, device-lost, kernel.
    pub async fn forward(&self, image_features: &Tensor<3>, inputs: ForwardInputs<'_>) -> Result<ConditionalOutput> {
        let all = ones(inputs.input_ids);
        let shifted = match (inputs.decoder_input_ids, inputs.labels) {
            (None, Some(labels)) if self.model.language_model.is_encoder_decoder() => Some(self.shift_right(labels)?),
            _ => None,
        };
        let text = TextInputs {
            input_ids: inputs.input_ids,
            attention_mask: inputs.attention_mask.unwrap_or(&all),
            decoder_input_ids: inputs.decoder_input_ids.or(shifted.as_deref()),
            options: inputs.options,
        };
        let output = self.model.forward(&self.device, text, image_features).await?;
        let loss = match inputs.labels {
            Some(labels) => Some(self.loss(&output.logits, labels).await?),
            None => None,
        };
        Ok(ConditionalOutput { loss, logits: output.logits, language_model: output.language_model })
    }

    /// A decoder beside an encoder predicts its own position; one that goes on behind the prompt predicts the next.
    async fn loss(&self, logits: &Tensor<3>, labels: &[Vec<i64>]) -> Result<f32> {
        let next = if self.model.language_model.is_encoder_decoder() { 0 } else { 1 };
        cross_entropy(&read_floats(logits.clone()).await?, logits.dims(), labels, next)
    }

    /// HF `_shift_right`: the decoder's first token, then all labels but the last; −100 becomes padding.
    fn shift_right(&self, labels: &[Vec<i64>]) -> Result<Vec<Vec<u32>>> {
        let first = self.decoder_start()?;
        let pad = self.model.language_model.special_tokens().pad;
        let pad = pad.ok_or_else(|| Error::config("config.json", "text_config: no pad_token_id"))?;
        let id = |label: &i64| match *label {
            -100 => Ok(pad),
            label => u32::try_from(label).map_err(|_| Error::input("labels", format!("{label} is no id"))),
        };
        labels.iter().map(|row| std::iter::once(Ok(first)).chain(row.iter().map(id)).take(row.len()).collect()).collect()
    }

    /// Ids for each row of `image_features` [B, Q, width]. `on_step` gets each row's newest id and may end it.
    /// Errors: input-invalid, option-unsupported, device-lost, kernel.
    pub async fn generate(
        &self,
        image_features: &Tensor<3>,
        inputs: GenerateInputs,
        config: &GenerationConfig,
        on_step: &mut dyn FnMut(&[u32]) -> ControlFlow<()>,
    ) -> Result<Generated> {
        let inputs = self.inputs(image_features, inputs).await?;
        self.generate_from(inputs, config, None, on_step).await
    }

    /// The same from what `inputs` gave, which may be kept and used again. `stop` hears the new ids of a row and says whether
    /// it ends there.
    pub async fn generate_from(
        &self,
        inputs: Inputs,
        config: &GenerationConfig,
        stop: Option<StopRule<'_>>,
        on_step: &mut dyn FnMut(&[u32]) -> ControlFlow<()>,
    ) -> Result<Generated> {
        let language_model = &self.model.language_model;
        let special = language_model.special_tokens();
        let fields = self.model.config.text_config.generation_fields();
        let defaults = serde_json::from_value(serde_json::Value::Object(fields));
        let settings = config.resolve(&generation::Limits {
            prefix_length: inputs.prefix.first().map_or(0, Vec::len),
            positions: if language_model.is_encoder_decoder() { 1 } else { inputs.prompt.positions() },
            vocab_size: language_model.vocab_size(),
            max_position_embeddings: language_model.max_position_embeddings(),
            eos_token_ids: special.eos,
            pad_token_id: special.pad,
            defaults: defaults.map_err(|error| Error::config("config.json", format!("text_config: {error}")))?,
        })?;
        generation::generate(&self.device, language_model, inputs, &settings, stop, on_step).await
    }

    /// What `generate` starts from: image features in their places, and T5's encoder run over them.
    pub async fn inputs(&self, image_features: &Tensor<3>, inputs: GenerateInputs) -> Result<Inputs> {
        let mut inputs = self.embedded(image_features, inputs).await?;
        if self.model.language_model.is_encoder_decoder() {
            inputs.prefix = vec![vec![self.decoder_start()?]; inputs.prefix.len()];
            inputs.prompt = self.model.language_model.encode(inputs.prompt).await?;
        }
        Ok(inputs)
    }

    /// What a decoder beside an encoder starts with.
    pub(super) fn decoder_start(&self) -> Result<u32> {
        let first = self.model.language_model.special_tokens().decoder_start;
        first.ok_or_else(|| Error::config("config.json", "text_config: no decoder_start_token_id"))
    }

    async fn embedded(&self, image_features: &Tensor<3>, inputs: GenerateInputs) -> Result<Inputs> {
        match inputs {
            GenerateInputs::Image => {
                let row = self.image_only_ids()?;
                self.inputs_of_ids(image_features, vec![row; image_features.dims()[0]], None)
            }
            GenerateInputs::Ids { input_ids, attention_mask } => self.inputs_of_ids(image_features, input_ids, attention_mask),
            GenerateInputs::Embeds { inputs_embeds, attention_mask } => {
                let places = self.image_places(&inputs_embeds, attention_mask.len()).await?;
                let inputs_embeds = self.model.scatter(&self.device, *inputs_embeds, &places, image_features)?;
                let prefix = vec![vec![]; attention_mask.len()];
                Ok(Inputs { prompt: Prompt::Embeds { inputs_embeds: Box::new(inputs_embeds), attention_mask, keys: None }, prefix })
            }
        }
    }

    /// `[image token]·Q + [bos]`, as HF makes it where there is no text.
    pub(super) fn image_only_ids(&self) -> Result<Vec<u32>> {
        let bos = self.model.language_model.special_tokens().bos;
        let bos = bos.ok_or_else(|| Error::config("config.json", "text_config: no bos_token_id to start without a prompt"))?;
        let mut ids = vec![self.image_token()?; self.model.config.num_query_tokens];
        ids.push(bos);
        Ok(ids)
    }

    pub(super) fn image_token(&self) -> Result<u32> {
        self.model.config.image_token_index.ok_or_else(|| Error::config("config.json", "no image_token_index"))
    }

    fn inputs_of_ids(&self, image_features: &Tensor<3>, input_ids: Vec<Vec<u32>>, attention_mask: Option<Vec<Vec<u32>>>) -> Result<Inputs> {
        let attention_mask = attention_mask.unwrap_or_else(|| ones(&input_ids));
        let length = input_ids.first().map_or(0, Vec::len);
        let rectangular = |rows: &[Vec<u32>]| rows.len() == input_ids.len() && rows.iter().all(|row| row.len() == length);
        if length == 0 || !rectangular(&input_ids) || !rectangular(&attention_mask) {
            return Err(Error::input("input_ids", "rows of one length, with a mask of the same shape"));
        }
        input_ids.iter().try_for_each(|row| self.check_ids("input_ids", row))?;
        let inputs_embeds = self.model.merge(&self.device, &input_ids, image_features)?;
        Ok(Inputs { prompt: Prompt::Embeds { inputs_embeds: Box::new(inputs_embeds), attention_mask, keys: None }, prefix: input_ids })
    }

    /// Errors: input-invalid where the language model has no such id.
    pub(super) fn check_ids(&self, argument: &str, ids: &[u32]) -> Result<()> {
        let vocab_size = self.model.language_model.vocab_size();
        match ids.iter().find(|id| **id as usize >= vocab_size) {
            Some(id) => Err(Error::input(argument, format!("{id} is not in a vocabulary of {vocab_size}"))),
            None => Ok(()),
        }
    }

    /// Which rows of the embeddings are the image token's, in all dimensions.
    async fn image_places(&self, inputs_embeds: &Tensor<2>, rows: usize) -> Result<Vec<Vec<bool>>> {
        let image_token = crate::models::ids_tensor(&self.device, &[self.image_token()?]);
        let token = read_floats(self.model.language_model.embed(&image_token)?).await?;
        let count = inputs_embeds.dims()[0];
        let embeds = read_floats(inputs_embeds.clone()).await?;
        if rows == 0 || !count.is_multiple_of(rows) {
            return Err(Error::input("attention_mask", format!("{rows} rows for {count} embeddings")));
        }
        let places: Vec<bool> = embeds.chunks_exact(token.len()).map(|row| row == token).collect();
        Ok(places.chunks_exact(count / rows).map(<[bool]>::to_vec).collect())
    }
}

/// A mask of these rows that leaves nothing out.
pub(crate) fn ones(rows: &[Vec<u32>]) -> Vec<Vec<u32>> {
    rows.iter().map(|row| vec![1; row.len()]).collect()
}

/// HF's loss of a language model: logits [B, S, V] (flat) of the last positions against labels [B, L ≤ S], each position
/// predicting the one `next` further on, mean over labels that are not −100. Errors: input-invalid.
pub fn cross_entropy(logits: &[f32], [batch, length, vocabulary]: [usize; 3], labels: &[Vec<i64>], next: usize) -> Result<f32> {
    let kept = labels.first().map_or(0, Vec::len);
    if labels.len() != batch || kept > length || labels.iter().any(|row| row.len() != kept) || logits.len() != batch * length * vocabulary {
        return Err(Error::input("labels", format!("{} rows of {kept} for logits {:?}", labels.len(), [batch, length, vocabulary])));
    }
    let (mut sum, mut count) = (0.0f64, 0u32);
    for (row, labels) in labels.iter().enumerate() {
        for (place, label) in labels.iter().enumerate().skip(next).filter(|(_, label)| **label != -100) {
            let at = (row * length + length - kept + place - next) * vocabulary;
            let scores = &logits[at..at + vocabulary];
            let label = usize::try_from(*label).ok().filter(|label| *label < vocabulary);
            let label = label.ok_or_else(|| Error::input("labels", "an id outside the vocabulary"))?;
            let highest = scores.iter().copied().fold(f32::MIN, f32::max);
            let total: f64 = scores.iter().map(|score| f64::from(score - highest).exp()).sum();
            sum += total.ln() - f64::from(scores[label] - highest);
            count += 1;
        }
    }
    Ok((sum / f64::from(count)) as f32)
}
