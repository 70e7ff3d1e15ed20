//! Images and texts in one space, and whether a text is of an image: HF `Blip2ForImageTextRetrieval`,
//! `Blip2VisionModelWithProjection` and `Blip2TextModelWithProjection`; BLIP-2 §3.2.
//!
//! ITC compares an image and a text that have not seen each other, so that each is computed once for any number of the other.
//! ITM lets queries and text attend to each other, which is surer and has to be done for every pair.
//!
//! B images or texts, P patches, Q queries, L ids of a text, Hv and Hq the widths of vision tower and Q-Former, D that of the
//! common space.

use std::rc::Rc;

use burn_tensor::Tensor;

use crate::error::{Error, Result};
use crate::layers::Linear;
use crate::models::config::Blip2Config;
use crate::models::qformer::{AttentionMask, Blip2QFormerModel, QFormerInputs, QFormerOutput};
use crate::models::text_embeddings::{Blip2TextEmbeddings, rectangle};
use crate::models::vision::{Blip2VisionModel, VisionOptions, VisionOutput};
use crate::weights::Weights;

/// PyTorch's `normalize`: a shorter vector is divided by this instead of its length.
const SHORTEST: f32 = 1e-12;

/// HF `Blip2VisionModelWithProjection`.
///
/// ```
/// use blip2_web::device::Device;
/// use blip2_web::weights::{ModelFolder, Weights};
/// use blip2_web::models::{Blip2Config, Blip2VisionModelWithProjection};
///
/// // From a part of the retrieval model's folder.
/// let (device, folder) = (Device::cpu(), ModelFolder::open("demo/retrieval")?);
/// let config = Blip2Config::from_json(&folder.files["config.json"])?;
/// let load = |weights: &Weights| Blip2VisionModelWithProjection::load(&config, weights);
/// let model = load(&folder.weights(&device, Weights::plan(load)?)?)?;
///
/// let size = config.vision_config.image_size;
/// let output = pollster::block_on(model.forward(&burn_tensor::Tensor::zeros([1, 3, size, size], &device.burn)))?;
/// assert_eq!(output.image_embeds.dims(), [1, config.num_query_tokens, config.image_text_hidden_size]);
/// # Ok::<(), blip2_web::Error>(())
/// ```
#[derive(Clone)]
pub struct Blip2VisionModelWithProjection {
    pub vision_model: Rc<Blip2VisionModel>,
    query_tokens: Tensor<3>,
    qformer: Blip2QFormerModel,
    vision_projection: Linear,
}

/// HF `Blip2VisionModelOutput`.
pub struct VisionModelOutput {
    /// [B, Q, D], each of length 1.
    pub image_embeds: Tensor<3>,
    /// The vision tower's: [B, 1 + P, Hv].
    pub last_hidden_state: Tensor<3>,
}

impl Blip2VisionModelWithProjection {
    /// Errors: weight-missing, weight-shape.
    pub fn load(config: &Blip2Config, weights: &Weights) -> Result<Self> {
        let vision_model = Blip2VisionModel::load(&config.vision_config, &weights.at("vision_model"))?;
        let qformer = Blip2QFormerModel::load(&config.qformer_config, &weights.at("qformer"))?;
        Self::of_parts(Rc::new(vision_model), qformer, config, weights)
    }

    fn of_parts(vision_model: Rc<Blip2VisionModel>, qformer: Blip2QFormerModel, config: &Blip2Config, weights: &Weights) -> Result<Self> {
        let width = config.qformer_config.hidden_size;
        Ok(Self {
            vision_model,
            query_tokens: weights.tensor("query_tokens", [1, config.num_query_tokens, width])?,
            qformer,
            vision_projection: Linear::load(&weights.at("vision_projection"), [width, config.image_text_hidden_size], true)?,
        })
    }

    /// pixel_values [B, 3, H, W], normalised. Errors: input-invalid, kernel.
    pub async fn forward(&self, pixel_values: &Tensor<4>) -> Result<VisionModelOutput> {
        let last_hidden_state = self.vision_model.forward(pixel_values, VisionOptions::default()).await?.last_hidden_state;
        Ok(VisionModelOutput { image_embeds: self.image_embeds(&last_hidden_state).await?, last_hidden_state })
    }

    /// The vision tower's last_hidden_state [B, 1 + P, Hv] → [B, Q, D], each of length 1. Errors: kernel.
    pub async fn image_embeds(&self, last_hidden_state: &Tensor<3>) -> Result<Tensor<3>> {
        let seen = self.query(last_hidden_state, false).await?;
        Ok(normalize(projected(&self.vision_projection, &seen.last_hidden_state)?))
    }

    /// What the queries see in the vision tower's last_hidden_state [B, 1 + P, Hv]: [B, Q, Hq]. Errors: kernel.
    pub async fn query(&self, last_hidden_state: &Tensor<3>, output_hidden_states: bool) -> Result<QFormerOutput> {
        let query_embeds = self.queries(last_hidden_state.dims()[0]);
        let encoder_hidden_states = Some(last_hidden_state);
        let inputs = QFormerInputs { encoder_hidden_states, output_hidden_states, ..QFormerInputs::new(&query_embeds) };
        self.qformer.forward(&inputs).await
    }

    /// [B, Q, Hq]
    fn queries(&self, batch: usize) -> Tensor<3> {
        let [_, queries, width] = self.query_tokens.dims();
        self.query_tokens.clone().expand([batch, queries, width])
    }
}

/// HF `Blip2TextModelWithProjection`. Its files hold `query_tokens` too, which text has no use for.
///
/// ```
/// use blip2_web::device::Device;
/// use blip2_web::weights::{ModelFolder, Weights};
/// use blip2_web::models::{Blip2Config, Blip2TextModelWithProjection};
/// use blip2_web::processor::{Blip2Processor, Padding, TextOptions};
///
/// let (device, folder) = (Device::cpu(), ModelFolder::open("demo/retrieval")?);
/// let config = Blip2Config::from_json(&folder.files["config.json"])?;
/// let load = |weights: &Weights| Blip2TextModelWithProjection::load(&config, weights);
/// let model = load(&folder.weights(&device, Weights::plan(load)?)?)?;
///
/// let options = TextOptions { padding: Padding::Longest, ..TextOptions::default() };
/// let text = Blip2Processor::from_files(&folder.files)?.text(&["a bee", "a red bicycle on a beach"], false, &options)?;
/// let output = pollster::block_on(model.forward(&text.input_ids, &text.attention_mask, None))?;
/// assert_eq!(output.text_embeds.dims(), [2, text.input_ids[0].len(), config.image_text_hidden_size]);
/// # Ok::<(), blip2_web::Error>(())
/// ```
#[derive(Clone)]
pub struct Blip2TextModelWithProjection {
    embeddings: Blip2TextEmbeddings,
    qformer: Blip2QFormerModel,
    text_projection: Linear,
}

/// HF `Blip2TextModelOutput`.
pub struct TextModelOutput {
    /// Of every position, each of length 1: [B, L, D]. The first one stands for the text.
    pub text_embeds: Tensor<3>,
    /// [B, L, Hq]
    pub last_hidden_state: Tensor<3>,
}

impl Blip2TextModelWithProjection {
    /// Errors: weight-missing, weight-shape.
    pub fn load(config: &Blip2Config, weights: &Weights) -> Result<Self> {
        Self::around(Blip2QFormerModel::load(&config.qformer_config, &weights.at("qformer"))?, config, weights)
    }

    fn around(qformer: Blip2QFormerModel, config: &Blip2Config, weights: &Weights) -> Result<Self> {
        let projection = [config.qformer_config.hidden_size, config.image_text_hidden_size];
        Ok(Self {
            embeddings: Blip2TextEmbeddings::load(&config.qformer_config, &weights.at("embeddings"))?,
            qformer,
            text_projection: Linear::load(&weights.at("text_projection"), projection, true)?,
        })
    }

    /// input_ids and attention_mask [B, L]; position_ids [1 or B, L], 0, 1, … where `None`. Text is padded on the right: its
    /// first position stands for it. Image tokens are ids like others here. Errors: input-invalid, kernel.
    pub async fn forward(
        &self,
        input_ids: &[Vec<u32>],
        attention_mask: &[Vec<u32>],
        position_ids: Option<&[Vec<u32>]>,
    ) -> Result<TextModelOutput> {
        let last_hidden_state = self.read(input_ids, attention_mask, position_ids).await?.last_hidden_state;
        let text_embeds = normalize(projected(&self.text_projection, &last_hidden_state)?);
        Ok(TextModelOutput { text_embeds, last_hidden_state })
    }

    /// The text alone through the Q-Former: [B, L, Hq].
    async fn read(&self, input_ids: &[Vec<u32>], attention_mask: &[Vec<u32>], position_ids: Option<&[Vec<u32>]>) -> Result<QFormerOutput> {
        let text = self.embeddings.forward(input_ids, position_ids)?;
        let attention_mask = Some(AttentionMask::Padding(attention_mask.to_vec()));
        let inputs = QFormerInputs { query_length: 0, attention_mask, ..QFormerInputs::new(&text) };
        self.qformer.forward(&inputs).await
    }

    /// Of the first positions alone: [B, 1, D], each of length 1.
    fn embeds_of(&self, text: &QFormerOutput) -> Result<Tensor<3>> {
        let [batch, width] = text.pooler_output.dims();
        Ok(normalize(projected(&self.text_projection, &text.pooler_output.clone().reshape([batch, 1, width]))?))
    }
}

/// What `forward` is given of the images.
#[derive(Clone, Copy)]
pub enum Images<'a> {
    /// [B, 3, H, W], normalised.
    PixelValues(&'a Tensor<4>),
    /// The vision tower's last_hidden_state [B, 1 + P, Hv], where it is known already.
    HiddenStates(&'a Tensor<3>),
}

/// HF `Blip2ImageTextMatchingModelOutput`. Bi images, Bt texts.
pub struct ImageTextMatchingOutput {
    /// ITC: [Bi, Bt], from −1 to 1. ITM: [B, 2], before softmax; the second is the match.
    pub logits_per_image: Tensor<2>,
    /// The same transposed.
    pub logits_per_text: Tensor<2>,
    /// ITC: [Bi, Q, D], each of length 1. ITM: the vision tower's last_hidden_state [B, 1 + P, Hv].
    pub image_embeds: Tensor<3>,
    /// ITC: [Bt, 1, D] (HF: [Bt, D]), each of length 1. ITM: the Q-Former's last_hidden_state [B, Q + L, Hq].
    pub text_embeds: Tensor<3>,
    /// The Q-Former's pass over the text (ITC), over queries and text together (ITM).
    pub text_model_output: QFormerOutput,
    /// `None` where the hidden states were given.
    pub vision_model_output: Option<VisionOutput>,
}

/// HF `Blip2ForImageTextRetrieval`. Its two halves are the models with projection of the same checkpoint, and share the Q-Former.
///
/// `tasks::ImageTextRetrieval` is this with its processor, for pictures and texts.
///
/// ```
/// use blip2_web::device::Device;
/// use blip2_web::models::{Blip2Config, Blip2ForImageTextRetrieval, Images, plan};
/// use blip2_web::weights::ModelFolder;
///
/// let (device, folder) = (Device::cpu(), ModelFolder::open("demo/retrieval")?);
/// let json = &folder.files["config.json"];
/// let config = Blip2Config::from_json(json)?;
/// let model = Blip2ForImageTextRetrieval::load(&config, &folder.weights(&device, plan(json)?)?)?;
///
/// let size = config.vision_config.image_size;
/// let pixel_values = burn_tensor::Tensor::zeros([2, 3, size, size], &device.burn);
/// let (ids, mask) = (vec![vec![2, 9, 11]; 2], vec![vec![1, 1, 1]; 2]);
/// for (itm, shape) in [(false, [2, 2]), (true, [2, 2])] {
///     let output = pollster::block_on(model.forward(Images::PixelValues(&pixel_values), &ids, &mask, itm))?;
///     assert_eq!(output.logits_per_image.dims(), shape);
/// }
/// # Ok::<(), blip2_web::Error>(())
/// ```
#[derive(Clone)]
pub struct Blip2ForImageTextRetrieval {
    pub config: Blip2Config,
    pub vision: Blip2VisionModelWithProjection,
    pub text: Blip2TextModelWithProjection,
    itm_head: Linear,
}

impl Blip2ForImageTextRetrieval {
    /// Errors: weight-missing, weight-shape.
    pub fn load(config: &Blip2Config, weights: &Weights) -> Result<Self> {
        Self::load_with(None, config, weights)
    }

    /// The same with a vision tower that is loaded already, if there is one: models of one tower share it. Errors: as `load`.
    pub fn load_with(tower: Option<Rc<Blip2VisionModel>>, config: &Blip2Config, weights: &Weights) -> Result<Self> {
        let vision_model = match tower {
            Some(tower) => tower,
            None => Rc::new(Blip2VisionModel::load(&config.vision_config, &weights.at("vision_model"))?),
        };
        let qformer = Blip2QFormerModel::load(&config.qformer_config, &weights.at("qformer"))?;
        Ok(Self {
            config: config.clone(),
            vision: Blip2VisionModelWithProjection::of_parts(vision_model, qformer.clone(), config, weights)?,
            text: Blip2TextModelWithProjection::around(qformer, config, weights)?,
            itm_head: Linear::load(&weights.at("itm_head"), [config.qformer_config.hidden_size, 2], true)?,
        })
    }

    /// input_ids and attention_mask [Bt, L], padded on the right. Where the config has an `image_token_index`, the first Q of
    /// each row are image tokens, and nothing but their place says so. Errors: input-invalid, also where ITM
    /// (`use_image_text_matching_head`) is given another count of texts than of images; kernel.
    pub async fn forward(
        &self,
        images: Images<'_>,
        input_ids: &[Vec<u32>],
        attention_mask: &[Vec<u32>],
        use_image_text_matching_head: bool,
    ) -> Result<ImageTextMatchingOutput> {
        let (last_hidden_state, vision_model_output) = match images {
            Images::HiddenStates(states) => (states.clone(), None),
            Images::PixelValues(pixel_values) => {
                let output = self.vision.vision_model.forward(pixel_values, VisionOptions::default()).await?;
                (output.last_hidden_state.clone(), Some(output))
            }
        };
        let (logits_per_image, image_embeds, text_embeds, text_model_output) = if use_image_text_matching_head {
            let (logits, joint) = self.matched(&last_hidden_state, input_ids, attention_mask, false).await?;
            (logits, last_hidden_state, joint.last_hidden_state.clone(), joint)
        } else {
            let text = self.read(input_ids, attention_mask).await?;
            let text_embeds = self.text.embeds_of(&text)?;
            let image_embeds = self.vision.image_embeds(&last_hidden_state).await?;
            (Self::cosines(&image_embeds, &text_embeds)?, image_embeds, text_embeds, text)
        };
        let logits_per_text = logits_per_image.clone().transpose();
        Ok(ImageTextMatchingOutput { logits_per_image, logits_per_text, image_embeds, text_embeds, text_model_output, vision_model_output })
    }

    /// The vision tower's last_hidden_state [B, 1 + P, Hv] → [B, Q, D], each of length 1. Errors: kernel.
    pub async fn image_embeds(&self, last_hidden_state: &Tensor<3>) -> Result<Tensor<3>> {
        self.vision.image_embeds(last_hidden_state).await
    }

    /// input_ids and attention_mask [B, L] as in `forward` → [B, D], each of length 1. Errors: input-invalid, kernel.
    pub async fn text_embeds(&self, input_ids: &[Vec<u32>], attention_mask: &[Vec<u32>]) -> Result<Tensor<2>> {
        let text_embeds = self.text.embeds_of(&self.read(input_ids, attention_mask).await?)?;
        let [batch, _, width] = text_embeds.dims();
        Ok(text_embeds.reshape([batch, width]))
    }

    /// image_embeds [Bi, Q, D], text_embeds [Bt, D], each of length 1 → [Bi, Bt]: the cosine of the query that fits best.
    /// No temperature. Errors: input-invalid when shapes disagree.
    pub fn itc_logits(image_embeds: &Tensor<3>, text_embeds: &Tensor<2>) -> Result<Tensor<2>> {
        let [texts, width] = text_embeds.dims();
        Self::cosines(image_embeds, &text_embeds.clone().reshape([texts, 1, width]))
    }

    /// The same with text_embeds [Bt, 1, D].
    fn cosines(image_embeds: &Tensor<3>, text_embeds: &Tensor<3>) -> Result<Tensor<2>> {
        let ([images, queries, width], [texts, _, text_width]) = (image_embeds.dims(), text_embeds.dims());
        if images == 0 || texts == 0 || width != text_width {
            let shapes = format!("{:?} for image_embeds {:?}", text_embeds.dims(), image_embeds.dims());
            return Err(Error::input("text_embeds", shapes));
        }
        // Text by text: all products at once would be as large as the images times the texts. And f32, where a matrix
        // product of Burn may round to less on some devices.
        let columns = (0..texts)
            .map(|text| {
                let text = text_embeds.clone().slice([text..text + 1, 0..1, 0..width]);
                let cosines = (image_embeds.clone() * text).sum_dim(2);
                cosines.reshape([images, queries]).max_dim(1)
            })
            .collect();
        Ok(Tensor::cat(columns, 1))
    }

    /// last_hidden_state of the vision tower [B, 1 + P, Hv], input_ids and attention_mask [B, L] as in `forward` → [B, 2]
    /// before softmax; the second is the match. Errors: input-invalid, also where there are not as many texts as images; kernel.
    pub async fn itm_logits(
        &self,
        last_hidden_state: &Tensor<3>,
        input_ids: &[Vec<u32>],
        attention_mask: &[Vec<u32>],
    ) -> Result<Tensor<2>> {
        Ok(self.matched(last_hidden_state, input_ids, attention_mask, false).await?.0)
    }

    /// The Q-Former's output of the same pass, queries and then text [B, Q + L, Hq], with its attentions. Errors: as `itm_logits`.
    pub async fn itm_attentions(
        &self,
        last_hidden_state: &Tensor<3>,
        input_ids: &[Vec<u32>],
        attention_mask: &[Vec<u32>],
    ) -> Result<QFormerOutput> {
        Ok(self.matched(last_hidden_state, input_ids, attention_mask, true).await?.1)
    }

    /// The text alone through the Q-Former: [B, L, Hq].
    async fn read(&self, input_ids: &[Vec<u32>], attention_mask: &[Vec<u32>]) -> Result<QFormerOutput> {
        let placeholders = self.placeholders();
        let input_ids = without_first("input_ids", input_ids, placeholders)?;
        let attention_mask = without_first("attention_mask", attention_mask, placeholders)?;
        self.text.read(&input_ids, &attention_mask, None).await
    }

    /// Queries and text together through the Q-Former → logits [B, 2], and its output [B, Q + L, Hq].
    async fn matched(
        &self,
        last_hidden_state: &Tensor<3>,
        input_ids: &[Vec<u32>],
        attention_mask: &[Vec<u32>],
        output_attentions: bool,
    ) -> Result<(Tensor<2>, QFormerOutput)> {
        let batch = last_hidden_state.dims()[0];
        if input_ids.len() != batch {
            let reason = format!("{} texts for {batch} images: each image is matched with one text", input_ids.len());
            return Err(Error::input("input_ids", reason));
        }
        let queries = self.vision.queries(batch);
        let [_, query_length, width] = queries.dims();
        let placeholders = self.placeholders();
        let text = self.text.embeddings.forward(&without_first("input_ids", input_ids, placeholders)?, None)?;
        // The ones of the image tokens, where there are any, are already those of the queries.
        let of_queries = vec![1; query_length - placeholders];
        let attention_mask = attention_mask.iter().map(|row| [of_queries.as_slice(), row.as_slice()].concat()).collect();
        let query_embeds = Tensor::cat(vec![queries, text], 1);
        let inputs = QFormerInputs {
            query_length,
            attention_mask: Some(AttentionMask::Padding(attention_mask)),
            encoder_hidden_states: Some(last_hidden_state),
            output_attentions,
            ..QFormerInputs::new(&query_embeds)
        };
        let joint = self.vision.qformer.forward(&inputs).await?;
        let seen = joint.last_hidden_state.clone().slice([0..batch, 0..query_length, 0..width]);
        let logits = projected(&self.itm_head, &seen)?.mean_dim(1).reshape([batch, 2]);
        Ok((logits, joint))
    }

    /// How many image tokens stand in front of each text.
    fn placeholders(&self) -> usize {
        self.config.image_token_index.map_or(0, |_| self.config.num_query_tokens)
    }
}

/// [B, L] → [B, L − count]. Errors: input-invalid where nothing is left.
fn without_first(argument: &str, rows: &[Vec<u32>], count: usize) -> Result<Vec<Vec<u32>>> {
    let [_, columns] = rectangle(argument, rows)?;
    if columns <= count {
        return Err(Error::input(argument, format!("rows of {columns}, of which the first {count} are image tokens")));
    }
    Ok(rows.iter().map(|row| row[count..].to_vec()).collect())
}

/// A linear layer over every position: [B, S, in] → [B, S, out].
fn projected(layer: &Linear, x: &Tensor<3>) -> Result<Tensor<3>> {
    let [batch, positions, width] = x.dims();
    let y = layer.forward(&x.clone().reshape([batch * positions, width]))?;
    let outputs = y.dims()[1];
    Ok(y.reshape([batch, positions, outputs]))
}

/// Along the last dimension, to length 1.
fn normalize(x: Tensor<3>) -> Tensor<3> {
    let lengths = x.clone().square().sum_dim(2).sqrt().clamp_min(SHORTEST);
    x / lengths
}
