//! Processor and tokenizer cases.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::parity::{Report, array, equal, ids};
use crate::processor::{Blip2Processor, Encoded, Padding, PaddingSide, TextOptions, TextStreamer};

pub(super) fn run(processor: &Blip2Processor, expected: &Value, report: &mut Report) {
    for (place, case) in array(&expected["processor"]).iter().enumerate() {
        report.push(format!("processor.{place}"), processor_case(processor, case));
    }
    let tokenizer = &expected["tokenizer"];
    for (place, case) in array(&tokenizer["encode"]).iter().enumerate() {
        report.push(format!("tokenizer.encode.{place}"), encode_case(processor, case));
    }
    for (place, case) in array(&tokenizer["decode"]).iter().enumerate() {
        report.push(format!("tokenizer.decode.{place}"), decode_case(processor, case));
    }
    if !tokenizer.is_null() {
        report.push("tokenizer.facts", facts(processor, tokenizer));
    }
}

pub(super) fn padding_side(value: &Value) -> Option<PaddingSide> {
    match value.as_str() {
        Some("left") => Some(PaddingSide::Left),
        Some("right") => Some(PaddingSide::Right),
        _ => None,
    }
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        list => array(list).iter().filter_map(Value::as_str).collect(),
    }
}

/// The ids of a `generate` case's texts, as the fixture's generator made them: padded where there are several.
pub(super) fn prompt_ids(processor: &Blip2Processor, case: &Value) -> Result<Encoded> {
    let texts = texts(&case["text"]);
    let padding = if texts.len() > 1 { Padding::Longest } else { Padding::None };
    let options = TextOptions { padding, padding_side: padding_side(&case["padding_side"]), ..TextOptions::default() };
    processor.text(&texts, true, &options)
}

fn processor_case(processor: &Blip2Processor, case: &Value) -> Result<String> {
    let padding = match &case["padding"] {
        Value::Bool(true) => Padding::Longest,
        Value::String(name) if name == "longest" => Padding::Longest,
        Value::String(name) if name == "max_length" => Padding::MaxLength,
        Value::Null | Value::Bool(false) => Padding::None,
        other => return Err(Error::input("padding", other)),
    };
    let options = TextOptions {
        padding,
        padding_side: padding_side(&case["padding_side"]),
        truncation: case["truncation"].as_bool().unwrap_or(false),
        max_length: case["max_length"].as_u64().map(|length| length as usize),
    };
    let encoded = processor.text(&texts(&case["text"]), case["images"].as_bool().unwrap_or(false), &options)?;
    equal("input_ids", &encoded.input_ids, &ids("input_ids", &case["input_ids"])?)?;
    equal("attention_mask", &encoded.attention_mask, &ids("attention_mask", &case["attention_mask"])?)?;
    Ok(String::new())
}

fn encode_case(processor: &Blip2Processor, case: &Value) -> Result<String> {
    let tokenizer = &processor.tokenizer;
    let text = case["text"].as_str().unwrap_or_default();
    let row = |name: &str| serde_json::from_value::<Vec<u32>>(case[name].clone()).map_err(|error| Error::input(name, error));
    let found = tokenizer.encode(text, true)?;
    equal("ids", &found, &row("ids")?)?;
    equal("ids_no_special", &tokenizer.encode(text, false)?, &row("ids_no_special")?)?;
    let tokens: Vec<String> = found.iter().map(|id| tokenizer.id_to_token(*id).unwrap_or_default()).collect();
    equal("tokens", &serde_json::json!(tokens), &case["tokens"])?;
    decoded(processor, &found, case)
}

fn decode_case(processor: &Blip2Processor, case: &Value) -> Result<String> {
    let row: Vec<u32> = serde_json::from_value(case["ids"].clone()).map_err(|error| Error::input("ids", error))?;
    decoded(processor, &row, case)
}

/// Both decodings, and the same text when the ids come one at a time.
fn decoded(processor: &Blip2Processor, row: &[u32], case: &Value) -> Result<String> {
    let tokenizer = &processor.tokenizer;
    equal("decoded", &serde_json::json!(tokenizer.decode(row, false)?), &case["decoded"])?;
    equal("decoded_skip_special", &serde_json::json!(tokenizer.decode(row, true)?), &case["decoded_skip_special"])?;
    let mut streamer = TextStreamer::default();
    let mut streamed = row.iter().map(|id| streamer.push(tokenizer, *id)).collect::<Result<String>>()?;
    streamed.push_str(&streamer.finish(tokenizer)?);
    equal("streamed", &serde_json::json!(streamed), &case["decoded_skip_special"])?;
    Ok(String::new())
}

fn facts(processor: &Blip2Processor, expected: &Value) -> Result<String> {
    let tokenizer = &processor.tokenizer;
    equal("len", &serde_json::json!(tokenizer.len()), &expected["len"])?;
    for name in ["bos_token", "eos_token", "pad_token", "unk_token", "cls_token", "sep_token"] {
        equal(name, &serde_json::json!(tokenizer.special_token_id(name)), &expected["special"][format!("{name}_id")])?;
    }
    equal("image_token_id", &serde_json::json!(processor.image_token_id()), &expected["image_token_id"])?;
    // The generator sets T5's side by hand after loading, so that only ids can say it.
    let side = if tokenizer.padding_side() == PaddingSide::Left { "left" } else { "right" };
    equal("padding_side", &serde_json::json!(side), &expected["padding_side"])?;
    Ok(String::new())
}
