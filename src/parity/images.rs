//! Pictures: decoded, resized and normalised.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::parity::tensors::{self, Tensor, Values, exact};
use crate::parity::{Files, Report, array, equal};
use crate::processor::{BlipImageProcessor, RgbImage, Size, decode, resize};
use crate::weights::index::sha256;

/// Decoders of JPEG differ by a level or two.
const JPEG_TOLERANCE: u8 = 3;

pub(super) fn run(files: &Files, expected: &Value, tensors: &BTreeMap<String, Tensor>, report: &mut Report) {
    let empty = serde_json::Map::new();
    for (name, facts) in expected["images"].as_object().unwrap_or(&empty) {
        let given = given_pixels(tensors, name);
        report.push(format!("{name}.decode"), decode_case(files, name, given.as_ref()));
        for (size, sha256) in facts["resize_sha256"].as_object().unwrap_or(&empty) {
            report.push(format!("{name}.sha256_{size}"), hash_case(files, name, given.as_ref(), size, sha256));
        }
    }
    for (name, tensor) in tensors {
        let outcome = match (name.split_once(".resized_"), name.strip_prefix("pixel_values_")) {
            (Some((picture, size)), _) => resized_case(files, picture, given_pixels(tensors, picture).as_ref(), size, tensor),
            (_, Some(rest)) => pixel_values_case(files, expected, tensors, rest, tensor),
            // Checked with the picture above.
            _ if name.ends_with(".rgb") => continue,
            _ => Err(Error::input(name.clone(), "nothing makes this tensor")),
        };
        report.push(name.clone(), outcome);
    }
}

/// The decoded pixels that a fixture supplies beside a picture.
fn given_pixels(tensors: &BTreeMap<String, Tensor>, name: &str) -> Option<RgbImage> {
    let tensor = tensors.get(&format!("{name}.rgb"))?;
    match (&tensor.shape[..], &tensor.values) {
        ([height, width, 3], Values::Bytes(pixels)) => Some(RgbImage { width: *width, height: *height, pixels: pixels.clone() }),
        _ => None,
    }
}

fn is_jpeg(name: &str) -> bool {
    name.ends_with(".jpg") || name.ends_with(".jpeg")
}

fn decoded(files: &Files, name: &str) -> Result<RgbImage> {
    let bytes = files.get(name).or_else(|| files.get(&format!("images/{name}")));
    decode(bytes.ok_or_else(|| Error::input(name, "is not in the fixture"))?)
}

/// A picture's pixels: from the file, but of a JPEG those that the fixture supplies.
fn pixels(files: &Files, name: &str, given: Option<&RgbImage>) -> Result<RgbImage> {
    match given {
        Some(given) if is_jpeg(name) => Ok(given.clone()),
        _ => decoded(files, name),
    }
}

fn decode_case(files: &Files, name: &str, given: Option<&RgbImage>) -> Result<String> {
    let found = decoded(files, name)?;
    let given = given.ok_or_else(|| Error::input(name, "has no .rgb tensor"))?;
    equal("size", &[found.width, found.height], &[given.width, given.height])?;
    let worst = found.pixels.iter().zip(&given.pixels).map(|(found, given)| found.abs_diff(*given)).max().unwrap_or(0);
    let limit = if is_jpeg(name) { JPEG_TOLERANCE } else { 0 };
    if worst > limit { Err(Error::input(name, format!("{worst} levels off, at most {limit}"))) } else { Ok(format!("{worst} levels off")) }
}

fn size_of(size: &str) -> Result<Size> {
    let parsed = size.split_once('x').and_then(|(width, height)| Some(Size { width: width.parse().ok()?, height: height.parse().ok()? }));
    parsed.ok_or_else(|| Error::input("size", size))
}

fn hash_case(files: &Files, name: &str, given: Option<&RgbImage>, size: &str, expected: &Value) -> Result<String> {
    let Size { width, height } = size_of(size)?;
    let resized = resize(&pixels(files, name, given)?, width, height);
    equal("sha256", &serde_json::json!(sha256(&resized.pixels)), expected)?;
    Ok("exact".into())
}

fn resized_case(files: &Files, name: &str, given: Option<&RgbImage>, size: &str, expected: &Tensor) -> Result<String> {
    let Size { width, height } = size_of(size)?;
    tensors::close(name, &Values::Bytes(resize(&pixels(files, name, given)?, width, height).pixels), &expected.values)
}

/// `pixel_values_40x24`, `pixel_values_32x32_no_normalize`: the class's defaults at that size.
fn pixel_values_case(files: &Files, expected: &Value, all: &BTreeMap<String, Tensor>, name: &str, tensor: &Tensor) -> Result<String> {
    let (size, rest) = name.split_once('_').map_or((name, ""), |(size, rest)| (size, rest));
    let mut processor = BlipImageProcessor::from_json(b"{}")?;
    processor.size = size_of(size)?;
    processor.do_normalize = rest != "no_normalize";
    let names = &array(&expected["order"])[..tensor.shape[0]];
    let pictures: Vec<RgbImage> = names
        .iter()
        .map(|name| name.as_str().unwrap_or_default())
        .map(|name| pixels(files, name, given_pixels(all, name).as_ref()))
        .collect::<Result<_>>()?;
    exact(name, &processor.preprocess(&pictures.iter().collect::<Vec<_>>())?.values, tensor.floats(name)?)
}

/// The pixel values of a model fixture's pictures, at the model's size or another (height, width).
pub(super) fn pixel_values(
    files: &Files,
    processor: &BlipImageProcessor,
    names: &[Value],
    size: Option<(usize, usize)>,
) -> Result<Vec<f32>> {
    let given = tensors::read(files, "images/expected.safetensors")?;
    let pictures: Vec<RgbImage> = names
        .iter()
        .map(|name| name.as_str().unwrap_or_default())
        .map(|name| pixels(files, name, given_pixels(&given, name).as_ref()))
        .collect::<Result<_>>()?;
    let size = size.map_or(processor.size, |(height, width)| Size { height, width });
    Ok(processor.preprocess_to(&pictures.iter().collect::<Vec<_>>(), size)?.values)
}
