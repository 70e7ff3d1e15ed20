//! OPT. HF `OPTForCausalLM`, transformers 4.57 `modeling_opt.py`; paper arXiv 2205.01068. Pre-LN, or post-LN with
//! projections around a narrower embedding (the 350m shape). The head is the embedding, whatever the file holds.

use burn_tensor::{Int, Tensor, TensorData};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::layers::{Embedding, KvCache, LayerNorm, Linear, Mlp, in_pieces};
use crate::models::config::OPTConfig;
use crate::models::text::decoding::{Decoding, Decodings, PositionKey, Prompts};
use crate::models::text::{Kept, LanguageOptions, LanguageOutput, causal_bias};
use crate::ops::embedding::Lookup;
use crate::ops::{Fused, Heads, Rows, StepState};
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
    decodings: Decodings,
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
            decodings: Decodings::default(),
        })
    }

    /// ids [n] → [n, word_embed_proj_dim], not scaled.
    pub fn embed(&self, ids: &Tensor<1, Int>) -> Result<Tensor<2>> {
        self.embed_tokens.forward(ids)
    }

    /// inputs_embeds [rows·n, width], attention_mask [rows, n] → logits of each row's last position [rows, vocabulary].
    /// Positions where the mask is 0 ask for position 1, as in HF's `generate`. What an earlier answer has left of the same
    /// beginning is not computed again. Errors: input-invalid.
    pub async fn start(
        &self,
        device: &Device,
        inputs_embeds: &Tensor<2>,
        attention_mask: &[Vec<u32>],
        keys: Option<&[PositionKey]>,
        new_tokens: usize,
        beams: usize,
    ) -> Result<(Decoding, Tensor<2>)> {
        let (rows, n) = (attention_mask.len(), attention_mask.first().map_or(0, Vec::len));
        // The last token is chosen and never fed back.
        self.check_positions(n + new_tokens.max(1) - 1)?;
        self.check_prompt(inputs_embeds, rows * n)?;
        let (positions, next_position) = positions_of(attention_mask, 1);
        let keys = keys.filter(|keys| rows == 1 && keys.len() == n && attention_mask.iter().flatten().all(|bit| *bit == 1));
        let prompts = Prompts { attention_mask, next_position: &next_position, beams, new_tokens, keys };
        let mut decoding = self.decodings.start(device, &prompts, self.layers.len(), heads(&self.config))?;
        let kept = decoding.state.length();
        let width = inputs_embeds.dims()[1];
        // Where something is kept there is one row.
        let inputs_embeds = inputs_embeds.clone().slice([kept..rows * n, 0..width]);
        let positions = positions_tensor(device, &positions[kept..]);
        let x = self.prompt(&inputs_embeds, &positions, &mut decoding, &mut Kept::default()).await?;
        let (computed, width) = (n - kept, x.dims()[1]);
        let last = x.reshape([rows, computed, width]).slice([0..rows, computed - 1..computed, 0..width]).reshape([rows, width]);
        Ok((decoding, self.embed_tokens.as_head(None, &last)?))
    }

    fn check_positions(&self, positions: usize) -> Result<()> {
        let limit = self.config.max_position_embeddings;
        if positions > limit {
            return Err(Error::input("max_length", format!("{positions} positions are more than the {limit} that the model has")));
        }
        Ok(())
    }

    fn check_prompt(&self, inputs_embeds: &Tensor<2>, positions: usize) -> Result<()> {
        if inputs_embeds.dims()[0] != positions || positions == 0 {
            return Err(Error::input("attention_mask", format!("{positions} positions for {} embeddings", inputs_embeds.dims()[0])));
        }
        Ok(())
    }

    /// A row in the middle of an answer, `positions` behind its beginning, whose caches hold nothing: what its steps cost is what
    /// such steps cost, what they say means nothing. Errors: input-invalid.
    pub fn seeded(&self, device: &Device, positions: usize) -> Result<Decoding> {
        self.check_positions(positions + 1)?;
        let (attention_mask, next_position) = ([vec![1; positions]], [positions as i32]);
        let mut decoding = Decoding::once(device, &attention_mask, &next_position, self.layers.len(), heads(&self.config))?;
        decoding.advance(&positions_tensor(device, &[0]))?;
        Ok(decoding)
    }

    /// What an answer has left behind, for the next one.
    pub fn keep(&self, decoding: Decoding, said: &[u32]) {
        self.decodings.keep(decoding, said);
    }

    pub async fn step(&self, decoding: &mut Decoding, pace: &mut Pace) -> Result<Tensor<2>> {
        let state = &decoding.state;
        let tokens = Lookup { ids: &state.buffer, offset: state.tokens_at(), count: state.rows, shift: 0, add: None };
        let x = self.embed_tokens.lookup(tokens)?;
        let x = self.project(&self.project_in, x)?;
        let lookup = Lookup { ids: &state.buffer, offset: state.positions_at(), count: state.rows, shift: POSITION_OFFSET, add: Some(&x) };
        let x = self.embed_positions.lookup(lookup)?;
        let x = self.decode(x, decoding, &mut Kept::default(), pace).await?;
        self.embed_tokens.as_head(None, &x)
    }

    /// Positions where the mask is 0 ask for position −1, as in HF's plain forward.
    pub async fn forward(
        &self,
        device: &Device,
        inputs_embeds: &Tensor<2>,
        attention_mask: &[Vec<u32>],
        options: LanguageOptions,
    ) -> Result<LanguageOutput> {
        let (rows, n) = (attention_mask.len(), attention_mask.first().map_or(0, Vec::len));
        self.check_positions(n)?;
        self.check_prompt(inputs_embeds, rows * n)?;
        let (positions, next_position) = positions_of(attention_mask, -1);
        let mut decoding = Decoding::once(device, attention_mask, &next_position, self.layers.len(), heads(&self.config))?;
        let mut kept = Kept::new(options, || causal_bias(device, attention_mask));
        let x = self.prompt(inputs_embeds, &positions_tensor(device, &positions), &mut decoding, &mut kept).await?;
        let logits = self.embed_tokens.as_head(None, &x)?;
        kept.hidden_state(&x);
        let Kept { hidden_states, attentions, cross_attentions, .. } = kept;
        Ok(LanguageOutput { logits, hidden_states, attentions, cross_attentions, encoder: None })
    }

    /// `ids` [rows·n]: position ids.
    async fn prompt(&self, inputs_embeds: &Tensor<2>, ids: &Tensor<1, Int>, decoding: &mut Decoding, kept: &mut Kept) -> Result<Tensor<2>> {
        let x = self.project(&self.project_in, inputs_embeds.clone())?;
        let lookup = Lookup { ids, offset: 0, count: ids.dims()[0], shift: POSITION_OFFSET, add: Some(&x) };
        let x = self.embed_positions.lookup(lookup)?;
        self.decode(x, decoding, kept, &mut Pace::new()).await
    }

    /// All layers over the newest positions; `kept` takes what each layer was given.
    async fn decode(&self, mut x: Tensor<2>, decoding: &mut Decoding, kept: &mut Kept, pace: &mut Pace) -> Result<Tensor<2>> {
        for (layer, cache) in self.layers.iter().zip(&mut decoding.caches) {
            kept.hidden_state(&x);
            x = layer.forward(&x, &decoding.state, cache, kept, pace).await?;
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

/// Position ids of every position, [rows·n], and of the one behind each row; those that are masked ask for `masked`.
fn positions_of(attention_mask: &[Vec<u32>], masked: i32) -> (Vec<i32>, Vec<i32>) {
    let (mut positions, mut next) = (vec![], vec![]);
    for mask in attention_mask {
        let mut attended = 0;
        for bit in mask {
            attended += i32::from(*bit != 0);
            positions.push(if *bit != 0 { attended - 1 } else { masked });
        }
        next.push(attended);
    }
    (positions, next)
}

fn positions_tensor(device: &Device, positions: &[i32]) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(positions.to_vec(), [positions.len()]), &device.burn)
}

fn layer_norm(config: &OPTConfig, weights: &Weights) -> Result<LayerNorm> {
    match config.layer_norm_elementwise_affine {
        true => LayerNorm::load(weights, config.hidden_size, LAYER_NORM_EPS),
        false => Ok(LayerNorm::plain(weights, config.hidden_size, LAYER_NORM_EPS)),
    }
}

struct OPTDecoderLayer {
    /// q_proj, k_proj and v_proj.
    qkv_proj: Linear,
    out_proj: Linear,
    self_attn_layer_norm: LayerNorm,
    mlp: Mlp,
    final_layer_norm: LayerNorm,
    heads: Heads,
    norm_before: bool,
}

fn heads(config: &OPTConfig) -> Heads {
    let head_dim = config.hidden_size / config.num_attention_heads;
    Heads { count: config.num_attention_heads, head_dim, scale: (head_dim as f32).powf(-0.5) }
}

impl OPTDecoderLayer {
    fn load(config: &OPTConfig, weights: &Weights) -> Result<Self> {
        let (hidden, bias) = (config.hidden_size, config.enable_bias);
        let attention = weights.at("self_attn");
        Ok(Self {
            qkv_proj: Linear::load_joined(&attention, &["q_proj", "k_proj", "v_proj"], [hidden, hidden], bias)?,
            out_proj: Linear::load(&attention.at("out_proj"), [hidden, hidden], bias)?,
            self_attn_layer_norm: layer_norm(config, &weights.at("self_attn_layer_norm"))?,
            mlp: Mlp {
                fc1: Linear::load(&weights.at("fc1"), [hidden, config.ffn_dim], bias)?,
                fc2: Linear::load(&weights.at("fc2"), [config.ffn_dim, hidden], bias)?,
                activation: config.activation_function,
            },
            final_layer_norm: layer_norm(config, &weights.at("final_layer_norm"))?,
            heads: heads(config),
            norm_before: config.do_layer_norm_before,
        })
    }

    async fn forward(&self, x: &Tensor<2>, state: &StepState, cache: &mut KvCache, kept: &mut Kept, pace: &mut Pace) -> Result<Tensor<2>> {
        let norm = self.norm_before.then(|| self.self_attn_layer_norm.as_norm());
        let product = in_pieces([x], self.qkv_proj.work(), pace, |[x]| self.qkv_proj.fused(x, Fused { norm, ..Fused::default() })).await?;
        let [q, k, v] = Rows::parts(&product);
        kept.attention(q, k, self.heads, None)?;
        let attended = cache.attend(state, [q, k, v], self.heads, None)?;
        let x = in_pieces([&attended, x], self.out_proj.work(), pace, |[attended, x]| self.out_proj.plus(attended, x)).await?;
        if self.norm_before {
            return self.mlp.plus(Some(self.final_layer_norm.as_norm()), &x, pace).await;
        }
        let x = self.self_attn_layer_norm.forward(&x)?;
        self.final_layer_norm.forward(&self.mlp.plus(None, &x, pace).await?)
    }
}
