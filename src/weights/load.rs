//! Weights on their way from shards to models. A model asks for each tensor by its HF key, where it uses it. Asked on
//! `Weights::plan`, that only writes down what it needs; shards are then pushed in any order, each part repacked and
//! uploaded as it comes; asked again on the filled `Weights`, the model gets its tensors. So no second table of names
//! exists, `convert` knows shapes from the models themselves, and no weight is held twice.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use burn_tensor::{Int, Tensor, TensorData};

use crate::device::{Arithmetic, Device, DeviceKind};
use crate::error::{Error, Result};
use crate::weights::panels;
use crate::weights::quant::{Quant, words_per_row};

/// How a model reads a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Norms, biases, positions, query tokens: f32 always.
    Tensor,
    /// A table of rows that are looked up and never quantized: position embeddings.
    Table,
    /// A matrix [out, in] of a linear layer or an embedding: any `Quant`.
    Matrix,
}

/// One tensor that a model asks for: shape as in the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub role: Role,
    pub shape: Vec<usize>,
    /// Where it lies when a model reads several tensors as one matrix.
    pub joined: Option<Joined>,
}

/// A place in a matrix of several tensors, one below the other: q, k and v of an attention are one product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The key of the first of them.
    pub into: String,
    pub first_row: usize,
    /// Of all of them together.
    pub rows: usize,
}

impl Request {
    /// The matrix that the tensor is part of, its first row there, and how many rows that matrix has.
    fn place<'a>(&'a self, key: &'a str) -> (&'a str, usize, usize) {
        match &self.joined {
            Some(joined) => (&joined.into, joined.first_row, joined.rows),
            None => (key, 0, rows_and_columns(&self.shape).0),
        }
    }
}

/// What a model's `load` asks for, by key.
pub type Plan = BTreeMap<String, Request>;

/// Rows of a matrix in one buffer. On the GPU a matrix is one buffer unless it is larger than a binding may be; on the CPU
/// each part of a shard is one.
#[derive(Debug, Clone)]
pub struct Chunk {
    pub rows: Range<usize>,
    /// As the matrix's layout says.
    pub words: Tensor<1, Int>,
}

/// How a chunk's words lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Row by row, as in `weights::quant`: what the GPU's kernels read, and look-ups on any device.
    Rows,
    /// As in `weights::panels`: what the CPU's products read.
    Panels,
}

impl Layout {
    pub(crate) fn of(device: &Device, role: Role) -> Self {
        if device.kind == DeviceKind::Cpu && role == Role::Matrix { Self::Panels } else { Self::Rows }
    }

    /// Rows as they arrive → this layout.
    pub(crate) fn lay(self, quant: Quant, columns: usize, rows: Vec<u32>) -> Vec<u32> {
        match self {
            Self::Rows => rows,
            Self::Panels => panels::from_rows(quant, columns, rows),
        }
    }
}

/// A weight matrix [rows, columns] = [out, in], packed as the kernels read it. Chunks are in order and leave no row out.
#[derive(Debug, Clone)]
pub struct Matrix {
    pub quant: Quant,
    pub layout: Layout,
    pub arithmetic: Arithmetic,
    pub rows: usize,
    pub columns: usize,
    pub chunks: Vec<Chunk>,
}

impl Matrix {
    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.words.dims()[0] * size_of::<u32>()).sum()
    }
}

/// Rows of one tensor as a shard holds them, ready for the device. Rows count along the first dimension.
pub enum Part {
    F32(Vec<f32>),
    /// Whole rows in the kernels' layout.
    Packed {
        quant: Quant,
        words: Vec<u32>,
    },
}

enum Entry {
    /// Waits for the rest of its rows on the host: such tensors are small.
    Filling {
        values: Vec<f32>,
        rows: usize,
    },
    Tensor(Box<Tensor<1>>),
    Matrix(Filled),
}

/// A matrix that is filled as its parts arrive.
struct Filled {
    quant: Quant,
    chunks: Vec<Chunk>,
    /// Rows that are there, in order.
    rows: Vec<Range<usize>>,
}

impl Filled {
    /// Notes rows that arrive. `None` where one of them is there already.
    fn note(&mut self, rows: &Range<usize>) -> Option<()> {
        let place = self.rows.partition_point(|there| there.start < rows.start);
        let overlaps = |there: Option<&Range<usize>>| there.is_some_and(|there| there.start < rows.end && rows.start < there.end);
        if overlaps(self.rows.get(place)) || overlaps(place.checked_sub(1).and_then(|before| self.rows.get(before))) {
            return None;
        }
        self.rows.insert(place, rows.clone());
        Some(())
    }

    fn holds(&self, rows: Range<usize>) -> bool {
        self.rows.iter().map(|there| there.end.min(rows.end).saturating_sub(there.start.max(rows.start))).sum::<usize>() == rows.len()
    }
}

enum Store {
    Plan(RefCell<Plan>),
    Filled { device: Box<Device>, plan: Plan, entries: RefCell<BTreeMap<String, Entry>> },
}

/// A prefix into a store of weights; `at` goes one name deeper.
#[derive(Clone)]
pub struct Weights {
    store: Rc<Store>,
    prefix: String,
}

impl Weights {
    /// What `load` would ask for, without any weight. The tensors that it gets hold zeros and no memory.
    pub fn plan<T>(load: impl FnOnce(&Weights) -> Result<T>) -> Result<Plan> {
        let weights = Self { store: Rc::new(Store::Plan(RefCell::default())), prefix: String::new() };
        load(&weights)?;
        match &*weights.store {
            Store::Plan(plan) => Ok(plan.take()),
            Store::Filled { .. } => unreachable!("made as a plan above"),
        }
    }

    /// An empty store that `put` fills with what `plan` names.
    pub fn new(device: &Device, plan: Plan) -> Self {
        Self {
            store: Rc::new(Store::Filled { device: Box::new(device.clone()), plan, entries: RefCell::default() }),
            prefix: String::new(),
        }
    }

    /// The weights below `name`: `weights.at("encoder").at("layers.0")`.
    pub fn at(&self, name: impl AsRef<str>) -> Self {
        Self { store: self.store.clone(), prefix: self.key(name.as_ref()) }
    }

    /// Where the tensors are made.
    pub fn device(&self) -> burn_tensor::Device {
        match &*self.store {
            Store::Plan(_) => plan_device(),
            Store::Filled { device, .. } => device.burn.clone(),
        }
    }

    fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.into() } else { format!("{}.{name}", self.prefix) }
    }

    /// Takes rows of the tensor `key` to the device; of what the plan does not name nothing is kept.
    /// Errors: weight-shape, weight-invalid.
    pub fn put(&self, key: &str, rows: Range<usize>, part: Part) -> Result<()> {
        let Store::Filled { device, plan, entries } = &*self.store else { return Ok(()) };
        let Some(request) = plan.get(key) else { return Ok(()) };
        let (total, columns) = rows_and_columns(&request.shape);
        let invalid = |reason: String| Error::WeightInvalid { file: String::new(), key: key.into(), reason };
        if rows.end > total || rows.is_empty() {
            return Err(invalid(format!("rows {rows:?} of a tensor with {total}")));
        }
        let (quant, words) = match (request.role, part) {
            (Role::Tensor, Part::F32(values)) => return put_tensor(device, entries, key, rows, values, &request.shape, invalid),
            (Role::Tensor, Part::Packed { quant, .. }) => return Err(invalid(format!("this tensor cannot be {quant}"))),
            (Role::Table, Part::Packed { quant, .. }) if quant != Quant::F32 => {
                return Err(invalid(format!("this tensor cannot be {quant}")));
            }
            (Role::Matrix | Role::Table, Part::F32(values)) => (Quant::F32, bytemuck::cast_vec(values)),
            (Role::Matrix | Role::Table, Part::Packed { quant, words }) => (quant, words),
        };
        let expected = rows.len() * words_per_row(quant, columns);
        if words.len() != expected {
            return Err(invalid(format!("{} words for {} rows, expected {expected}", words.len(), rows.len())));
        }
        let (into, first_row, total) = request.place(key);
        let rows = first_row + rows.start..first_row + rows.end;
        let mut entries = entries.borrow_mut();
        if !entries.contains_key(into) {
            let chunks = device.room_for_rows(total, words_per_row(quant, columns))?;
            let chunks = chunks.into_iter().map(|(rows, words)| Chunk { rows, words }).collect();
            entries.insert(into.into(), Entry::Matrix(Filled { quant, chunks, rows: vec![] }));
        }
        match entries.get_mut(into) {
            Some(Entry::Matrix(filled)) if filled.quant == quant => {
                filled.note(&rows).ok_or_else(|| invalid(format!("rows {rows:?} twice")))?;
                put_rows(device, filled, rows, Layout::of(device, request.role).lay(quant, columns, words))
            }
            _ => Err(invalid("two quantizations in one matrix".into())),
        }
    }

    /// A tensor of the checkpoint that is always f32: norms, biases, positions. Errors: weight-missing, weight-shape.
    pub fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Tensor<D>> {
        let key = self.key(name);
        match &*self.store {
            Store::Plan(plan) => {
                plan.borrow_mut().insert(key, Request { role: Role::Tensor, shape: shape.to_vec(), joined: None });
                Ok(Tensor::<D>::zeros([1; D], &plan_device()).expand(shape))
            }
            Store::Filled { plan, entries, .. } => {
                check_shape(plan, &key, &shape)?;
                match entries.borrow_mut().remove(&key) {
                    Some(Entry::Tensor(tensor)) => Ok(tensor.reshape(shape)),
                    _ => Err(Error::WeightMissing { key }),
                }
            }
        }
    }

    /// A weight matrix whose checkpoint shape is `shape`: rows are its first dimension, columns all the others.
    /// Errors: weight-missing, weight-shape.
    pub fn matrix(&self, name: &str, shape: &[usize]) -> Result<Matrix> {
        self.rows_of(&[name], shape, Role::Matrix)
    }

    /// Matrices of one shape as one matrix, the rows of each below those of the one before. Errors: weight-missing, weight-shape.
    pub fn joined(&self, names: &[&str], shape: &[usize]) -> Result<Matrix> {
        self.rows_of(names, shape, Role::Matrix)
    }

    /// A table [rows, columns] of f32 whose rows are looked up. Errors: weight-missing, weight-shape.
    pub fn table(&self, name: &str, shape: [usize; 2]) -> Result<Matrix> {
        self.rows_of(&[name], &shape, Role::Table)
    }

    fn rows_of(&self, names: &[&str], shape: &[usize], role: Role) -> Result<Matrix> {
        let keys: Vec<String> = names.iter().map(|name| self.key(name)).collect();
        let (each, columns) = rows_and_columns(shape);
        let rows = each * keys.len();
        match &*self.store {
            Store::Plan(plan) => {
                for (place, key) in keys.iter().enumerate() {
                    let joined = (keys.len() > 1).then(|| Joined { into: keys[0].clone(), first_row: place * each, rows });
                    plan.borrow_mut().insert(key.clone(), Request { role, shape: shape.to_vec(), joined });
                }
                Ok(Matrix { quant: Quant::F32, layout: Layout::Rows, arithmetic: Arithmetic::Exact, rows, columns, chunks: vec![] })
            }
            Store::Filled { device, plan, entries } => {
                keys.iter().try_for_each(|key| check_shape(plan, key, shape))?;
                let first = keys.first().cloned().unwrap_or_default();
                let Some(Entry::Matrix(Filled { quant, chunks, rows: there })) = entries.borrow_mut().remove(&first) else {
                    return Err(Error::WeightMissing { key: first });
                };
                let filled = Filled { quant, chunks, rows: there };
                for (place, key) in keys.into_iter().enumerate() {
                    if !filled.holds(place * each..(place + 1) * each) {
                        return Err(Error::WeightMissing { key });
                    }
                }
                let (layout, arithmetic) = (Layout::of(device, role), device.arithmetic_of_products());
                Ok(Matrix { quant, layout, arithmetic, rows, columns, chunks: filled.chunks })
            }
        }
    }

    /// What was put and nobody has asked for.
    pub fn unused(&self) -> Vec<String> {
        match &*self.store {
            Store::Plan(_) => vec![],
            Store::Filled { entries, .. } => entries.borrow().keys().cloned().collect(),
        }
    }
}

/// Rows [of the matrix] in the kernels' layout: into the room that the device has made, or as a chunk of their own.
fn put_rows(device: &Device, filled: &mut Filled, rows: Range<usize>, words: Vec<u32>) -> Result<()> {
    let row_words = words.len() / rows.len();
    if device.keeps_rows_as_they_come() {
        let length = words.len();
        let words = Tensor::from_data(TensorData::new(bytemuck::cast_vec::<u32, i32>(words), [length]), &device.burn);
        let place = filled.chunks.partition_point(|chunk| chunk.rows.start < rows.start);
        filled.chunks.insert(place, Chunk { rows, words });
        return Ok(());
    }
    for chunk in &filled.chunks {
        let (start, end) = (rows.start.max(chunk.rows.start), rows.end.min(chunk.rows.end));
        if start < end {
            let part = &words[(start - rows.start) * row_words..(end - rows.start) * row_words];
            device.write_words(&chunk.words, (start - chunk.rows.start) * row_words, part)?;
        }
    }
    Ok(())
}

fn put_tensor(
    device: &Device,
    entries: &RefCell<BTreeMap<String, Entry>>,
    key: &str,
    rows: Range<usize>,
    part: Vec<f32>,
    shape: &[usize],
    invalid: impl Fn(String) -> Error,
) -> Result<()> {
    let (total, columns) = rows_and_columns(shape);
    if part.len() != rows.len() * columns {
        return Err(Error::WeightShape { key: key.into(), expected: vec![rows.len(), columns], found: vec![part.len()] });
    }
    let mut entries = entries.borrow_mut();
    let filling = Entry::Filling { values: vec![0.0; total * columns], rows: 0 };
    let Entry::Filling { values, rows: filled } = entries.entry(key.into()).or_insert(filling) else {
        return Err(invalid("more rows than the tensor has".into()));
    };
    values[rows.start * columns..rows.end * columns].copy_from_slice(&part);
    *filled += rows.len();
    if *filled == total {
        let values = std::mem::take(values);
        let length = values.len();
        let tensor = Tensor::from_data(TensorData::new(values, [length]), &device.burn);
        entries.insert(key.into(), Entry::Tensor(Box::new(tensor)));
    }
    Ok(())
}

fn check_shape(plan: &Plan, key: &str, shape: &[usize]) -> Result<()> {
    match plan.get(key) {
        None => Err(Error::WeightMissing { key: key.into() }),
        Some(request) if request.shape == shape => Ok(()),
        Some(request) => Err(Error::WeightShape { key: key.into(), expected: shape.to_vec(), found: request.shape.clone() }),
    }
}

/// [a, b, c] → (a, b·c); [] → (1, 1).
pub(crate) fn rows_and_columns(shape: &[usize]) -> (usize, usize) {
    match shape {
        [] => (1, 1),
        [rows, columns @ ..] => (*rows, columns.iter().product()),
    }
}

/// Planning needs tensors of the right shape and nothing in them; where flex is not built in, the default device serves.
fn plan_device() -> burn_tensor::Device {
    #[cfg(feature = "cpu")]
    return burn_tensor::Device::flex();
    #[cfg(not(feature = "cpu"))]
    burn_tensor::Device::default()
}
