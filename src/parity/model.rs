//! The cases of a folder with a captioning model: every tensor on the way from pixels to logits, and every `generate`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde_json::Value;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::generation::GenerationConfig;
use crate::models::ids_tensor;
use crate::ops::read_floats;
use crate::parity::tensors::{Tensor, Values, close, exact};
use crate::parity::text::prompt_ids;
use crate::parity::{Files, Report, array, equal, ids, images};
use crate::tasks::{Blip2, GenerateInputs, cross_entropy};

type Tensors = BTreeMap<String, Tensor>;
type Observed = BTreeMap<String, Values>;

pub(super) async fn run(
    device: &Device,
    files: &Files,
    expected: &Value,
    tensors: &Tensors,
    model: &Blip2,
    reference: Option<&Blip2>,
    report: &mut Report<'_>,
) -> Result<()> {
    let fixture = Fixture { device, expected, tensors };
    let found = fixture.observe(model).await;
    let reference_values = match reference {
        Some(reference) => Some(fixture.observe(reference).await?),
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
        if case["kwargs"]["num_beams"].as_u64().unwrap_or(1) > 1 {
            report.not_yet(format!("generate.{name}"));
            continue;
        }
        report.push(format!("generate.{name}"), fixture.generate(name, case, model, reference).await);
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
            let output = model.captioner.model.get_text_features(self.device, &input_ids, &mask).await?;
            values.insert("text_features.logits".into(), Values::Floats(read_floats(output.logits).await?));
        }
        let pictures: Vec<&str> = self.tensors.keys().filter_map(|name| name.strip_suffix(".vision.last_hidden_state")).collect();
        for prefix in pictures {
            let interpolate = prefix.starts_with("interp");
            let output = model.captioner.model.image(&self.pixels(&format!("{prefix}.pixel_values"))?, interpolate, false).await?;
            let name = format!("{prefix}.vision.last_hidden_state");
            values.insert(name, Values::Floats(read_floats(output.vision.last_hidden_state).await?));
        }
        Ok(values)
    }

    async fn observe_image(&self, model: &Blip2, values: &mut Observed) -> Result<()> {
        let output = model.captioner.model.image(&self.pixels("pixel_values")?, false, true).await?;
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
        let features = model.captioner.get_image_features(&self.pixels_of(&case["images"])?, false).await?;
        let (input_ids, mask) = (table("input_ids")?.ids("input_ids")?, table("attention_mask")?.ids("attention_mask")?);
        let output = model.captioner.model.forward(self.device, &input_ids, &mask, &features).await?;
        let shape = output.logits.dims();
        let logits = read_floats(output.logits).await?;
        for (labels, loss) in [("labels", "loss"), ("short_labels", "short_labels_loss")] {
            if let Ok(labels) = table(labels) {
                let value = cross_entropy(&logits, shape, &labels.rows("labels")?)?;
                values.insert(format!("{tag}{loss}"), Values::Floats(vec![value]));
            }
        }
        values.insert(format!("{tag}logits"), Values::Floats(logits));
        let positions = shape[1];
        for (place, state) in output.language_model.hidden_states.into_iter().enumerate() {
            let width = state.dims()[1];
            let row = read_floats(state.slice([0..positions, 0..width])).await?;
            values.insert(format!("{tag}lm.hidden_states.{place}.row0"), Values::Floats(row));
        }
        if table("no_attention_mask.logits").is_ok() {
            let output = model.captioner.model.forward(self.device, &input_ids, &ones(&input_ids), &features).await?;
            values.insert(format!("{tag}no_attention_mask.logits"), Values::Floats(read_floats(output.logits).await?));
        }
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
        let (_, _, pad) = model.captioner.model.language_model.special_token_ids();
        let label = |id: u32| if Some(id) == pad || Some(id) == config.image_token_index { -100 } else { i64::from(id) };
        match what {
            "input_ids" => Ok(flat(encoded.input_ids)),
            "attention_mask" => Ok(flat(encoded.attention_mask)),
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
        let found = self.ids_of(name, case, model).await?;
        let decoded = model.processor.batch_decode(&found, true)?;
        if let Some(reference) = reference {
            equal(name, &found, &self.ids_of(name, case, reference).await?)?;
            return Ok(format!("{decoded:?}"));
        }
        equal(name, &found, &ids(name, &case["ids"])?)?;
        let strings = |key: &str| array(&case[key]).iter().map(|text| text.as_str().unwrap_or_default().to_string()).collect::<Vec<_>>();
        equal(name, &decoded, &strings("decoded"))?;
        let stripped: Vec<String> = decoded.iter().map(|text| text.trim().to_string()).collect();
        equal(name, &stripped, &strings("stripped"))?;
        Ok(format!("{} rows", found.len()))
    }

    async fn ids_of(&self, name: &str, case: &Value, model: &Blip2) -> Result<Vec<Vec<u32>>> {
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
        if generated.ids.first().is_some_and(|row| row.len() < steps) {
            return Err(Error::input(name, format!("{steps} steps for {} ids", generated.ids[0].len())));
        }
        Ok(generated.ids)
    }
}

fn ones(rows: &[Vec<u32>]) -> Vec<Vec<u32>> {
    rows.iter().map(|row| vec![1; row.len()]).collect()
}
