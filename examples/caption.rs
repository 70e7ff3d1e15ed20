//! A caption, or the answer to a question, as it comes.
//!
//!     cargo run --release --example caption [MODEL [PICTURE [QUESTION]]]
//!
//! MODEL is a folder that `npm run convert` wrote. Without it: the model and a picture that come with this repository.

use std::io::Write;
use std::ops::ControlFlow;

use blip2_web::Error;
use blip2_web::device::Device;
use blip2_web::generation::GenerationConfig;
use blip2_web::processor::load_image;
use blip2_web::tasks::Blip2;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |place: usize| arguments.get(place).map(String::as_str);
    // Device::webgpu() is the GPU.
    let model = Blip2::from_pretrained(&Device::cpu(), argument(0).unwrap_or("demo/model"))?;
    let image = load_image(&std::fs::read(argument(1).unwrap_or("demo/samples/01-bee.png"))?)?;
    let prompt = argument(2).map(|question| format!("Question: {question} Answer:"));
    let config = GenerationConfig { max_new_tokens: Some(30), ..GenerationConfig::default() };
    let mut say = |piece: &str| {
        print!("{piece}");
        let _ = std::io::stdout().flush();
        ControlFlow::Continue(())
    };
    let answer = pollster::block_on(async {
        let features = model.encode(&image).await?;
        model.generate(&features, prompt.as_deref(), &config, &mut say).await
    });
    let timings = answer.map_err(|error: Error| format!("{error}\n{}", error.hint()))?.timings;
    println!("\n{} tokens in {:.0} ms", timings.tokens, timings.total_ms);
    Ok(())
}
