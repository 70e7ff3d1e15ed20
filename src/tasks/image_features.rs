//! A picture, encoded for the language model: once, for every question about it, and before the language model is there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn_tensor::{Tensor, TensorData};

use crate::device::Device;
use crate::error::Result;
use crate::generation::Inputs;
use crate::models::{Blip2Config, Blip2VisionModel, ImageEncoder, ImageOptions, PositionKey, config_json};
use crate::pace;
use crate::processor::{Blip2Processor, RgbImage};
use crate::weights::Weights;

/// What turns pictures into features of a captioning model: all of it but the language model.
#[derive(Clone)]
pub struct PictureEncoder {
    pub device: Device,
    pub processor: Rc<Blip2Processor>,
    pub model: Rc<ImageEncoder>,
}

impl PictureEncoder {
    /// `files` and `weights` are the whole model's; with a vision tower that is loaded already, if there is one.
    /// Errors: config-invalid, tokenizer-invalid, model-unsupported, weight-missing, weight-shape.
    pub fn load(
        tower: Option<Rc<Blip2VisionModel>>,
        device: &Device,
        files: &BTreeMap<String, Vec<u8>>,
        weights: &Weights,
    ) -> Result<Self> {
        let model = ImageEncoder::load(tower, &Blip2Config::from_json(config_json(files)?)?, weights)?;
        Ok(Self { device: device.clone(), processor: Rc::new(Blip2Processor::from_files(files)?), model: Rc::new(model) })
    }

    /// Errors: kernel, device-lost.
    pub async fn encode(&self, image: &RgbImage) -> Result<ImageFeatures> {
        let started = pace::now();
        let picture = self.processor.image_processor.at_its_size(image);
        let pixels = self.processor.image_processor.preprocess(&[&picture])?;
        let pixels = Tensor::from_data(TensorData::new(pixels.values, pixels.shape), &self.device.burn);
        let features = self.model.forward(&pixels, ImageOptions::default()).await?.language_projection;
        pace::macrotask().await;
        let (encode_ms, id) = (pace::now() - started, ENCODINGS.fetch_add(1, Ordering::Relaxed));
        Ok(ImageFeatures { features, encode_ms, picture: Rc::new(picture), encoded: Rc::default(), id })
    }
}

/// What a picture is to the language model, kept on the device: every question about it starts from here.
#[derive(Clone)]
pub struct ImageFeatures {
    /// [1, Q, width of the language model]
    pub(super) features: Tensor<3>,
    pub encode_ms: f64,
    /// The picture at the model's size, for `attention`.
    picture: Rc<RgbImage>,
    /// What T5's encoder made of the picture and a question, newest last.
    pub(super) encoded: Rc<RefCell<Vec<Encoding>>>,
    /// Of this encoding and no other.
    id: u64,
}

/// A question, and what the language model starts from.
type Encoding = (Option<String>, Inputs);

/// Encodings that have been made.
static ENCODINGS: AtomicU64 = AtomicU64::new(0);

impl ImageFeatures {
    /// What stands at each position of a prompt of these ids: a token, or a row of this picture's features.
    pub(super) fn keys(&self, ids: &[u32], image_token: u32) -> Vec<PositionKey> {
        let mut features = 0;
        let mut key = |id: &u32| {
            if *id != image_token {
                return PositionKey::from(*id);
            }
            features += 1;
            // Above every id of a token.
            (self.id + 1) << 32 | features
        };
        ids.iter().map(&mut key).collect()
    }

    /// The picture at the model's size.
    pub fn picture(&self) -> &RgbImage {
        &self.picture
    }
}
