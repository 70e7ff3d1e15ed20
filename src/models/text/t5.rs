//! T5 and Flan-T5: an encoder over image tokens and question, a decoder for the answer. HF `T5ForConditionalGeneration`,
//! transformers 4.57 `modeling_t5.py`.

use burn_tensor::{Int, Tensor, TensorData};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::layers::{Embedding, KvCache, Linear, RmsNorm, in_pieces};
use crate::models::config::T5Config;
use crate::models::ids_tensor;
use crate::models::text::decoding::{Decoding, Decodings, Prompts};
use crate::models::text::{Kept, LanguageOptions, LanguageOutput, causal_bias};
use crate::ops::embedding::Lookup;
use crate::ops::{Activation, Bias, DistanceBias, Fused, Heads, Rows, StepState, attention};
use crate::pace::Pace;
use crate::weights::Weights;

/// What the decoder looks at: made once for an image and a question, and shared by every answer's beams.
#[derive(Debug, Clone)]
pub struct EncoderOutput {
    /// [rows·n, d_model]
    pub last_hidden_state: Tensor<2>,
    /// [rows, n]
    pub attention_mask: Vec<Vec<u32>>,
    /// The input of each block, then `last_hidden_state`. Empty unless asked for.
    pub hidden_states: Vec<Tensor<2>>,
    /// Each block's weights: [rows, heads, n, n] each. HF's `encoder_attentions`. Empty unless asked for.
    pub attentions: Vec<Tensor<4>>,
    /// [rows, 1, n]: 0 where attended.
    bias: Tensor<3>,
    /// Keys and values of each decoder block's cross-attention, side by side: [rows·n, 2·heads·d_kv].
    keys_and_values: Vec<Tensor<2>>,
}

impl EncoderOutput {
    /// What a block of the decoder looks at, by its place among them.
    fn seen_by(&self, block: usize) -> Option<Seen<'_>> {
        let [k, v] = Rows::parts(self.keys_and_values.get(block)?);
        Some(Seen { k, v, bias: &self.bias })
    }
}

/// Keys and values of rows·n positions, bias [rows, 1, n].
struct Seen<'a> {
    k: Rows<'a>,
    v: Rows<'a>,
    bias: &'a Tensor<3>,
}

pub struct T5ForConditionalGeneration {
    pub config: T5Config,
    shared: Embedding,
    encoder: T5Stack,
    decoder: T5Stack,
    /// `None` where the head is tied to the embeddings.
    lm_head: Option<Linear>,
    decodings: Decodings,
}

impl T5ForConditionalGeneration {
    /// `weights` at "language_model". Errors: weight-missing, weight-shape.
    pub fn load(config: &T5Config, weights: &Weights) -> Result<Self> {
        let head = || Linear::load(&weights.at("lm_head"), [config.d_model, config.vocab_size], false);
        Ok(Self {
            config: config.clone(),
            shared: Embedding::load(&weights.at("shared"), [config.vocab_size, config.d_model])?,
            encoder: T5Stack::load(config, Side::Encoder, &weights.at("encoder"))?,
            decoder: T5Stack::load(config, Side::Decoder, &weights.at("decoder"))?,
            lm_head: (!config.tie_word_embeddings).then(head).transpose()?,
            decodings: Decodings::default(),
        })
    }

    /// ids [n] → [n, d_model], not scaled.
    pub fn embed(&self, ids: &Tensor<1, Int>) -> Result<Tensor<2>> {
        self.shared.forward(ids)
    }

    /// inputs_embeds [rows·n, d_model], attention_mask [rows, n]. Errors: input-invalid when they differ.
    pub async fn encode(&self, inputs_embeds: &Tensor<2>, attention_mask: &[Vec<u32>], options: LanguageOptions) -> Result<EncoderOutput> {
        let (rows, positions) = (attention_mask.len(), attention_mask.first().map_or(0, Vec::len));
        if rows * positions != inputs_embeds.dims()[0] || positions == 0 || attention_mask.iter().any(|mask| mask.len() != positions) {
            let reason = format!("{rows} rows of {positions} positions for {} embeddings", inputs_embeds.dims()[0]);
            return Err(Error::input("attention_mask", reason));
        }
        // HF's finfo.min: added to any score it is still the lowest f32.
        let bias = attention_mask.iter().flatten().map(|bit| if *bit != 0 { 0.0 } else { f32::MIN }).collect::<Vec<f32>>();
        let bias = Tensor::from_data(TensorData::new(bias, [rows, 1, positions]), &inputs_embeds.device());
        let mut kept = Kept::new(options, || bias.clone());
        let mut pace = Pace::default();
        let mut x = inputs_embeds.clone();
        for block in &self.encoder.blocks {
            kept.hidden_state(&x);
            x = block.encode(&x, &bias, &self.encoder.distance, &mut kept, &mut pace).await?;
        }
        let last_hidden_state = self.encoder.final_layer_norm.forward(&x)?;
        kept.hidden_state(&last_hidden_state);
        let crosses = self.decoder.blocks.iter().filter_map(|block| block.cross.as_ref());
        let keys_and_values = crosses.map(|cross| cross.attention.kv.forward(&last_hidden_state)).collect::<Result<_>>()?;
        let (attention_mask, Kept { hidden_states, attentions, .. }) = (attention_mask.to_vec(), kept);
        Ok(EncoderOutput { last_hidden_state, attention_mask, hidden_states, attentions, bias, keys_and_values })
    }

    /// The decoder with its first token. → logits [rows, vocabulary]
    pub async fn start(
        &self,
        device: &Device,
        encoded: &EncoderOutput,
        decoder_start: u32,
        new_tokens: usize,
        beams: usize,
    ) -> Result<(Decoding, Tensor<2>)> {
        let ids = vec![vec![decoder_start]; encoded.attention_mask.len()];
        let (attention_mask, next_position) = (all_attended(&ids), vec![1; ids.len()]);
        let prompts = Prompts { attention_mask: &attention_mask, next_position: &next_position, beams, new_tokens, keys: None };
        let mut decoding = self.decodings.start(device, &prompts, self.decoder.blocks.len(), heads(&self.config))?;
        decoding.see(encoded.clone());
        let x = self.embed(&ids_tensor(device, &ids.concat()))?;
        let x = self.decode(x, &mut decoding, &mut Kept::default(), &mut Pace::new()).await?;
        Ok((decoding, self.head(x)?))
    }

    /// Room for the next answer.
    pub fn keep(&self, decoding: Decoding) {
        self.decodings.keep(decoding, &[]);
    }

    pub async fn step(&self, decoding: &mut Decoding, pace: &mut Pace) -> Result<Tensor<2>> {
        let state = &decoding.state;
        let tokens = Lookup { ids: &state.buffer, offset: state.tokens_at(), count: state.rows, shift: 0, add: None };
        let x = self.shared.lookup(tokens)?;
        let x = self.decode(x, decoding, &mut Kept::default(), pace).await?;
        self.head(x)
    }

    /// Encoder over inputs_embeds, decoder over ids [rows, m], all positions at once. Errors: input-invalid.
    pub async fn forward(
        &self,
        device: &Device,
        inputs_embeds: &Tensor<2>,
        attention_mask: &[Vec<u32>],
        decoder_input_ids: &[Vec<u32>],
        options: LanguageOptions,
    ) -> Result<LanguageOutput> {
        let encoded = self.encode(inputs_embeds, attention_mask, options).await?;
        let positions = decoder_input_ids.first().map_or(0, Vec::len);
        if decoder_input_ids.len() != attention_mask.len() || positions == 0 || decoder_input_ids.iter().any(|row| row.len() != positions) {
            let reason = format!("{} rows of one length, for {} rows of input_ids", decoder_input_ids.len(), attention_mask.len());
            return Err(Error::input("decoder_input_ids", reason));
        }
        // Positions are relative and none of the decoder's ids is padding: every position is attended.
        let (attention_mask, next_position) = (all_attended(decoder_input_ids), vec![positions as i32; decoder_input_ids.len()]);
        let mut decoding = Decoding::once(device, &attention_mask, &next_position, self.decoder.blocks.len(), heads(&self.config))?;
        decoding.see(encoded.clone());
        let x = self.embed(&ids_tensor(device, &decoder_input_ids.concat()))?;
        let mut kept = Kept::new(options, || causal_bias(device, &all_attended(decoder_input_ids)));
        let x = self.decode(x, &mut decoding, &mut kept, &mut Pace::new()).await?;
        kept.hidden_state(&x);
        let Kept { hidden_states, attentions, cross_attentions, .. } = kept;
        Ok(LanguageOutput { logits: self.head(x)?, hidden_states, attentions, cross_attentions, encoder: Some(encoded) })
    }

    /// All blocks over the newest positions; `kept` takes what each block was given.
    async fn decode(&self, mut x: Tensor<2>, decoding: &mut Decoding, kept: &mut Kept, pace: &mut Pace) -> Result<Tensor<2>> {
        let Decoding { state, caches, encoder, .. } = decoding;
        let encoder = encoder.as_ref().ok_or_else(|| Error::kernel("t5", "no encoder output"))?;
        for (place, (block, cache)) in self.decoder.blocks.iter().zip(caches).enumerate() {
            kept.hidden_state(&x);
            x = block.decode(&x, state, cache, &self.decoder.distance, encoder.seen_by(place), kept, pace).await?;
        }
        self.decoder.final_layer_norm.forward(&x)
    }

    /// A tied head's input is scaled, as in HF; an own head's is not.
    fn head(&self, x: Tensor<2>) -> Result<Tensor<2>> {
        match &self.lm_head {
            Some(head) => head.forward(&x),
            None => self.shared.as_head(None, &x.mul_scalar((self.config.d_model as f32).powf(-0.5))),
        }
    }
}

/// The mask of a decoder's ids, none of which is padding.
fn all_attended(ids: &[Vec<u32>]) -> Vec<Vec<u32>> {
    ids.iter().map(|row| vec![1; row.len()]).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Encoder,
    Decoder,
}

/// HF `T5Stack`: blocks that share the biases by distance of the first one.
struct T5Stack {
    blocks: Vec<T5Block>,
    final_layer_norm: RmsNorm,
    distance: DistanceBias,
}

impl T5Stack {
    fn load(config: &T5Config, side: Side, weights: &Weights) -> Result<Self> {
        let count = if side == Side::Encoder { config.num_layers } else { config.decoder_layers() };
        let blocks = weights.at("block");
        Ok(Self {
            blocks: (0..count).map(|index| T5Block::load(config, side, &blocks.at(index.to_string()))).collect::<Result<_>>()?,
            final_layer_norm: RmsNorm::load(&weights.at("final_layer_norm"), config.d_model, config.layer_norm_epsilon)?,
            distance: distance_bias(config, side, &blocks.at("0.layer.0.SelfAttention.relative_attention_bias"))?,
        })
    }
}

/// `relative_attention_bias` [buckets, heads] spread over every distance that has a bucket of its own or shares one; at
/// `relative_attention_max_distance` and beyond there is one bucket only.
fn distance_bias(config: &T5Config, side: Side, weights: &Weights) -> Result<DistanceBias> {
    let (buckets, reach) = (config.relative_attention_num_buckets, config.relative_attention_max_distance);
    let weight: Tensor<2> = weights.tensor("weight", [buckets, config.num_heads])?;
    let far = reach as i64;
    let rows: Vec<i32> = (-far..=far).map(|distance| bucket(distance, side == Side::Encoder, buckets, reach) as i32).collect();
    let rows = Tensor::from_data(TensorData::new(rows, [2 * reach + 1]), &weight.device());
    Ok(DistanceBias { values: weight.select(0, rows), reach })
}

/// HF `T5Attention._relative_position_bucket`. `distance`: the key's position minus the query's.
fn bucket(distance: i64, bidirectional: bool, buckets: usize, max_distance: usize) -> usize {
    let (buckets, base, distance) = match bidirectional {
        true => (buckets / 2, if distance > 0 { buckets / 2 } else { 0 }, distance.unsigned_abs() as usize),
        false => (buckets, 0, usize::try_from(-distance).unwrap_or(0)),
    };
    let exact = buckets / 2;
    if distance < exact || exact == 0 {
        return base + distance.min(buckets - 1);
    }
    // In f32 and in HF's order of operations: at whole powers the last digit decides.
    let log = (distance as f32 / exact as f32).ln() / (max_distance as f64 / exact as f64).ln() as f32;
    base + (exact + (log * (buckets - exact) as f32) as usize).min(buckets - 1)
}

/// x + self-attention, x + cross-attention (decoder), x + feed-forward; RMSNorm before each.
struct T5Block {
    layer_norm: RmsNorm,
    attention: T5Attention,
    cross: Option<CrossAttention>,
    feed_forward: T5FeedForward,
}

struct CrossAttention {
    layer_norm: RmsNorm,
    attention: T5CrossAttention,
}

impl T5Block {
    fn load(config: &T5Config, side: Side, weights: &Weights) -> Result<Self> {
        let layer = |index: usize| weights.at("layer").at(index.to_string());
        let norm = |index: usize| RmsNorm::load(&layer(index).at("layer_norm"), config.d_model, config.layer_norm_epsilon);
        let cross = || {
            let attention = T5CrossAttention::load(config, &layer(1).at("EncDecAttention"))?;
            Ok(CrossAttention { layer_norm: norm(1)?, attention })
        };
        let last = if side == Side::Decoder { 2 } else { 1 };
        Ok(Self {
            layer_norm: norm(0)?,
            attention: T5Attention::load(config, &layer(0).at("SelfAttention"))?,
            cross: (side == Side::Decoder).then(cross).transpose()?,
            feed_forward: T5FeedForward::load(config, norm(last)?, &layer(last).at("DenseReluDense"))?,
        })
    }

    /// bias [rows, 1, n]
    async fn encode(
        &self,
        x: &Tensor<2>,
        bias: &Tensor<3>,
        distance: &DistanceBias,
        kept: &mut Kept,
        pace: &mut Pace,
    ) -> Result<Tensor<2>> {
        let product = self.products(x, pace).await?;
        let [q, k, v] = Rows::parts(&product);
        kept.attention(q, k, self.attention.heads, Some(distance))?;
        let (rows, bias) = (bias.dims()[0], Bias { dense: Some(bias), by_distance: Some(distance) });
        let attended = attention(rows, q, k, v, self.attention.heads, bias)?;
        let o = &self.attention.o;
        let x = in_pieces([&attended, x], o.work(), pace, |[attended, x]| o.plus(attended, x)).await?;
        self.feed_forward.plus(&x, pace).await
    }

    /// q, k and v of self-attention, side by side.
    async fn products(&self, x: &Tensor<2>, pace: &mut Pace) -> Result<Tensor<2>> {
        let qkv = &self.attention.qkv;
        in_pieces([x], qkv.work(), pace, |[x]| qkv.behind(self.layer_norm.as_norm(), x)).await
    }

    #[allow(clippy::too_many_arguments)] // what a step has, one by one
    async fn decode(
        &self,
        x: &Tensor<2>,
        state: &StepState,
        cache: &mut KvCache,
        distance: &DistanceBias,
        seen: Option<Seen<'_>>,
        kept: &mut Kept,
        pace: &mut Pace,
    ) -> Result<Tensor<2>> {
        let product = self.products(x, pace).await?;
        let [q, k, v] = Rows::parts(&product);
        kept.attention(q, k, self.attention.heads, Some(distance))?;
        let attended = cache.attend(state, [q, k, v], self.attention.heads, Some(distance))?;
        let mut x = self.attention.o.plus(&attended, x)?;
        if let (Some(cross), Some(Seen { k, v, bias })) = (&self.cross, seen) {
            let product = cross.attention.q.behind(cross.layer_norm.as_norm(), &x)?;
            let q = Rows::whole(&product);
            kept.cross_attention(q, k, cross.attention.heads, bias)?;
            // A prompt's beams lie side by side: to the encoder's rows they are so many queries of one row.
            let attended = attention(bias.dims()[0], q, k, v, cross.attention.heads, Some(bias))?;
            x = cross.attention.o.plus(&attended, &x)?;
        }
        self.feed_forward.plus(&x, pace).await
    }
}

/// No biases and no scale; heads·d_kv need not be d_model.
struct T5Attention {
    /// q, k and v.
    qkv: Linear,
    o: Linear,
    heads: Heads,
}

impl T5Attention {
    fn load(config: &T5Config, weights: &Weights) -> Result<Self> {
        let (width, inner) = (config.d_model, config.inner_dim());
        let qkv = Linear::load_joined(weights, &["q", "k", "v"], [width, inner], false)?;
        Ok(Self { qkv, o: Linear::load(&weights.at("o"), [inner, width], false)?, heads: heads(config) })
    }
}

/// The same where keys and values come from the encoder.
struct T5CrossAttention {
    q: Linear,
    /// k and v.
    kv: Linear,
    o: Linear,
    heads: Heads,
}

impl T5CrossAttention {
    fn load(config: &T5Config, weights: &Weights) -> Result<Self> {
        let (width, inner) = (config.d_model, config.inner_dim());
        Ok(Self {
            q: Linear::load(&weights.at("q"), [width, inner], false)?,
            kv: Linear::load_joined(weights, &["k", "v"], [width, inner], false)?,
            o: Linear::load(&weights.at("o"), [inner, width], false)?,
            heads: heads(config),
        })
    }
}

fn heads(config: &T5Config) -> Heads {
    Heads { count: config.num_heads, head_dim: config.d_kv, scale: 1.0 }
}

/// wo(act(wi·x)), or gated: wo(act(wi_0·x)·(wi_1·x)).
struct T5FeedForward {
    layer_norm: RmsNorm,
    wi: Linear,
    gate: Option<Linear>,
    wo: Linear,
    activation: Activation,
}

impl T5FeedForward {
    fn load(config: &T5Config, layer_norm: RmsNorm, weights: &Weights) -> Result<Self> {
        let into = |name: &str| Linear::load(&weights.at(name), [config.d_model, config.d_ff], false);
        let gated = config.is_gated();
        Ok(Self {
            layer_norm,
            wi: into(if gated { "wi_0" } else { "wi" })?,
            gate: gated.then(|| into("wi_1")).transpose()?,
            wo: Linear::load(&weights.at("wo"), [config.d_ff, config.d_model], false)?,
            activation: config.dense_act(),
        })
    }

    /// x + feed-forward of its norm
    async fn plus(&self, x: &Tensor<2>, pace: &mut Pace) -> Result<Tensor<2>> {
        let norm = self.layer_norm.as_norm();
        let work = self.wi.work() + self.gate.as_ref().map_or(0, Linear::work) + self.wo.work();
        in_pieces([x], work, pace, |[x]| {
            let gate = self.gate.as_ref().map(|gate| gate.behind(norm, x)).transpose()?;
            let inner =
                self.wi.fused(x, Fused { norm: Some(norm), activation: self.activation, gate: gate.as_ref(), ..Fused::default() })?;
            self.wo.plus(&inner, x)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distances where the bucket is another one than the distance before's, up to 130.
    fn changes(bidirectional: bool) -> Vec<i64> {
        let of = |distance: i64| bucket(-distance, bidirectional, 32, 128);
        (1..=130).filter(|distance| of(*distance) != of(distance - 1)).collect()
    }

    #[test]
    fn buckets_change_where_hf_changes_them() {
        let encoder = [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
        assert_eq!(changes(true), encoder);
        let decoder = [19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113];
        assert_eq!(changes(false), (1..=16).chain(decoder).collect::<Vec<i64>>());
    }

    #[test]
    fn keys_behind_the_query_have_buckets_of_their_own_in_the_encoder_only() {
        assert_eq!(bucket(1, true, 32, 128), 17);
        assert_eq!(bucket(200, true, 32, 128), 31);
        assert_eq!(bucket(-200, true, 32, 128), 15);
        assert_eq!(bucket(5, false, 32, 128), 0);
        assert_eq!(bucket(-200, false, 32, 128), 31);
    }

    #[test]
    fn other_counts_of_buckets_end_at_the_last_one() {
        // 12 buckets, 20 far: as transformers computes them.
        let encoder: Vec<usize> = (0..=21).map(|distance| bucket(-distance, true, 12, 20)).collect();
        assert_eq!(encoder, [0, 1, 2, 3, 3, 3, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5]);
    }
}
