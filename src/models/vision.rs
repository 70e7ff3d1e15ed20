//! The vision tower: a pre-LN ViT. HF `Blip2VisionModel`, transformers 4.57 `modeling_blip_2.py`.

use burn_tensor::{Tensor, TensorData};

use crate::error::{Error, Result};
use crate::layers::{LayerNorm, Linear, Mlp, in_pieces};
use crate::models::config::Blip2VisionConfig;
use crate::ops::{Heads, Rows, attention, attention_weights};
use crate::pace::Pace;
use crate::weights::Weights;

/// P is the count of patches; position 0 is the class token.
pub struct VisionOutput {
    /// [B, 1 + P, hidden]
    pub last_hidden_state: Tensor<3>,
    /// [B, hidden]: the class token, through post_layernorm a second time.
    pub pooler_output: Tensor<2>,
    /// The embeddings, then each layer's output, before post_layernorm: [B, 1 + P, hidden] each. Empty unless asked for.
    pub hidden_states: Vec<Tensor<3>>,
    /// Each layer's weights: [B, heads, 1 + P, 1 + P] each. Empty unless asked for.
    pub attentions: Vec<Tensor<4>>,
}

/// How pictures are seen, and what is kept on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VisionOptions {
    /// Stretches the table of positions over pictures of another size than the model's.
    pub interpolate_pos_encoding: bool,
    pub output_hidden_states: bool,
    pub output_attentions: bool,
}

/// HF `Blip2VisionModel`.
///
/// ```
/// use blip2_web::device::Device;
/// use blip2_web::weights::{ModelFolder, Weights};
/// use blip2_web::models::{Blip2VisionConfig, Blip2VisionModel, VisionOptions};
///
/// let (device, folder) = (Device::cpu(), ModelFolder::open("demo/model")?);
/// let config = Blip2VisionConfig::from_json(&folder.files["config.json"])?;
/// let load = |weights: &Weights| Blip2VisionModel::load(&config, &weights.at("vision_model"));
/// let model = load(&folder.weights(&device, Weights::plan(load)?)?)?;
///
/// let size = config.image_size;
/// let pixel_values = burn_tensor::Tensor::zeros([2, 3, size, size], &device.burn);
/// let options = VisionOptions { output_hidden_states: true, ..VisionOptions::default() };
/// let output = pollster::block_on(model.forward(&pixel_values, options))?;
/// let patches = (size / config.patch_size).pow(2);
/// assert_eq!(output.last_hidden_state.dims(), [2, 1 + patches, config.hidden_size]);
/// assert_eq!(output.hidden_states.len(), config.num_hidden_layers + 1);
/// # Ok::<(), blip2_web::Error>(())
/// ```
#[derive(Clone)]
pub struct Blip2VisionModel {
    embeddings: VisionEmbeddings,
    layers: Vec<VisionLayer>,
    post_layernorm: LayerNorm,
}

impl Blip2VisionModel {
    /// `weights` at "vision_model". Errors: weight-missing, weight-shape.
    pub fn load(config: &Blip2VisionConfig, weights: &Weights) -> Result<Self> {
        let layers = weights.at("encoder.layers");
        Ok(Self {
            embeddings: VisionEmbeddings::load(config, &weights.at("embeddings"))?,
            layers: (0..config.num_hidden_layers)
                .map(|index| VisionLayer::load(config, &layers.at(index.to_string())))
                .collect::<Result<_>>()?,
            post_layernorm: LayerNorm::load(&weights.at("post_layernorm"), config.hidden_size, config.layer_norm_eps)?,
        })
    }

    /// pixel_values [B, 3, H, W], normalised. Errors: input-invalid where H or W is under a patch, or where there are more
    /// patches than positions and `interpolate_pos_encoding` is off.
    pub async fn forward(&self, pixel_values: &Tensor<4>, options: VisionOptions) -> Result<VisionOutput> {
        let mut pace = Pace::default();
        let batch = pixel_values.dims()[0];
        let mut x = self.embeddings.forward(pixel_values, options.interpolate_pos_encoding)?;
        let [rows, width] = x.dims();
        let shape = [batch, rows / batch, width];
        let (mut hidden_states, mut attentions) = (vec![], vec![]);
        for layer in &self.layers {
            if options.output_hidden_states {
                hidden_states.push(x.clone().reshape(shape));
            }
            let (output, weights) = layer.forward(batch, &x, options.output_attentions, &mut pace).await?;
            x = output;
            attentions.extend(weights);
        }
        if options.output_hidden_states {
            hidden_states.push(x.clone().reshape(shape));
        }
        let last_hidden_state = self.post_layernorm.forward(&x)?.reshape(shape);
        let class_token = last_hidden_state.clone().slice([0..batch, 0..1, 0..width]).reshape([batch, width]);
        Ok(VisionOutput { pooler_output: self.post_layernorm.forward(&class_token)?, last_hidden_state, hidden_states, attentions })
    }
}

/// Patches as rows, the class token in front, positions added.
#[derive(Clone)]
struct VisionEmbeddings {
    class_embedding: Tensor<3>,
    position_embedding: Tensor<3>,
    patch_embedding: Linear,
    image_size: usize,
    patch_size: usize,
}

impl VisionEmbeddings {
    fn load(config: &Blip2VisionConfig, weights: &Weights) -> Result<Self> {
        let (width, patch) = (config.hidden_size, config.patch_size);
        let positions = (config.image_size / patch).pow(2) + 1;
        Ok(Self {
            class_embedding: weights.tensor("class_embedding", [1, 1, width])?,
            position_embedding: weights.tensor("position_embedding", [1, positions, width])?,
            patch_embedding: Linear::load_patches(&weights.at("patch_embedding"), [width, 3, patch, patch])?,
            image_size: config.image_size,
            patch_size: patch,
        })
    }

    fn forward(&self, pixel_values: &Tensor<4>, interpolate: bool) -> Result<Tensor<2>> {
        let [batch, channels, height, width] = pixel_values.dims();
        let p = self.patch_size;
        let (down, across) = (height / p, width / p);
        let patches = down * across;
        if channels != 3 || patches == 0 {
            return Err(Error::input("pixel_values", format!("{:?} holds no patch of 3 x {p} x {p}", pixel_values.dims())));
        }
        // A convolution whose kernel is its stride is a linear layer over patches; what is left at the edge is dropped.
        let rows = pixel_values
            .clone()
            .slice([0..batch, 0..3, 0..down * p, 0..across * p])
            .reshape([batch, 3, down, p, across, p])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch * patches, 3 * p * p]);
        let hidden = self.class_embedding.dims()[2];
        let embedded = self.patch_embedding.forward(&rows)?.reshape([batch, patches, hidden]);
        let class_tokens = self.class_embedding.clone().expand([batch, 1, hidden]);
        let positions = self.positions([height, width], [down, across], interpolate)?;
        Ok((Tensor::cat(vec![class_tokens, embedded], 1) + positions).reshape([batch * (patches + 1), hidden]))
    }

    /// [1, 1 + down·across, hidden]. HF: without interpolation fewer patches than positions silently take the first ones.
    fn positions(&self, [height, width]: [usize; 2], [down, across]: [usize; 2], interpolate: bool) -> Result<Tensor<3>> {
        let [_, table, hidden] = self.position_embedding.dims();
        let patches = down * across;
        if !interpolate {
            if patches + 1 > table {
                let reason = format!("{height} x {width} has {patches} patches and the model {} positions", table - 1);
                return Err(Error::input("pixel_values", format!("{reason}; set interpolate_pos_encoding")));
            }
            return Ok(self.position_embedding.clone().slice([0..1, 0..patches + 1, 0..hidden]));
        }
        if patches + 1 == table && height == width {
            return Ok(self.position_embedding.clone());
        }
        let grid = self.image_size / self.patch_size;
        let class_position = self.position_embedding.clone().slice([0..1, 0..1, 0..hidden]);
        let patch_positions = self.position_embedding.clone().slice([0..1, 1..table, 0..hidden]).reshape([grid, grid, hidden]);
        let patch_positions = bicubic(bicubic(patch_positions, down).swap_dims(0, 1), across).swap_dims(0, 1);
        Ok(Tensor::cat(vec![class_position, patch_positions.reshape([1, patches, hidden])], 1))
    }
}

/// PyTorch's `interpolate(mode="bicubic", align_corners=False)` along the first dimension: a = −0.75, no antialias, taps
/// clamped to the edge. [n, m, h] → [size, m, h]
fn bicubic(table: Tensor<3>, size: usize) -> Tensor<3> {
    const A: f64 = -0.75;
    let [n, m, hidden] = table.dims();
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let device = table.device();
    let mut sum: Option<Tensor<3>> = None;
    for tap in 0..4usize {
        let (mut places, mut weights) = (vec![], vec![]);
        for to in 0..size {
            let from = (to as f64 + 0.5) * n as f64 / size as f64 - 0.5;
            let t = from - from.floor();
            let place = from.floor() as i64 - 1 + tap as i64;
            places.push(place.clamp(0, n as i64 - 1) as i32);
            weights.push(match tap {
                0 => far(t + 1.0),
                1 => near(t),
                2 => near(1.0 - t),
                _ => far(2.0 - t),
            } as f32);
        }
        let places = Tensor::from_data(TensorData::new(places, [size]), &device);
        let weights: Tensor<3> = Tensor::from_data(TensorData::new(weights, [size, 1, 1]), &device);
        let part = table.clone().select(0, places) * weights.expand([size, m, hidden]);
        sum = Some(match sum {
            None => part,
            Some(sum) => sum + part,
        });
    }
    sum.unwrap_or(table)
}

/// x + attention(LN(x)), then x + mlp(LN(x)).
#[derive(Clone)]
struct VisionLayer {
    layer_norm1: LayerNorm,
    qkv: Linear,
    projection: Linear,
    layer_norm2: LayerNorm,
    mlp: Mlp,
    heads: Heads,
}

impl VisionLayer {
    fn load(config: &Blip2VisionConfig, weights: &Weights) -> Result<Self> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let head_dim = width / config.num_attention_heads;
        let attention = weights.at("self_attn");
        Ok(Self {
            layer_norm1: LayerNorm::load(&weights.at("layer_norm1"), width, config.layer_norm_eps)?,
            qkv: Linear::load(&attention.at("qkv"), [width, 3 * width], config.qkv_bias)?,
            projection: Linear::load(&attention.at("projection"), [width, width], true)?,
            layer_norm2: LayerNorm::load(&weights.at("layer_norm2"), width, config.layer_norm_eps)?,
            mlp: Mlp {
                fc1: Linear::load(&weights.at("mlp.fc1"), [width, inner], true)?,
                fc2: Linear::load(&weights.at("mlp.fc2"), [inner, width], true)?,
                activation: config.hidden_act,
            },
            heads: Heads { count: config.num_attention_heads, head_dim, scale: (head_dim as f32).powf(-0.5) },
        })
    }

    /// x [B·(1 + P), hidden] → the same shape, and the weights [B, heads, 1 + P, 1 + P] where they are asked for.
    async fn forward(
        &self,
        batch: usize,
        x: &Tensor<2>,
        output_attentions: bool,
        pace: &mut Pace,
    ) -> Result<(Tensor<2>, Option<Tensor<4>>)> {
        let product = in_pieces([x], self.qkv.work(), pace, |[x]| self.qkv.behind(self.layer_norm1.as_norm(), x)).await?;
        let [q, k, v] = Rows::parts(&product);
        let attended = attention(batch, q, k, v, self.heads, None)?;
        let weights = output_attentions.then(|| attention_weights(batch, q, k, self.heads, None)).transpose()?;
        pace.breathe().await;
        let x = in_pieces([&attended, x], self.projection.work(), pace, |[attended, x]| self.projection.plus(attended, x)).await?;
        Ok((self.mlp.plus(Some(self.layer_norm2.as_norm()), &x, pace).await?, weights))
    }
}
