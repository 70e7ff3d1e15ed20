//! Image to language model: vision tower, Q-Former, projection, and the merge of image features into the text.
//! HF `Blip2Model` (and `Blip2ForConditionalGeneration`, which has the same weights and the same forward).

use std::rc::Rc;

use burn_tensor::{Int, Tensor, TensorData};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::config::Blip2Config;
use crate::models::image_encoder::{ImageEncoder, ImageOptions, ImageOutput};
use crate::models::qformer::QFormerOutput;
use crate::models::text::{LanguageModel, LanguageOptions, LanguageOutput};
use crate::models::vision::{VisionOptions, VisionOutput};
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
    pub image_encoder: Rc<ImageEncoder>,
    pub language_model: LanguageModel,
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
        Self::behind(Rc::new(ImageEncoder::load(None, config, weights)?), config, weights)
    }

    /// The rest of it behind an image encoder that is loaded already. Errors: model-unsupported, weight-missing, weight-shape.
    pub fn behind(image_encoder: Rc<ImageEncoder>, config: &Blip2Config, weights: &Weights) -> Result<Self> {
        let language_model = LanguageModel::load(&config.text_config, &weights.at("language_model"))?;
        Ok(Self { config: config.clone(), image_encoder, language_model })
    }

    /// pixel_values [B, 3, H, W] → image features and, on request, every hidden state and attention on the way.
    pub async fn image(&self, pixel_values: &Tensor<4>, options: ImageOptions) -> Result<ImageOutput> {
        self.image_encoder.forward(pixel_values, options).await
    }

    /// HF `Blip2Model.get_image_features`: what the vision tower makes of pixel_values [B, 3, H, W]. Errors: input-invalid, kernel.
    pub async fn get_image_features(&self, pixel_values: &Tensor<4>, options: VisionOptions) -> Result<VisionOutput> {
        self.image_encoder.vision_model.forward(pixel_values, options).await
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
