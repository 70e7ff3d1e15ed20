//! The cases of a folder with a captioning model: every tensor on the way from pixels to logits, and every `generate`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde_json::Value;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::generation::{Generated, GenerationConfig};
use crate::models::{ImageOptions, LanguageOptions, TextInputs, ids_tensor};
use crate::ops::read_floats;
use crate::parity::tensors::{Tensor, Values, close, exact};
use crate::parity::text::prompt_ids;
use crate::parity::{Files, GenerationModels, Report, array, equal, ids, images};
use crate::processor::{Padding, PaddingSide};
use crate::tasks::{Blip2, ForwardInputs, GenerateInputs, ones};

/// What the fixtures' generator gives T5: labels, ids for the decoder, and those for `text_features.logits`, which are in no file.
const T5_LABELS: [&str; 2] = ["a red dog on the beach", "two cats"];
const T5_DECODER_IDS: [[i64; 4]; 2] = [[0, 5, 9, 11], [0, 7, 3, 20]];
const TEXT_FEATURES_DECODER_IDS: [u32; 3] = [0, 5, 9];

/// Draws that have no counterpart in HF, whose random numbers are its own: the same seed has to draw the same ids on every
/// target, which whoever runs several of them compares by the details of these cases.
const SAMPLES: [(&str, &str); 3] = [
    ("top_k", r#"{"do_sample": true, "temperature": 0.9, "top_k": 20, "max_new_tokens": 12}"#),
    ("top_p", r#"{"do_sample": true, "top_p": 0.9, "top_k": 0, "max_new_tokens": 12, "num_return_sequences": 2}"#),
    ("beams", r#"{"do_sample": true, "num_beams": 3, "max_new_tokens": 8}"#),
];

type Tensors = BTreeMap<String, Tensor>;
type Observed = BTreeMap<String, Values>;

pub(super) async fn run(
    device: &Device,
    files: &Files,
    expected: &Value,
    tensors: &Tensors,
    models: &GenerationModels,
    reference: Option<&GenerationModels>,
    report: &mut Report<'_>,
) -> Result<()> {
    let fixture = Fixture { device, expected, tensors };
    let found = fixture.observe_all(models).await;
    let model = &models.model;
    let reference_values = match reference {
        Some(reference) => Some(fixture.observe_all(reference).await?),
        None => None,
    };
    for (name, tensor) in tensors {
        let outcome = match &found {
            Err(error) => Err(error.clone()),
            Ok(found) => match found.get(name) {
                Some(found) => {
                    let from_reference = reference_values.as_ref().and_then(|values| values.get(name));
                    close(name, found, from_reference.unwrap_or(&tensor.values))
                }
                None => fixture.input(files, name, tensor, model),
            },
        };
        report.push(name.clone(), outcome);
    }
    for case in array(&expected["generate"]) {
        let name = case["name"].as_str().unwrap_or_default();
        let reference = reference.map(|reference| &reference.model);
        report.push(format!("generate.{name}"), fixture.generate(name, case, model, reference).await);
    }
    for (name, kwargs) in SAMPLES {
        report.push(format!("sample.{name}"), fixture.sample(name, kwargs, model).await);
    }
    Ok(())
}

struct Fixture<'a> {
    device: &'a Device,
    expected: &'a Value,
    tensors: &'a Tensors,
}

impl Fixture<'_> {
    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Error::input(name, "is not in the fixture"))
    }

    /// A [B, 3, H, W] tensor of the fixture on the device.
    fn pixels(&self, name: &str) -> Result<burn_tensor::Tensor<4>> {
        let tensor = self.tensor(name)?;
        let shape: [usize; 4] = tensor.shape[..].try_into().map_err(|_| Error::input(name, "is not [B, 3, H, W]"))?;
        Ok(burn_tensor::Tensor::from_data(burn_tensor::TensorData::new(tensor.floats(name)?.to_vec(), shape), &self.device.burn))
    }

    /// Rows of `pixel_values` by the names of their images.
    fn pixels_of(&self, images: &Value) -> Result<burn_tensor::Tensor<4>> {
        let order = array(&self.expected["images"]);
        let rows: Vec<i32> = array(images)
            .iter()
            .map(|image| order.iter().position(|name| name == image).map(|row| row as i32).ok_or_else(|| Error::input("images", image)))
            .collect::<Result<_>>()?;
        let count = rows.len();
        let rows = burn_tensor::Tensor::from_data(burn_tensor::TensorData::new(rows, [count]), &self.device.burn);
        Ok(self.pixels("pixel_values")?.select(0, rows))
    }

    fn case(&self, name: &str) -> Result<&Value> {
        let found = array(&self.expected["generate"]).iter().find(|case| case["name"] == name);
        found.ok_or_else(|| Error::input(name, "is not among the generate cases"))
    }

    async fn observe_all(&self, models: &GenerationModels) -> Result<Observed> {
        let mut values = self.observe(&models.model).await?;
        for (name, model) in &models.alternatives {
            self.observe_alternative(name, model, &mut values).await?;
        }
        Ok(values)
    }

    /// Every tensor that this model makes from the fixture's inputs.
    async fn observe(&self, model: &Blip2) -> Result<Observed> {
        let mut values = Observed::new();
        self.observe_image(model, &mut values).await?;
        for side in ["left", "right"] {
            if self.tensors.contains_key(&format!("forward_{side}.input_ids")) {
                self.observe_forward(model, side, &mut values).await?;
            }
        }
        if let Some(input_ids) = self.tensors.get("text_features.input_ids") {
            let input_ids = input_ids.ids("text_features.input_ids")?;
            let mask = ones(&input_ids);
            let decoder_input_ids =
                model.captioner.model.language_model.is_encoder_decoder().then(|| vec![TEXT_FEATURES_DECODER_IDS.to_vec()]);
            let (decoder_input_ids, options) = (decoder_input_ids.as_deref(), LanguageOptions::default());
            let text = TextInputs { input_ids: &input_ids, attention_mask: &mask, decoder_input_ids, options };
            let output = model.captioner.model.get_text_features(self.device, text).await?;
            values.insert("text_features.logits".into(), Values::Floats(read_floats(output.logits).await?));
        }
        let pictures: Vec<&str> = self.tensors.keys().filter_map(|name| name.strip_suffix(".vision.last_hidden_state")).collect();
        for prefix in pictures {
            let interpolate = prefix.starts_with("interp");
            let options = ImageOptions { interpolate_pos_encoding: interpolate, ..ImageOptions::default() };
            let output = model.captioner.model.image(&self.pixels(&format!("{prefix}.pixel_values"))?, options).await?;
            let name = format!("{prefix}.vision.last_hidden_state");
            values.insert(name, Values::Floats(read_floats(output.vision.last_hidden_state).await?));
        }
        Ok(values)
    }

    async fn observe_image(&self, model: &Blip2, values: &mut Observed) -> Result<()> {
        let options = ImageOptions { output_hidden_states: true, ..ImageOptions::default() };
        let output = model.captioner.model.image(&self.pixels("pixel_values")?, options).await?;
        let first = |state: burn_tensor::Tensor<3>| {
            let [_, positions, width] = state.dims();
            state.slice([0..1, 0..positions, 0..width])
        };
        for (name, states) in [("vision", output.vision.hidden_states), ("qformer", output.qformer.hidden_states)] {
            for (place, state) in states.into_iter().enumerate() {
                values.insert(format!("{name}.hidden_states.{place}.image0"), Values::Floats(read_floats(first(state)).await?));
            }
        }
        for (name, tensor) in [
            ("vision.last_hidden_state", output.vision.last_hidden_state),
            ("qformer.last_hidden_state", output.qformer.last_hidden_state),
            ("language_projection", output.language_projection),
        ] {
            values.insert(name.into(), Values::Floats(read_floats(tensor).await?));
        }
        for (name, tensor) in
            [("vision.pooler_output", output.vision.pooler_output), ("qformer.pooler_output", output.qformer.pooler_output)]
        {
            values.insert(name.into(), Values::Floats(read_floats(tensor).await?));
        }
        Ok(())
    }

    async fn observe_forward(&self, model: &Blip2, side: &str, values: &mut Observed) -> Result<()> {
        let tag = format!("forward_{side}.");
        let table = |name: &str| self.tensor(&format!("{tag}{name}"));
        let case = self.case(&format!("greedy_prompt_batch2_{side}"))?;
        let captioner = &model.captioner;
        let features = captioner.get_image_features(&self.pixels_of(&case["images"])?, false).await?;
        let (input_ids, mask) = (table("input_ids")?.ids("input_ids")?, table("attention_mask")?.ids("attention_mask")?);
        let options = LanguageOptions { output_hidden_states: true, ..LanguageOptions::default() };
        let plain = ForwardInputs { input_ids: &input_ids, attention_mask: Some(&mask), decoder_input_ids: None, labels: None, options };
        for (name, loss) in [("short_labels", "short_labels_loss"), ("labels", "loss")] {
            let Ok(labels) = table(name) else { continue };
            let labels = labels.rows(name)?;
            let output = captioner.forward(&features, ForwardInputs { labels: Some(&labels), ..plain }).await?;
            values.insert(format!("{tag}{loss}"), Values::Floats(output.loss.into_iter().collect()));
            if name == "labels" {
                values.insert(format!("{tag}logits"), Values::Floats(read_floats(output.logits).await?));
                let states = output.language_model.hidden_states;
                self.row0(&format!("{tag}lm.hidden_states"), states, input_ids[0].len(), values).await?;
                if let Some(encoded) = output.language_model.encoder {
                    let name = format!("{tag}encoder_last_hidden_state");
                    values.insert(name, Values::Floats(read_floats(encoded.last_hidden_state).await?));
                    self.row0(&format!("{tag}lm.encoder_hidden_states"), encoded.hidden_states, input_ids[0].len(), values).await?;
                }
            }
        }
        if let Ok(decoder_input_ids) = table("decoder_input_ids") {
            let decoder_input_ids = decoder_input_ids.ids("decoder_input_ids")?;
            let output = captioner.forward(&features, ForwardInputs { decoder_input_ids: Some(&decoder_input_ids), ..plain }).await?;
            values.insert(format!("{tag}decoder_logits"), Values::Floats(read_floats(output.logits).await?));
            let states = output.language_model.hidden_states;
            self.row0(&format!("{tag}lm.decoder_hidden_states"), states, decoder_input_ids[0].len(), values).await?;
        }
        if table("no_attention_mask.logits").is_ok() {
            let output = captioner.forward(&features, ForwardInputs { attention_mask: None, ..plain }).await?;
            values.insert(format!("{tag}no_attention_mask.logits"), Values::Floats(read_floats(output.logits).await?));
        }
        Ok(())
    }

    /// The first row's `positions` of each hidden state [rows·positions, width], as NAME.PLACE.row0.
    async fn row0(&self, name: &str, states: Vec<burn_tensor::Tensor<2>>, positions: usize, values: &mut Observed) -> Result<()> {
        for (place, state) in states.into_iter().enumerate() {
            let width = state.dims()[1];
            let row = read_floats(state.slice([0..positions, 0..width])).await?;
            values.insert(format!("{name}.{place}.row0"), Values::Floats(row));
        }
        Ok(())
    }

    /// The logits of the same weights under another config (`alt_gelu_new/config.json`).
    async fn observe_alternative(&self, name: &str, model: &Blip2, values: &mut Observed) -> Result<()> {
        let case = self.case("greedy_prompt_batch2_left")?;
        let features = model.captioner.get_image_features(&self.pixels_of(&case["images"])?, false).await?;
        let table = |name: &str| self.tensor(&format!("forward_left.{name}"))?.ids(name);
        let (input_ids, mask, decoder_input_ids) = (table("input_ids")?, table("attention_mask")?, table("decoder_input_ids")?);
        let inputs = ForwardInputs {
            input_ids: &input_ids,
            attention_mask: Some(&mask),
            decoder_input_ids: Some(&decoder_input_ids),
            labels: None,
            options: LanguageOptions::default(),
        };
        let output = model.captioner.forward(&features, inputs).await?;
        values.insert(format!("{name}.decoder_logits"), Values::Floats(read_floats(output.logits).await?));
        Ok(())
    }

    /// A tensor that is an input of the others: what our processor makes of the same image or text.
    fn input(&self, files: &Files, name: &str, tensor: &Tensor, model: &Blip2) -> Result<String> {
        if name == "pixel_values" {
            let names = array(&self.expected["images"]);
            let found = images::pixel_values(files, &model.processor.image_processor, names, None)?;
            return exact(name, &found, tensor.floats(name)?);
        }
        if let Some(case) = name.strip_suffix(".pixel_values") {
            let size = match tensor.shape[..] {
                [_, _, height, width] => Some((height, width)),
                _ => return Err(Error::input(name, "is not [B, 3, H, W]")),
            };
            // Cases of `generate` name their images; the others were made from the first one.
            let names = match case.strip_prefix("gen.") {
                Some(case) => array(&self.case(case)?["images"]),
                None => &array(&self.expected["images"])[..1],
            };
            let found = images::pixel_values(files, &model.processor.image_processor, names, size)?;
            return exact(name, &found, tensor.floats(name)?);
        }
        let found = self.text_input(name, model)?;
        close(name, &Values::Ints(found), &tensor.values)
    }

    fn text_input(&self, name: &str, model: &Blip2) -> Result<Vec<i64>> {
        let flat = |rows: Vec<Vec<u32>>| rows.concat().into_iter().map(i64::from).collect::<Vec<_>>();
        if name == "text_features.input_ids" {
            // The text is not in the fixture: its ids are decoded and tokenized again.
            let given = self.tensor(name)?.ids(name)?;
            let texts = model.processor.batch_decode(&given, true)?;
            return Ok(flat(texts.iter().map(|text| model.processor.tokenizer.encode(text, true)).collect::<Result<_>>()?));
        }
        let (side, what) = name
            .strip_prefix("forward_")
            .and_then(|rest| rest.split_once('.'))
            .ok_or_else(|| Error::input(name, "nothing makes this tensor"))?;
        let case = self.case(&format!("greedy_prompt_batch2_{side}"))?;
        let encoded = prompt_ids(&model.processor, case)?;
        let config = &model.captioner.model.config;
        let language_model = &model.captioner.model.language_model;
        let pad = language_model.special_tokens().pad;
        let label = |id: u32| if Some(id) == pad || Some(id) == config.image_token_index { -100 } else { i64::from(id) };
        match what {
            "input_ids" => Ok(flat(encoded.input_ids)),
            "attention_mask" => Ok(flat(encoded.attention_mask)),
            // T5's labels are texts of their own.
            "labels" if language_model.is_encoder_decoder() => {
                let tokenizer = &model.processor.tokenizer;
                let side = Some(PaddingSide::Right);
                let rows = tokenizer.encode_batch(&T5_LABELS, Padding::Longest, None, None, side)?.input_ids;
                Ok(rows.concat().into_iter().map(|id| if Some(id) == pad { -100 } else { i64::from(id) }).collect())
            }
            "decoder_input_ids" => Ok(T5_DECODER_IDS.into_iter().flatten().collect()),
            "labels" => Ok(encoded.input_ids.concat().into_iter().map(label).collect()),
            "short_labels" => {
                let kept = self.tensor(name)?.shape[1];
                Ok(encoded
                    .input_ids
                    .iter()
                    .flat_map(|row| row[row.len() - kept..].iter().map(|id| label(*id)).collect::<Vec<_>>())
                    .collect())
            }
            _ => Err(Error::input(name, "nothing makes this tensor")),
        }
    }

    async fn generate(&self, name: &str, case: &Value, model: &Blip2, reference: Option<&Blip2>) -> Result<String> {
        let found = self.generated(name, case, model).await?;
        let decoded = model.processor.batch_decode(&found.ids, true)?;
        if let Some(reference) = reference {
            let expected = self.generated(name, case, reference).await?;
            equal(name, &found.ids, &expected.ids)?;
            return scores(name, &found, expected.sequences_scores.as_deref());
        }
        equal(name, &found.ids, &ids(name, &case["ids"])?)?;
        let strings = |key: &str| array(&case[key]).iter().map(|text| text.as_str().unwrap_or_default().to_string()).collect::<Vec<_>>();
        equal(name, &decoded, &strings("decoded"))?;
        let stripped: Vec<String> = decoded.iter().map(|text| text.trim().to_string()).collect();
        equal(name, &stripped, &strings("stripped"))?;
        let expected: Option<Vec<f32>> =
            serde_json::from_value(case["sequences_scores"].clone()).map_err(|error| Error::input(name, error))?;
        scores(name, &found, expected.as_deref())
    }

    /// The ids that three seeds draw, the first one twice the same. (Where one answer is nearly certain all seeds may draw it.)
    async fn sample(&self, name: &str, kwargs: &str, model: &Blip2) -> Result<String> {
        let kwargs: GenerationConfig = serde_json::from_str(kwargs).map_err(|error| Error::input("kwargs", error))?;
        let features = model.captioner.get_image_features(&self.pixels("pixel_values")?, false).await?;
        let mut draws = vec![];
        for seed in [7, 7, 8, 9] {
            let config = GenerationConfig { seed: Some(seed), ..kwargs.clone() };
            let mut go_on = |_: &[u32]| ControlFlow::Continue(());
            draws.push(model.captioner.generate(&features, GenerateInputs::Image, &config, &mut go_on).await?.ids);
        }
        equal(name, &draws[1], &draws[0])?;
        serde_json::to_string(&draws[1..]).map_err(|error| Error::input(name, error))
    }

    async fn generated(&self, name: &str, case: &Value, model: &Blip2) -> Result<Generated> {
        let interpolate = case["interpolate"].as_bool().unwrap_or(false);
        let stored = format!("gen.{name}.pixel_values");
        let pixels = if self.tensors.contains_key(&stored) { self.pixels(&stored)? } else { self.pixels_of(&case["images"])? };
        let features = model.captioner.get_image_features(&pixels, interpolate).await?;
        let config: GenerationConfig = match &case["kwargs"] {
            Value::Null => GenerationConfig::default(),
            kwargs => serde_json::from_value(kwargs.clone()).map_err(|error| Error::input("kwargs", error))?,
        };
        let inputs = match &case["input_ids"] {
            Value::Null => GenerateInputs::Image,
            stored => {
                let encoded = prompt_ids(&model.processor, case)?;
                equal("input_ids", &encoded.input_ids, &ids(name, stored)?)?;
                equal("attention_mask", &encoded.attention_mask, &ids(name, &case["attention_mask"])?)?;
                if case["inputs_embeds_only"].as_bool().unwrap_or(false) {
                    let flat = ids_tensor(self.device, &encoded.input_ids.concat());
                    let inputs_embeds = model.captioner.model.language_model.embed(&flat)?;
                    GenerateInputs::Embeds { inputs_embeds: Box::new(inputs_embeds), attention_mask: encoded.attention_mask }
                } else {
                    GenerateInputs::Ids { input_ids: encoded.input_ids, attention_mask: Some(encoded.attention_mask) }
                }
            }
        };
        let mut steps = 0;
        let mut count = |_: &[u32]| {
            steps += 1;
            ControlFlow::Continue(())
        };
        let generated = model.captioner.generate(&features, inputs, &config, &mut count).await?;
        // Beams are cut to the longest answer, which may be shorter than the search.
        let beams = generated.sequences_scores.is_some();
        if !beams && generated.ids.first().is_some_and(|row| row.len() < steps) {
            return Err(Error::input(name, format!("{steps} steps for {} ids", generated.ids[0].len())));
        }
        Ok(generated)
    }
}

/// The scores of beams; where there are none, how many rows.
fn scores(name: &str, found: &Generated, expected: Option<&[f32]>) -> Result<String> {
    match (&found.sequences_scores, expected) {
        (None, None) => Ok(format!("{} rows", found.ids.len())),
        (Some(found), Some(expected)) => close(name, &Values::Floats(found.clone()), &Values::Floats(expected.to_vec())),
        (found, expected) => Err(Error::input(name, format!("sequences_scores {found:?}, expected {expected:?}"))),
    }
}
