//! How many transfers run at once: more only where they bring more, fewer where fewer bring as much.

/// More wait in a browser for those of the same host.
const MOST: usize = 6;
const FIRST: usize = 4;
/// A change of the rate by less than this is none.
const NOTICEABLE: f64 = 0.05;

#[derive(Debug)]
pub struct Concurrency {
    limit: usize,
    /// Whether the last change was to more of them.
    rising: bool,
    /// Bytes a millisecond, with the limit before.
    before: Option<f64>,
    /// Since the last change.
    start: f64,
    bytes: u64,
    files: usize,
}

impl Concurrency {
    /// Two hide the way to the host from each other.
    pub const FEWEST: usize = 2;

    /// `now`: milliseconds.
    pub fn new(now: f64) -> Self {
        Self { limit: FIRST, rising: false, before: None, start: now, bytes: 0, files: 0 }
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Notes a file of so many bytes that came over the network.
    pub fn came(&mut self, bytes: u64, now: f64) {
        self.bytes += bytes;
        self.files += 1;
        let elapsed = now - self.start;
        // Two rounds of all lanes: the first began under the limit before.
        if self.files < 2 * self.limit || elapsed <= 0.0 {
            return;
        }
        let rate = self.bytes as f64 / elapsed;
        self.rising = match self.before {
            None => true,
            Some(before) if self.rising => rate > before * (1.0 + NOTICEABLE),
            Some(before) => rate < before * (1.0 - NOTICEABLE),
        };
        let wanted = if self.rising { self.limit + 1 } else { self.limit - 1 };
        self.limit = wanted.clamp(Self::FEWEST, MOST);
        (self.before, self.start, self.bytes, self.files) = (Some(rate), now, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limits in their order over 200 files of a host that gives each transfer `each` bytes a millisecond, and all of them `together`.
    fn limits(each: f64, together: f64) -> Vec<usize> {
        let mut now = 0.0;
        let mut concurrency = Concurrency::new(now);
        let mut limits = vec![];
        for _ in 0..200 {
            let rate = (each * concurrency.limit() as f64).min(together);
            now += 1e6 / rate;
            concurrency.came(1_000_000, now);
            limits.push(concurrency.limit());
        }
        limits
    }

    #[test]
    fn where_each_transfer_is_held_back_there_are_as_many_as_may_be() {
        let limits = limits(100.0, 1e9);
        assert!(limits.iter().rev().take(100).filter(|limit| **limit >= 5).count() >= 90, "{limits:?}");
    }

    #[test]
    fn where_one_fills_the_line_there_are_few() {
        let limits = limits(1e9, 100.0);
        assert!(limits.iter().rev().take(100).all(|limit| *limit <= 3), "{limits:?}");
    }

    #[test]
    fn there_are_never_fewer_than_two_nor_more_than_six() {
        for (each, together) in [(1.0, 1e9), (1e9, 1.0), (10.0, 35.0)] {
            assert!(limits(each, together).iter().all(|limit| (Concurrency::FEWEST..=MOST).contains(limit)));
        }
    }
}
