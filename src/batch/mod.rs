//! Many pictures, a line of JSON for each: what the program `blip2` does, without its arguments. A picture that cannot be read
//! costs its own line and nothing else; whatever else goes wrong would go wrong with the next one too, and ends the run.

mod lines;
mod pictures;
mod record;
mod work;

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{Error, Result};
use crate::pace;
use crate::processor::{RgbImage, load_image};

pub use lines::Lines;
pub use pictures::{Picture, Shard, gather};
pub use record::{Kept, Outcome, Record, Scores, Subject};
pub use work::{Embedder, Ranker, Speaker, Work};

/// How a run went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines that this run has written.
    pub done: usize,
    /// Lines that were there already.
    pub kept: usize,
    /// Of both, those of pictures that could not be read.
    pub errors: usize,
}

/// What an earlier run has left.
#[derive(Default)]
pub struct Earlier {
    subjects: BTreeSet<Subject>,
    errors: usize,
    /// Lines that may still change: those of a ranking.
    records: Vec<Record>,
}

impl Earlier {
    /// Reads one line. Errors: input-invalid where it is not of this work.
    pub fn keep(&mut self, line: &str, work: &Work) -> Result<()> {
        let kept: Kept = serde_json::from_str(line).map_err(|error| Error::input("the output", error))?;
        let subject = kept.subject.clone();
        self.errors += usize::from(kept.error.is_some());
        if let Some(record) = work.checked(kept)? {
            self.records.push(record);
        }
        self.subjects.insert(subject);
        Ok(())
    }
}

/// Told what is done.
pub trait Progress {
    fn start(&mut self, subjects: usize);
    fn advance(&mut self, subject: &str);
}

impl Progress for () {
    fn start(&mut self, _: usize) {}
    fn advance(&mut self, _: &str) {}
}

/// Does the work on every picture that `earlier` has no line of. A ranking comes out in its order, which shows at the end; until then
/// a file has its lines in the order of the pictures. Errors: file, where the output cannot be written; those of the model.
pub async fn run(work: &mut Work, pictures: &[Picture], earlier: Earlier, mut lines: Lines, progress: &mut dyn Progress) -> Result<Report> {
    let Earlier { subjects, errors, mut records } = earlier;
    let mut report = Report { done: 0, kept: subjects.len(), errors };
    let texts: Vec<String> = work.texts().iter().filter(|text| !subjects.contains(&Subject::Text((*text).clone()))).cloned().collect();
    let pictures: Vec<&Picture> = pictures.iter().filter(|picture| !subjects.contains(&Subject::File(picture.name.clone()))).collect();
    progress.start(texts.len() + pictures.len());
    for text in texts {
        let started = pace::now();
        let outcome = work.read(&text).await?;
        progress.advance(&text);
        lines.write(&Record { subject: Subject::Text(text), outcome, ms: since(started) })?;
        report.done += 1;
    }
    for picture in pictures {
        let started = pace::now();
        let outcome = match open(&picture.path) {
            Ok(image) => work.look(&picture.name, &image).await?,
            Err(error) => Outcome::failed(&error),
        };
        let record = Record { subject: Subject::File(picture.name.clone()), outcome, ms: since(started) };
        report.done += 1;
        report.errors += usize::from(record.outcome.is_failure());
        progress.advance(&picture.name);
        if work.waits_for_all() {
            lines.note(&record)?;
            records.push(record);
        } else {
            lines.write(&record)?;
        }
    }
    if work.waits_for_all() {
        let failed = records.iter().filter(|record| record.outcome.is_failure()).count();
        work.order(&mut records).await?;
        report.errors += records.iter().filter(|record| record.outcome.is_failure()).count() - failed;
        lines.replace(&records)?;
    }
    Ok(report)
}

/// Errors: file, image-undecodable, image-too-large.
fn open(path: &Path) -> Result<RgbImage> {
    load_image(&std::fs::read(path).map_err(|error| Error::file(path, error))?)
}

fn since(started: f64) -> f64 {
    tenths(pace::now() - started)
}

/// Milliseconds, to a tenth.
fn tenths(ms: f64) -> f64 {
    (ms * 10.0).round() / 10.0
}
