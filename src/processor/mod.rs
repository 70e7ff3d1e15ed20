//! Images and text to what the models take, and ids back to text. HF `Blip2Processor` and its parts.

mod blip2_processor;
pub mod image;
mod image_processor;
mod streamer;
mod tokenizer;
mod well_formed;

pub use blip2_processor::{Blip2Processor, TextOptions};
pub use image::{RgbImage, decode, load_image, resize};
pub use image_processor::{BlipImageProcessor, PixelValues, Size};
pub use streamer::TextStreamer;
pub use tokenizer::{Encoded, Padding, PaddingSide, Tokenizer};
