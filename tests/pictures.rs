//! Pictures beyond the fixtures: spoiled ones are refused, turned ones are turned.

mod common;

use blip2_web::Error;
use blip2_web::processor::{decode, load_image, resize};

#[test]
fn spoiled_files_are_errors_and_never_panics() {
    let mut state = 0x2545_f491u32;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as usize % below
    };
    for (name, bytes) in common::folder(&common::fixtures().join("images")).iter().filter(|(name, _)| !name.starts_with("expected")) {
        for _ in 0..60 {
            let cut = &bytes[..random(bytes.len())];
            if let Err(error) = decode(cut) {
                assert_eq!(error.code(), "image-undecodable", "{name} cut to {} bytes", cut.len());
            }
            let mut changed = bytes.clone();
            for _ in 0..4 {
                let at = random(changed.len());
                changed[at] = random(256) as u8;
            }
            if let Err(error) = load_image(&changed) {
                assert!(matches!(error, Error::ImageUndecodable { .. } | Error::ImageTooLarge { .. }), "{name}: {error}");
            }
        }
    }
    assert_eq!(decode(b"").unwrap_err().code(), "image-undecodable");
    assert_eq!(decode(b"<html>").unwrap_err().code(), "image-undecodable");
}

#[test]
fn exif_turns_a_picture_only_where_hf_turns_it() {
    let bytes = &common::folder(&common::fixtures().join("images"))["photo.jpg"];
    let (plain, turned) = (decode(bytes).unwrap(), load_image(bytes).unwrap());
    assert_eq!((plain.width, plain.height), (turned.height, turned.width));
    // Orientation 6: the left column, from the bottom, becomes the top row.
    let pixel = |image: &blip2_web::processor::RgbImage, x: usize, y: usize| {
        let at = (y * image.width + x) * 3;
        [image.pixels[at], image.pixels[at + 1], image.pixels[at + 2]]
    };
    for x in 0..turned.width {
        assert_eq!(pixel(&turned, x, 0), pixel(&plain, 0, plain.height - 1 - x));
    }
}

#[test]
fn a_gif_shows_its_first_frame_with_the_colours_under_transparency() {
    // 2 x 1, palette red and green, the green one transparent.
    let mut bytes = vec![];
    let mut encoder = gif::Encoder::new(&mut bytes, 2, 1, &[255, 0, 0, 0, 255, 0]).unwrap();
    let mut frame = gif::Frame { width: 2, height: 1, buffer: vec![0, 1].into(), transparent: Some(1), ..Default::default() };
    encoder.write_frame(&frame).unwrap();
    frame.buffer = vec![1, 1].into();
    encoder.write_frame(&frame).unwrap();
    drop(encoder);
    assert_eq!(decode(&bytes).unwrap().pixels, [255, 0, 0, 0, 255, 0]);
}

#[test]
fn a_size_that_stays_is_not_touched() {
    let bytes = &common::folder(&common::fixtures().join("images"))["photo.png"];
    let picture = decode(bytes).unwrap();
    assert_eq!(resize(&picture, picture.width, picture.height), picture);
}
