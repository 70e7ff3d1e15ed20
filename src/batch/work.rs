//! What is done with a picture, by the model that can.

use std::ops::ControlFlow;
use std::path::Path;

use burn_tensor::{Tensor, TensorData};

use crate::batch::record::{Kept, Outcome, Record, Scores, Subject};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::generation::GenerationConfig;
use crate::models::{Blip2TextModelWithProjection, Blip2VisionModelWithProjection, Class, config_json, plan_class};
use crate::ops::read_floats;
use crate::pace;
use crate::processor::{Blip2Processor, BlipImageProcessor, RgbImage, TextOptions};
use crate::tasks::{Answer, AnyModel, Blip2, Candidate, ImageTextRetrieval, RetrievalImage, There};
use crate::weights::ModelFolder;
use crate::weights::index::Ui;

/// The work of a run.
pub enum Work {
    Caption(Box<Speaker>),
    Ask(Box<Speaker>, String),
    Embed(Embedder),
    Rank(Box<Ranker>),
}

/// A model with the words around a question.
pub struct Speaker {
    model: Blip2,
    prompt: Option<String>,
    config: GenerationConfig,
}

/// Vectors of pictures and of texts.
pub struct Embedder {
    model: Embeds,
    texts: Vec<String>,
}

enum Embeds {
    Both(Box<ImageTextRetrieval>),
    Images(Box<Blip2VisionModelWithProjection>, Box<BlipImageProcessor>, Box<Device>),
    Texts(Box<Blip2TextModelWithProjection>, Box<Blip2Processor>),
}

/// Pictures in the order in which they fit a text.
pub struct Ranker {
    model: ImageTextRetrieval,
    text: String,
    rerank: usize,
    /// The best ones so far by ITC, best first, so that they need not be encoded again.
    best: Vec<(f32, String, RetrievalImage)>,
}

fn load(device: &Device, folder: &Path) -> Result<(AnyModel, ModelFolder)> {
    let folder = ModelFolder::open(folder)?;
    let json = config_json(&folder.files)?;
    let class = Class::of(json)?;
    let weights = folder.weights(device, plan_class(class, json)?)?;
    Ok((AnyModel::load(device, class, &folder.files, &weights, There::default())?, folder))
}

impl Work {
    /// Captions that continue `prompt`, by itself the folder's own. Errors: those of loading; option-unsupported for a model of another class.
    pub fn caption(device: &Device, folder: &Path, prompt: Option<String>, config: GenerationConfig) -> Result<Self> {
        let (speaker, ui) = Speaker::load(device, folder, config)?;
        let prompt = prompt.or(Some(ui.caption_prompt)).filter(|prompt| !prompt.is_empty());
        Ok(Self::Caption(Box::new(Speaker { prompt, ..speaker })))
    }

    /// Answers to a question, put as the folder says it is to be put or in `prompt`, where `{question}` is replaced.
    /// Errors: those of loading; input-invalid for an empty question, option-unsupported for a model of another class.
    pub fn ask(device: &Device, folder: &Path, question: &str, prompt: Option<String>, config: GenerationConfig) -> Result<Self> {
        let asked = question.trim();
        if asked.is_empty() {
            return Err(Error::input("question", "it is empty"));
        }
        let (speaker, ui) = Speaker::load(device, folder, config)?;
        let prompt = prompt.unwrap_or(ui.question_template).replacen("{question}", asked, 1);
        Ok(Self::Ask(Box::new(Speaker { prompt: Some(prompt), ..speaker }), question.to_string()))
    }

    /// Vectors of the pictures, and of `texts` before them. Errors: those of loading; option-unsupported for a model without such vectors.
    pub fn embed(device: &Device, folder: &Path, texts: Vec<String>) -> Result<Self> {
        let (model, folder) = load(device, folder)?;
        let file = |name: &str| folder.files.get(name).ok_or_else(|| Error::config(name, "is missing"));
        let model = match model {
            AnyModel::Retrieval(model) => Embeds::Both(model),
            AnyModel::Vision(model) => {
                let processor = BlipImageProcessor::from_json(file("preprocessor_config.json")?)?;
                Embeds::Images(model, Box::new(processor), Box::new(device.clone()))
            }
            AnyModel::Text(model) => Embeds::Texts(model, Box::new(Blip2Processor::from_files(&folder.files)?)),
            _ => return Err(unable("embed", "this model has no vectors of pictures or texts: Blip2ForImageTextRetrieval has")),
        };
        match model {
            Embeds::Images(..) if !texts.is_empty() => Err(unable("text", "this model sees pictures only")),
            model => Ok(Self::Embed(Embedder { model, texts })),
        }
    }

    /// The pictures by how well they fit a text: by ITC, and the best `rerank` of them by ITM.
    /// Errors: those of loading; option-unsupported for a model of another class.
    pub fn rank(device: &Device, folder: &Path, text: &str, rerank: usize) -> Result<Self> {
        let (model, _) = load(device, folder)?;
        let AnyModel::Retrieval(model) = model else {
            return Err(unable("rank", "this model is no Blip2ForImageTextRetrieval"));
        };
        Ok(Self::Rank(Box::new(Ranker { model: *model, text: text.to_string(), rerank, best: vec![] })))
    }

    /// What is read besides pictures.
    pub(super) fn texts(&self) -> &[String] {
        if let Self::Embed(embedder) = self { &embedder.texts } else { &[] }
    }

    /// Whether the lines have an order that shows at the end.
    pub(super) fn waits_for_all(&self) -> bool {
        matches!(self, Self::Rank(_))
    }

    /// A line of an earlier run; the record where it may still change. Errors: input-invalid where it is not of this work.
    pub(super) fn checked(&self, kept: Kept) -> Result<Option<Record>> {
        let Kept { subject, ms, caption, question, embedding, query, scores, error } = kept;
        let (own, outcome) = match (self, error, scores) {
            (_, Some(error), _) => (true, Some(Outcome::Failed { error })),
            (Self::Caption(_), ..) => (caption.is_some(), None),
            (Self::Ask(_, asked), ..) => (question.as_ref() == Some(asked), None),
            (Self::Embed(_), ..) => (embedding.is_some(), None),
            (Self::Rank(ranker), _, Some(scores)) => {
                (query.as_ref() == Some(&ranker.text), query.map(|query| Outcome::Scores { query, scores }))
            }
            (Self::Rank(_), ..) => (false, None),
        };
        if !own {
            return Err(Error::input("the output", "it is of other work than this"));
        }
        Ok(outcome.filter(|_| self.waits_for_all()).map(|outcome| Record { subject, outcome, ms }))
    }

    pub(super) async fn look(&mut self, name: &str, image: &RgbImage) -> Result<Outcome> {
        match self {
            Self::Caption(speaker) => {
                let (caption, candidates) = speaker.say(image).await?;
                Ok(Outcome::Caption { caption, candidates })
            }
            Self::Ask(speaker, question) => {
                let (answer, candidates) = speaker.say(image).await?;
                Ok(Outcome::Answer { question: question.clone(), answer, candidates })
            }
            Self::Embed(embedder) => Ok(Outcome::Embedding { embedding: embedder.look(image).await? }),
            Self::Rank(ranker) => ranker.look(name, image).await,
        }
    }

    /// Puts the lines into their order.
    pub(super) async fn order(&self, records: &mut [Record]) -> Result<()> {
        if let Self::Rank(ranker) = self { ranker.order(records).await } else { Ok(()) }
    }

    pub(super) async fn read(&self, text: &str) -> Result<Outcome> {
        match self {
            Self::Embed(embedder) => Ok(Outcome::Embedding { embedding: embedder.read(text).await? }),
            _ => Err(unable("text", "only vectors are made of texts")),
        }
    }
}

fn unable(option: &str, reason: &str) -> Error {
    Error::OptionUnsupported { option: option.into(), reason: reason.into() }
}

impl Speaker {
    fn load(device: &Device, folder: &Path, config: GenerationConfig) -> Result<(Self, Ui)> {
        let (model, folder) = load(device, folder)?;
        let AnyModel::Generation(model) = model else {
            return Err(unable("caption", "this model is no Blip2ForConditionalGeneration"));
        };
        Ok((Self { model: *model, prompt: None, config }, folder.index.ui))
    }

    /// The text, and all of them where there are several.
    async fn say(&self, image: &RgbImage) -> Result<(String, Option<Vec<Candidate>>)> {
        let image = self.model.encode(image).await?;
        let answer = self.model.generate(&image, self.prompt.as_deref(), &self.config, &mut |_| ControlFlow::Continue(())).await?;
        let Answer { text, candidates, .. } = answer;
        Ok((text, (candidates.len() > 1).then_some(candidates)))
    }
}

impl Embedder {
    async fn look(&self, image: &RgbImage) -> Result<Vec<Vec<f32>>> {
        match &self.model {
            Embeds::Both(model) => rows(model.encode(image).await?.image_embeds().clone()).await,
            Embeds::Images(model, processor, device) => {
                let pixels = processor.preprocess(&[image])?;
                let pixels = Tensor::from_data(TensorData::new(pixels.values, pixels.shape), &device.burn);
                rows(model.forward(&pixels).await?.image_embeds).await
            }
            Embeds::Texts(..) => Err(unable("embed", "this model reads texts only")),
        }
    }

    async fn read(&self, text: &str) -> Result<Vec<Vec<f32>>> {
        match &self.model {
            Embeds::Both(model) => model.embed(&[text]).await,
            Embeds::Texts(model, processor) => {
                let encoded = processor.text(&[text], false, &TextOptions::default())?;
                let mut tokens = rows(model.forward(&encoded.input_ids, &encoded.attention_mask, None).await?.text_embeds).await?;
                // [CLS] stands for the text.
                tokens.truncate(1);
                Ok(tokens)
            }
            Embeds::Images(..) => Err(unable("text", "this model sees pictures only")),
        }
    }
}

/// [.., D] → vectors of D.
async fn rows<const D: usize>(tensor: Tensor<D>) -> Result<Vec<Vec<f32>>> {
    let width = tensor.dims().last().copied().unwrap_or(1).max(1);
    Ok(read_floats(tensor).await?.chunks(width).map(<[f32]>::to_vec).collect())
}

impl Ranker {
    async fn look(&mut self, name: &str, image: &RgbImage) -> Result<Outcome> {
        let image = self.model.encode(image).await?;
        let itc = self.model.itc(&[&image], &[&self.text]).await?.concat().first().copied().unwrap_or(-1.0);
        let place = self.best.partition_point(|(better, ..)| *better >= itc);
        if place < self.rerank {
            self.best.insert(place, (itc, name.to_string(), image));
            self.best.truncate(self.rerank);
        }
        Ok(Outcome::Scores { query: self.text.clone(), scores: Scores { itc, itm: None } })
    }

    /// By ITC, and the best of them by ITM before the others; what could not be read comes last.
    async fn order(&self, records: &mut [Record]) -> Result<()> {
        records.sort_by(|a, b| itc(b).total_cmp(&itc(a)));
        let (best, others) = records.split_at_mut(records.len().min(self.rerank));
        for record in best {
            self.look_again(record).await?;
        }
        // What an earlier run has found among the best of fewer.
        for record in others {
            if let Outcome::Scores { scores, .. } = &mut record.outcome {
                scores.itm = None;
            }
        }
        records.sort_by(|a, b| itm(b).total_cmp(&itm(a)).then(itc(b).total_cmp(&itc(a))));
        Ok(())
    }

    /// Fills in the ITM that is not there yet.
    async fn look_again(&self, record: &mut Record) -> Result<()> {
        let (Outcome::Scores { scores, .. }, Subject::File(name)) = (&mut record.outcome, &record.subject) else { return Ok(()) };
        if scores.itm.is_some() {
            return Ok(());
        }
        let started = pace::now();
        let kept = self.best.iter().find(|(_, kept, _)| kept == name);
        let probability = match kept {
            Some((.., image)) => self.model.itm(image, &[&self.text]).await?,
            None => match super::open(Path::new(name)) {
                Ok(image) => self.model.itm(&self.model.encode(&image).await?, &[&self.text]).await?,
                Err(error) => {
                    record.outcome = Outcome::failed(&error);
                    return Ok(());
                }
            },
        };
        scores.itm = probability.first().copied();
        record.ms = super::tenths(record.ms + pace::now() - started);
        Ok(())
    }
}

fn itc(record: &Record) -> f32 {
    if let Outcome::Scores { scores, .. } = &record.outcome { scores.itc } else { f32::NEG_INFINITY }
}

/// Less than any probability where there is none.
fn itm(record: &Record) -> f32 {
    if let Outcome::Scores { scores: Scores { itm: Some(itm), .. }, .. } = &record.outcome { *itm } else { -1.0 }
}
