//! What ITM needs of pictures, kept within a budget: a vision tower's hidden states are a megabyte and a half a picture, and
//! galleries are long. Who was used longest ago gives up first, and is encoded again when it is needed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use burn_tensor::Tensor;

/// 256 MiB: some 180 pictures of the real checkpoints.
const DEFAULT_BUDGET: usize = 256 << 20;

/// One picture's hidden states, if they are there.
#[derive(Debug, Default)]
pub(super) struct HiddenStates(RefCell<Option<Tensor<3>>>);

impl HiddenStates {
    pub fn get(&self) -> Option<Tensor<3>> {
        self.0.borrow().clone()
    }

    fn bytes(&self) -> usize {
        self.0.borrow().as_ref().map_or(0, |states| states.dims().iter().product::<usize>() * size_of::<f32>())
    }
}

/// The pictures that have theirs, the one used last at the end.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: Cell<usize>,
    kept: RefCell<VecDeque<Weak<HiddenStates>>>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: Cell::new(DEFAULT_BUDGET), kept: RefCell::default() }
    }
}

impl Budget {
    pub fn set(&self, bytes: usize) {
        self.bytes.set(bytes);
        self.shrink();
    }

    /// Keeps the states of a picture, which is now the one used last. With no room for them they are not kept at all.
    pub fn keep(&self, picture: &Rc<HiddenStates>, states: Tensor<3>) {
        picture.0.replace(Some(states));
        self.touch(picture);
        self.shrink();
    }

    pub fn touch(&self, picture: &Rc<HiddenStates>) {
        let mut kept = self.kept.borrow_mut();
        kept.retain(|other| other.strong_count() > 0 && !std::ptr::eq(other.as_ptr(), Rc::as_ptr(picture)));
        kept.push_back(Rc::downgrade(picture));
    }

    fn shrink(&self) {
        let mut kept = self.kept.borrow_mut();
        let mut total: usize = kept.iter().filter_map(Weak::upgrade).map(|picture| picture.bytes()).sum();
        while total > self.bytes.get() {
            let Some(first) = kept.pop_front() else { return };
            if let Some(picture) = first.upgrade() {
                total -= picture.bytes();
                picture.0.replace(None);
            }
        }
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    fn states() -> Tensor<3> {
        Tensor::zeros([1, 5, 5], &burn_tensor::Device::flex())
    }

    #[test]
    fn the_one_used_longest_ago_gives_up_first() {
        let budget = Budget::default();
        budget.set(250);
        let [a, b, c] = std::array::from_fn(|_| Rc::new(HiddenStates::default()));
        budget.keep(&a, states());
        budget.keep(&b, states());
        budget.touch(&a);
        budget.keep(&c, states());
        assert_eq!([&a, &b, &c].map(|picture| picture.get().is_some()), [true, false, true]);
        drop(a);
        budget.keep(&b, states());
        assert!(b.get().is_some() && c.get().is_some());
        budget.set(0);
        assert!(b.get().is_none() && c.get().is_none());
    }
}
