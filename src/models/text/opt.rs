//! OPT. HF `OPTForCausalLM`, transformers 4.57 `modeling_opt.py`; paper arXiv 2205.01068. Pre-LN, or post-LN with
//! projections around a narrower embedding (the 350m shape). The head is the embedding, whatever the file holds.

use burn_tensor::{Int, Tensor, TensorData};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::layers::{Embedding, KvCache, LayerNorm, Linear, Mlp};
use crate::models::config::OPTConfig;
use crate::models::text::{Decoding, Kept, LanguageOptions, LanguageOutput, causal_bias};
use crate::ops::embedding::Lookup;
use crate::ops::{Heads, StepState};
use crate::pace::Pace;
use crate::weights::Weights;

/// HF `OPTLearnedPositionalEmbedding.offset`: the position table starts two rows in.
const POSITION_OFFSET: usize = 2;
/// PyTorch's default; OPT has no field for it.
const LAYER_NORM_EPS: f64 = 1e-5;

pub struct OPTForCausalLM {
    pub config: OPTConfig,
    embed_tokens: Embedding,
    embed_positions: Embedding,
    project_in: Option<Linear>,
    layers: Vec<OPTDecoderLayer>,
    final_layer_norm: Option<LayerNorm>,
    project_out: Option<Linear>,
}

impl OPTForCausalLM {
    /// `weights` at "language_model". Errors: weight-missing, weight-shape.
    pub fn load(config: &OPTConfig, weights: &Weights) -> Result<Self> {
        let weights = weights.at("model.decoder");
        let (embed, hidden) = (config.embed_dim(), config.hidden_size);
        let project = |name: &str, sizes| (embed != hidden).then(|| Linear::load(&weights.at(name), sizes, false)).transpose();
        let has_final_norm = config.do_layer_norm_before && !config.remove_final_layer_norm;
        let positions = [config.max_position_embeddings + POSITION_OFFSET, hidden];
        Ok(Self {
            config: config.clone(),
            embed_tokens: Embedding::load(&weights.at("embed_tokens"), [config.vocab_size, embed])?,
            embed_positions: Embedding::load_table(&weights.at("embed_positions"), positions)?,
            project_in: project("project_in", [embed, hidden])?,
            layers: (0..config.num_hidden_layers)
                .map(|index| OPTDecoderLayer::load(config, &weights.at("layers").at(index.to_string())))
                .collect::<Result<_>>()?,
            final_layer_norm: has_final_norm.then(|| layer_norm(config, &weights.at("final_layer_norm"))).transpose()?,
            project_out: project("project_out", [hidden, embed])?,
        })
    }

    /// ids [n] → [n, word_embed_proj_dim], not scaled.
    pub fn embed(&self, ids: &Tensor<1, Int>) -> Result<Tensor<2>> {
        self.embed_tokens.forward(ids)
    }

    /// inputs_embeds [rows·n, width], attention_mask [rows, n] → logits of each row's last position [rows, vocabulary].
    /// Positions where the mask is 0 ask for position 1, as in HF's `generate`. Errors: input-invalid.
    pub async fn start(
        &self,
        device: &Device,
        inputs_embeds: &Tensor<2>,
        attention_mask: &[Vec<u32>],
        new_tokens: usize,
        beams: usize,
    ) -> Result<(Decoding, Tensor<2>)> {
        let n = attention_mask.first().map_or(0, Vec::len);
        // The last token is chosen and never fed back.
        let capacity = n + new_tokens.max(1) - 1;
        let (mut decoding, positions) = self.decoding(device, attention_mask, beams, capacity, 1)?;
        let x = self.prompt(inputs_embeds, &positions, &mut decoding, &mut Kept::default()).await?;
        let (rows, width) = (attention_mask.len(), x.dims()[1]);
        let last = x.reshape([rows, n, width]).slice([0..rows, n - 1..n, 0..width]).reshape([rows, width]);
        Ok((decoding, self.embed_tokens.as_head(&last)?))
    }

    /// And the position ids of the prompt, [rows·n].
    fn decoding(
        &self,
        device: &Device,
        attention_mask: &[Vec<u32>],
        beams: usize,
        capacity: usize,
        masked_position: i32,
    ) -> Result<(Decoding, Tensor<1, Int>)> {
        if capacity > self.config.max_position_embeddings {
            let reason = format!("{capacity} positions are more than the {} that the model has", self.config.max_position_embeddings);
            return Err(Error::input("max_length", reason));
        }
        let (mut positions, mut next) = (vec![], vec![]);
        for mask in attention_mask {
            let mut attended = 0;
            for bit in mask {
                attended += i32::from(*bit != 0);
                positions.push(if *bit != 0 { attended - 1 } else { masked_position });
            }
            next.push(attended);
        }
        let state = StepState::new(device, attention_mask, &next, beams, capacity)?;
        let mut decoding = Decoding::new(state, self.layers.len(), self.config.hidden_size, None);
        decoding.fed = attention_mask.first().map_or(0, Vec::len);
        let count = positions.len();
        Ok((decoding, Tensor::from_data(TensorData::new(positions, [count]), &device.burn)))
    }

    pub async fn step(&self, decoding: &mut Decoding) -> Result<Tensor<2>> {
        let state = &decoding.state;
        let tokens = Lookup { ids: &state.buffer, offset: state.tokens_at(), count: state.rows, shift: 0, add: None };
        let x = self.embed_tokens.lookup(tokens)?;
        let x = self.project(&self.project_in, x)?;
        let lookup = Lookup { ids: &state.buffer, offset: state.positions_at(), count: state.rows, shift: POSITION_OFFSET, add: Some(&x) };
        let x = self.embed_positions.lookup(lookup)?;
        let x = self.decode(x, decoding, &mut Kept::default()).await?;
        self.embed_tokens.as_head(&x)
    }

    /// Positions where the mask is 0 ask for position −1, as in HF's plain forward.
    pub async fn forward(
        &self,
        device: &Device,
        inputs_embeds: &Tensor<2>,
        attention_mask: &[Vec<u32>],
        options: LanguageOptions,
    ) -> Result<LanguageOutput> {
        let positions = attention_mask.first().map_or(0, Vec::len);
        let (mut decoding, ids) = self.decoding(device, attention_mask, 1, positions, -1)?;
        let mut kept = Kept::new(options, || causal_bias(device, attention_mask));
        let x = self.prompt(inputs_embeds, &ids, &mut decoding, &mut kept).await?;
        let logits = self.embed_tokens.as_head(&x)?;
        kept.hidden_state(&x);
        let Kept { hidden_states, attentions, cross_attentions, .. } = kept;
        Ok(LanguageOutput { logits, hidden_states, attentions, cross_attentions, encoder: None })
    }

    /// `ids` [rows·n]: position ids.
    async fn prompt(&self, inputs_embeds: &Tensor<2>, ids: &Tensor<1, Int>, decoding: &mut Decoding, kept: &mut Kept) -> Result<Tensor<2>> {
        if inputs_embeds.dims()[0] != ids.dims()[0] {
            return Err(Error::input("attention_mask", format!("{} positions for {} embeddings", ids.dims()[0], inputs_embeds.dims()[0])));
        }
        let x = self.project(&self.project_in, inputs_embeds.clone())?;
        let lookup = Lookup { ids, offset: 0, count: ids.dims()[0], shift: POSITION_OFFSET, add: Some(&x) };
        let x = self.embed_positions.lookup(lookup)?;
        self.decode(x, decoding, kept).await
    }

    /// All layers over the newest positions; `kept` takes what each layer was given.
    async fn decode(&self, mut x: Tensor<2>, decoding: &mut Decoding, kept: &mut Kept) -> Result<Tensor<2>> {
        let mut pace = Pace::default();
        for (layer, cache) in self.layers.iter().zip(&mut decoding.caches) {
            kept.hidden_state(&x);
            x = layer.forward(&x, &decoding.state, cache, kept)?;
            pace.breathe().await;
        }
        if let Some(norm) = &self.final_layer_norm {
            x = norm.forward(&x)?;
        }
        self.project(&self.project_out, x)
    }

    fn project(&self, projection: &Option<Linear>, x: Tensor<2>) -> Result<Tensor<2>> {
        match projection {
            Some(projection) => projection.forward(&x),
            None => Ok(x),
        }
    }
}

fn layer_norm(config: &OPTConfig, weights: &Weights) -> Result<LayerNorm> {
    match config.layer_norm_elementwise_affine {
        true => LayerNorm::load(weights, config.hidden_size, LAYER_NORM_EPS),
        false => Ok(LayerNorm::plain(weights, config.hidden_size, LAYER_NORM_EPS)),
    }
}

struct OPTDecoderLayer {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    self_attn_layer_norm: LayerNorm,
    mlp: Mlp,
    final_layer_norm: LayerNorm,
    heads: Heads,
    norm_before: bool,
}

impl OPTDecoderLayer {
    fn load(config: &OPTConfig, weights: &Weights) -> Result<Self> {
        let (hidden, bias) = (config.hidden_size, config.enable_bias);
        let head_dim = hidden / config.num_attention_heads;
        let attention = |name: &str| Linear::load(&weights.at("self_attn").at(name), [hidden, hidden], bias);
        Ok(Self {
            q_proj: attention("q_proj")?,
            k_proj: attention("k_proj")?,
            v_proj: attention("v_proj")?,
            out_proj: attention("out_proj")?,
            self_attn_layer_norm: layer_norm(config, &weights.at("self_attn_layer_norm"))?,
            mlp: Mlp {
                fc1: Linear::load(&weights.at("fc1"), [hidden, config.ffn_dim], bias)?,
                fc2: Linear::load(&weights.at("fc2"), [config.ffn_dim, hidden], bias)?,
                activation: config.activation_function,
            },
            final_layer_norm: layer_norm(config, &weights.at("final_layer_norm"))?,
            heads: Heads { count: config.num_attention_heads, head_dim, scale: (head_dim as f32).powf(-0.5) },
            norm_before: config.do_layer_norm_before,
        })
    }

    fn forward(&self, x: &Tensor<2>, state: &StepState, cache: &mut KvCache, kept: &mut Kept) -> Result<Tensor<2>> {
        if self.norm_before {
            let x = self.attend([&self.self_attn_layer_norm.forward(x)?, x], state, cache, kept)?;
            self.mlp.plus(&self.final_layer_norm.forward(&x)?, &x)
        } else {
            let x = self.self_attn_layer_norm.forward(&self.attend([x, x], state, cache, kept)?)?;
            self.final_layer_norm.forward(&self.mlp.plus(&x, &x)?)
        }
    }

    fn attend(&self, [x, residual]: [&Tensor<2>; 2], state: &StepState, cache: &mut KvCache, kept: &mut Kept) -> Result<Tensor<2>> {
        let (q, k, v) = (self.q_proj.forward(x)?, self.k_proj.forward(x)?, self.v_proj.forward(x)?);
        kept.attention(&q, &k, self.heads, None)?;
        self.out_proj.plus(&cache.attend(state, [&q, &k, &v], self.heads, None)?, residual)
    }
}
