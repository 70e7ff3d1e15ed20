//! Vision towers on the device, by their weights: models that have the same one share it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use crate::device::Arithmetic;
use crate::error::Result;
use crate::models::{Blip2Config, Blip2VisionModel};
use crate::weights::index::{Index, Stage};

#[derive(Default)]
pub(super) struct Towers(RefCell<BTreeMap<String, Weak<Blip2VisionModel>>>);

impl Towers {
    /// A tower that is alive.
    pub fn find(&self, name: &str) -> Option<Rc<Blip2VisionModel>> {
        self.0.borrow().get(name)?.upgrade()
    }

    pub fn remember(&self, name: String, tower: &Rc<Blip2VisionModel>) {
        let mut towers = self.0.borrow_mut();
        towers.retain(|_, tower| tower.strong_count() > 0);
        towers.insert(name, Rc::downgrade(tower));
    }
}

/// The same for two models if their towers are: the config, the shards, which are named by their content, and the arithmetic.
/// Errors: config-invalid.
pub(super) fn tower_name(config_json: &[u8], index: &Index, arithmetic: Arithmetic) -> Result<String> {
    let config = Blip2Config::from_json(config_json)?.vision_config;
    let shards = index.files.values().filter(|file| file.stage == Some(Stage::Vision)).map(|file| file.sha256.as_str());
    Ok(format!("{arithmetic:?} {config:?} {}", shards.collect::<Vec<_>>().join(" ")))
}
