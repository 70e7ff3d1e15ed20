//! A picture on its way to the language model: what of a BLIP-2 can work before the language model is there.

use std::rc::Rc;

use burn_tensor::Tensor;

use crate::error::Result;
use crate::layers::Linear;
use crate::models::config::Blip2Config;
use crate::models::qformer::{Blip2QFormerModel, QFormerInputs, QFormerOutput};
use crate::models::vision::{Blip2VisionModel, VisionOptions, VisionOutput};
use crate::weights::Weights;

/// Vision tower, Q-Former with its queries, and projection: the first half of HF `Blip2Model`.
pub struct ImageEncoder {
    pub vision_model: Rc<Blip2VisionModel>,
    query_tokens: Tensor<3>,
    qformer: Blip2QFormerModel,
    language_projection: Linear,
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

impl ImageEncoder {
    /// `weights` of the whole model; with a vision tower that is loaded already, if there is one: models of one tower share it.
    /// Errors: model-unsupported, weight-missing, weight-shape.
    pub fn load(tower: Option<Rc<Blip2VisionModel>>, config: &Blip2Config, weights: &Weights) -> Result<Self> {
        let vision_model = match tower {
            Some(tower) => tower,
            None => Rc::new(Blip2VisionModel::load(&config.vision_config, &weights.at("vision_model"))?),
        };
        let width = config.qformer_config.hidden_size;
        Ok(Self {
            vision_model,
            query_tokens: weights.tensor("query_tokens", [1, config.num_query_tokens, width])?,
            qformer: Blip2QFormerModel::load(&config.qformer_config, &weights.at("qformer"))?,
            language_projection: Linear::load(&weights.at("language_projection"), [width, config.text_config.hidden_size()?], true)?,
        })
    }

    /// pixel_values [B, 3, H, W] → image features and, on request, every hidden state and attention on the way.
    /// Errors: input-invalid, kernel.
    pub async fn forward(&self, pixel_values: &Tensor<4>, options: ImageOptions) -> Result<ImageOutput> {
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
        let projected = self.language_projection.forward(&qformer.last_hidden_state.clone().reshape([batch * queries, width]))?;
        let language_width = projected.dims()[1];
        Ok(ImageOutput { vision, qformer, language_projection: projected.reshape([batch, queries, language_width]) })
    }
}
