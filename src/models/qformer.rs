//! The Q-Former: a post-LN BERT whose queries look at the image. HF `Blip2QFormerModel`; BLIP-2 §3.1.

use burn_tensor::Tensor;

use crate::error::{Error, Result};
use crate::layers::{LayerNorm, Linear, Mlp};
use crate::models::config::Blip2QFormerConfig;
use crate::ops::{Heads, Rows, attention};
use crate::pace::Pace;
use crate::weights::Weights;

pub struct QFormerOutput {
    /// [B, S, hidden]
    pub last_hidden_state: Tensor<3>,
    /// [B, hidden]: the first position.
    pub pooler_output: Tensor<2>,
    /// After the input's layernorm, then each layer's output: [B, S, hidden] each. Empty unless asked for.
    pub hidden_states: Vec<Tensor<3>>,
}

pub struct Blip2QFormerModel {
    layernorm: LayerNorm,
    layers: Vec<QFormerLayer>,
}

impl Blip2QFormerModel {
    /// `weights` at "qformer". Errors: weight-missing, weight-shape.
    pub fn load(config: &Blip2QFormerConfig, weights: &Weights) -> Result<Self> {
        let layers = weights.at("encoder.layer");
        Ok(Self {
            layernorm: LayerNorm::load(&weights.at("layernorm"), config.hidden_size, config.layer_norm_eps)?,
            layers: (0..config.num_hidden_layers)
                .map(|index| QFormerLayer::load(config, index, &layers.at(index.to_string())))
                .collect::<Result<_>>()?,
        })
    }

    /// query_embeds [B, Q, hidden], encoder_hidden_states [B, P, encoder_hidden_size]. Errors: input-invalid when the
    /// batches differ.
    pub async fn forward(
        &self,
        query_embeds: &Tensor<3>,
        encoder_hidden_states: &Tensor<3>,
        output_hidden_states: bool,
    ) -> Result<QFormerOutput> {
        let mut pace = Pace::default();
        let [batch, positions, width] = query_embeds.dims();
        let [images, patches, encoder_width] = encoder_hidden_states.dims();
        if images != batch {
            return Err(Error::input("encoder_hidden_states", format!("{images} images for {batch} rows of queries")));
        }
        let image = encoder_hidden_states.clone().reshape([batch * patches, encoder_width]);
        let shape = [batch, positions, width];
        let mut x = self.layernorm.forward(&query_embeds.clone().reshape([batch * positions, width]))?;
        let mut hidden_states = vec![];
        for layer in &self.layers {
            if output_hidden_states {
                hidden_states.push(x.clone().reshape(shape));
            }
            x = layer.forward(batch, &x, &image)?;
            pace.breathe().await;
        }
        let last_hidden_state: Tensor<3> = x.reshape(shape);
        if output_hidden_states {
            hidden_states.push(last_hidden_state.clone());
        }
        let pooler_output = last_hidden_state.clone().slice([0..batch, 0..1, 0..width]).reshape([batch, width]);
        Ok(QFormerOutput { last_hidden_state, pooler_output, hidden_states })
    }
}

/// Self-attention, then (every `cross_attention_frequency` layers) cross-attention to the image, then the queries' MLP.
/// The norm comes after each residual.
struct QFormerLayer {
    attention: QFormerAttention,
    crossattention: Option<QFormerAttention>,
    mlp: Mlp,
    norm: LayerNorm,
}

impl QFormerLayer {
    fn load(config: &Blip2QFormerConfig, index: usize, weights: &Weights) -> Result<Self> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let crosses = index.is_multiple_of(config.cross_attention_frequency);
        let load = |name: &str, keys_from: usize| QFormerAttention::load(config, keys_from, &weights.at(name));
        Ok(Self {
            attention: load("attention", width)?,
            crossattention: crosses.then(|| load("crossattention", config.encoder_hidden_size)).transpose()?,
            mlp: Mlp {
                fc1: Linear::load(&weights.at("intermediate_query.dense"), [width, inner], true)?,
                fc2: Linear::load(&weights.at("output_query.dense"), [inner, width], true)?,
                activation: config.hidden_act,
            },
            norm: LayerNorm::load(&weights.at("output_query.LayerNorm"), width, config.layer_norm_eps)?,
        })
    }

    fn forward(&self, batch: usize, x: &Tensor<2>, image: &Tensor<2>) -> Result<Tensor<2>> {
        let mut x = self.attention.forward(batch, x, x)?;
        if let Some(crossattention) = &self.crossattention {
            x = crossattention.forward(batch, &x, image)?;
        }
        self.norm.forward(&self.mlp.plus(&x, &x)?)
    }
}

/// LN(dense(softmax(q·kᵀ/√head_dim)·v) + x), keys and values from `encoder`.
struct QFormerAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    norm: LayerNorm,
    heads: Heads,
}

impl QFormerAttention {
    fn load(config: &Blip2QFormerConfig, keys_from: usize, weights: &Weights) -> Result<Self> {
        let width = config.hidden_size;
        let head_dim = width / config.num_attention_heads;
        let parts = weights.at("attention");
        Ok(Self {
            query: Linear::load(&parts.at("query"), [width, width], true)?,
            key: Linear::load(&parts.at("key"), [keys_from, width], true)?,
            value: Linear::load(&parts.at("value"), [keys_from, width], true)?,
            dense: Linear::load(&weights.at("output.dense"), [width, width], true)?,
            norm: LayerNorm::load(&weights.at("output.LayerNorm"), width, config.layer_norm_eps)?,
            heads: Heads { count: config.num_attention_heads, head_dim, scale: (head_dim as f32).powf(-0.5) },
        })
    }

    fn forward(&self, batch: usize, x: &Tensor<2>, encoder: &Tensor<2>) -> Result<Tensor<2>> {
        let (q, k, v) = (self.query.forward(x)?, self.key.forward(encoder)?, self.value.forward(encoder)?);
        let attended = attention(batch, Rows::whole(&q), Rows::whole(&k), Rows::whole(&v), self.heads, None)?;
        self.norm.forward(&self.dense.plus(&attended, x)?)
    }
}
