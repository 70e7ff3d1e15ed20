//! Rows in the middle of an answer, and those of earlier answers that a new one may go on from.

use std::cell::RefCell;

use burn_tensor::{Int, Tensor};

use crate::device::{Device, DeviceKind};
use crate::error::{Error, Result};
use crate::layers::KvCache;
use crate::models::ids_tensor;
use crate::models::text::EncoderOutput;
use crate::ops::{Heads, Recorder, StepState, advance, reorder};

/// Caches have room for so many positions, or a multiple of it.
const PAGE: usize = 64;
/// New tokens that there is room for at first; a longer answer makes more on its way.
const FIRST_TOKENS: usize = 64;
/// Earlier answers whose caches are kept, and how many bytes they may take together.
const KEPT: usize = 4;
const KEPT_BYTES: usize = 256 << 20;

/// Which token, or which row of which image's features, a position of a prompt is: prompts that begin alike have alike caches.
pub type PositionKey = u64;

/// What ends a row, and what a row that has ended goes on with.
struct Ends {
    eos_token_ids: Vec<u32>,
    eos: Tensor<1, Int>,
    pad: i32,
}

impl Ends {
    fn new(device: &Device, eos_token_ids: &[u32], pad: u32) -> Self {
        // Kernels want at least one id; −1 is none.
        let eos_token_ids = if eos_token_ids.is_empty() { vec![u32::MAX] } else { eos_token_ids.to_vec() };
        Self { eos: ids_tensor(device, &eos_token_ids), eos_token_ids, pad: pad as i32 }
    }
}

/// State and caches on the device: `state.rows` rows, a prompt's beams side by side.
pub struct Decoding {
    pub state: StepState,
    /// `past_key_values` of each layer's self-attention.
    pub(super) caches: Vec<KvCache>,
    /// What T5's cross-attention looks at.
    pub(super) encoder: Option<EncoderOutput>,
    /// Positions that the last forward computed and `advance` counts.
    pub(super) fed: usize,
    ends: Ends,
    device: Device,
    /// What the first positions of the first row hold, as far as it is known.
    held: Vec<PositionKey>,
    /// A step up to its logits, and one up to the choice of the next token.
    pub(super) to_logits: Recorder<Tensor<2>>,
    pub(super) to_choice: Recorder<Tensor<1, Int>>,
}

/// What `Decodings::start` needs to know of prompts.
pub(super) struct Prompts<'a> {
    /// [prompts, n]
    pub attention_mask: &'a [Vec<u32>],
    /// Each prompt's position id after it.
    pub next_position: &'a [i32],
    pub beams: usize,
    pub new_tokens: usize,
    /// Of a single prompt, position by position, where they are known.
    pub keys: Option<&'a [PositionKey]>,
}

impl Prompts<'_> {
    fn positions(&self) -> usize {
        self.attention_mask.first().map_or(0, Vec::len)
    }

    fn rows(&self) -> usize {
        self.attention_mask.len() * self.beams
    }

    /// Room for the prompt and the first tokens; the last token of an answer is chosen and never fed back.
    fn capacity(&self) -> usize {
        let tokens = self.new_tokens.max(1) - 1;
        (self.positions() + tokens.min(FIRST_TOKENS)).max(1).next_multiple_of(PAGE)
    }
}

impl Decoding {
    fn new(device: &Device, prompts: &Prompts, layers: usize, heads: Heads) -> Result<Self> {
        let state = StepState::new(device, prompts.attention_mask, prompts.next_position, prompts.beams, prompts.capacity())?;
        Ok(Self {
            caches: (0..layers).map(|_| KvCache::new(device, &state, heads)).collect(),
            state,
            encoder: None,
            fed: prompts.positions(),
            ends: Ends::new(device, &[], 0),
            device: device.clone(),
            held: vec![],
            to_logits: Recorder::default(),
            to_choice: Recorder::default(),
        })
    }

    /// Rows that nothing is kept of: a forward over every position at once.
    pub(super) fn once(device: &Device, attention_mask: &[Vec<u32>], next_position: &[i32], layers: usize, heads: Heads) -> Result<Self> {
        Self::new(device, &Prompts { attention_mask, next_position, beams: 1, new_tokens: 1, keys: None }, layers, heads)
    }

    /// Takes other prompts, of whose first one the first `kept` positions are in the caches.
    fn restart(&mut self, prompts: &Prompts, kept: usize) -> Result<()> {
        self.make_room(prompts.positions())?;
        self.state.restart(&self.device, prompts.attention_mask, prompts.next_position, kept)?;
        self.fed = prompts.positions() - kept;
        Ok(())
    }

    /// What the recordings would no longer see has changed.
    fn forget_recordings(&mut self) {
        self.to_logits.forget();
        self.to_choice.forget();
    }

    pub(super) fn see(&mut self, encoder: EncoderOutput) {
        self.encoder = Some(encoder);
        self.forget_recordings();
    }

    /// Room for `positions` positions at least. Twice as much each time, so that an answer of any length is moved, and its steps
    /// recorded anew, a few times only.
    fn make_room(&mut self, positions: usize) -> Result<()> {
        let before = self.state.capacity;
        if positions <= before {
            return Ok(());
        }
        let capacity = positions.max(2 * before).next_multiple_of(PAGE);
        self.forget_recordings();
        self.caches.iter_mut().for_each(|cache| cache.grow(self.state.rows, [before, capacity]));
        self.state.grow(capacity);
        Ok(())
    }

    /// Room for one more step.
    pub(super) fn before_step(&mut self) -> Result<()> {
        self.make_room(self.state.length() + 1)
    }

    /// What ends a row, and what a row that has ended goes on with. Before the first step.
    pub fn set_ends(&mut self, eos_token_ids: &[u32], pad: u32) {
        let ends = Ends::new(&self.device, eos_token_ids, pad);
        if ends.eos_token_ids != self.ends.eos_token_ids || ends.pad != self.ends.pad {
            self.ends = ends;
            self.to_choice.forget();
        }
    }

    /// Queues the end of a step: each row takes its next token, `next` [rows]; finished rows take `pad`, an id of `eos` finishes
    /// one. `advanced` tells the host.
    pub(super) fn queue_advance(&mut self, next: &Tensor<1, Int>) -> Result<()> {
        advance(&mut self.state, next, self.fed, &self.ends.eos, self.ends.pad)
    }

    pub(super) fn advanced(&mut self) {
        self.state.advanced(self.fed);
        self.fed = 1;
    }

    /// The end of a step whose tokens `next` [rows] were chosen elsewhere.
    pub fn advance(&mut self, next: &Tensor<1, Int>) -> Result<()> {
        self.queue_advance(next)?;
        self.advanced();
        Ok(())
    }

    /// After `advance`: row r goes on from what row `order[r]` has in its caches. Nothing is copied but `cache_row`.
    pub fn reorder(&mut self, device: &Device, order: &[usize]) -> Result<()> {
        reorder(device, &mut self.state, order)
    }

    /// Whether what is launched runs beside the host.
    pub fn is_queued(&self) -> bool {
        self.device.kind == DeviceKind::Webgpu
    }

    fn bytes(&self) -> usize {
        self.caches.iter().map(KvCache::bytes).sum()
    }

    /// Positions that the caches hold of a prompt; its last one has to be computed in any case.
    fn common(&self, keys: &[PositionKey]) -> usize {
        let alike = self.held.iter().zip(keys).take_while(|(held, key)| held == key).count();
        alike.min(keys.len().saturating_sub(1))
    }
}

/// Decodings of earlier answers, the least recently used first.
#[derive(Default)]
pub(super) struct Decodings(RefCell<Vec<Decoding>>);

impl Decodings {
    /// A decoding for these prompts: one that holds the beginning of them, one that nobody needs any more, or a new one. Positions
    /// up to `state.length()` need not be computed. Errors: kernel.
    pub(super) fn start(&self, device: &Device, prompts: &Prompts, layers: usize, heads: Heads) -> Result<Decoding> {
        let mut decoding = match self.take(prompts) {
            Some((mut decoding, kept)) => {
                decoding.restart(prompts, kept)?;
                decoding
            }
            None => Decoding::new(device, prompts, layers, heads)?,
        };
        decoding.held = prompts.keys.map_or(vec![], <[_]>::to_vec);
        Ok(decoding)
    }

    fn take(&self, prompts: &Prompts) -> Option<(Decoding, usize)> {
        let mut kept = self.0.borrow_mut();
        let fits = |decoding: &Decoding| decoding.state.rows == prompts.rows() && decoding.state.beams == prompts.beams;
        let common = |decoding: &Decoding| prompts.keys.map_or(0, |keys| decoding.common(keys));
        let best = kept.iter().enumerate().filter(|(_, decoding)| fits(decoding)).max_by_key(|(_, decoding)| common(decoding));
        let (place, positions) = best.map(|(place, decoding)| (place, common(decoding)))?;
        if positions > 0 {
            return Some((kept.remove(place), positions));
        }
        // Nothing of it is there. One that holds a beginning is given up only when there is no room for another.
        let full = kept.len() >= KEPT || kept.iter().map(Decoding::bytes).sum::<usize>() + kept[place].bytes() > KEPT_BYTES;
        let oldest = kept.iter().position(|decoding| fits(decoding) && (full || decoding.held.is_empty()))?;
        Some((kept.remove(oldest), 0))
    }

    /// Keeps what an answer has left behind: `said` are the ids of its only row behind the prompt, or nothing where it had several.
    pub(super) fn keep(&self, mut decoding: Decoding, said: &[u32]) {
        if !decoding.held.is_empty() && decoding.state.rows == 1 {
            decoding.held.extend(said.iter().map(|id| PositionKey::from(*id)));
        }
        decoding.held.truncate(decoding.state.length());
        let mut kept = self.0.borrow_mut();
        kept.push(decoding);
        while kept.len() > KEPT || kept.iter().map(Decoding::bytes).sum::<usize>() > KEPT_BYTES {
            kept.remove(0);
        }
    }
}

/// Where a step's future waits, though nothing in it may.
pub(super) fn waited() -> Error {
    Error::kernel("step", "a step that is recorded has waited")
}
