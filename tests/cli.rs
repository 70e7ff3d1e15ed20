//! The program `blip2`: what the library says, a line a picture, whoever ends it in the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use blip2_web::convert::{Options, convert};
use blip2_web::device::Device;
use blip2_web::generation::GenerationConfig;
use blip2_web::models::Class;
use blip2_web::processor::{RgbImage, load_image};
use blip2_web::tasks::{Blip2, ImageTextRetrieval};
use blip2_web::weights::quant::Quant;
use serde_json::Value;

/// A folder of this test's own, gone when the test is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("blip2-web-cli-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a plain path").to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const CAPTION: [&str; 4] = ["caption", "--model", "demo/model", "demo/samples"];
const RANK: [&str; 8] = ["rank", "a bicycle", "--model", "demo/retrieval", "--arithmetic", "exact", "--rerank", "3"];

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blip2"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    program(arguments).output().expect("a program")
}

/// The lines of a run in which every picture was read.
fn lines(arguments: &[&str]) -> Vec<Value> {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    parse(&output.stdout)
}

fn parse(bytes: &[u8]) -> Vec<Value> {
    let text = str::from_utf8(bytes).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn read(path: &str) -> Vec<Value> {
    parse(&std::fs::read(path).expect("a file"))
}

/// Lines but for the time they took.
fn timeless(lines: &[Value]) -> Vec<Value> {
    let without = |line: &Value| {
        let mut line = line.clone();
        assert!(line["ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{line}");
        line.as_object_mut().expect("an object").remove("ms");
        line
    };
    lines.iter().map(without).collect()
}

fn named<'a>(lines: &'a [Value], key: &str) -> Vec<&'a str> {
    lines.iter().map(|line| line[key].as_str().unwrap_or_else(|| panic!("no {key}: {line}"))).collect()
}

fn sample(name: &str) -> RgbImage {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/samples").join(name);
    load_image(&std::fs::read(path).expect("a sample")).expect("a picture")
}

fn expected() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/samples/expected.q8.json");
    let file: Value = serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON");
    file["samples"].as_array().expect("samples").clone()
}

#[test]
fn captions_are_those_of_the_library_one_line_a_picture_in_order() {
    let found = lines(&[&CAPTION[..], &["--arithmetic", "exact", "--option", "max_new_tokens=30"]].concat());
    let files: Vec<String> = expected().iter().map(|sample| format!("demo/samples/{}", sample["file"].as_str().unwrap())).collect();
    assert_eq!(named(&found, "file"), files);
    for (line, sample) in found.iter().zip(expected()) {
        assert_eq!(line["caption"], sample["caption"]["text"]);
        let keys: Vec<&String> = line.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["caption", "file", "ms"]);
    }
}

#[test]
fn options_and_questions_are_those_of_the_library() {
    let picture = "demo/samples/10-cup_of_coffee-star.png";
    let (question, asked) = ("What color is the background?", Some("Question: What color is the background? Answer:"));
    let model = Blip2::from_pretrained(&Device::cpu(), "demo/model").expect("the demo model");
    let image = pollster::block_on(model.encode(&sample("10-cup_of_coffee-star.png"))).expect("features");
    let config = GenerationConfig {
        num_beams: Some(4),
        num_return_sequences: Some(3),
        max_new_tokens: Some(9),
        early_stopping: serde_json::from_str("\"never\"").ok(),
        ..GenerationConfig::default()
    };
    let answer = pollster::block_on(model.generate(&image, asked, &config, &mut |_| ControlFlow::Continue(()))).expect("an answer");

    let beams = ["--option", "num_beams=4", "--option", "num_return_sequences=3", "--option", "max_new_tokens=9"];
    let rest = ["--option", "early_stopping=never", "--model", "demo/model", "--arithmetic", "exact"];
    let found = lines(&[&["ask", question, picture], &beams[..], &rest[..]].concat());
    assert_eq!(found.len(), 1);
    assert_eq!((named(&found, "question"), named(&found, "answer")), (vec![question], vec![answer.text.as_str()]));
    let candidates = found[0]["candidates"].as_array().expect("candidates");
    let texts: Vec<&str> = answer.candidates.iter().map(|candidate| candidate.text.as_str()).collect();
    assert_eq!(named(candidates, "text"), texts);

    let own_words = ["--prompt", "Question: {question} Answer:"];
    let again = lines(&[&["ask", question, picture], &own_words[..], &beams[..], &rest[..]].concat());
    assert_eq!(timeless(&again), timeless(&found));
}

#[test]
fn shards_together_are_the_whole_and_none_is_done_twice() {
    let whole = timeless(&lines(&CAPTION));
    let mut parts = vec![];
    for shard in ["1/3", "2/3", "3/3"] {
        parts.extend(timeless(&lines(&[&CAPTION[..], &["--shard", shard]].concat())));
    }
    let by_file = |lines: &[Value]| named(lines, "file").into_iter().map(str::to_string).zip(lines.to_vec()).collect::<BTreeMap<_, _>>();
    assert_eq!(parts.len(), whole.len());
    assert_eq!(by_file(&parts), by_file(&whole));
}

#[test]
fn a_killed_run_goes_on_where_it_was_and_a_torn_line_is_done_again() {
    let scratch = Scratch::new("killed");
    let out = scratch.file("captions.jsonl");
    let whole = timeless(&lines(&CAPTION));
    let resume = [&CAPTION[..], &["--out", &out, "--resume"]].concat();

    let mut killed = program(&resume).stderr(Stdio::null()).spawn().expect("a program");
    let started = Instant::now();
    while std::fs::read(&out).is_ok_and(|bytes| bytes.iter().filter(|&&byte| byte == b'\n').count() < 2) || !Path::new(&out).exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "two lines take too long");
        std::thread::sleep(Duration::from_millis(2));
    }
    killed.kill().expect("a kill");
    killed.wait().expect("an end");
    let left = std::fs::read(&out).expect("a file");
    let kept = left.iter().filter(|&&byte| byte == b'\n').count();
    assert!((2..12).contains(&kept), "{kept} lines were left");
    // As if the machine had gone down within a line.
    std::fs::write(&out, [&left[..], b"{\"file\":\"demo/samples/09-sunfl"].concat()).expect("a file");

    let output = run(&resume);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("{} done, {kept} were there, 0 could", 12 - kept)), "{said}");
    assert_eq!(timeless(&read(&out)), whole);
    assert!(std::fs::read(&out).expect("a file").starts_with(&left[..left.iter().rposition(|&byte| byte == b'\n').unwrap_or(0)]));

    // With nothing left to do it stays as it is; without --resume it is not touched, and other work does not go into it.
    let before = std::fs::read(&out).expect("a file");
    assert_eq!(run(&resume).status.code(), Some(0));
    for other in [vec!["caption"], vec!["ask", "What is this?", "--resume"]] {
        let output = run(&[&other[..], &["--model", "demo/model", "demo/samples", "--out", &out]].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error[file]: "));
    }
    assert_eq!(std::fs::read(&out).expect("a file"), before);
}

#[test]
fn a_picture_that_cannot_be_read_costs_its_line_and_shows_in_the_status() {
    let scratch = Scratch::new("broken");
    let (broken, missing, out) = (scratch.file("broken.png"), scratch.file("missing.png"), scratch.file("out.jsonl"));
    std::fs::write(&broken, b"\x89PNG\r\n\x1a\nno picture").expect("a file");
    let list = scratch.file("list.txt");
    std::fs::write(&list, format!("{broken}\r\n\n{missing}\ndemo/samples/01-bee.png\n")).expect("a file");

    let arguments = ["caption", "--model", "demo/model", "--files", &list, "--out", &out, "--resume"];
    for (done, kept) in [(3, 0), (0, 3)] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("{done} done, {kept} were there, 2 could not be read")), "{said}");
        let lines = read(&out);
        assert_eq!(named(&lines, "file"), [&broken, &missing, "demo/samples/01-bee.png"]);
        assert_eq!([&lines[0]["error"]["code"], &lines[1]["error"]["code"]], ["image-undecodable", "file"]);
        assert!(lines[0]["error"]["message"].as_str().is_some_and(|message| message.contains("image")));
        assert!(lines[2]["caption"].is_string());
    }

    let mut piped = program(&["caption", "--model", "demo/model", "--files", "-"]);
    let mut child = piped.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a program");
    child.stdin.take().expect("a pipe").write_all(b"demo/samples/01-bee.png").expect("a list");
    let mut said = vec![];
    child.stdout.take().expect("a pipe").read_to_end(&mut said).expect("lines");
    assert_eq!(child.wait().expect("an end").code(), Some(0));
    assert_eq!(timeless(&parse(&said)), timeless(&read(&out)[2..]));
}

#[test]
fn what_is_asked_for_wrongly_is_told_with_its_code_and_status_2() {
    let picture = "demo/samples/01-bee.png";
    let caption = |rest: &[&'static str]| [&["caption", "--model", "demo/model", picture], rest].concat();
    for (arguments, code) in [
        (vec!["dream"], "input-invalid"),
        (vec!["caption", picture], "input-invalid"),
        (vec!["caption", "--model", "demo/model"], "input-invalid"),
        (caption(&["--colour"]), "input-invalid"),
        (caption(&["--resume"]), "input-invalid"),
        (caption(&["--shard", "0/2"]), "input-invalid"),
        (caption(&["--files", "no-such-list"]), "file"),
        (caption(&["--option", "num_beams"]), "input-invalid"),
        (caption(&["--option", "num_beam=2"]), "option-unsupported"),
        (caption(&["--option", "num_beams=two"]), "input-invalid"),
        (caption(&["--option", "num_beams=0"]), "input-invalid"),
        (caption(&["--option", "top_k=5"]), "option-unsupported"),
        (vec!["caption", "--model", "demo/nothing", picture], "file"),
        (vec!["caption", "--model", "demo/retrieval", picture], "option-unsupported"),
        (vec!["ask", " ", "--model", "demo/model", picture], "input-invalid"),
        (vec!["embed", "--model", "demo/model", picture], "option-unsupported"),
        (vec!["rank", "a bee", "--model", "demo/model", picture], "option-unsupported"),
    ] {
        let output = run(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.starts_with(&format!("error[{code}]: ")), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}

/// Within what the number of pictures that are computed together changes.
fn close(found: &Value, expected: f32) -> bool {
    found.as_f64().is_some_and(|found| (found as f32 - expected).abs() < 1e-5)
}

#[test]
fn rankings_are_those_of_the_library_also_when_they_were_interrupted() {
    let names: BTreeSet<String> = expected().iter().map(|sample| sample["file"].as_str().expect("a file").to_string()).collect();
    let names: Vec<String> = names.into_iter().collect();
    let model = ImageTextRetrieval::from_pretrained(&Device::cpu(), "demo/retrieval").expect("the demo's retrieval model");
    let images: Vec<_> = names.iter().map(|name| pollster::block_on(model.encode(&sample(name))).expect("an embedding")).collect();
    let ranked = pollster::block_on(model.rank(&images.iter().collect::<Vec<_>>(), "a bicycle", 3)).expect("a ranking");

    let found = lines(&[&RANK[..], &["demo/samples"]].concat());
    let order: Vec<String> = ranked.iter().map(|ranked| format!("demo/samples/{}", names[ranked.index])).collect();
    assert_eq!(named(&found, "file"), order);
    assert_eq!(named(&found, "query"), vec!["a bicycle"; order.len()]);
    for (line, ranked) in found.iter().zip(&ranked) {
        assert!(close(&line["scores"]["itc"], ranked.itc), "{line} {ranked:?}");
        assert_eq!(line["scores"]["itm"].is_number(), ranked.itm.is_some());
        assert!(ranked.itm.is_none_or(|itm| close(&line["scores"]["itm"], itm)), "{line} {ranked:?}");
    }

    // Some pictures first, a torn line, then all: the same ranking, in the same file.
    let scratch = Scratch::new("ranked");
    let out = scratch.file("ranked.jsonl");
    let resume = [&RANK[..], &["--out", &out, "--resume"]].concat();
    lines(&[&resume[..], &["demo/samples/02-bicycle.png", "demo/samples/09-sunflower.png"]].concat());
    let before = std::fs::read(&out).expect("a file");
    std::fs::write(&out, [&before[..], b"{\"file\":\"demo"].concat()).expect("a file");
    lines(&[&resume[..], &["demo/samples"]].concat());
    assert_eq!(timeless(&read(&out)), timeless(&found));
}

#[test]
fn embeddings_have_length_one_and_their_best_cosine_is_the_score() {
    let model = ["--model", "demo/retrieval", "--arithmetic", "exact"];
    let found = lines(&[&["embed", "--text", "a bicycle", "demo/samples"], &model[..]].concat());
    assert_eq!((found.len(), found[0]["text"].as_str()), (13, Some("a bicycle")));
    let vectors = |line: &Value| serde_json::from_value::<Vec<Vec<f32>>>(line["embedding"].clone()).expect("vectors");
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let text = vectors(&found[0]).remove(0);
    let scores: BTreeMap<String, Value> = lines(&[&RANK[..], &["demo/samples"]].concat())
        .into_iter()
        .map(|line| (line["file"].to_string(), line["scores"]["itc"].clone()))
        .collect();
    for line in &found {
        assert!(vectors(line).iter().all(|vector| (dot(vector, vector) - 1.0).abs() < 1e-4), "{}", line["file"]);
    }
    for line in &found[1..] {
        let best = vectors(line).iter().map(|vector| dot(vector, &text)).fold(f32::MIN, f32::max);
        assert!(close(&scores[&line["file"].to_string()], best), "{}: {best}", line["file"]);
    }
    let alone = lines(&[&["embed", "--text", "a bicycle"], &model[..]].concat());
    assert_eq!(timeless(&alone), timeless(&found[..1]));
}

#[test]
fn the_halves_of_a_retrieval_model_give_the_vectors_of_the_whole() {
    let scratch = Scratch::new("halves");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/itm");
    let folder = |class: Option<Class>| {
        let path = scratch.0.join(class.map_or("whole", Class::name));
        convert(&fixture, &path, &Options { class, ..Options::new(Quant::F32) }, &mut ()).expect("a conversion");
        path.to_str().expect("a plain path").to_string()
    };
    let embed = |model: &str, rest: &[&str]| timeless(&lines(&[&["embed", "--model", model], rest].concat()));
    let (picture, text) = ("demo/samples/01-bee.png", "a bee");
    let whole = embed(&folder(None), &[picture, "--text", text]);
    let (seeing, reading) = (folder(Some(Class::Blip2VisionModelWithProjection)), folder(Some(Class::Blip2TextModelWithProjection)));
    assert_eq!(embed(&seeing, &[picture]), whole[1..]);
    assert_eq!(embed(&reading, &["--text", text]), whole[..1]);
    for wrong in [vec!["embed", "--model", &seeing, "--text", text], vec!["embed", "--model", &reading, picture]] {
        let output = run(&wrong);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error[option-unsupported]: "));
    }
}
