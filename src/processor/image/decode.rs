//! PNG, JPEG, WebP, BMP and GIF's first frame → RGB, as PIL's `Image.open(…).convert("RGB")`: alpha is dropped without
//! compositing (colours hidden under it stay), palettes are looked up, 16-bit gray is clipped at 255.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat};

use crate::error::{Error, Result};
use crate::processor::image::RgbImage;

/// Where Pillow calls a picture a decompression bomb: twice its MAX_IMAGE_PIXELS.
pub const MAX_PIXELS: u64 = 178_956_970;

/// EXIF orientation is ignored, as by PIL. Errors: image-undecodable, image-too-large.
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    read(bytes).map(|(picture, _)| picture).map(rgb)
}

/// The same with EXIF orientation applied, as HF `load_image` does for paths and addresses. Errors: as `decode`.
pub fn load_image(bytes: &[u8]) -> Result<RgbImage> {
    let (mut picture, orientation) = read(bytes)?;
    picture.apply_orientation(orientation);
    Ok(rgb(picture))
}

fn undecodable(reason: impl ToString) -> Error {
    Error::ImageUndecodable { reason: reason.to_string() }
}

fn read(bytes: &[u8]) -> Result<(DynamicImage, Orientation)> {
    let format = image::guess_format(bytes).map_err(|_| undecodable("the file begins like no known format"))?;
    let source = Cursor::new(bytes);
    match format {
        ImageFormat::Png => from_decoder(image::codecs::png::PngDecoder::new(source).map_err(undecodable)?),
        ImageFormat::Jpeg => jpeg(source),
        ImageFormat::WebP => from_decoder(image::codecs::webp::WebPDecoder::new(source).map_err(undecodable)?),
        ImageFormat::Bmp => from_decoder(image::codecs::bmp::BmpDecoder::new(source).map_err(undecodable)?),
        ImageFormat::Gif => first_frame(bytes).map(|picture| (picture, Orientation::NoTransforms)),
        other => Err(undecodable(format!("{other:?} is not read"))),
    }
}

fn check_size(width: u32, height: u32) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(undecodable("it has no pixels"));
    }
    match u64::from(width) * u64::from(height) {
        pixels if pixels > MAX_PIXELS => Err(Error::ImageTooLarge { width: width.into(), height: height.into(), limit: MAX_PIXELS }),
        _ => Ok(()),
    }
}

fn from_decoder(mut decoder: impl ImageDecoder) -> Result<(DynamicImage, Orientation)> {
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    // A broken EXIF block does not make a picture unreadable.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((DynamicImage::from_decoder(decoder).map_err(undecodable)?, orientation))
}

fn jpeg(source: Cursor<&[u8]>) -> Result<(DynamicImage, Orientation)> {
    use jpeg_decoder::PixelFormat;

    let mut decoder = jpeg_decoder::Decoder::new(source);
    decoder.read_info().map_err(undecodable)?;
    let info = decoder.info().ok_or_else(|| undecodable("it has no header"))?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    check_size(width, height)?;
    let pixels = decoder.decode().map_err(undecodable)?;
    let orientation = decoder.exif_data().and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
    let pixels: Vec<u8> = match info.pixel_format {
        PixelFormat::RGB24 => pixels,
        PixelFormat::L8 => pixels.iter().flat_map(|value| [*value; 3]).collect(),
        PixelFormat::L16 => pixels.chunks_exact(2).flat_map(|pair| [pair[0].max(pair[1]); 3]).collect(),
        PixelFormat::CMYK32 => pixels.chunks_exact(4).flat_map(|inks| [0, 1, 2].map(|place| without_inks(inks[place], inks[3]))).collect(),
    };
    let picture = image::RgbImage::from_raw(width, height, pixels).ok_or_else(|| undecodable("its size is wrong"))?;
    Ok((DynamicImage::ImageRgb8(picture), orientation))
}

/// What Pillow leaves of white under two inks: round((255 − c)(255 − k)/255).
fn without_inks(colour: u8, black: u8) -> u8 {
    ((u32::from(255 - colour) * u32::from(255 - black) + 127) / 255) as u8
}

/// Palette colours stay under transparent pixels. Where the first frame leaves the canvas free, Pillow shows the
/// transparent colour, or the palette's first.
fn first_frame(bytes: &[u8]) -> Result<DynamicImage> {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    let mut decoder = options.read_info(Cursor::new(bytes)).map_err(undecodable)?;
    let (width, height) = (decoder.width(), decoder.height());
    check_size(width.into(), height.into())?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder.read_next_frame().map_err(undecodable)?.ok_or_else(|| undecodable("it has no frame"))?;
    let palette = frame.palette.as_ref().or(global.as_ref()).ok_or_else(|| undecodable("it has no palette"))?;
    let colour = |index: u8| -> [u8; 3] {
        let at = usize::from(index) * 3;
        palette.get(at..at + 3).map_or([0; 3], |colour| [colour[0], colour[1], colour[2]])
    };
    let (width, height) = (usize::from(width), usize::from(height));
    let mut pixels = colour(frame.transparent.unwrap_or(0)).repeat(width * height);
    let frame_width = usize::from(frame.width);
    for (row, indices) in frame.buffer.chunks(frame_width.max(1)).enumerate() {
        for (column, index) in indices.iter().enumerate() {
            let (x, y) = (usize::from(frame.left) + column, usize::from(frame.top) + row);
            if x < width && y < height {
                let at = (y * width + x) * 3;
                pixels[at..at + 3].copy_from_slice(&colour(*index));
            }
        }
    }
    let picture = image::RgbImage::from_raw(width as u32, height as u32, pixels).ok_or_else(|| undecodable("its size is wrong"))?;
    Ok(DynamicImage::ImageRgb8(picture))
}

fn rgb(picture: DynamicImage) -> RgbImage {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let gray = |values: &mut dyn Iterator<Item = u8>| values.flat_map(|value| [value; 3]).collect::<Vec<u8>>();
    let high = |value: u16| (value >> 8) as u8;
    let pixels = match picture {
        DynamicImage::ImageRgb8(picture) => picture.into_raw(),
        DynamicImage::ImageRgba8(picture) => picture.pixels().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        DynamicImage::ImageLuma8(picture) => gray(&mut picture.pixels().map(|pixel| pixel[0])),
        DynamicImage::ImageLumaA8(picture) => gray(&mut picture.pixels().map(|pixel| pixel[0])),
        // Pillow's mode I;16 becomes RGB by clipping; the other 16-bit modes keep their high byte.
        DynamicImage::ImageLuma16(picture) => gray(&mut picture.pixels().map(|pixel| pixel[0].min(255) as u8)),
        DynamicImage::ImageLumaA16(picture) => gray(&mut picture.pixels().map(|pixel| high(pixel[0]))),
        DynamicImage::ImageRgb16(picture) => picture.pixels().flat_map(|pixel| pixel.0.map(high)).collect(),
        DynamicImage::ImageRgba16(picture) => picture.pixels().flat_map(|pixel| [high(pixel[0]), high(pixel[1]), high(pixel[2])]).collect(),
        other => other.into_rgb8().into_raw(),
    };
    RgbImage { width, height, pixels }
}
