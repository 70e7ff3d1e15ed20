//! One line of the output: what it is about, what came of it, and how long that took.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::Error;
use crate::tasks::Candidate;

/// `{"file": …, "caption": …, "ms": …}`; for a picture that could not be read `{"file": …, "error": {"code": …, …}, "ms": …}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    #[serde(flatten)]
    pub subject: Subject,
    #[serde(flatten)]
    pub outcome: Outcome,
    pub ms: f64,
}

/// A picture, under the name it was given by; or of `embed` a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    File(String),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// `candidates` where several were asked for.
    Caption {
        caption: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        candidates: Option<Vec<Candidate>>,
    },
    Answer {
        question: String,
        answer: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        candidates: Option<Vec<Candidate>>,
    },
    /// Vectors of length 1: of a picture one for each query, of a text one.
    Embedding { embedding: Vec<Vec<f32>> },
    /// How well the picture fits `query`.
    Scores { query: String, scores: Scores },
    /// The code and the facts, and as `message` the sentence made of them.
    Failed { error: Value },
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Cosine, −1 to 1.
    pub itc: f32,
    /// Probability, for those that were looked at again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub itm: Option<f32>,
}

impl Outcome {
    pub fn failed(error: &Error) -> Self {
        // What is no object stays without its facts rather than without its code.
        let mut facts = serde_json::to_value(error).ok().filter(Value::is_object).unwrap_or_else(|| json!({"code": error.code()}));
        facts["message"] = json!(error.to_string());
        Self::Failed { error: facts }
    }

    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

/// What is read of a line that an earlier run has written.
#[derive(Debug, Clone, Deserialize)]
pub struct Kept {
    #[serde(flatten)]
    pub subject: Subject,
    pub ms: f64,
    pub caption: Option<IgnoredAny>,
    pub question: Option<String>,
    pub embedding: Option<IgnoredAny>,
    pub query: Option<String>,
    pub scores: Option<Scores>,
    pub error: Option<Value>,
}
