//! HF `BlipImageProcessor` (the slow one): RGB pixels → pixel_values.

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::processor::image::{RgbImage, resize};

const FILE: &str = "preprocessor_config.json";
/// PIL's number for bicubic, the only filter of BLIP-2.
const BICUBIC: i64 = 3;
/// Larger sides are a mistake of the file, not a model.
const MAX_SIDE: usize = 1 << 13;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub height: usize,
    pub width: usize,
}

/// `values` in the order [B, 3, H, W].
#[derive(Debug, Clone, PartialEq)]
pub struct PixelValues {
    pub shape: [usize; 4],
    pub values: Vec<f32>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct BlipImageProcessor {
    pub do_resize: bool,
    pub size: Size,
    pub do_rescale: bool,
    pub rescale_factor: f64,
    pub do_normalize: bool,
    pub image_mean: [f32; 3],
    pub image_std: [f32; 3],
    pub do_convert_rgb: bool,
}

/// The file's fields, with HF's class defaults.
#[derive(Deserialize)]
#[serde(default)]
struct Fields {
    do_resize: bool,
    size: Value,
    resample: i64,
    do_rescale: bool,
    rescale_factor: f64,
    do_normalize: bool,
    image_mean: [f64; 3],
    image_std: [f64; 3],
    do_convert_rgb: bool,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            do_resize: true,
            size: serde_json::json!({"height": 384, "width": 384}),
            resample: BICUBIC,
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            image_std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
            do_convert_rgb: true,
        }
    }
}

impl BlipImageProcessor {
    /// preprocessor_config.json. Errors: config-invalid.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let fields: Fields = serde_json::from_slice(bytes).map_err(|error| Error::config(FILE, error))?;
        if fields.resample != BICUBIC {
            return Err(Error::config(FILE, format!("resample {}: only 3 (bicubic) is implemented", fields.resample)));
        }
        let side = |name: &str| {
            let side = fields.size.get(name).and_then(Value::as_u64).and_then(|side| usize::try_from(side).ok());
            side.filter(|side| (1..=MAX_SIDE).contains(side))
                .ok_or_else(|| Error::config(FILE, format!("size {}: height and width of 1 to {MAX_SIDE} are needed", fields.size)))
        };
        if fields.image_std.iter().any(|std| *std == 0.0 || !std.is_finite()) {
            return Err(Error::config(FILE, "image_std has to be above 0"));
        }
        Ok(Self {
            do_resize: fields.do_resize,
            size: Size { height: side("height")?, width: side("width")? },
            do_rescale: fields.do_rescale,
            rescale_factor: fields.rescale_factor,
            do_normalize: fields.do_normalize,
            image_mean: fields.image_mean.map(|mean| mean as f32),
            image_std: fields.image_std.map(|std| std as f32),
            do_convert_rgb: fields.do_convert_rgb,
        })
    }

    /// What `preprocess` looks at: of a large picture a small part of its bytes, and the same pixel values when it is given again.
    pub fn at_its_size(&self, image: &RgbImage) -> RgbImage {
        if self.do_resize { resize(image, self.size.width, self.size.height) } else { image.clone() }
    }

    /// Errors: input-invalid where images of several sizes are not resized to one.
    pub fn preprocess(&self, images: &[&RgbImage]) -> Result<PixelValues> {
        self.preprocess_to(images, self.size)
    }

    /// The same at another size, for `interpolate_pos_encoding`.
    pub fn preprocess_to(&self, images: &[&RgbImage], size: Size) -> Result<PixelValues> {
        let tables = self.tables();
        let mut values = vec![];
        let mut shape: Option<Size> = None;
        for image in images {
            let resized = self.do_resize.then(|| resize(image, size.width, size.height));
            let image = resized.as_ref().unwrap_or(image);
            let found = Size { height: image.height, width: image.width };
            if *shape.get_or_insert(found) != found {
                return Err(Error::input("images", "images of several sizes cannot be one batch without do_resize"));
            }
            for (channel, table) in tables.iter().enumerate() {
                values.extend(image.pixels.iter().skip(channel).step_by(3).map(|value| table[usize::from(*value)]));
            }
        }
        let Size { height, width } = shape.unwrap_or(size);
        Ok(PixelValues { shape: [images.len(), 3, height, width], values })
    }

    /// What each byte becomes, by channel: (u8 as f64 · factor) as f32, then (x − mean)/std in f32.
    fn tables(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|channel| {
            std::array::from_fn(|value| {
                let mut x = value as f32;
                if self.do_rescale {
                    x = (value as f64 * self.rescale_factor) as f32;
                }
                if self.do_normalize { (x - self.image_mean[channel]) / self.image_std[channel] } else { x }
            })
        })
    }
}
