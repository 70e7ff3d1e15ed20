//! When a sequence is finished: an end token, its length, a text.

use serde::Serialize;

use crate::generation::settings::Settings;

/// Why generation ended. Of several rows the latest of these counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// Every row has said an end token.
    Eos,
    /// A stop string came.
    #[serde(rename = "stop")]
    StopString,
    Length,
    /// The callback ended it.
    Stopped,
}

impl Finish {
    /// What is said of rows that finished so each.
    pub(super) fn of_rows(rows: impl IntoIterator<Item = Self>) -> Self {
        rows.into_iter().max().unwrap_or(Self::Length)
    }
}

/// Hears the new ids of a row, the newest last, and says whether their text now ends in a stop string.
pub type StopRule<'a> = &'a mut dyn FnMut(&[u32]) -> bool;

/// HF `StoppingCriteriaList`, for one row at a time.
pub struct StoppingCriteria<'a> {
    prefix_length: usize,
    max_length: usize,
    eos_token_ids: Vec<u32>,
    stop: Option<StopRule<'a>>,
}

impl<'a> StoppingCriteria<'a> {
    pub fn new(settings: &Settings, stop: Option<StopRule<'a>>) -> Self {
        Self { prefix_length: settings.prefix_length, max_length: settings.max_length, eos_token_ids: settings.eos_token_ids.clone(), stop }
    }

    /// Why a row of these ids, prefix and new ones, is finished with its last id; `None` where it goes on.
    pub fn finished(&mut self, ids: &[u32]) -> Option<Finish> {
        if ids.last().is_some_and(|id| self.eos_token_ids.contains(id)) {
            return Some(Finish::Eos);
        }
        let new_ids = ids.get(self.prefix_length..).unwrap_or_default();
        if self.stop.as_mut().is_some_and(|stop| stop(new_ids)) {
            return Some(Finish::StopString);
        }
        (ids.len() >= self.max_length).then_some(Finish::Length)
    }
}

/// Whether the last token finished one of `stop_strings`, which may go on behind it: HF `StopStringCriteria`. `before` is the
/// text without the last token, `text` the text with it; where decoding changed the end of `before`, that is new too.
pub fn ends_in_stop_string(before: &str, text: &str, stop_strings: &[String]) -> bool {
    let same = before.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
    stop_strings.iter().any(|stop| {
        // As bytes, so that no place lies inside a character.
        let from = (same + 1).saturating_sub(stop.len());
        text.as_bytes()[from..].windows(stop.len().max(1)).any(|window| window == stop.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::settings::tests::settings;

    #[test]
    fn an_end_token_goes_before_a_text_and_a_text_before_the_length() {
        let mut settings = settings(r#"{"max_new_tokens": 3}"#);
        settings.prefix_length = 2;
        settings.max_length = 5;
        let mut heard = vec![];
        let mut stop = |ids: &[u32]| {
            heard.push(ids.to_vec());
            ids.last() == Some(&8)
        };
        let mut criteria = StoppingCriteria::new(&settings, Some(&mut stop));
        assert_eq!(criteria.finished(&[1, 1, 5]), Some(Finish::Eos));
        assert_eq!(criteria.finished(&[1, 1, 7, 7, 8]), Some(Finish::StopString));
        assert_eq!(criteria.finished(&[1, 1, 7, 8, 7]), Some(Finish::Length));
        assert_eq!(criteria.finished(&[1, 1, 7]), None);
        assert_eq!(heard, [vec![7, 7, 8], vec![7, 8, 7], vec![7]]);
        assert_eq!(Finish::of_rows([Finish::Eos, Finish::Length, Finish::StopString]), Finish::Length);
        assert_eq!(serde_json::to_value(Finish::StopString).unwrap(), "stop");
    }

    #[test]
    fn a_stop_string_ends_inside_the_last_token() {
        let hit = |before: &str, text: &str| ends_in_stop_string(before, text, &["stop".into(), "é".into()]);
        assert!(hit("a st", "a stopera"));
        assert!(hit("", "stop"));
        assert!(hit("caf\u{fffd}", "café"));
        assert!(hit("stop", "stop stop"));
        assert!(!hit("a stop", "a stop sign"), "it ended earlier");
        assert!(!hit("a sto", "a stone"));
        assert!(!hit("", ""));
    }
}
