//! The custom resource definitions: which of those that matter are there.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::core::{DynamicObject, PartialObjectMeta};

use crate::error::{Failure, Sort};
use crate::follow::Listener;
use crate::mirror::Definitions;
use crate::stream::Shared;

/// A definition, of which only the metadata is asked for: the schemas are large.
pub(crate) type Definition = PartialObjectMeta<DynamicObject>;

/// So many refusals in a row, which takes 15 to 30 s, and it is believed that definitions may not be read, or that there
/// are none. A server that has only just begun says so to everybody, until it knows its own roles; and for some seconds
/// it does not serve the custom kinds that it has. Whoever believed both would begin without any policy.
const BELIEVED: u32 = 7;

/// Tells the mirror which definitions there are.
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    /// The names that matter.
    wanted: BTreeSet<String>,
    present: BTreeSet<String>,
    /// Those of the list that is arriving.
    arriving: Option<BTreeSet<String>>,
    /// Refusals in a row.
    refusals: u32,
}

impl Watcher {
    pub(crate) fn new(shared: Arc<Shared>, wanted: BTreeSet<String>) -> Watcher {
        Watcher {
            shared,
            wanted,
            present: BTreeSet::new(),
            arriving: None,
            refusals: 0,
        }
    }

    fn name(&self, definition: Definition) -> Option<String> {
        definition.metadata.name.filter(|name| self.wanted.contains(name))
    }

    fn tell(&mut self) {
        self.refusals = 0;
        let definitions = Definitions::Known(self.present.clone());
        self.shared.change(|mirror| mirror.define(definitions));
        self.shared.look_again();
    }
}

impl Listener<Definition> for Watcher {
    fn list_begins(&mut self, _: usize) {
        self.arriving = Some(BTreeSet::new());
    }

    fn listed(&mut self, definition: Definition) {
        let name = self.name(definition);
        if let Some(arriving) = &mut self.arriving {
            arriving.extend(name);
        }
    }

    fn list_ends(&mut self, _: &str) {
        if let Some(arriving) = self.arriving.take() {
            self.present = arriving;
            self.tell();
        }
    }

    fn changed(&mut self, definition: Definition) {
        // Told also when it was there already: it is served only once it is established, which is a change of it.
        if let Some(name) = self.name(definition) {
            self.present.insert(name);
            self.tell();
        }
    }

    fn deleted(&mut self, definition: Definition) {
        if let Some(name) = self.name(definition) {
            self.present.remove(&name);
            self.tell();
        }
    }

    fn marked(&mut self, _: &str) {}

    fn failed(&mut self, failure: &Failure) {
        self.refusals = match failure.sort {
            Sort::Refused | Sort::Absent => self.refusals.saturating_add(1),
            _ => 0,
        };
        if self.refusals < BELIEVED {
            tracing::debug!("custom resource definitions: {}", failure.problem);
            return;
        }
        let news = self
            .shared
            .change(|mirror| mirror.define(Definitions::Unavailable));
        if news {
            tracing::warn!(
                "custom resource definitions cannot be watched, so kinds that are not there are asked for now and then: {}",
                failure.problem
            );
        }
    }
}
