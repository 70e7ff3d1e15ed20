//! Pictures in the order in which they fit a text.
//!
//!     cargo run --release --example rank -- MODEL TEXT PICTURE…
//!
//! MODEL is a folder that `npm run convert` wrote of a `Blip2ForImageTextRetrieval`, such as Salesforce/blip2-itm-vit-g.

use blip2_web::device::Device;
use blip2_web::processor::load_image;
use blip2_web::tasks::ImageTextRetrieval;

/// Of the best by ITC, so many are looked at again by ITM, which is slower and surer.
const RERANK: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, text, pictures @ ..] = arguments.as_slice() else {
        return Err("usage: cargo run --release --example rank -- MODEL TEXT PICTURE…".into());
    };
    // Device::webgpu() is the GPU.
    let model = ImageTextRetrieval::from_pretrained(&Device::cpu(), folder)?;
    // Each picture is encoded once, for any number of texts.
    let mut images = vec![];
    for picture in pictures {
        images.push(pollster::block_on(model.encode(&load_image(&std::fs::read(picture)?)?))?);
    }
    let images: Vec<_> = images.iter().collect();
    for ranked in pollster::block_on(model.rank(&images, text, RERANK))? {
        let itm = ranked.itm.map_or_else(|| "     -".into(), |probability| format!("{:5.1}%", 100.0 * probability));
        println!("cosine {:6.3}  match {itm}  {}", ranked.itc, pictures[ranked.index]);
    }
    Ok(())
}
