//! A checkpoint as one of HF's classes, whichever it is: plain values in, plain values out. What a caller outside of Rust holds.

use std::collections::BTreeMap;
use std::rc::Rc;

use burn_tensor::{Tensor, TensorData};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::{
    AttentionMask, Blip2Config, Blip2QFormerConfig, Blip2QFormerModel, Blip2TextModelWithProjection, Blip2VisionConfig, Blip2VisionModel,
    Blip2VisionModelWithProjection, Class, ImageOptions, Images, LanguageOptions, QFormerInputs, QFormerOutput, TextInputs, VisionOptions,
    VisionOutput, config_json,
};
use crate::ops::read_floats;
use crate::processor::Blip2Processor;
use crate::tasks::{Blip2, ForwardInputs, ImageTextRetrieval, PictureEncoder, ones};
use crate::weights::Weights;

/// What can be asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    Caption,
    Ask,
    Chat,
    Attention,
    /// Order images by a text (ITC, and ITM for the best).
    Rank,
    /// Whether a text is of an image (ITM).
    Match,
    /// Vectors of images or texts.
    Embed,
}

impl Task {
    /// What a model of this class can be asked for.
    pub fn of(class: Class) -> &'static [Self] {
        match class {
            Class::Blip2ForConditionalGeneration | Class::Blip2Model => &[Self::Caption, Self::Ask, Self::Chat, Self::Attention],
            Class::Blip2ForImageTextRetrieval => &[Self::Rank, Self::Match, Self::Embed, Self::Attention],
            Class::Blip2TextModelWithProjection | Class::Blip2VisionModelWithProjection => &[Self::Embed],
            Class::Blip2VisionModel | Class::Blip2QFormerModel => &[],
        }
    }
}

/// Parts of a model that stand already when the rest is loaded.
#[derive(Default)]
pub struct There {
    /// Another model's vision tower, of the same weights.
    pub tower: Option<Rc<Blip2VisionModel>>,
    /// Of a generation class: all but its language model.
    pub encoder: Option<PictureEncoder>,
}

/// One of HF's classes with its weights; a processor where the folder has a tokenizer.
pub enum AnyModel {
    Generation(Box<Blip2>),
    Retrieval(Box<ImageTextRetrieval>),
    Text(Box<Blip2TextModelWithProjection>),
    Vision(Box<Blip2VisionModelWithProjection>),
    VisionModel(Rc<Blip2VisionModel>),
    QFormerModel(Box<Blip2QFormerModel>),
    /// No class of models: what stands before and behind one, without any weights.
    Processor(Box<Blip2Processor>),
}

/// A tensor out of the device: `shape` and the elements in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Plain {
    pub data: Vec<f32>,
    pub shape: Vec<usize>,
}

/// A field of a class's output.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    Number(f32),
    Tensor(Plain),
    /// `hidden_states`, `attentions`, …: one for each layer.
    Tensors(Vec<Plain>),
}

/// The arguments of every class's `forward`, under HF's names; each class takes its own, and refuses the others.
#[derive(Debug, Clone, Default)]
pub struct Arguments {
    /// [B, 3, H, W]
    pub pixel_values: Option<Plain>,
    /// [B, S]
    pub input_ids: Option<Vec<Vec<u32>>>,
    /// [B, S, width]: instead of input_ids, of `generate` alone
    pub inputs_embeds: Option<Plain>,
    /// [B, S]
    pub attention_mask: Option<Vec<Vec<u32>>>,
    /// [B, S, S], the Q-Former's: instead of the one of two dimensions
    pub full_attention_mask: Option<Vec<Vec<Vec<u32>>>>,
    /// [B, T]
    pub decoder_input_ids: Option<Vec<Vec<u32>>>,
    /// [B, L]
    pub labels: Option<Vec<Vec<i64>>>,
    /// [1 or B, S]
    pub position_ids: Option<Vec<Vec<u32>>>,
    /// [B, S, Hq]
    pub query_embeds: Option<Plain>,
    pub query_length: Option<usize>,
    /// [B, P, Hv]
    pub encoder_hidden_states: Option<Plain>,
    pub use_image_text_matching_head: bool,
    pub interpolate_pos_encoding: bool,
    pub output_hidden_states: bool,
    pub output_attentions: bool,
}

type Outputs = BTreeMap<&'static str, Output>;

impl AnyModel {
    /// `files` are those of a model folder, by name. What is loaded already takes the place of the weights' own.
    /// Errors: config-invalid, tokenizer-invalid, model-unsupported, weight-missing, weight-shape.
    pub fn load(device: &Device, class: Class, files: &BTreeMap<String, Vec<u8>>, weights: &Weights, there: There) -> Result<Self> {
        let There { tower, encoder } = there;
        let json = config_json(files)?;
        let part = || Ok(weights.at(class.prefix(json)?));
        Ok(match class {
            Class::Blip2ForConditionalGeneration | Class::Blip2Model => {
                let encoder = encoder.map_or_else(|| PictureEncoder::load(tower, device, files, weights), Ok)?;
                Self::Generation(Box::new(Blip2::behind(&encoder, files, weights)?))
            }
            Class::Blip2ForImageTextRetrieval => Self::Retrieval(Box::new(ImageTextRetrieval::load_with(tower, device, files, weights)?)),
            Class::Blip2TextModelWithProjection => {
                Self::Text(Box::new(Blip2TextModelWithProjection::load(&Blip2Config::from_json(json)?, weights)?))
            }
            Class::Blip2VisionModelWithProjection => {
                Self::Vision(Box::new(Blip2VisionModelWithProjection::load(&Blip2Config::from_json(json)?, weights)?))
            }
            Class::Blip2VisionModel => Self::VisionModel(Rc::new(Blip2VisionModel::load(&Blip2VisionConfig::from_json(json)?, &part()?)?)),
            Class::Blip2QFormerModel => {
                Self::QFormerModel(Box::new(Blip2QFormerModel::load(&Blip2QFormerConfig::from_json(json)?, &part()?)?))
            }
        })
    }

    /// Errors: option-unsupported where this is another class's work.
    pub fn generation(&self) -> Result<&Blip2> {
        match self {
            Self::Generation(model) => Ok(model),
            _ => Err(wrong_class("generate", "Blip2ForConditionalGeneration")),
        }
    }

    /// Errors: option-unsupported where this is another class's work.
    pub fn retrieval(&self) -> Result<&ImageTextRetrieval> {
        match self {
            Self::Retrieval(model) => Ok(model),
            _ => Err(wrong_class("rank", "Blip2ForImageTextRetrieval")),
        }
    }

    /// The processor of this model's folder. Errors: option-unsupported where the class has none.
    pub fn processor(&self) -> Result<&Blip2Processor> {
        match self {
            Self::Generation(model) => Ok(&model.processor),
            Self::Retrieval(model) => Ok(&model.processor),
            Self::Processor(processor) => Ok(processor),
            _ => Err(wrong_class("process", "Blip2Processor")),
        }
    }

    /// The vision tower, for another model that has the same.
    pub fn vision_model(&self) -> Option<Rc<Blip2VisionModel>> {
        match self {
            Self::Generation(model) => Some(model.captioner.model.image_encoder.vision_model.clone()),
            Self::Retrieval(model) => Some(model.model.vision.vision_model.clone()),
            Self::Vision(model) => Some(model.vision_model.clone()),
            Self::VisionModel(model) => Some(model.clone()),
            Self::Text(_) | Self::QFormerModel(_) | Self::Processor(_) => None,
        }
    }

    /// A method of HF's class by its name: `forward`, and of `Blip2Model` `get_image_features`, `get_qformer_features` and
    /// `get_text_features`. Errors: option-unsupported where the class has no such method; those of `forward`.
    pub async fn call(&self, device: &Device, method: &str, arguments: Arguments) -> Result<Outputs> {
        match (method, self) {
            ("forward", _) => self.forward(device, arguments).await,
            (_, Self::Generation(model)) => feature(model, device, method, arguments).await,
            _ => Err(Error::OptionUnsupported { option: method.into(), reason: "this class has no such method".into() }),
        }
    }

    /// HF `forward` of the class, its output's fields by name. Errors: input-invalid, kernel, device-lost.
    pub async fn forward(&self, device: &Device, arguments: Arguments) -> Result<Outputs> {
        if arguments.full_attention_mask.is_some() && !matches!(self, Self::QFormerModel(_)) {
            return Err(Error::input("attention_mask", "of three dimensions: only the Q-Former takes it"));
        }
        if arguments.inputs_embeds.is_some() {
            return Err(Error::OptionUnsupported { option: "inputs_embeds".into(), reason: "only generate takes it".into() });
        }
        match self {
            Self::Generation(model) => generation(model, device, arguments).await,
            Self::Retrieval(model) => retrieval(model, device, arguments).await,
            Self::Text(model) => {
                let input_ids = needed("input_ids", arguments.input_ids)?;
                let mask = arguments.attention_mask.unwrap_or_else(|| ones(&input_ids));
                let output = model.forward(&input_ids, &mask, arguments.position_ids.as_deref()).await?;
                let fields = [("text_embeds", output.text_embeds), ("last_hidden_state", output.last_hidden_state)];
                tensors(fields).await
            }
            Self::Vision(model) => {
                let output = model.forward(&on_device(device, "pixel_values", arguments.pixel_values)?).await?;
                tensors([("image_embeds", output.image_embeds), ("last_hidden_state", output.last_hidden_state)]).await
            }
            Self::VisionModel(model) => {
                let options = vision_options(&arguments);
                let pixel_values = on_device(device, "pixel_values", arguments.pixel_values)?;
                vision(model.forward(&pixel_values, options).await?).await
            }
            Self::Processor(_) => Err(wrong_class("forward", "model")),
            Self::QFormerModel(model) => {
                let query_embeds = on_device(device, "query_embeds", arguments.query_embeds)?;
                let states = arguments.encoder_hidden_states.map(|states| on_device(device, "encoder_hidden_states", Some(states)));
                let states = states.transpose()?;
                let defaults = QFormerInputs::new(&query_embeds);
                let inputs = QFormerInputs {
                    query_length: arguments.query_length.unwrap_or(defaults.query_length),
                    attention_mask: arguments
                        .full_attention_mask
                        .map(AttentionMask::Full)
                        .or(arguments.attention_mask.map(AttentionMask::Padding)),
                    encoder_hidden_states: states.as_ref(),
                    output_hidden_states: arguments.output_hidden_states,
                    output_attentions: arguments.output_attentions,
                    ..defaults
                };
                qformer(model.forward(&inputs).await?).await
            }
        }
    }
}

fn wrong_class(option: &str, class: &str) -> Error {
    Error::OptionUnsupported { option: option.into(), reason: format!("this model is no {class}") }
}

fn needed<T>(name: &str, argument: Option<T>) -> Result<T> {
    argument.ok_or_else(|| Error::input(name, "is needed"))
}

fn vision_options(arguments: &Arguments) -> VisionOptions {
    VisionOptions {
        interpolate_pos_encoding: arguments.interpolate_pos_encoding,
        output_hidden_states: arguments.output_hidden_states,
        output_attentions: arguments.output_attentions,
    }
}

async fn generation(model: &Blip2, device: &Device, arguments: Arguments) -> Result<Outputs> {
    let captioner = &model.captioner;
    let interpolate = arguments.interpolate_pos_encoding;
    let pixel_values = on_device(device, "pixel_values", arguments.pixel_values)?;
    let features = captioner.get_image_features(&pixel_values, interpolate).await?;
    let input_ids = needed("input_ids", arguments.input_ids)?;
    let inputs = ForwardInputs {
        input_ids: &input_ids,
        attention_mask: arguments.attention_mask.as_deref(),
        decoder_input_ids: arguments.decoder_input_ids.as_deref(),
        labels: arguments.labels.as_deref(),
        options: LanguageOptions { output_hidden_states: arguments.output_hidden_states, output_attentions: arguments.output_attentions },
    };
    let output = captioner.forward(&features, inputs).await?;
    let mut fields = tensors([("logits", output.logits)]).await?;
    fields.extend(each("hidden_states", output.language_model.hidden_states).await?);
    fields.extend(each("attentions", output.language_model.attentions).await?);
    fields.extend(each("cross_attentions", output.language_model.cross_attentions).await?);
    if let Some(loss) = output.loss {
        fields.insert("loss", Output::Number(loss));
    }
    Ok(fields)
}

/// HF `Blip2Model`'s helpers.
async fn feature(model: &Blip2, device: &Device, method: &str, arguments: Arguments) -> Result<Outputs> {
    let model = &model.captioner.model;
    match method {
        "get_image_features" => {
            let options = vision_options(&arguments);
            let pixel_values = on_device(device, "pixel_values", arguments.pixel_values)?;
            vision(model.get_image_features(&pixel_values, options).await?).await
        }
        "get_qformer_features" => {
            let options = ImageOptions {
                interpolate_pos_encoding: arguments.interpolate_pos_encoding,
                output_hidden_states: arguments.output_hidden_states,
                output_vision_attentions: false,
                output_qformer_attentions: arguments.output_attentions,
            };
            let pixel_values = on_device(device, "pixel_values", arguments.pixel_values)?;
            qformer(model.get_qformer_features(&pixel_values, options).await?).await
        }
        "get_text_features" => {
            let input_ids = needed("input_ids", arguments.input_ids)?;
            let mask = arguments.attention_mask.unwrap_or_else(|| ones(&input_ids));
            let text = TextInputs {
                input_ids: &input_ids,
                attention_mask: &mask,
                decoder_input_ids: arguments.decoder_input_ids.as_deref(),
                options: LanguageOptions::default(),
            };
            tensors([("logits", model.get_text_features(device, text).await?.logits)]).await
        }
        _ => Err(Error::OptionUnsupported { option: method.into(), reason: "Blip2Model has no such method".into() }),
    }
}

async fn retrieval(model: &ImageTextRetrieval, device: &Device, arguments: Arguments) -> Result<Outputs> {
    let pixel_values = on_device(device, "pixel_values", arguments.pixel_values)?;
    let input_ids = needed("input_ids", arguments.input_ids)?;
    let mask = arguments.attention_mask.unwrap_or_else(|| ones(&input_ids));
    let images = Images::PixelValues(&pixel_values);
    let output = model.model.forward(images, &input_ids, &mask, arguments.use_image_text_matching_head).await?;
    let mut fields = tensors([("image_embeds", output.image_embeds), ("text_embeds", output.text_embeds)]).await?;
    fields.extend(tensors([("logits_per_image", output.logits_per_image), ("logits_per_text", output.logits_per_text)]).await?);
    Ok(fields)
}

async fn vision(output: VisionOutput) -> Result<Outputs> {
    let mut fields = tensors([("last_hidden_state", output.last_hidden_state)]).await?;
    fields.extend(tensors([("pooler_output", output.pooler_output)]).await?);
    fields.extend(each("hidden_states", output.hidden_states).await?);
    fields.extend(each("attentions", output.attentions).await?);
    Ok(fields)
}

async fn qformer(output: QFormerOutput) -> Result<Outputs> {
    let mut fields = tensors([("last_hidden_state", output.last_hidden_state)]).await?;
    fields.extend(tensors([("pooler_output", output.pooler_output)]).await?);
    fields.extend(each("hidden_states", output.hidden_states).await?);
    fields.extend(each("attentions", output.attentions).await?);
    fields.extend(each("cross_attentions", output.cross_attentions).await?);
    Ok(fields)
}

async fn tensors<const D: usize, const N: usize>(fields: [(&'static str, Tensor<D>); N]) -> Result<Outputs> {
    let mut outputs = Outputs::new();
    for (name, tensor) in fields {
        outputs.insert(name, Output::Tensor(plain(tensor).await?));
    }
    Ok(outputs)
}

/// Nothing where nothing was asked for.
async fn each<const D: usize>(name: &'static str, layers: Vec<Tensor<D>>) -> Result<Option<(&'static str, Output)>> {
    let mut list = vec![];
    for layer in layers {
        list.push(plain(layer).await?);
    }
    Ok((!list.is_empty()).then_some((name, Output::Tensors(list))))
}

async fn plain<const D: usize>(tensor: Tensor<D>) -> Result<Plain> {
    let shape = tensor.dims().to_vec();
    Ok(Plain { data: read_floats(tensor).await?, shape })
}

/// Errors: input-invalid where it is missing, of another number of dimensions, or not as long as its shape says.
pub(super) fn on_device<const D: usize>(device: &Device, name: &str, tensor: Option<Plain>) -> Result<Tensor<D>> {
    let Plain { data, shape } = needed(name, tensor)?;
    let count = shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
    let fits: Option<[usize; D]> = shape[..].try_into().ok().filter(|_| count == Some(data.len()) && !data.is_empty());
    let shape =
        fits.ok_or_else(|| Error::input(name, format!("{} floats of shape {shape:?}, where {D} dimensions are wanted", data.len())))?;
    Ok(Tensor::from_data(TensorData::new(data, shape), &device.burn))
}
