//! How often the demo model says the same in other arithmetic: figures for its card, and floors that they must not fall below.
//! Scenes are the repository's pictures as they are, mirrored, and two side by side.

mod common;

use std::ops::ControlFlow;
use std::path::Path;

use blip2_web::device::{Arithmetic, Device};
use blip2_web::generation::GenerationConfig;
use blip2_web::models;
use blip2_web::processor::{RgbImage, load_image};
use blip2_web::tasks::Blip2;
use blip2_web::weights::quant::Quant;
use blip2_web::weights::{ModelFolder, Weights, shard};

fn pictures() -> Vec<RgbImage> {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    let mut paths: Vec<_> = ["gallery", "samples"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(demo.join(folder)).expect("a folder"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "png"))
        .collect();
    paths.sort();
    paths.iter().map(|path| load_image(&std::fs::read(path).expect("a file")).expect("a picture")).collect()
}

fn mirrored(picture: &RgbImage) -> RgbImage {
    let rows = picture.pixels.chunks_exact(picture.width * 3);
    let pixels = rows.flat_map(|row| row.as_chunks::<3>().0.iter().rev().flatten().copied()).collect();
    RgbImage { pixels, ..*picture }
}

/// Both in one picture, as high as the lower of them.
fn side_by_side(left: &RgbImage, right: &RgbImage) -> RgbImage {
    let height = left.height.min(right.height);
    let rows = |picture: &RgbImage| picture.pixels.chunks_exact(picture.width * 3).take(height).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let pixels = rows(left).into_iter().zip(rows(right)).flat_map(|(left, right)| [left, right].concat()).collect();
    RgbImage { width: left.width + right.width, height, pixels }
}

fn scenes() -> Vec<RgbImage> {
    let pictures = pictures();
    let pairs = pictures.as_chunks::<2>().0.iter().map(|[left, right]| side_by_side(left, right)).collect::<Vec<_>>();
    let mirrored = pictures.iter().map(mirrored).collect::<Vec<_>>();
    let mut scenes = [pictures, mirrored, pairs].concat();
    scenes.truncate(200);
    scenes
}

/// The shipped weights in `quant`.
fn demo_model(quant: Quant, arithmetic: Arithmetic) -> Blip2 {
    let device = Device::cpu().with_arithmetic(arithmetic);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/model");
    let folder = ModelFolder::open(&path).expect("the demo model");
    let weights = Weights::new(&device, models::plan(&folder.files["config.json"]).expect("a plan"));
    for (name, _) in folder.index.shards() {
        let bytes = std::fs::read(path.join(name)).expect("a shard");
        shard::push_in(&weights, &folder.index, name, &bytes, quant).expect("weights");
    }
    Blip2::load(&device, &folder.files, &weights).expect("a model")
}

fn captions(model: &Blip2, scenes: &[RgbImage]) -> Vec<String> {
    let caption = |scene: &RgbImage| {
        let image = pollster::block_on(model.encode(scene)).expect("features");
        let config = GenerationConfig::default();
        pollster::block_on(model.generate(&image, None, &config, &mut |_| ControlFlow::Continue(()))).expect("a caption").text
    };
    scenes.iter().map(caption).collect()
}

#[test]
fn captions_in_integers_and_in_four_bits_are_mostly_those_of_f32() {
    let scenes = scenes();
    assert_eq!(scenes.len(), 200);
    let expected = captions(&demo_model(Quant::F32, Arithmetic::Exact), &scenes);
    for (quant, arithmetic, floor) in
        [(Quant::Q8, Arithmetic::Int8Activations, 190), (Quant::Q4, Arithmetic::Exact, 145), (Quant::Q4, Arithmetic::Int8Activations, 145)]
    {
        let found = captions(&demo_model(quant, arithmetic), &scenes);
        let same = found.iter().zip(&expected).filter(|(found, expected)| found == expected).count();
        println!("{quant} {arithmetic:?}: {same} of {} captions are those of f32", scenes.len());
        assert!(same >= floor, "{quant} {arithmetic:?}: {same} captions are the same, expected at least {floor}");
    }
}
