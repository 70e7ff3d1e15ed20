//! A few futures at a time on one thread: what is needed of an executor here, and no more.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

/// Futures that run side by side, each polled whenever one of them has woken the task. Dropped, they are aborted.
pub struct Lanes<'a, T> {
    running: Vec<Pin<Box<dyn Future<Output = T> + 'a>>>,
}

impl<'a, T> Lanes<'a, T> {
    pub fn new() -> Self {
        Self { running: vec![] }
    }

    pub fn len(&self) -> usize {
        self.running.len()
    }

    pub fn push(&mut self, future: impl Future<Output = T> + 'a) {
        self.running.push(Box::pin(future));
    }

    /// The next result, in order of completion; `None` when nothing runs.
    pub async fn next(&mut self) -> Option<T> {
        poll_fn(|context| {
            if self.running.is_empty() {
                return Poll::Ready(None);
            }
            for place in 0..self.running.len() {
                if let Poll::Ready(result) = self.running[place].as_mut().poll(context) {
                    drop(self.running.remove(place));
                    return Poll::Ready(Some(result));
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum First<A, B> {
    Left(A),
    Right(B),
}

/// Whichever ends first; the other one is dropped, which aborts it. `left` is asked first.
pub async fn race<A, B>(left: impl Future<Output = A>, right: impl Future<Output = B>) -> First<A, B> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(|context| {
        if let Poll::Ready(result) = left.as_mut().poll(context) {
            return Poll::Ready(First::Left(result));
        }
        right.as_mut().poll(context).map(First::Right)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[test]
    fn results_come_as_they_are_ready() {
        let mut lanes = Lanes::new();
        lanes.push(async {
            let mut polls = 0;
            poll_fn(|context| {
                polls += 1;
                context.waker().wake_by_ref();
                if polls < 5 { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            "slow"
        });
        lanes.push(async { "quick" });
        let order = pollster::block_on(async { [lanes.next().await, lanes.next().await, lanes.next().await] });
        assert_eq!(order, [Some("quick"), Some("slow"), None]);
    }

    #[test]
    fn a_race_ends_with_the_first_and_drops_the_other() {
        assert_eq!(pollster::block_on(race(pending::<()>(), ready(2))), First::Right(2));
        assert_eq!(pollster::block_on(race(ready(1), ready(2))), First::Left(1));
    }
}
