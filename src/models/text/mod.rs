//! The language models behind one face: embed, start, step. The only `match` on `model_type` is here.

mod decoding;
mod opt;
mod t5;

pub use decoding::{Decoding, PositionKey};
pub use opt::OPTForCausalLM;
pub use t5::{EncoderOutput, T5ForConditionalGeneration};

use burn_tensor::{Int, Tensor, TensorData};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::config::{TextConfig, TokenIds};
use crate::ops::{Bias, DistanceBias, Heads, Rows, argmax, attention_weights};
use crate::pace::{Pace, at_once};
use crate::weights::Weights;
/// The language model of a BLIP-2: HF `OPTForCausalLM` or `T5ForConditionalGeneration`.
///
/// ```
/// use blip2_web::convert::{Options, convert};
/// use blip2_web::device::Device;
/// use blip2_web::tasks::Blip2;
/// use blip2_web::weights::quant::Quant;
///
/// let folder = std::env::temp_dir().join(format!("blip2-t5-{}", std::process::id()));
/// convert("tests/fixtures/t5".as_ref(), &folder, &Options::new(Quant::F32), &mut ())?;
/// let blip2 = Blip2::from_pretrained(&Device::cpu(), &folder)?;
/// let t5 = &blip2.captioner.model.language_model;
/// assert!(t5.is_encoder_decoder() && t5.max_position_embeddings().is_none());
/// assert_eq!(t5.special_tokens().decoder_start, Some(0));
/// # std::fs::remove_dir_all(&folder).expect("a folder");
/// # Ok::<(), blip2_web::Error>(())
/// ```
pub enum LanguageModel {
    Opt(Box<OPTForCausalLM>),
    T5(Box<T5ForConditionalGeneration>),
}

/// What a language model goes on from. Cheap to clone: tensors are shared.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// inputs_embeds [rows·n, width], attention_mask [rows, n]. `keys` say of a single row what each position is, so that what an
    /// earlier answer has computed of the same beginning is used again.
    Embeds { inputs_embeds: Box<Tensor<2>>, attention_mask: Vec<Vec<u32>>, keys: Option<Vec<PositionKey>> },
    /// What T5's encoder made of such a prompt: kept for the next time the same is asked.
    Encoded(Box<EncoderOutput>),
}

impl Prompt {
    pub fn attention_mask(&self) -> &[Vec<u32>] {
        match self {
            Self::Embeds { attention_mask, .. } => attention_mask,
            Self::Encoded(encoded) => &encoded.attention_mask,
        }
    }

    pub fn rows(&self) -> usize {
        self.attention_mask().len()
    }

    /// Positions of each row.
    pub fn positions(&self) -> usize {
        self.attention_mask().first().map_or(0, Vec::len)
    }
}

/// The ids that a language model's config names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    pub bos: Option<u32>,
    pub eos: Vec<u32>,
    pub pad: Option<u32>,
    /// What a decoder beside an encoder starts with.
    pub decoder_start: Option<u32>,
}

/// What a forward keeps on its way. Attentions are computed beside the attention itself: without them nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LanguageOptions {
    pub output_hidden_states: bool,
    pub output_attentions: bool,
}

/// HF `CausalLMOutput` or `Seq2SeqLMOutput`.
pub struct LanguageOutput {
    /// [rows·n, vocabulary]; of T5 the decoder's positions.
    pub logits: Tensor<2>,
    /// The input of each layer, then what the head sees: [rows·n, width] each. HF's `decoder_hidden_states` of T5. Empty
    /// unless asked for.
    pub hidden_states: Vec<Tensor<2>>,
    /// Each layer's self-attention: [rows, heads, n, n] each. HF's `decoder_attentions` of T5. Empty unless asked for.
    pub attentions: Vec<Tensor<4>>,
    /// Of T5's decoder, m positions over the encoder's n: [rows, heads, m, n] each. Empty unless asked for, and of OPT.
    pub cross_attentions: Vec<Tensor<4>>,
    /// Of T5 alone.
    pub encoder: Option<EncoderOutput>,
}

impl LanguageModel {
    /// `weights` at "language_model". Errors: model-unsupported, weight-missing, weight-shape.
    pub fn load(config: &TextConfig, weights: &Weights) -> Result<Self> {
        match config {
            TextConfig::Opt(config) => Ok(Self::Opt(Box::new(OPTForCausalLM::load(config, weights)?))),
            TextConfig::T5(config) => Ok(Self::T5(Box::new(T5ForConditionalGeneration::load(config, weights)?))),
            TextConfig::Other(name) => Err(TextConfig::unsupported(name)),
        }
    }

    /// Whether answers come from a decoder beside an encoder; else they go on behind the prompt.
    pub fn is_encoder_decoder(&self) -> bool {
        matches!(self, Self::T5(_))
    }

    /// ids [n] → [n, width of the embeddings]
    pub fn embed(&self, ids: &Tensor<1, Int>) -> Result<Tensor<2>> {
        match self {
            Self::Opt(model) => model.embed(ids),
            Self::T5(model) => model.embed(ids),
        }
    }

    /// Width of what `embed` gives.
    pub fn embed_dim(&self) -> usize {
        match self {
            Self::Opt(model) => model.config.embed_dim(),
            Self::T5(model) => model.config.d_model,
        }
    }

    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Opt(model) => model.config.vocab_size,
            Self::T5(model) => model.config.vocab_size,
        }
    }

    /// The most positions that one row can have; T5's are relative and have no end.
    pub fn max_position_embeddings(&self) -> Option<usize> {
        match self {
            Self::Opt(model) => Some(model.config.max_position_embeddings),
            Self::T5(_) => None,
        }
    }

    pub fn special_tokens(&self) -> SpecialTokens {
        let ids = |ids: &Option<TokenIds>| ids.as_ref().map(TokenIds::to_vec).unwrap_or_default();
        match self {
            Self::Opt(model) => {
                let config = &model.config;
                SpecialTokens { bos: config.bos_token_id, eos: ids(&config.eos_token_id), pad: config.pad_token_id, decoder_start: None }
            }
            Self::T5(model) => {
                let config = &model.config;
                // HF falls back to bos.
                let decoder_start = config.decoder_start_token_id.or(config.bos_token_id);
                SpecialTokens { bos: config.bos_token_id, eos: ids(&config.eos_token_id), pad: config.pad_token_id, decoder_start }
            }
        }
    }

    /// A prompt's encoding, which may be kept; of a model without an encoder the prompt itself.
    pub async fn encode(&self, prompt: Prompt) -> Result<Prompt> {
        match (self, prompt) {
            (Self::T5(model), Prompt::Embeds { inputs_embeds, attention_mask, .. }) => {
                Ok(Prompt::Encoded(Box::new(model.encode(&inputs_embeds, &attention_mask, LanguageOptions::default()).await?)))
            }
            (_, prompt) => Ok(prompt),
        }
    }

    /// Caches and state with room for `new_tokens`, `beams` rows for each of the prompt's → logits of the prompt's last
    /// position, [rows of the prompt, vocabulary]. Errors: input-invalid, config-invalid, kernel.
    pub async fn start(&self, device: &Device, prompt: &Prompt, new_tokens: usize, beams: usize) -> Result<(Decoding, Tensor<2>)> {
        match self {
            Self::Opt(model) => match prompt {
                Prompt::Embeds { inputs_embeds, attention_mask, keys } => {
                    model.start(device, inputs_embeds, attention_mask, keys.as_deref(), new_tokens, beams).await
                }
                Prompt::Encoded(_) => Err(Error::input("prompt", "an encoder's output for a model without an encoder")),
            },
            Self::T5(model) => {
                let first = self.special_tokens().decoder_start;
                let first = first.ok_or_else(|| Error::config("config.json", "text_config: no decoder_start_token_id"))?;
                match prompt {
                    Prompt::Encoded(encoded) => model.start(device, encoded, first, new_tokens, beams).await,
                    Prompt::Embeds { inputs_embeds, attention_mask, .. } => {
                        let encoded = model.encode(inputs_embeds, attention_mask, LanguageOptions::default()).await?;
                        model.start(device, &encoded, first, new_tokens, beams).await
                    }
                }
            }
        }
    }

    /// The current token of each row, from the device's state → logits [rows, vocabulary]. On the GPU the launches are recorded
    /// the first time and replayed later.
    pub async fn step(&self, decoding: &mut Decoding) -> Result<Tensor<2>> {
        decoding.before_step()?;
        if !decoding.is_queued() {
            return self.forward_tokens(decoding, &mut Pace::new()).await;
        }
        let buffer = decoding.state.buffer.clone();
        let mut recorder = std::mem::take(&mut decoding.to_logits);
        let work = || at_once(self.forward_tokens(decoding, &mut Pace::unbroken())).unwrap_or_else(|| Err(decoding::waited()));
        let logits = recorder.run(&buffer, work, |logits| logits.add_scalar(0.0));
        decoding.to_logits = recorder;
        logits
    }

    /// A greedy step: the current token of each row → the likeliest next one, which the state goes on with. [rows]
    pub async fn choose(&self, decoding: &mut Decoding) -> Result<Tensor<1, Int>> {
        decoding.before_step()?;
        if !decoding.is_queued() {
            let next = argmax(&self.forward_tokens(decoding, &mut Pace::new()).await?)?;
            decoding.advance(&next)?;
            return Ok(next);
        }
        let buffer = decoding.state.buffer.clone();
        let mut recorder = std::mem::take(&mut decoding.to_choice);
        let work = || {
            let logits = at_once(self.forward_tokens(decoding, &mut Pace::unbroken())).unwrap_or_else(|| Err(decoding::waited()))?;
            let next = argmax(&logits)?;
            decoding.queue_advance(&next)?;
            Ok(next)
        };
        let next = recorder.run(&buffer, work, |next| next.add_scalar(0));
        decoding.to_choice = recorder;
        decoding.advanced();
        next
    }

    async fn forward_tokens(&self, decoding: &mut Decoding, pace: &mut Pace) -> Result<Tensor<2>> {
        match self {
            Self::Opt(model) => model.step(decoding, pace).await,
            Self::T5(model) => model.step(decoding, pace).await,
        }
    }

    /// For measurements: a row as if `positions` positions had been computed. Errors: input-invalid; option-unsupported of a
    /// decoder beside an encoder.
    pub fn seeded(&self, device: &Device, positions: usize) -> Result<Decoding> {
        match self {
            Self::Opt(model) => model.seeded(device, positions),
            Self::T5(_) => {
                let reason = "a decoder beside an encoder starts from what that has seen".into();
                Err(Error::OptionUnsupported { option: "seeded".into(), reason })
            }
        }
    }

    /// Gives back what an answer has used, for the next one to go on from: `said` are the ids behind the prompt, where it was
    /// one row.
    pub fn keep(&self, decoding: Decoding, said: &[u32]) {
        match self {
            Self::Opt(model) => model.keep(decoding, said),
            Self::T5(model) => model.keep(decoding),
        }
    }

    /// Every position at once: inputs_embeds [rows·n, width], and ids for a decoder beside an encoder [rows, m].
    /// Errors: input-invalid.
    pub async fn forward(
        &self,
        device: &Device,
        inputs_embeds: &Tensor<2>,
        attention_mask: &[Vec<u32>],
        decoder_input_ids: Option<&[Vec<u32>]>,
        options: LanguageOptions,
    ) -> Result<LanguageOutput> {
        match (self, decoder_input_ids) {
            (Self::Opt(model), None) => model.forward(device, inputs_embeds, attention_mask, options).await,
            (Self::Opt(_), Some(_)) => Err(Error::input("decoder_input_ids", "this language model has no decoder beside an encoder")),
            (Self::T5(model), Some(ids)) => model.forward(device, inputs_embeds, attention_mask, ids, options).await,
            (Self::T5(_), None) => Err(Error::input("decoder_input_ids", "needed where there are no labels")),
        }
    }
}

/// What one pass through a stack of layers keeps, as far as it is asked for.
#[derive(Default)]
struct Kept {
    options: LanguageOptions,
    /// What self-attention adds to its scores, [rows, n or 1, n]. `None` where attentions are not asked for.
    bias: Option<Tensor<3>>,
    hidden_states: Vec<Tensor<2>>,
    attentions: Vec<Tensor<4>>,
    cross_attentions: Vec<Tensor<4>>,
}

impl Kept {
    /// `bias` is made only where attentions are asked for.
    fn new(options: LanguageOptions, bias: impl FnOnce() -> Tensor<3>) -> Self {
        Self { options, bias: options.output_attentions.then(bias), ..Self::default() }
    }

    fn hidden_state(&mut self, x: &Tensor<2>) {
        if self.options.output_hidden_states {
            self.hidden_states.push(x.clone());
        }
    }

    /// q and k [rows·n, heads·head_dim], of every position.
    fn attention(&mut self, q: Rows, k: Rows, heads: Heads, by_distance: Option<&DistanceBias>) -> Result<()> {
        if let Some(bias) = &self.bias {
            let (rows, bias) = (bias.dims()[0], Bias { dense: Some(bias), by_distance });
            self.attentions.push(attention_weights(rows, q, k, heads, bias)?);
        }
        Ok(())
    }

    /// q [rows·m, heads·head_dim], k [rows·n, heads·head_dim], bias [rows, 1, n].
    fn cross_attention(&mut self, q: Rows, k: Rows, heads: Heads, bias: &Tensor<3>) -> Result<()> {
        if self.options.output_attentions {
            self.cross_attentions.push(attention_weights(bias.dims()[0], q, k, heads, Some(bias))?);
        }
        Ok(())
    }
}

/// Causal attention over an attention_mask [rows, n] as a table: 0 where a key is attended, the lowest f32 where it is not.
/// Added to any score that is still the lowest f32, so that a row with nothing to attend to is an even mean, as in HF.
fn causal_bias(device: &Device, attention_mask: &[Vec<u32>]) -> Tensor<3> {
    let (rows, n) = (attention_mask.len(), attention_mask.first().map_or(0, Vec::len));
    let attended = |mask: &[u32], query: usize, key: usize| key <= query && mask[key] != 0;
    let mut values = Vec::with_capacity(rows * n * n);
    for mask in attention_mask {
        values.extend((0..n * n).map(|place| if attended(mask, place / n, place % n) { 0.0f32 } else { f32::MIN }));
    }
    Tensor::from_data(TensorData::new(values, [rows, n, n]), &device.burn)
}

#[cfg(all(test, feature = "cpu", feature = "native"))]
mod tests {
    use super::*;
    use crate::ops::read_floats;

    #[test]
    fn a_key_is_attended_where_it_is_not_padding_and_not_behind_the_query() {
        let bias = causal_bias(&Device::cpu(), &[vec![0, 1, 1], vec![1, 1, 0]]);
        assert_eq!(bias.dims(), [2, 3, 3]);
        let attended: Vec<bool> = pollster::block_on(read_floats(bias)).unwrap().iter().map(|bias| *bias == 0.0).collect();
        let (y, n) = (true, false);
        assert_eq!(attended, [n, n, n, n, y, n, n, y, y, y, n, n, y, y, n, y, y, n]);
    }
}
