//! A model's operations one by one as Burn's flex has them, on f32 weights [in, out]: what an engine without kernels of its own
//! would do. Vision tower, Q-Former and OPT, in the sizes of a config; the weights are made up, and so is what it says.

use burn_tensor::activation::{gelu, relu};
use burn_tensor::module::{attention, layer_norm, linear};
use burn_tensor::ops::AttentionModuleOptions;
use burn_tensor::{Device, Int, Tensor, TensorData};

use crate::bench::product::noise;
use crate::error::{Error, Result};
use crate::models::{Blip2Config, Blip2QFormerConfig, Blip2VisionConfig, OPTConfig, TextConfig};

pub struct Unfused {
    vision: Vision,
    qformer: QFormer,
    projection: Linear,
    text: Text,
    pixels: Tensor<3>,
    /// k and v of each layer, as far as the answer goes.
    cache: Vec<[Tensor<4>; 2]>,
    last: i32,
}

impl Unfused {
    /// Errors: model-unsupported where the language model is none of OPT's.
    pub fn new(config: &Blip2Config) -> Result<Self> {
        let TextConfig::Opt(text) = &config.text_config else {
            return Err(Error::ModelUnsupported {
                what: config.text_config.model_type().into(),
                reason: "only OPT is there unfused".into(),
            });
        };
        let device = Device::flex();
        let make = Make { device: &device };
        let side = config.vision_config.image_size;
        Ok(Self {
            vision: Vision::new(&config.vision_config, &make),
            qformer: QFormer::new(&config.qformer_config, config.num_query_tokens, &make),
            projection: make.linear(config.qformer_config.hidden_size, text.hidden_size),
            text: Text::new(text, &make),
            pixels: make.tensor([3, side, side], 1.0),
            cache: vec![],
            last: 0,
        })
    }

    /// The picture → image features [Q, width of the language model].
    pub fn encode(&self) -> Tensor<2> {
        self.projection.forward(self.qformer.forward(&self.vision.forward(&self.pixels)))
    }

    /// Starts an answer behind `positions` positions, of which the first token is chosen. Returns its id.
    pub fn begin(&mut self, positions: usize) -> i32 {
        self.cache.clear();
        let [_, width] = self.text.embeddings.dims();
        let make = Make { device: &self.text.embeddings.device() };
        self.last = self.text.forward(make.tensor([positions.max(1), width], 1.0), &mut self.cache);
        self.last
    }

    /// One token more. Returns its id.
    pub fn step(&mut self) -> i32 {
        let id = Tensor::<1, Int>::from_data([self.last], &self.text.embeddings.device());
        self.last = self.text.forward(self.text.embeddings.clone().select(0, id), &mut self.cache);
        self.last
    }
}

struct Make<'a> {
    device: &'a Device,
}

impl Make<'_> {
    fn tensor<const D: usize>(&self, shape: [usize; D], spread: f32) -> Tensor<D> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|place| spread * noise(place)).collect();
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }

    fn linear(&self, inputs: usize, outputs: usize) -> Linear {
        Linear { weight: self.tensor([inputs, outputs], (inputs as f32).sqrt().recip()), bias: self.tensor([outputs], 0.02) }
    }

    fn norm(&self, width: usize, eps: f64) -> Norm {
        Norm { gamma: Tensor::ones([width], self.device), beta: Tensor::zeros([width], self.device), eps }
    }
}

struct Linear {
    weight: Tensor<2>,
    bias: Tensor<1>,
}

impl Linear {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        linear(x, self.weight.clone(), Some(self.bias.clone()))
    }
}

struct Norm {
    gamma: Tensor<1>,
    beta: Tensor<1>,
    eps: f64,
}

impl Norm {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        layer_norm(x, self.gamma.clone(), Some(self.beta.clone()), self.eps)
    }
}

/// [n, heads·d] → [1, heads, n, d]
fn split(x: Tensor<2>, heads: usize) -> Tensor<4> {
    let [n, width] = x.dims();
    x.reshape([1, n, heads, width / heads]).permute([0, 2, 1, 3])
}

/// softmax(q·kᵀ/√d)·v, heads side by side again.
fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, is_causal: bool) -> Tensor<2> {
    let [_, heads, n, head_dim] = q.dims();
    let options = AttentionModuleOptions { is_causal, ..AttentionModuleOptions::default() };
    attention(q, k, v, None, None, options).permute([0, 2, 1, 3]).reshape([n, heads * head_dim])
}

/// Self-attention and feed-forward, with the norm in front of each (`vision`, OPT) or behind it (the Q-Former).
struct Layer {
    heads: usize,
    qkv: Linear,
    out: Linear,
    norm1: Norm,
    norm2: Norm,
    fc1: Linear,
    fc2: Linear,
    cross: Option<Cross>,
}

struct Cross {
    query: Linear,
    key_value: Linear,
    out: Linear,
    norm: Norm,
}

impl Layer {
    fn new(make: &Make, width: usize, inner: usize, heads: usize, eps: f64) -> Self {
        Self {
            heads,
            qkv: make.linear(width, 3 * width),
            out: make.linear(width, width),
            norm1: make.norm(width, eps),
            norm2: make.norm(width, eps),
            fc1: make.linear(width, inner),
            fc2: make.linear(inner, width),
            cross: None,
        }
    }

    fn qkv(&self, x: Tensor<2>) -> [Tensor<4>; 3] {
        let product = self.qkv.forward(x);
        let [n, width] = product.dims();
        let width = width / 3;
        [0, 1, 2].map(|part| split(product.clone().slice([0..n, part * width..(part + 1) * width]), self.heads))
    }

    fn mlp(&self, x: Tensor<2>, activation: fn(Tensor<2>) -> Tensor<2>) -> Tensor<2> {
        self.fc2.forward(activation(self.fc1.forward(x)))
    }
}

struct Vision {
    patch: usize,
    patches: Linear,
    class_embedding: Tensor<2>,
    positions: Tensor<2>,
    layers: Vec<Layer>,
    norm: Norm,
}

impl Vision {
    fn new(config: &Blip2VisionConfig, make: &Make) -> Self {
        let (width, patch) = (config.hidden_size, config.patch_size);
        let layer = |_| Layer::new(make, width, config.intermediate_size, config.num_attention_heads, config.layer_norm_eps);
        Self {
            patch,
            patches: make.linear(3 * patch * patch, width),
            class_embedding: make.tensor([1, width], 1.0),
            positions: make.tensor([(config.image_size / patch).pow(2) + 1, width], 1.0),
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            norm: make.norm(width, config.layer_norm_eps),
        }
    }

    fn forward(&self, pixels: &Tensor<3>) -> Tensor<2> {
        let (p, side) = (self.patch, pixels.dims()[1] / self.patch);
        let patches = pixels.clone().slice([0..3, 0..side * p, 0..side * p]).reshape([3, side, p, side, p]);
        let rows = patches.permute([1, 3, 0, 2, 4]).reshape([side * side, 3 * p * p]);
        let mut x = Tensor::cat(vec![self.class_embedding.clone(), self.patches.forward(rows)], 0) + self.positions.clone();
        for layer in &self.layers {
            let [q, k, v] = layer.qkv(layer.norm1.forward(x.clone()));
            x = x + layer.out.forward(attend(q, k, v, false));
            x = x.clone() + layer.mlp(layer.norm2.forward(x), gelu);
        }
        self.norm.forward(x)
    }
}

struct QFormer {
    query_tokens: Tensor<2>,
    norm: Norm,
    layers: Vec<Layer>,
}

impl QFormer {
    fn new(config: &Blip2QFormerConfig, queries: usize, make: &Make) -> Self {
        let (width, eps) = (config.hidden_size, config.layer_norm_eps);
        let layer = |index: usize| {
            let cross = index.is_multiple_of(config.cross_attention_frequency).then(|| Cross {
                query: make.linear(width, width),
                key_value: make.linear(config.encoder_hidden_size, 2 * width),
                out: make.linear(width, width),
                norm: make.norm(width, eps),
            });
            Layer { cross, ..Layer::new(make, width, config.intermediate_size, config.num_attention_heads, eps) }
        };
        Self {
            query_tokens: make.tensor([queries, width], 1.0),
            norm: make.norm(width, eps),
            layers: (0..config.num_hidden_layers).map(layer).collect(),
        }
    }

    fn forward(&self, image: &Tensor<2>) -> Tensor<2> {
        let mut x = self.norm.forward(self.query_tokens.clone());
        for layer in &self.layers {
            let [q, k, v] = layer.qkv(x.clone());
            x = layer.norm1.forward(x + layer.out.forward(attend(q, k, v, false)));
            if let Some(cross) = &layer.cross {
                let product = cross.key_value.forward(image.clone());
                let [n, width] = [product.dims()[0], product.dims()[1] / 2];
                let [k, v] = [0, 1].map(|part| split(product.clone().slice([0..n, part * width..(part + 1) * width]), layer.heads));
                let q = split(cross.query.forward(x.clone()), layer.heads);
                x = cross.norm.forward(x + cross.out.forward(attend(q, k, v, false)));
            }
            x = layer.norm2.forward(x.clone() + layer.mlp(x, gelu));
        }
        x
    }
}

struct Text {
    /// [vocabulary, width]
    embeddings: Tensor<2>,
    positions: Tensor<2>,
    layers: Vec<Layer>,
    norm: Norm,
}

/// OPT's table of positions begins behind two that nobody has.
const FIRST_POSITION: usize = 2;

impl Text {
    fn new(config: &OPTConfig, make: &Make) -> Self {
        let width = config.hidden_size;
        let layer = |_| Layer::new(make, width, config.ffn_dim, config.num_attention_heads, 1e-5);
        Self {
            embeddings: make.tensor([config.vocab_size, width], 1.0),
            positions: make.tensor([config.max_position_embeddings + FIRST_POSITION, width], 1.0),
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            norm: make.norm(width, 1e-5),
        }
    }

    /// The newest positions x [n, width] behind what the cache holds → the id that comes next.
    fn forward(&self, x: Tensor<2>, cache: &mut Vec<[Tensor<4>; 2]>) -> i32 {
        let n = x.dims()[0];
        let before = cache.first().map_or(0, |[k, _]| k.dims()[2]);
        let first = before + FIRST_POSITION;
        let mut x = x + self.positions.clone().slice(first..first + n);
        for (index, layer) in self.layers.iter().enumerate() {
            let [q, k, v] = layer.qkv(layer.norm1.forward(x.clone()));
            let whole = match cache.get(index) {
                Some([k_before, v_before]) => [Tensor::cat(vec![k_before.clone(), k], 2), Tensor::cat(vec![v_before.clone(), v], 2)],
                None => [k, v],
            };
            let [k, v] = whole.clone();
            match cache.get_mut(index) {
                Some(entry) => *entry = whole,
                None => cache.push(whole),
            }
            x = x + layer.out.forward(attend(q, k, v, n > 1));
            x = x.clone() + layer.mlp(layer.norm2.forward(x), relu);
        }
        let newest = self.norm.forward(x.slice(n - 1..n));
        newest.matmul(self.embeddings.clone().swap_dims(0, 1)).argmax(1).into_scalar::<i32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Blip2Config {
        let json = format!(
            r#"{{"num_query_tokens": 3, "vision_config": {{"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 9, "patch_size": 4}}, "qformer_config": {{"hidden_size": 6, "intermediate_size": 10,
            "num_hidden_layers": 3, "num_attention_heads": 3}}, "text_config": {text}}}"#
        );
        Blip2Config::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn it_has_the_shapes_of_its_config() {
        let text = r#"{"hidden_size": 10, "ffn_dim": 14, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 20}"#;
        let mut model = Unfused::new(&config(text)).unwrap();
        assert_eq!(model.encode().dims(), [3, 10]);
        assert!((0..20).contains(&model.begin(5)));
        for _ in 0..3 {
            assert!((0..20).contains(&model.step()));
        }
        assert_eq!(model.cache[1][0].dims(), [1, 2, 8, 5]);
        model.begin(2);
        assert_eq!(model.cache[1][1].dims(), [1, 2, 2, 5]);
    }

    #[test]
    fn other_language_models_are_refused() {
        let error = Unfused::new(&config(r#"{"model_type": "t5"}"#)).err().unwrap();
        assert_eq!(error.code(), "model-unsupported");
    }
}
