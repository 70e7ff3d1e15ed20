//! The cases of a folder with a retrieval model: every tensor on the way from pixels and captions to both scores, the models
//! with projection, the variant with image tokens before the text, and what a user calls.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::{
    Blip2Config, Blip2TextModelWithProjection, Blip2VisionModelWithProjection, ImageTextMatchingOutput, Images, VisionOptions,
};
use crate::ops::read_floats;
use crate::parity::tensors::{Tensor, Values, close, exact};
use crate::parity::{Files, Report, array, equal, images};
use crate::processor::{Blip2Processor, Encoded, decode};
use crate::tasks::{ImageTextRetrieval, RetrievalImage, match_probability};

type Tensors = BTreeMap<String, Tensor>;
type Observed = BTreeMap<String, Values>;

const PLACEHOLDER: &str = "alt_placeholder";

/// The models of a retrieval folder.
pub struct RetrievalModels {
    pub retrieval: ImageTextRetrieval,
    /// From `text_with_projection/`, its own config and weights; `None` takes the same class out of `retrieval`.
    pub text: Option<Blip2TextModelWithProjection>,
    /// From `vision_with_projection/`, likewise.
    pub vision: Option<Blip2VisionModelWithProjection>,
    /// `retrieval` with the config and the processor of `alt_placeholder/`: image tokens stand before each text.
    pub placeholder: Option<ImageTextRetrieval>,
}

impl RetrievalModels {
    /// The main model, and its variant where `files` have one (`alt_placeholder/config.json` and `processor_config.json`).
    /// `files` need the processor's files too. Errors: config-invalid, tokenizer-invalid.
    pub fn new(retrieval: ImageTextRetrieval, files: &Files) -> Result<Self> {
        let placeholder = with_placeholders(&retrieval, files)?;
        Ok(Self { retrieval, text: None, vision: None, placeholder })
    }

    fn text(&self) -> &Blip2TextModelWithProjection {
        self.text.as_ref().unwrap_or(&self.retrieval.model.text)
    }

    fn vision(&self) -> &Blip2VisionModelWithProjection {
        self.vision.as_ref().unwrap_or(&self.retrieval.model.vision)
    }

    fn placeholder(&self) -> Result<&ImageTextRetrieval> {
        self.placeholder.as_ref().ok_or_else(|| Error::input(PLACEHOLDER, "is not in the fixture"))
    }
}

/// The same weights under another config.
fn with_placeholders(retrieval: &ImageTextRetrieval, files: &Files) -> Result<Option<ImageTextRetrieval>> {
    let file = |name: &str| files.get(&format!("{PLACEHOLDER}/{name}"));
    let (Some(config), Some(processor)) = (file("config.json"), file("processor_config.json")) else { return Ok(None) };
    let mut files = files.clone();
    files.insert("processor_config.json".into(), processor.clone());
    let mut model = retrieval.model.clone();
    model.config = Blip2Config::from_json(config)?;
    ImageTextRetrieval::new(&retrieval.device, Blip2Processor::from_files(&files)?, model).map(Some)
}

pub(super) async fn run(
    device: &Device,
    files: &Files,
    expected: &Value,
    tensors: &Tensors,
    models: &RetrievalModels,
    reference: Option<&RetrievalModels>,
    report: &mut Report<'_>,
) -> Result<()> {
    let fixture = Fixture { device, files, expected, tensors };
    let found = fixture.observe(models).await;
    let reference = match reference {
        Some(reference) => Some(fixture.observe(reference).await?),
        None => None,
    };
    let reference = reference.as_ref();
    for (name, tensor) in tensors {
        let outcome = match &found {
            Err(error) => Err(error.clone()),
            Ok(found) => match found.get(name) {
                Some(found) => fixture.wanted(reference, name).and_then(|expected| close(name, found, expected)),
                None => fixture.input(name, tensor, models),
            },
        };
        report.push(name.clone(), outcome);
    }
    for head in ["itc", "itm"] {
        let outcome = match fixture.placeholder_logits(models, head).await {
            Ok(found) => fixture.wanted(reference, &format!("{head}.logits_per_image")).and_then(|expected| close(head, &found, expected)),
            Err(error) => Err(error),
        };
        report.push(format!("{PLACEHOLDER}.{head}.logits_per_image"), outcome);
    }
    let (itc, itm) = (fixture.wanted(reference, "itc.logits_per_text"), fixture.wanted(reference, "itm.probs"));
    match fixture.encode(&models.retrieval).await {
        Err(error) => report.push("retrieval.encode", Err(error)),
        Ok(seen) => {
            report.push("retrieval.itc", fixture.itc(&models.retrieval, &seen, itc).await);
            report.push("retrieval.itm", fixture.itm(&models.retrieval, &seen, itm).await);
            report.push("retrieval.rank", fixture.rank(&models.retrieval, &seen).await);
        }
    }
    Ok(())
}

struct Fixture<'a> {
    device: &'a Device,
    files: &'a Files,
    expected: &'a Value,
    tensors: &'a Tensors,
}

/// An image as a user's call encodes it, and its row in the tensors of the fixture.
struct Seen {
    row: usize,
    image: RetrievalImage,
}

impl Fixture<'_> {
    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Error::input(name, "is not in the fixture"))
    }

    /// What a tensor has to be: as the reference makes it, or else as the file says.
    fn wanted<'b>(&'b self, reference: Option<&'b Observed>, name: &str) -> Result<&'b Values> {
        match reference.and_then(|values| values.get(name)) {
            Some(values) => Ok(values),
            None => Ok(&self.tensor(name)?.values),
        }
    }

    fn pixels(&self) -> Result<burn_tensor::Tensor<4>> {
        let tensor = self.tensor("pixel_values")?;
        let shape: [usize; 4] = tensor.shape[..].try_into().map_err(|_| Error::input("pixel_values", "is not [B, 3, H, W]"))?;
        let values = tensor.floats("pixel_values")?.to_vec();
        Ok(burn_tensor::Tensor::from_data(burn_tensor::TensorData::new(values, shape), &self.device.burn))
    }

    fn ids(&self, name: &str) -> Result<Vec<Vec<u32>>> {
        self.tensor(name)?.ids(name)
    }

    /// Texts of expected.json: `captions`, or `pair_captions`, one for each image.
    fn captions(&self, name: &str) -> Vec<&str> {
        array(&self.expected[name]).iter().filter_map(Value::as_str).collect()
    }

    /// Captions as a model's own processor makes ids of them.
    fn encoded(&self, model: &ImageTextRetrieval, head: &str) -> Result<Encoded> {
        model.text(&self.captions(if head == "itm" { "pair_captions" } else { "captions" }))
    }

    /// Every tensor that these models make from the fixture's inputs.
    async fn observe(&self, models: &RetrievalModels) -> Result<Observed> {
        let mut values = Observed::new();
        let last_hidden_state = self.observe_image(models, &mut values).await?;
        for head in ["itc", "itm"] {
            let (input_ids, mask) = (self.ids(&format!("{head}.input_ids"))?, self.ids(&format!("{head}.attention_mask"))?);
            let images = Images::HiddenStates(&last_hidden_state);
            let output = models.retrieval.model.forward(images, &input_ids, &mask, head == "itm").await?;
            observe_scores(head, output, &mut values).await?;
        }
        self.observe_projections(models, &mut values).await?;
        Ok(values)
    }

    /// → the vision tower's last_hidden_state.
    async fn observe_image(&self, models: &RetrievalModels, values: &mut Observed) -> Result<burn_tensor::Tensor<3>> {
        let half = &models.retrieval.model.vision;
        let options = VisionOptions { output_hidden_states: true, ..VisionOptions::default() };
        let vision = half.vision_model.forward(&self.pixels()?, options).await?;
        let qformer = half.query(&vision.last_hidden_state, true).await?;
        for (name, states) in [("vision", vision.hidden_states), ("qformer", qformer.hidden_states)] {
            for (place, state) in states.into_iter().enumerate() {
                let [_, positions, width] = state.dims();
                let first = state.slice([0..1, 0..positions, 0..width]);
                values.insert(format!("{name}.hidden_states.{place}.image0"), Values::Floats(read_floats(first).await?));
            }
        }
        for (name, state) in
            [("vision.last_hidden_state", &vision.last_hidden_state), ("qformer.last_hidden_state", &qformer.last_hidden_state)]
        {
            values.insert(name.into(), Values::Floats(read_floats(state.clone()).await?));
        }
        for (name, pooled) in [("vision.pooler_output", vision.pooler_output), ("qformer.pooler_output", qformer.pooler_output)] {
            values.insert(name.into(), Values::Floats(read_floats(pooled).await?));
        }
        Ok(vision.last_hidden_state)
    }

    async fn observe_projections(&self, models: &RetrievalModels, values: &mut Observed) -> Result<()> {
        let (input_ids, mask) = (self.ids("itc.input_ids")?, self.ids("itc.attention_mask")?);
        let text = models.text().forward(&input_ids, &mask, None).await?;
        let position_ids = self.ids("text_with_projection.position_ids")?;
        let turned = models.text().forward(&input_ids, &mask, Some(&position_ids)).await?;
        let vision = models.vision().forward(&self.pixels()?).await?;
        for (name, tensor) in [
            ("text_with_projection.text_embeds", text.text_embeds),
            ("text_with_projection.last_hidden_state", text.last_hidden_state),
            ("text_with_projection.position_ids.text_embeds", turned.text_embeds),
            ("vision_with_projection.image_embeds", vision.image_embeds),
            ("vision_with_projection.last_hidden_state", vision.last_hidden_state),
        ] {
            values.insert(name.into(), Values::Floats(read_floats(tensor).await?));
        }
        Ok(())
    }

    /// The variant with image tokens, from pixels and captions to the score of this head.
    async fn placeholder_logits(&self, models: &RetrievalModels, head: &str) -> Result<Values> {
        let variant = models.placeholder()?;
        let Encoded { input_ids, attention_mask } = self.encoded(variant, head)?;
        let pixels = self.pixels()?;
        let output = variant.model.forward(Images::PixelValues(&pixels), &input_ids, &attention_mask, head == "itm").await?;
        Ok(Values::Floats(read_floats(output.logits_per_image).await?))
    }

    /// A tensor that is an input of the others: what our processor makes of the same images and captions.
    fn input(&self, name: &str, tensor: &Tensor, models: &RetrievalModels) -> Result<String> {
        if name == "pixel_values" {
            let names = array(&self.expected["images"]);
            let found = images::pixel_values(self.files, &models.retrieval.processor.image_processor, names, None)?;
            return exact(name, &found, tensor.floats(name)?);
        }
        let found = if name == "text_with_projection.position_ids" {
            // The generator turned the positions round, so that they are not those of every text.
            vec![(0..self.tensor("itc.input_ids")?.shape[1] as u32).rev().collect()]
        } else {
            let (variant, rest) = match name.strip_prefix(PLACEHOLDER).and_then(|rest| rest.strip_prefix('.')) {
                Some(rest) => (models.placeholder()?, rest),
                None => (&models.retrieval, name),
            };
            match rest.split_once('.') {
                Some((head @ ("itc" | "itm"), "input_ids")) => self.encoded(variant, head)?.input_ids,
                Some((head @ ("itc" | "itm"), "attention_mask")) => self.encoded(variant, head)?.attention_mask,
                _ => return Err(Error::input(name, "nothing makes this tensor")),
            }
        };
        equal(name, &found, &tensor.ids(name)?)?;
        Ok(String::new())
    }

    /// The fixture's images from their files, but for JPEG, whose decoders differ by a level or two.
    async fn encode(&self, model: &ImageTextRetrieval) -> Result<Vec<Seen>> {
        let mut seen = vec![];
        for (row, name) in array(&self.expected["images"]).iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            if name.ends_with(".jpg") {
                continue;
            }
            let bytes = self.files.get(name).or_else(|| self.files.get(&format!("images/{name}")));
            let picture = decode(bytes.ok_or_else(|| Error::input(name, "is not in the fixture"))?)?;
            seen.push(Seen { row, image: model.encode(&picture).await? });
        }
        Ok(seen)
    }

    /// Cosines of every caption and image, from the user's call. expected: itc.logits_per_text [captions, images].
    async fn itc(&self, model: &ImageTextRetrieval, seen: &[Seen], expected: Result<&Values>) -> Result<String> {
        let images: Vec<&RetrievalImage> = seen.iter().map(|seen| &seen.image).collect();
        let found = model.itc(&images, &self.captions("captions")).await?.concat();
        let count = array(&self.expected["images"]).len();
        let expected =
            floats(expected)?.chunks(count.max(1)).flat_map(|row| seen.iter().filter_map(move |seen| row.get(seen.row)).copied());
        close("itc", &Values::Floats(found), &Values::Floats(expected.collect()))
    }

    /// Each image's probability of its own caption, from the user's call. expected: itm.probs [images, 2].
    async fn itm(&self, model: &ImageTextRetrieval, seen: &[Seen], expected: Result<&Values>) -> Result<String> {
        let (captions, probs) = (self.captions("pair_captions"), floats(expected)?);
        let (mut found, mut kept) = (vec![], vec![]);
        for Seen { row, image } in seen {
            let caption = *captions.get(*row).ok_or_else(|| Error::input("pair_captions", format!("none for image {row}")))?;
            found.extend(model.itm(image, &[caption]).await?);
            kept.extend(probs.get(2 * row + 1).copied());
        }
        close("itm", &Values::Floats(found), &Values::Floats(kept))
    }

    /// The order of the images for the first caption: by cosine, but the first two by their match.
    async fn rank(&self, model: &ImageTextRetrieval, seen: &[Seen]) -> Result<String> {
        let images: Vec<&RetrievalImage> = seen.iter().map(|seen| &seen.image).collect();
        let captions = self.captions("captions");
        let caption = *captions.first().ok_or_else(|| Error::input("captions", "are not in the fixture"))?;
        let cosines = model.itc(&images, &[caption]).await?.concat();
        let mut order: Vec<usize> = (0..images.len()).collect();
        order.sort_by(|a, b| cosines[*b].total_cmp(&cosines[*a]));
        let mut matched = vec![];
        for index in order.iter().copied().take(2) {
            matched.extend(model.itm(images[index], &[caption]).await?.into_iter().map(|probability| (index, probability)));
        }
        matched.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        order.splice(..matched.len(), matched.into_iter().map(|(index, _)| index));
        let ranked = model.rank(&images, caption, 2).await?;
        equal("order", &ranked.iter().map(|ranked| ranked.index).collect(), &order)?;
        let reranked: Vec<bool> = ranked.iter().map(|ranked| ranked.itm.is_some()).collect();
        equal("itm", &reranked, &(0..images.len()).map(|place| place < 2).collect())?;
        Ok(format!("{order:?}"))
    }
}

async fn observe_scores(head: &str, output: ImageTextMatchingOutput, values: &mut Observed) -> Result<()> {
    let logits = read_floats(output.logits_per_image).await?;
    if head == "itm" {
        let probs = match_probability(&logits).into_iter().flat_map(|matches| [1.0 - matches, matches]);
        values.insert("itm.probs".into(), Values::Floats(probs.collect()));
    }
    values.insert(format!("{head}.logits_per_image"), Values::Floats(logits));
    values.insert(format!("{head}.logits_per_text"), Values::Floats(read_floats(output.logits_per_text).await?));
    for (name, tensor) in [
        ("image_embeds", output.image_embeds),
        ("text_embeds", output.text_embeds),
        ("text_model_output.last_hidden_state", output.text_model_output.last_hidden_state),
    ] {
        values.insert(format!("{head}.{name}"), Values::Floats(read_floats(tensor).await?));
    }
    Ok(())
}

fn floats(values: Result<&Values>) -> Result<&[f32]> {
    match values? {
        Values::Floats(values) => Ok(values),
        _ => Err(Error::input("expected", "is not f32")),
    }
}
