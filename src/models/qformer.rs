//! The Q-Former: a post-LN BERT whose queries look at the image, and which reads text beside them or alone.
//! HF `Blip2QFormerModel`; BLIP-2 §3.1.

use std::ops::Range;

use burn_tensor::{Tensor, TensorData};

use crate::error::{Error, Result};
use crate::layers::{LayerNorm, Linear, Mlp, in_pieces};
use crate::models::config::Blip2QFormerConfig;
use crate::ops::{Heads, Rows, attention, attention_weights};
use crate::pace::Pace;
use crate::weights::Weights;

/// What is added to the scores of positions that are masked. HF takes it for the Q-Former on every dtype, instead of the
/// dtype's lowest number.
const MASKED: f32 = -10_000.0;

pub struct QFormerInputs<'a> {
    /// Queries, queries followed by text, or text: [B, S, hidden].
    pub query_embeds: &'a Tensor<3>,
    /// How many of the first positions are queries; the others are text.
    pub query_length: usize,
    /// `None` attends to every position.
    pub attention_mask: Option<AttentionMask>,
    /// What the queries look at: [B, P, encoder_hidden_size].
    pub encoder_hidden_states: Option<&'a Tensor<3>>,
    pub output_hidden_states: bool,
    pub output_attentions: bool,
}

impl<'a> QFormerInputs<'a> {
    /// Queries alone, unmasked: what a caller has besides is set beside it.
    pub fn new(query_embeds: &'a Tensor<3>) -> Self {
        Self {
            query_embeds,
            query_length: query_embeds.dims()[1],
            attention_mask: None,
            encoder_hidden_states: None,
            output_hidden_states: false,
            output_attentions: false,
        }
    }
}

/// Which positions are attended to: 1 is, 0 is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttentionMask {
    /// [B, S], the same for every position that attends.
    Padding(Vec<Vec<u32>>),
    /// [B, S, S], a row for each position that attends.
    Full(Vec<Vec<Vec<u32>>>),
}

impl AttentionMask {
    /// (1 − mask)·(−10000): [B, 1 or S, S].
    fn bias(&self, [batch, positions]: [usize; 2], device: &burn_tensor::Device) -> Result<Tensor<3>> {
        let (tables, rows): (Vec<&[Vec<u32>]>, usize) = match self {
            Self::Padding(rows) => (rows.iter().map(std::slice::from_ref).collect(), 1),
            Self::Full(tables) => (tables.iter().map(Vec::as_slice).collect(), positions),
        };
        let fits = |table: &[Vec<u32>]| table.len() == rows && table.iter().all(|row| row.len() == positions);
        if tables.len() != batch || !tables.iter().copied().all(fits) {
            let found: Vec<Vec<usize>> = tables.iter().map(|table| table.iter().map(Vec::len).collect()).collect();
            return Err(Error::input("attention_mask", format!("rows of {found:?}, expected [{batch}, {rows}, {positions}]")));
        }
        let bias: Vec<f32> = tables.into_iter().flatten().flatten().map(|kept| (1.0 - *kept as f32) * MASKED).collect();
        Ok(Tensor::from_data(TensorData::new(bias, [batch, rows, positions]), device))
    }
}

pub struct QFormerOutput {
    /// [B, S, hidden]
    pub last_hidden_state: Tensor<3>,
    /// [B, hidden]: the first position.
    pub pooler_output: Tensor<2>,
    /// After the input's layernorm, then each layer's output: [B, S, hidden] each. Empty unless asked for.
    pub hidden_states: Vec<Tensor<3>>,
    /// Each layer's weights: [B, heads, S, S] each. Empty unless asked for.
    pub attentions: Vec<Tensor<4>>,
    /// The weights of the layers that look at the image: [B, heads, queries, P] each. Empty unless asked for, and of text.
    pub cross_attentions: Vec<Tensor<4>>,
}

/// HF `Blip2QFormerModel`.
///
/// ```
/// use blip2_web::device::Device;
/// use blip2_web::weights::{ModelFolder, Weights};
/// use blip2_web::models::{Blip2QFormerConfig, Blip2QFormerModel, QFormerInputs};
///
/// let (device, folder) = (Device::cpu(), ModelFolder::open("demo/model")?);
/// let config = Blip2QFormerConfig::from_json(&folder.files["config.json"])?;
/// let load = |weights: &Weights| Blip2QFormerModel::load(&config, &weights.at("qformer"));
/// let model = load(&folder.weights(&device, Weights::plan(load)?)?)?;
///
/// // Four queries that look at ten patches.
/// let query_embeds = burn_tensor::Tensor::ones([1, 4, config.hidden_size], &device.burn);
/// let seen = burn_tensor::Tensor::ones([1, 10, config.encoder_hidden_size], &device.burn);
/// let inputs = QFormerInputs { encoder_hidden_states: Some(&seen), output_attentions: true, ..QFormerInputs::new(&query_embeds) };
/// let output = pollster::block_on(model.forward(&inputs))?;
/// assert_eq!(output.last_hidden_state.dims(), [1, 4, config.hidden_size]);
/// assert_eq!(output.cross_attentions[0].dims(), [1, config.num_attention_heads, 4, 10]);
/// # Ok::<(), blip2_web::Error>(())
/// ```
#[derive(Clone)]
pub struct Blip2QFormerModel {
    layernorm: LayerNorm,
    layers: Vec<QFormerLayer>,
    use_qformer_text_input: bool,
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
            use_qformer_text_input: config.use_qformer_text_input,
        })
    }

    /// Errors: input-invalid where queries have no image, text meets a model without `use_qformer_text_input`, or shapes
    /// disagree.
    pub async fn forward(&self, inputs: &QFormerInputs<'_>) -> Result<QFormerOutput> {
        self.check(inputs)?;
        let mut pace = Pace::default();
        let shape = inputs.query_embeds.dims();
        let [batch, positions, width] = shape;
        let device = inputs.query_embeds.device();
        let bias = inputs.attention_mask.as_ref().map(|mask| mask.bias([batch, positions], &device)).transpose()?;
        let image = inputs.encoder_hidden_states.map(|states| {
            let [images, patches, width] = states.dims();
            states.clone().reshape([images * patches, width])
        });
        let pass = Pass {
            batch,
            positions,
            queries: inputs.query_length,
            bias: bias.as_ref(),
            image: image.as_ref(),
            output_attentions: inputs.output_attentions,
        };
        let mut x = self.layernorm.forward(&inputs.query_embeds.clone().reshape([batch * positions, width]))?;
        let (mut hidden_states, mut attentions, mut cross_attentions) = (vec![], vec![], vec![]);
        for layer in &self.layers {
            if inputs.output_hidden_states {
                hidden_states.push(x.clone().reshape(shape));
            }
            let output = layer.forward(&pass, &x, &mut pace).await?;
            x = output.hidden_state;
            attentions.extend(output.attention);
            cross_attentions.extend(output.cross_attention);
        }
        let last_hidden_state: Tensor<3> = x.reshape(shape);
        if inputs.output_hidden_states {
            hidden_states.push(last_hidden_state.clone());
        }
        let pooler_output = last_hidden_state.clone().slice([0..batch, 0..1, 0..width]).reshape([batch, width]);
        Ok(QFormerOutput { last_hidden_state, pooler_output, hidden_states, attentions, cross_attentions })
    }

    fn check(&self, inputs: &QFormerInputs<'_>) -> Result<()> {
        let [batch, positions, _] = inputs.query_embeds.dims();
        let queries = inputs.query_length;
        if batch == 0 || positions == 0 || queries > positions {
            return Err(Error::input("query_embeds", format!("{queries} queries in {batch} rows of {positions} positions")));
        }
        if queries < positions && !self.use_qformer_text_input {
            let text = positions - queries;
            return Err(Error::input("query_embeds", format!("{text} positions of text, and use_qformer_text_input is off")));
        }
        match inputs.encoder_hidden_states.map(Tensor::dims) {
            None if queries > 0 => Err(Error::input("encoder_hidden_states", format!("{queries} queries have no image to look at"))),
            Some([images, ..]) if images != batch => {
                Err(Error::input("encoder_hidden_states", format!("{images} images for {batch} rows of queries")))
            }
            _ => Ok(()),
        }
    }
}

/// What is the same for all layers of one forward.
struct Pass<'a> {
    batch: usize,
    positions: usize,
    queries: usize,
    /// [B, 1 or S, S]
    bias: Option<&'a Tensor<3>>,
    /// [B·P, encoder_hidden_size]
    image: Option<&'a Tensor<2>>,
    output_attentions: bool,
}

impl Pass<'_> {
    /// The rows of some positions: [B·S, hidden] → [B·part, hidden].
    fn part(&self, x: &Tensor<2>, part: Range<usize>) -> Tensor<2> {
        let width = x.dims()[1];
        let rows = self.batch * part.len();
        x.clone().reshape([self.batch, self.positions, width]).slice([0..self.batch, part, 0..width]).reshape([rows, width])
    }

    /// The rows of queries and text, in the order of their positions again.
    fn join(&self, queries: Tensor<2>, text: Tensor<2>) -> Tensor<2> {
        let width = queries.dims()[1];
        let by_batch = |rows: Tensor<2>| -> Tensor<3> {
            let positions = rows.dims()[0] / self.batch;
            rows.reshape([self.batch, positions, width])
        };
        Tensor::cat(vec![by_batch(queries), by_batch(text)], 1).reshape([self.batch * self.positions, width])
    }
}

struct LayerOutput {
    /// [B·S, hidden]
    hidden_state: Tensor<2>,
    attention: Option<Tensor<4>>,
    cross_attention: Option<Tensor<4>>,
}

/// Self-attention over queries and text together; then queries look at the image (every `cross_attention_frequency` layers),
/// and each of the two has an MLP of its own. The norm comes after each residual.
#[derive(Clone)]
struct QFormerLayer {
    attention: QFormerAttention,
    crossattention: Option<QFormerAttention>,
    query_feed_forward: FeedForward,
    /// Only with `use_qformer_text_input`.
    text_feed_forward: Option<FeedForward>,
}

impl QFormerLayer {
    fn load(config: &Blip2QFormerConfig, index: usize, weights: &Weights) -> Result<Self> {
        let crosses = index.is_multiple_of(config.cross_attention_frequency);
        let load = |name: &str, keys_from: Option<usize>| QFormerAttention::load(config, keys_from, &weights.at(name));
        let text = config.use_qformer_text_input;
        Ok(Self {
            attention: load("attention", None)?,
            crossattention: crosses.then(|| load("crossattention", Some(config.encoder_hidden_size))).transpose()?,
            query_feed_forward: FeedForward::load(config, &weights.at("intermediate_query"), &weights.at("output_query"))?,
            text_feed_forward: text.then(|| FeedForward::load(config, &weights.at("intermediate"), &weights.at("output"))).transpose()?,
        })
    }

    async fn forward(&self, pass: &Pass<'_>, x: &Tensor<2>, pace: &mut Pace) -> Result<LayerOutput> {
        let (x, attention) = self.attention.forward(pass, x, x, pass.bias, pace).await?;
        let (hidden_state, cross_attention) = match pass.queries {
            0 => (self.text(&x, pace).await?, None),
            queries if queries == pass.positions => self.queries(pass, &x, pace).await?,
            queries => {
                let (seen, cross_attention) = self.queries(pass, &pass.part(&x, 0..queries), pace).await?;
                let text = self.text(&pass.part(&x, queries..pass.positions), pace).await?;
                (pass.join(seen, text), cross_attention)
            }
        };
        Ok(LayerOutput { hidden_state, attention, cross_attention })
    }

    /// x [B·queries, hidden]
    async fn queries(&self, pass: &Pass<'_>, x: &Tensor<2>, pace: &mut Pace) -> Result<(Tensor<2>, Option<Tensor<4>>)> {
        let (Some(crossattention), Some(image)) = (&self.crossattention, pass.image) else {
            return Ok((self.query_feed_forward.forward(x, pace).await?, None));
        };
        let (seen, weights) = crossattention.forward(pass, x, image, None, pace).await?;
        Ok((self.query_feed_forward.forward(&seen, pace).await?, weights))
    }

    /// x [B·text, hidden]
    async fn text(&self, x: &Tensor<2>, pace: &mut Pace) -> Result<Tensor<2>> {
        let feed_forward = self.text_feed_forward.as_ref();
        feed_forward.ok_or_else(|| Error::input("query_embeds", "text, and use_qformer_text_input is off"))?.forward(x, pace).await
    }
}

/// LN(dense(act(dense(x))) + x). HF `Blip2QFormerIntermediate` and `Blip2QFormerOutput`.
#[derive(Clone)]
struct FeedForward {
    mlp: Mlp,
    norm: LayerNorm,
}

impl FeedForward {
    fn load(config: &Blip2QFormerConfig, intermediate: &Weights, output: &Weights) -> Result<Self> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            mlp: Mlp {
                fc1: Linear::load(&intermediate.at("dense"), [width, inner], true)?,
                fc2: Linear::load(&output.at("dense"), [inner, width], true)?,
                activation: config.hidden_act,
            },
            norm: LayerNorm::load(&output.at("LayerNorm"), width, config.layer_norm_eps)?,
        })
    }

    async fn forward(&self, x: &Tensor<2>, pace: &mut Pace) -> Result<Tensor<2>> {
        self.norm.forward(&self.mlp.plus(None, x, pace).await?)
    }
}

/// LN(dense(softmax(q·kᵀ/√head_dim + bias)·v) + x), keys and values from x or from the image.
#[derive(Clone)]
struct QFormerAttention {
    products: Products,
    dense: Linear,
    norm: LayerNorm,
    heads: Heads,
}

/// What is multiplied with one input is one layer.
#[derive(Clone)]
enum Products {
    /// query, key and value
    OfItself(Box<Linear>),
    Cross(Box<CrossProducts>),
}

#[derive(Clone)]
struct CrossProducts {
    query: Linear,
    /// key and value
    key_value: Linear,
}

impl QFormerAttention {
    fn load(config: &Blip2QFormerConfig, keys_from: Option<usize>, weights: &Weights) -> Result<Self> {
        let width = config.hidden_size;
        let head_dim = width / config.num_attention_heads;
        let parts = weights.at("attention");
        let products = match keys_from {
            None => Products::OfItself(Box::new(Linear::load_joined(&parts, &["query", "key", "value"], [width, width], true)?)),
            Some(keys_from) => Products::Cross(Box::new(CrossProducts {
                query: Linear::load(&parts.at("query"), [width, width], true)?,
                key_value: Linear::load_joined(&parts, &["key", "value"], [keys_from, width], true)?,
            })),
        };
        Ok(Self {
            products,
            dense: Linear::load(&weights.at("output.dense"), [width, width], true)?,
            norm: LayerNorm::load(&weights.at("output.LayerNorm"), width, config.layer_norm_eps)?,
            heads: Heads { count: config.num_attention_heads, head_dim, scale: (head_dim as f32).powf(-0.5) },
        })
    }

    /// `encoder` is what a cross-attention looks at. Weights [B, heads, S, T] come along where they are asked for.
    async fn forward(
        &self,
        pass: &Pass<'_>,
        x: &Tensor<2>,
        encoder: &Tensor<2>,
        bias: Option<&Tensor<3>>,
        pace: &mut Pace,
    ) -> Result<(Tensor<2>, Option<Tensor<4>>)> {
        let (own, seen) = match &self.products {
            Products::OfItself(layer) => (in_pieces([x], layer.work(), pace, |[x]| layer.forward(x)).await?, None),
            Products::Cross(products) => {
                let CrossProducts { query, key_value } = &**products;
                let seen = in_pieces([encoder], key_value.work(), pace, |[encoder]| key_value.forward(encoder)).await?;
                (query.forward(x)?, Some(seen))
            }
        };
        let [q, k, v] = match &seen {
            None => Rows::parts(&own),
            Some(seen) => {
                let [k, v] = Rows::parts(seen);
                [Rows::whole(&own), k, v]
            }
        };
        let attended = attention(pass.batch, q, k, v, self.heads, bias)?;
        let weights = pass.output_attentions.then(|| attention_weights(pass.batch, q, k, self.heads, bias)).transpose()?;
        Ok((self.norm.forward(&self.dense.plus(&attended, x)?)?, weights))
    }
}
