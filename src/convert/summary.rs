//! What a conversion did, for people.

use std::fmt::{Display, Formatter};

use crate::weights::index::Stage;
use crate::weights::quant::Quant;

#[derive(Debug, Clone, Default)]
pub struct Summary {
    pub parameters: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub files: usize,
    /// Tensors of the source that no model needs.
    pub ignored: Vec<String>,
    pub stages: Vec<StageSummary>,
}

#[derive(Debug, Clone)]
pub struct StageSummary {
    pub stage: Stage,
    pub quant: Quant,
    pub tensors: usize,
    pub bytes: u64,
    /// The largest difference of one weight.
    pub max_error: f32,
    squares: f64,
    error_squares: f64,
}

impl StageSummary {
    pub(super) fn new(stage: Stage, quant: Quant) -> Self {
        Self { stage, quant, tensors: 0, bytes: 0, max_error: 0.0, squares: 0.0, error_squares: 0.0 }
    }

    pub(super) fn error(&mut self, value: f32, back: f32) {
        let error = value - back;
        self.max_error = self.max_error.max(error.abs());
        self.squares += f64::from(value).powi(2);
        self.error_squares += f64::from(error).powi(2);
    }

    /// Root mean square of the differences over that of the weights.
    pub fn rms_error(&self) -> f64 {
        if self.squares == 0.0 { 0.0 } else { (self.error_squares / self.squares).sqrt() }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

impl Display for Summary {
    fn fmt(&self, formatter: &mut Formatter) -> std::fmt::Result {
        writeln!(formatter, "{:<12}{:>6}{:>9}{:>14}{:>14}{:>14}", "stage", "quant", "tensors", "size", "max error", "rms error")?;
        for stage in &self.stages {
            let (size, rms) = (mebibytes(stage.bytes), format!("{:.3} %", stage.rms_error() * 100.0));
            let (name, quant) = (stage.stage.to_string(), stage.quant.to_string());
            writeln!(formatter, "{name:<12}{quant:>6}{:>9}{size:>14}{:>14.2e}{rms:>14}", stage.tensors, stage.max_error)?;
        }
        if !self.ignored.is_empty() {
            writeln!(formatter, "left out: {}", self.ignored.join(", "))?;
        }
        let (from, to) = (mebibytes(self.bytes_in), mebibytes(self.bytes_out));
        write!(formatter, "{} parameters; {from} became {to} in {} files", self.parameters, self.files)
    }
}
