//! A model on its way to the device: its shards as they come, and what of it works already.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::Serialize;

use super::model::{Arrival, Inner, Model, index_facts};
use super::options::{As, Wish};
use super::towers::tower_name;
use super::{Shared, settle};
use crate::delivery::progress::Progress;
use crate::delivery::{Loaded, Receiver, load_model};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::{self, Blip2Config, Blip2VisionModel, Class};
use crate::pace;
use crate::tasks::{AnyModel, PictureEncoder, Task, There};
use crate::weights::index::{Index, Stage};
use crate::weights::{Plan, Weights, fit, shard};

/// Uploads in flight: more of them pile up as copies beside the weights.
const UPLOAD_LIMIT: usize = 8 << 20;

/// What of a model works before all of it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Milestone {
    /// The vision tower: other models of this engine may share it.
    Vision,
    /// All but the language model: pictures are encoded.
    Retrieval,
}

impl Milestone {
    fn needs(self, key: &str) -> bool {
        let stage = Stage::of(key);
        match self {
            Self::Vision => stage == Stage::Vision,
            Self::Retrieval => stage != Stage::Language,
        }
    }
}

/// Told when a milestone is reached, and the model as far as it is there.
pub(super) type OnMilestone<'a> = &'a mut dyn FnMut(Milestone, Model);

/// Errors: those of `delivery::load_model` and of the models.
pub(super) async fn load(
    shared: Rc<Shared>,
    wish: &Wish,
    progress: &mut dyn FnMut(Progress),
    on_milestone: OnMilestone<'_>,
) -> Result<Model> {
    let class = match wish.class {
        As::Processor => return Model::processor(shared, wish, progress).await,
        As::Class(class) => Some(class),
        As::Saved => None,
    };
    let device = shared.device.clone().with_arithmetic(wish.arithmetic);
    let mut loading = Loading { shared: &shared, device, class, url: wish.address.as_str(), on_milestone, begun: None, in_flight: 0 };
    let loaded = load_model(&wish.source(&shared), &wish.options, progress, &mut loading).await?;
    loading.finish(loaded)
}

/// Takes each shard to the device as it comes.
struct Loading<'a> {
    shared: &'a Rc<Shared>,
    device: Device,
    /// What it is to be loaded as, if not as it was saved.
    class: Option<Class>,
    url: &'a str,
    on_milestone: OnMilestone<'a>,
    begun: Option<Begun>,
    in_flight: usize,
}

/// What the configs have decided, and what has come since.
struct Begun {
    inner: Rc<Inner>,
    class: Class,
    files: BTreeMap<String, Vec<u8>>,
    weights: Weights,
    there: There,
    tower_name: Option<String>,
    /// Shards that hold something of this class, less those of a tower that is there already.
    needed: BTreeSet<String>,
    /// Milestones ahead, with the shards that each of them lacks.
    lacking: Vec<(Milestone, BTreeSet<String>)>,
}

impl Receiver for Loading<'_> {
    fn files(&mut self, index: &Index, files: BTreeMap<String, Vec<u8>>) -> Result<()> {
        fit::check(&self.device, index)?;
        let config = models::config_json(&files)?;
        let class = self.class.map_or_else(|| Class::of(config), Ok)?;
        let plan = models::plan_class(class, config)?;
        let generates = matches!(class, Class::Blip2ForConditionalGeneration | Class::Blip2Model);
        let shares = generates || class == Class::Blip2ForImageTextRetrieval;
        let tower_name = shares.then(|| tower_name(config, index, self.device.arithmetic_of_products())).transpose()?;
        let tower = tower_name.as_ref().and_then(|name| self.shared.towers.find(name));
        let milestones: &[Milestone] = match (generates, shares) {
            (true, _) => &[Milestone::Vision, Milestone::Retrieval],
            (false, true) => &[Milestone::Vision],
            (false, false) => &[],
        };
        let is_there = |key: &str| tower.is_some() && Milestone::Vision.needs(key);
        let lacking = milestones
            .iter()
            .map(|milestone| (*milestone, shards_with(&plan, index, |key| milestone.needs(key) && !is_there(key))))
            .collect();
        let needed = shards_with(&plan, index, |key| !is_there(key));
        let shards: u64 = index.shards().iter().map(|(_, file)| file.bytes).sum();
        let inner = Inner {
            shared: self.shared.clone(),
            arithmetic: self.device.arithmetic,
            class: class.name(),
            can: Task::of(class),
            url: self.url.into(),
            facts: index_facts(index),
            bytes: shards + files.values().map(|bytes| bytes.len() as u64).sum::<u64>(),
            shares_tower: tower.is_some(),
            encoder: OnceCell::new(),
            model: OnceCell::new(),
            arrival: OnceCell::new(),
            images: RefCell::default(),
        };
        let (weights, there) = (Weights::new(&self.device, plan), There { tower, encoder: None });
        self.begun = Some(Begun { inner: Rc::new(inner), class, files, weights, there, tower_name, needed, lacking });
        self.tell()
    }

    fn needs(&self, file: &str) -> bool {
        self.begun.as_ref().is_none_or(|begun| begun.needed.contains(file))
    }

    async fn shard(&mut self, index: &Index, file: &str, bytes: &[u8]) -> Result<()> {
        let Some(begun) = &self.begun else { return Ok(()) };
        if begun.needed.contains(file) {
            shard::push(&begun.weights, index, file, bytes)?;
            self.in_flight += bytes.len();
        }
        if self.in_flight >= UPLOAD_LIMIT {
            settle(&self.device).await?;
            self.in_flight = 0;
        }
        if let Some(begun) = &mut self.begun {
            for (_, files) in &mut begun.lacking {
                files.remove(file);
            }
        }
        self.tell()?;
        pace::macrotask().await;
        Ok(())
    }
}

/// The shards that hold what is `wanted` of a plan.
fn shards_with(plan: &Plan, index: &Index, wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let parts = plan.keys().filter(|key| wanted(key)).filter_map(|key| index.tensors.get(key)).flat_map(|tensor| &tensor.parts);
    parts.map(|part| part.file.clone()).collect()
}

impl Loading<'_> {
    /// Tells the milestones that lack nothing any more.
    fn tell(&mut self) -> Result<()> {
        let Some(begun) = &mut self.begun else { return Ok(()) };
        while let Some((milestone, files)) = begun.lacking.first()
            && files.is_empty()
        {
            let milestone = *milestone;
            begun.lacking.remove(0);
            begun.reach(milestone, self.shared, &self.device)?;
            (self.on_milestone)(milestone, Model { inner: begun.inner.clone() });
        }
        Ok(())
    }

    fn finish(self, loaded: Loaded) -> Result<Model> {
        let Some(begun) = self.begun else { return Err(Error::config("config.json", "is not in the model folder")) };
        let Begun { inner, class, files, weights, there, tower_name, .. } = begun;
        let model = AnyModel::load(&self.device, class, &files, &weights, there)?;
        if let (Some(name), Some(tower)) = (tower_name, model.vision_model()) {
            self.shared.towers.remember(name, &tower);
        }
        let Loaded { cached, kept, storage_error, hold, .. } = loaded;
        // Nobody else sets them.
        let _ = inner.model.set(model);
        let _ = inner.arrival.set(Arrival { cached, kept, storage_error, _hold: Some(hold) });
        Ok(Model { inner })
    }
}

impl Begun {
    /// Makes what works from here on.
    fn reach(&mut self, milestone: Milestone, shared: &Shared, device: &Device) -> Result<()> {
        match milestone {
            Milestone::Vision if self.there.tower.is_none() => {
                let config = Blip2Config::from_json(models::config_json(&self.files)?)?;
                let tower = Rc::new(Blip2VisionModel::load(&config.vision_config, &self.weights.at("vision_model"))?);
                if let Some(name) = &self.tower_name {
                    shared.towers.remember(name.clone(), &tower);
                }
                self.there.tower = Some(tower);
            }
            Milestone::Vision => {}
            Milestone::Retrieval => {
                let encoder = PictureEncoder::load(self.there.tower.clone(), device, &self.files, &self.weights)?;
                let _ = self.inner.encoder.set(encoder.clone());
                self.there.encoder = Some(encoder);
            }
        }
        Ok(())
    }
}
