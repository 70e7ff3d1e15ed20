//! Bytes of a picture → RGB pixels → resized RGB pixels, bit for bit as Pillow 11 makes them.

mod decode;
mod resize;

pub use decode::{MAX_PIXELS, decode, load_image};
pub use resize::resize;

/// `pixels` are rows of R, G, B bytes: [height, width, 3].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<u8>,
}
