//! Pillow's bicubic resize, bit for bit (Pillow 9 to 12.3): two passes, horizontal first, bytes between them, antialiased,
//! a = −0.5, weights rounded to 22 bits behind the point. A pass is left out where its dimension does not change.

use crate::processor::image::RgbImage;

const PRECISION: u32 = 22;
const SUPPORT: f64 = 2.0;

/// One output position: the first input position and the weights from there on.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// → an image of `width` x `height`; the sides' ratio is not kept.
pub fn resize(image: &RgbImage, width: usize, height: usize) -> RgbImage {
    let mut image = image.clone();
    if width != image.width {
        image = horizontal(&image, &taps(image.width, width));
    }
    if height != image.height {
        image = vertical(&image, &taps(image.height, height));
    }
    image
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let filter_scale = scale.max(1.0);
    let support = SUPPORT * filter_scale;
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            // C's truncation: below zero it goes up.
            let first = ((centre - support + 0.5) as i64).max(0) as usize;
            let end = ((centre + support + 0.5) as i64).min(from as i64) as usize;
            let weights: Vec<f64> = (first..end).map(|x| bicubic((x as f64 - centre + 0.5) * (1.0 / filter_scale))).collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |weight: &f64| {
                let weight = if sum != 0.0 { weight / sum } else { *weight } * f64::from(1 << PRECISION);
                (weight + if weight < 0.0 { -0.5 } else { 0.5 }) as i32
            };
            Taps { first, weights: weights.iter().map(fixed).collect() }
        })
        .collect()
}

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn horizontal(image: &RgbImage, taps: &[Taps]) -> RgbImage {
    let mut pixels = Vec::with_capacity(image.height * taps.len() * 3);
    for row in image.pixels.chunks_exact(image.width * 3) {
        for tap in taps {
            let mut sums = [1i32 << (PRECISION - 1); 3];
            for (pixel, weight) in row[tap.first * 3..].chunks_exact(3).zip(&tap.weights) {
                sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += i32::from(*value) * weight);
            }
            pixels.extend(sums.map(clip));
        }
    }
    RgbImage { width: taps.len(), height: image.height, pixels }
}

fn vertical(image: &RgbImage, taps: &[Taps]) -> RgbImage {
    let stride = image.width * 3;
    let mut pixels = Vec::with_capacity(stride * taps.len());
    let mut sums = vec![0i32; stride];
    for tap in taps {
        sums.fill(1 << (PRECISION - 1));
        for (row, weight) in image.pixels[tap.first * stride..].chunks_exact(stride).zip(&tap.weights) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += i32::from(*value) * weight);
        }
        pixels.extend(sums.iter().map(|sum| clip(*sum)));
    }
    RgbImage { width: image.width, height: taps.len(), pixels }
}
