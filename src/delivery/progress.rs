//! What a load tells of itself: events as transformers.js sends them, with totals, rate and time left.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

/// "progress" events come no oftener than this; the others always come.
const QUIET_MS: f64 = 100.0;
/// The rate is that of the last seconds, so that the time left follows the connection rather than its history.
const WINDOW_MS: f64 = 5_000.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The file is wanted.
    Initiate,
    /// It is asked for from the network.
    Download,
    Progress,
    Done,
    /// All files are there. Once, without a file.
    Ready,
}

/// One event. `name` is the model's address; bytes are of the file, those of `ready` of the whole model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    pub status: Status,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// 0 to 100.
    pub progress: f64,
    pub loaded: u64,
    pub total: u64,
    /// With `done`: whether the file came from the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached: Option<bool>,
    pub totals: Totals,
}

/// Of all files of the load, in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Totals {
    pub loaded: u64,
    pub total: u64,
    /// Part of `loaded` that came from the cache.
    pub cached: u64,
    /// Bytes a second from the network.
    pub rate: f64,
    /// Seconds left, where a rate is known.
    pub eta: Option<f64>,
    /// The first stage that is not whole yet.
    pub stage: Option<String>,
}

/// A file of the load, in load order.
#[derive(Debug, Clone)]
pub struct Expected {
    pub name: String,
    pub bytes: u64,
    pub stage: Option<String>,
    /// Believed to be in the cache, so no network time is expected for it.
    pub cached: bool,
}

struct Entry {
    expected: Expected,
    loaded: u64,
    from_cache: bool,
    done: bool,
}

struct State<'a> {
    entries: Vec<Entry>,
    places: BTreeMap<String, usize>,
    /// (when, bytes from the network until then)
    samples: VecDeque<(f64, u64)>,
    downloaded: u64,
    spoke: f64,
    emit: &'a mut dyn FnMut(Progress),
}

/// Counts the bytes of one load; transfers that run at the same time share it.
pub struct Meter<'a> {
    name: String,
    clock: &'a dyn Fn() -> f64,
    state: RefCell<State<'a>>,
}

impl<'a> Meter<'a> {
    /// `clock` in milliseconds.
    pub fn new(name: impl Into<String>, files: Vec<Expected>, clock: &'a dyn Fn() -> f64, emit: &'a mut dyn FnMut(Progress)) -> Self {
        let places = files.iter().enumerate().map(|(place, file)| (file.name.clone(), place)).collect();
        let entries = files.into_iter().map(|expected| Entry { expected, loaded: 0, from_cache: false, done: false }).collect();
        let samples = VecDeque::from([(clock(), 0)]);
        let state = State { entries, places, samples, downloaded: 0, spoke: f64::NEG_INFINITY, emit };
        Self { name: name.into(), clock, state: RefCell::new(state) }
    }

    pub fn initiate(&self, file: &str) {
        self.event(Status::Initiate, file, None);
    }

    pub fn download(&self, file: &str) {
        self.event(Status::Download, file, None);
    }

    /// `loaded` bytes of the file have come from the network; fewer than before when a transfer began anew.
    pub fn advance(&self, file: &str, loaded: u64) {
        let now = (self.clock)();
        {
            let mut state = self.state.borrow_mut();
            let Some(&place) = state.places.get(file) else { return };
            let gained = loaded.saturating_sub(state.entries[place].loaded);
            state.entries[place].loaded = loaded;
            state.downloaded += gained;
            state.sample(now);
            if now - state.spoke < QUIET_MS {
                return;
            }
        }
        self.event(Status::Progress, file, None);
    }

    pub fn done(&self, file: &str, cached: bool) {
        {
            let mut state = self.state.borrow_mut();
            let Some(&place) = state.places.get(file) else { return };
            let entry = &mut state.entries[place];
            (entry.loaded, entry.from_cache, entry.done) = (entry.expected.bytes, cached, true);
        }
        self.event(Status::Done, file, Some(cached));
    }

    pub fn ready(&self) {
        let mut state = self.state.borrow_mut();
        let totals = state.totals((self.clock)());
        let (name, loaded, total) = (self.name.clone(), totals.loaded, totals.total);
        (state.emit)(Progress { status: Status::Ready, name, file: None, progress: 100.0, loaded, total, cached: None, totals });
    }

    pub fn totals(&self) -> Totals {
        self.state.borrow_mut().totals((self.clock)())
    }

    fn event(&self, status: Status, file: &str, cached: Option<bool>) {
        let now = (self.clock)();
        let mut state = self.state.borrow_mut();
        let Some(&place) = state.places.get(file) else { return };
        if status == Status::Progress {
            state.spoke = now;
        }
        let totals = state.totals(now);
        let Entry { expected, loaded, .. } = &state.entries[place];
        let (loaded, total) = (*loaded, expected.bytes);
        let progress = if total == 0 { 100.0 } else { (loaded as f64 / total as f64 * 100.0).min(100.0) };
        let event = Progress { status, name: self.name.clone(), file: Some(file.into()), progress, loaded, total, cached, totals };
        (state.emit)(event);
    }
}

impl State<'_> {
    fn sample(&mut self, now: f64) {
        self.samples.push_back((now, self.downloaded));
        // One sample before the window stays: the rate needs its left edge.
        while self.samples.len() > 2 && self.samples[1].0 <= now - WINDOW_MS {
            self.samples.pop_front();
        }
    }

    fn totals(&mut self, now: f64) -> Totals {
        let (start, before) = self.samples.front().copied().unwrap_or((now, self.downloaded));
        let elapsed = now - start;
        let rate = if elapsed > 0.0 { (self.downloaded - before) as f64 / elapsed * 1e3 } else { 0.0 };
        let (mut loaded, mut total, mut cached, mut left) = (0, 0, 0, 0);
        for Entry { expected, loaded: here, from_cache, done } in &self.entries {
            loaded += here;
            total += expected.bytes;
            cached += if *from_cache { *here } else { 0 };
            left += if expected.cached || *done { 0 } else { expected.bytes.saturating_sub(*here) };
        }
        let eta = if left == 0 { Some(0.0) } else { (rate > 0.0).then(|| left as f64 / rate) };
        let stage = self.entries.iter().find(|entry| !entry.done).and_then(|entry| entry.expected.stage.clone());
        Totals { loaded, total, cached, rate, eta, stage }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn file(name: &str, bytes: u64, stage: &str, cached: bool) -> Expected {
        Expected { name: name.into(), bytes, stage: Some(stage.into()), cached }
    }

    fn record(files: Vec<Expected>, play: impl FnOnce(&Meter, &Cell<f64>)) -> Vec<Progress> {
        let time = Cell::new(0.0);
        let clock = || time.get();
        let mut events = vec![];
        let mut emit = |event| events.push(event);
        play(&Meter::new("model", files, &clock, &mut emit), &time);
        events
    }

    #[test]
    fn rate_and_time_left_follow_the_last_seconds_of_the_network_alone() {
        let files = vec![file("a", 1000, "vision", true), file("b", 10_000, "qformer", false)];
        let events = record(files, |meter, time| {
            meter.done("a", true);
            for step in 1..=10 {
                time.set(f64::from(step) * 1000.0);
                // A kilobyte a second for five seconds, then a hundred bytes a second.
                let loaded = if step <= 5 { step * 1000 } else { 5000 + (step - 5) * 100 };
                meter.advance("b", u64::from(loaded as u32));
            }
        });
        let early = &events[3].totals;
        assert_eq!((early.rate, early.eta), (1000.0, Some(7.0)));
        let late = &events[10].totals;
        assert_eq!((late.rate, late.eta), (100.0, Some(45.0)));
        assert_eq!((late.loaded, late.total, late.cached), (6500, 11_000, 1000));
    }

    #[test]
    fn progress_is_told_ten_times_a_second_at_most_and_the_other_events_always() {
        let events = record(vec![file("a", 1000, "vision", false)], |meter, time| {
            meter.initiate("a");
            meter.download("a");
            for step in 0..1000 {
                time.set(f64::from(step));
                meter.advance("a", u64::try_from(step).unwrap());
            }
            meter.done("a", false);
            meter.ready();
        });
        let of = |status| events.iter().filter(|event| event.status == status).count();
        assert_eq!([Status::Initiate, Status::Download, Status::Done, Status::Ready].map(of), [1; 4]);
        assert_eq!(of(Status::Progress), 10);
        let ready = events.last().unwrap();
        assert_eq!((ready.loaded, ready.total, ready.file.as_deref()), (1000, 1000, None));
    }

    #[test]
    fn the_stage_is_the_first_one_that_is_not_whole() {
        let files = vec![file("a", 1, "vision", false), file("b", 1, "vision", false), file("c", 1, "qformer", false)];
        let events = record(files, |meter, _| {
            meter.done("b", false);
            meter.done("a", false);
            meter.done("c", false);
        });
        let stages: Vec<_> = events.iter().map(|event| event.totals.stage.as_deref()).collect();
        assert_eq!(stages, [Some("vision"), Some("qformer"), None]);
    }

    #[test]
    fn a_transfer_that_begins_anew_takes_its_bytes_back() {
        let events = record(vec![file("a", 100, "vision", false)], |meter, time| {
            time.set(1000.0);
            meter.advance("a", 60);
            time.set(2000.0);
            meter.advance("a", 10);
        });
        assert_eq!(events.iter().map(|event| event.loaded).collect::<Vec<_>>(), [60, 10]);
        assert_eq!(events[1].totals.rate, 30.0, "the sixty bytes did come, though in vain");
    }

    #[test]
    fn an_event_reads_as_in_transformers_js() {
        let events = record(vec![file("a.json", 4, "vision", false)], |meter, _| meter.done("a.json", false));
        let json = serde_json::to_value(&events[0]).unwrap();
        assert_eq!(json["status"], "done");
        assert_eq!(json["name"], "model");
        assert_eq!(json["file"], "a.json");
        assert_eq!((&json["progress"], &json["loaded"], &json["total"]), (&100.0.into(), &4.into(), &4.into()));
        assert_eq!(json["totals"], serde_json::json!({"loaded": 4, "total": 4, "cached": 0, "rate": 0.0, "eta": 0.0, "stage": null}));
    }
}
