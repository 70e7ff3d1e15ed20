//! Image to language model: vision tower, Q-Former, projection, and the merge of image features into the text.
//! HF `Blip2Model` (and `Blip2ForConditionalGeneration`, which has the same weights and the same forward).

use std::rc::Rc;

use burn_tensor::{Int, Tensor, TensorData};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::layers::Linear;
use crate::models::config::Blip2Config;
use crate::models::qformer::{Blip2QFormerModel, QFormerInputs, QFormerOutput};
use crate::models::text::{LanguageModel, LanguageOptions, LanguageOutput};
use crate::models::vision::{Blip2VisionModel, VisionOptions, VisionOutput};
use crate::weights::Weights;
/// HF `Blip2Model`.
///
/// ```
/// use blip2_web::device::Device;
/// use blip2_web::models::{Blip2Config, Blip2Model, ImageOptions, LanguageOptions, TextInputs, VisionOptions, plan};
/// use blip2_web::weights::ModelFolder;
///
/// let (device, folder) = (Device::cpu(), ModelFolder::open("demo/model")?);
/// let json = &folder.files["config.json"];
/// let config = Blip2Config::from_json(json)?;
/// let model = Blip2Model::load(&config, &folder.weights(&device, plan(json)?)?)?;
///
/// let size = config.vision_config.image_size;
/// let pixel_values = burn_tensor::Tensor::zeros([1, 3, size, size], &device.burn);
/// let seen = pollster::block_on(model.get_image_features(&pixel_values, VisionOptions::default()))?;
/// assert_eq!(seen.pooler_output.dims(), [1, config.vision_config.hidden_size]);
/// let queries = pollster::block_on(model.get_qformer_features(&pixel_values, ImageOptions::default()))?;
/// assert_eq!(queries.last_hidden_state.dims(), [1, config.num_query_tokens, config.qformer_config.hidden_size]);
/// let options = LanguageOptions::default();
/// let text = TextInputs { input_ids: &[vec![2, 9, 11]], attention_mask: &[vec![1, 1, 1]], decoder_input_ids: None, options };
/// let logits = pollster::block_on(model.get_text_features(&device, text))?.logits;
/// assert_eq!(logits.dims(), [1, 3, model.language_model.vocab_size()]);
/// # Ok::<(), blip2_web::Error>(())
/// ```
pub struct Blip2Model {
    pub config: Blip2Config,
    vision_model: Rc<Blip2VisionModel>,
    query_tokens: Tensor<3>,
    qformer: Blip2QFormerModel,
    language_projection: Linear,
    pub language_model: LanguageModel,
}

/// How pictures are seen, and what is kept on the way to the language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImageOptions {
    /// As in `VisionOptions`.
    pub interpolate_pos_encoding: bool,
    /// Of the vision tower and of the Q-Former.
    pub output_hidden_states: bool,
    /// The vision tower's, by far the larger part of what HF's `output_attentions` gives.
    pub output_vision_attentions: bool,
    /// The Q-Former's `attentions` and `cross_attentions`.
    pub output_qformer_attentions: bool,
}

/// What becomes of pixel values on their way to the language model.
pub struct ImageOutput {
    pub vision: VisionOutput,
    pub qformer: QFormerOutput,
    /// [B, Q, width of the language model]
    pub language_projection: Tensor<3>,
}

/// The text of a forward pass, all of it rectangular.
#[derive(Debug, Clone, Copy)]
pub struct TextInputs<'a> {
    /// [B, S]
    pub input_ids: &'a [Vec<u32>],
    /// [B, S]: 0 is padding.
    pub attention_mask: &'a [Vec<u32>],
    /// [B, T], for a decoder beside an encoder.
    pub decoder_input_ids: Option<&'a [Vec<u32>]>,
    pub options: LanguageOptions,
}

/// HF `Blip2ForConditionalGenerationModelOutput`, as far as callers ask for it.
pub struct ForwardOutput {
    /// [B, S, vocabulary]; [B, T, vocabulary] of a decoder beside an encoder
    pub logits: Tensor<3>,
    pub language_model: LanguageOutput,
}

impl Blip2Model {
    /// Errors: model-unsupported, weight-missing, weight-shape.
    pub fn load(config: &Blip2Config, weights: &Weights) -> Result<Self> {
        Self::load_with(None, config, weights)
    }

    /// The same with a vision tower that is loaded already, if there is one: models of one tower share it. Errors: as `load`.
    pub fn load_with(tower: Option<Rc<Blip2VisionModel>>, config: &Blip2Config, weights: &Weights) -> Result<Self> {
        let vision_model = match tower {
            Some(tower) => tower,
            None => Rc::new(Blip2VisionModel::load(&config.vision_config, &weights.at("vision_model"))?),
        };
        let queries = [1, config.num_query_tokens, config.qformer_config.hidden_size];
        let language_model = LanguageModel::load(&config.text_config, &weights.at("language_model"))?;
        let projection = [config.qformer_config.hidden_size, language_model.hidden_size()];
        Ok(Self {
            config: config.clone(),
            vision_model,
            query_tokens: weights.tensor("query_tokens", queries)?,
            qformer: Blip2QFormerModel::load(&config.qformer_config, &weights.at("qformer"))?,
            language_projection: Linear::load(&weights.at("language_projection"), projection, true)?,
            language_model,
        })
    }

    /// For another model of the same tower.
    pub fn vision_model(&self) -> Rc<Blip2VisionModel> {
        self.vision_model.clone()
    }

    /// pixel_values [B, 3, H, W] → image features and, on request, every hidden state and attention on the way.
    pub async fn image(&self, pixel_values: &Tensor<4>, options: ImageOptions) -> Result<ImageOutput> {
        let ImageOptions { interpolate_pos_encoding, output_hidden_states, .. } = options;
        let batch = pixel_values.dims()[0];
        let output_attentions = options.output_vision_attentions;
        let seen = VisionOptions { interpolate_pos_encoding, output_hidden_states, output_attentions };
        let vision = self.vision_model.forward(pixel_values, seen).await?;
        let [_, queries, width] = self.query_tokens.dims();
        let query_embeds = self.query_tokens.clone().expand([batch, queries, width]);
        let encoder_hidden_states = Some(&vision.last_hidden_state);
        let output_attentions = options.output_qformer_attentions;
        let inputs = QFormerInputs { encoder_hidden_states, output_hidden_states, output_attentions, ..QFormerInputs::new(&query_embeds) };
        let qformer = self.qformer.forward(&inputs).await?;
        let rows = qformer.last_hidden_state.clone().reshape([batch * queries, width]);
        let projected = self.language_projection.forward(&rows)?;
        let language_projection = projected.reshape([batch, queries, self.language_model.hidden_size()]);
        Ok(ImageOutput { vision, qformer, language_projection })
    }

    /// HF `Blip2Model.get_image_features`: what the vision tower makes of pixel_values [B, 3, H, W]. Errors: input-invalid, kernel.
    pub async fn get_image_features(&self, pixel_values: &Tensor<4>, options: VisionOptions) -> Result<VisionOutput> {
        self.vision_model.forward(pixel_values, options).await
    }

    /// HF `Blip2Model.get_qformer_features`: what the queries make of pixel_values [B, 3, H, W]. Errors: input-invalid, kernel.
    pub async fn get_qformer_features(&self, pixel_values: &Tensor<4>, options: ImageOptions) -> Result<QFormerOutput> {
        Ok(self.image(pixel_values, options).await?.qformer)
    }

    /// Embeds input_ids [B, S] and puts image features [images, Q, width] where they hold `image_token_index`, in order.
    /// → [B·S, width of the embeddings]. Errors: input-invalid unless each row has exactly Q places.
    pub fn merge(&self, device: &Device, input_ids: &[Vec<u32>], image_features: &Tensor<3>) -> Result<Tensor<2>> {
        let ids = ids_tensor(device, &input_ids.concat());
        let places: Vec<Vec<bool>> =
            input_ids.iter().map(|row| row.iter().map(|id| Some(*id) == self.config.image_token_index).collect()).collect();
        self.scatter(device, self.language_model.embed(&ids)?, &places, image_features)
    }

    /// The same for embeddings [B·S, width] whose rows are marked by `places` [B, S].
    pub fn scatter(&self, device: &Device, embeds: Tensor<2>, places: &[Vec<bool>], image_features: &Tensor<3>) -> Result<Tensor<2>> {
        let [images, queries, width] = image_features.dims();
        let [rows, embed_dim] = embeds.dims();
        if places.len() != images || places.iter().any(|row| row.iter().filter(|place| **place).count() != queries) {
            let counts: Vec<usize> = places.iter().map(|row| row.iter().filter(|place| **place).count()).collect();
            return Err(Error::input("input_ids", format!("{counts:?} image tokens for {images} images of {queries}")));
        }
        // HF's masked_scatter consumes the features flat: where embeddings are narrower than the features, the k-th place
        // takes the k-th run of `embed_dim` floats.
        let flat = image_features.clone().reshape([images * queries * width]);
        let taken = images * queries;
        let features = flat.slice(0..taken * embed_dim).reshape([taken, embed_dim]);
        let mut next = rows;
        let order: Vec<i32> = places
            .iter()
            .flatten()
            .enumerate()
            .map(|(row, is_image)| {
                let from = if *is_image { next } else { row };
                next += usize::from(*is_image);
                from as i32
            })
            .collect();
        let order = Tensor::from_data(TensorData::new(order, [rows]), &device.burn);
        Ok(Tensor::cat(vec![embeds, features], 0).select(0, order))
    }

    /// Logits of every position. HF `forward`. Errors: input-invalid.
    pub async fn forward(&self, device: &Device, text: TextInputs<'_>, image_features: &Tensor<3>) -> Result<ForwardOutput> {
        let inputs_embeds = self.merge(device, text.input_ids, image_features)?;
        self.language(device, &inputs_embeds, text).await
    }

    /// The language model alone on text. HF `Blip2Model.get_text_features`. Errors: input-invalid.
    pub async fn get_text_features(&self, device: &Device, text: TextInputs<'_>) -> Result<ForwardOutput> {
        let inputs_embeds = self.language_model.embed(&ids_tensor(device, &text.input_ids.concat()))?;
        self.language(device, &inputs_embeds, text).await
    }

    async fn language(&self, device: &Device, inputs_embeds: &Tensor<2>, text: TextInputs<'_>) -> Result<ForwardOutput> {
        let TextInputs { attention_mask, decoder_input_ids, options, .. } = text;
        let language_model = self.language_model.forward(device, inputs_embeds, attention_mask, decoder_input_ids, options).await?;
        let (rows, n) = (attention_mask.len(), decoder_input_ids.unwrap_or(attention_mask).first().map_or(0, Vec::len));
        let logits = language_model.logits.clone().reshape([rows, n, self.language_model.vocab_size()]);
        Ok(ForwardOutput { logits, language_model })
    }
}

/// Ids as the device holds them.
pub(crate) fn ids_tensor(device: &Device, ids: &[u32]) -> Tensor<1, Int> {
    let ids: Vec<i32> = ids.iter().map(|id| i32::try_from(*id).unwrap_or(-1)).collect();
    let count = ids.len();
    Tensor::from_data(TensorData::new(ids, [count]), &device.burn)
}
