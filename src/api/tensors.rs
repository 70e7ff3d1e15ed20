//! Tensors between JavaScript and Rust: `{ data: Float32Array, shape: number[] }`, and rows of ids.

use js_sys::{Array, Float32Array, Int32Array, Object, Reflect, Uint8Array};
use serde::de::DeserializeOwned;
use wasm_bindgen::{JsCast, JsValue};

use super::options::read_value;
use crate::error::{Error, Result};
use crate::tasks::{Arguments, Output, Plain};

/// The arguments of a `forward`. Errors: input-invalid, option-unsupported for a name that no class takes.
pub(super) fn arguments(inputs: &JsValue) -> Result<Arguments> {
    let mut arguments = Arguments::default();
    let object = inputs.dyn_ref::<Object>().ok_or_else(|| Error::input("inputs", "an object is expected"))?;
    for entry in Object::entries(object).iter() {
        let entry = Array::from(&entry);
        let (name, value) = (entry.get(0).as_string().unwrap_or_default(), entry.get(1));
        if value.is_undefined() || value.is_null() {
            continue;
        }
        match name.as_str() {
            "pixel_values" => arguments.pixel_values = Some(tensor(&name, &value)?),
            "query_embeds" => arguments.query_embeds = Some(tensor(&name, &value)?),
            "encoder_hidden_states" => arguments.encoder_hidden_states = Some(tensor(&name, &value)?),
            "inputs_embeds" => arguments.inputs_embeds = Some(tensor(&name, &value)?),
            "input_ids" => arguments.input_ids = Some(rows(&name, &value)?),
            "attention_mask" if has_three_dimensions(&value) => arguments.full_attention_mask = Some(plain(&name, &value)?),
            "attention_mask" => arguments.attention_mask = Some(rows(&name, &value)?),
            "decoder_input_ids" => arguments.decoder_input_ids = Some(rows(&name, &value)?),
            "position_ids" => arguments.position_ids = Some(rows(&name, &value)?),
            "labels" => arguments.labels = Some(rows(&name, &value)?),
            "query_length" => arguments.query_length = Some(plain(&name, &value)?),
            "use_image_text_matching_head" => arguments.use_image_text_matching_head = plain(&name, &value)?,
            "interpolate_pos_encoding" => arguments.interpolate_pos_encoding = plain(&name, &value)?,
            "output_hidden_states" => arguments.output_hidden_states = plain(&name, &value)?,
            "output_attentions" => arguments.output_attentions = plain(&name, &value)?,
            _ => return Err(Error::OptionUnsupported { option: name, reason: "no class takes it".into() }),
        }
    }
    Ok(arguments)
}

/// `number[][][]`
fn has_three_dimensions(value: &JsValue) -> bool {
    let first = |value: &JsValue| value.dyn_ref::<Array>().map(|list| list.get(0));
    first(value).and_then(|row| first(&row)).is_some_and(|item| Array::is_array(&item))
}

fn plain<T: DeserializeOwned>(name: &str, value: &JsValue) -> Result<T> {
    read_value(name, value)
}

/// `number[][]`, or `{ data: Int32Array, shape: [rows, columns] }`. Errors: input-invalid.
fn rows<T: DeserializeOwned + TryFrom<i32>>(name: &str, value: &JsValue) -> Result<Vec<Vec<T>>> {
    let data = Reflect::get(value, &"data".into()).unwrap_or(JsValue::UNDEFINED);
    let Some(data) = data.dyn_ref::<Int32Array>() else { return plain(name, value) };
    let shape: Vec<usize> = plain(name, &Reflect::get(value, &"shape".into()).unwrap_or(JsValue::UNDEFINED))?;
    let data = data.to_vec();
    let wrong = || Error::input(name, format!("{} numbers of shape {shape:?}, where rows of ids are wanted", data.len()));
    let &[rows, columns] = &shape[..] else { return Err(wrong()) };
    if columns == 0 || rows.checked_mul(columns) != Some(data.len()) {
        return Err(wrong());
    }
    data.chunks_exact(columns).map(|row| row.iter().map(|id| T::try_from(*id).map_err(|_| wrong())).collect()).collect()
}

/// Errors: input-invalid.
fn tensor(name: &str, value: &JsValue) -> Result<Plain> {
    let field = |field: &str| Reflect::get(value, &field.into()).unwrap_or(JsValue::UNDEFINED);
    let data = field("data");
    let data = data.dyn_ref::<Float32Array>().ok_or_else(|| Error::input(name, "{ data: Float32Array, shape } is expected"))?;
    Ok(Plain { data: data.to_vec(), shape: plain(name, &field("shape"))? })
}

/// `Uint8Array`s, or nothing. Errors: input-invalid.
pub(super) fn files(name: &str, value: &JsValue) -> Result<Option<Vec<Vec<u8>>>> {
    if value.is_undefined() || value.is_null() {
        return Ok(None);
    }
    let list = value.dyn_ref::<Array>().ok_or_else(|| Error::input(name, "a list is expected"))?;
    let file =
        |file: JsValue| file.dyn_ref::<Uint8Array>().map(Uint8Array::to_vec).ok_or_else(|| Error::input(name, "Uint8Arrays are expected"));
    list.iter().map(file).collect::<Result<_>>().map(Some)
}

pub(super) fn tensor_to_js(Plain { data, shape }: &Plain) -> JsValue {
    let shape: Array = shape.iter().map(|size| JsValue::from(*size as u32)).collect();
    object([("data", Float32Array::from(&data[..]).into()), ("shape", shape.into())])
}

/// The fields of a class's output.
pub(super) fn outputs_to_js<'a>(outputs: impl IntoIterator<Item = (&'a &'static str, &'a Output)>) -> JsValue {
    object(outputs.into_iter().map(|(name, output)| {
        let value = match output {
            Output::Number(number) => JsValue::from(*number),
            Output::Tensor(tensor) => tensor_to_js(tensor),
            Output::Tensors(tensors) => tensors.iter().map(tensor_to_js).collect::<Array>().into(),
        };
        (*name, value)
    }))
}

/// A plain object; it is ours and takes every field.
pub(super) fn object<'a>(fields: impl IntoIterator<Item = (&'a str, JsValue)>) -> JsValue {
    let object = Object::new();
    for (name, value) in fields {
        let _ = Reflect::set(&object, &name.into(), &value);
    }
    object.into()
}
