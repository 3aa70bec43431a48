//! Other clusters' objects on their way to the compiler.

use std::collections::{BTreeMap, BTreeSet};

use compile::{Clusters, Output};
use object_store::Batch;
use objects::Selector;

use super::merge::Merged;
use crate::clusters::News;
use crate::mesh_settings::MeshSettings;
use crate::scope::{Changes, Scope};

/// What the compiler is given of one cluster.
#[derive(Default)]
pub(super) struct Work {
    /// What was there before is not any more.
    forget: bool,
    changes: Changes,
}

/// Work by cluster.
pub(super) type Works = BTreeMap<String, Work>;

/// What waits to be compiled.
#[derive(Default)]
pub(super) struct Waiting {
    clusters: BTreeMap<String, Merged>,
    gone: BTreeSet<String>,
}

impl Waiting {
    /// Takes news over; `true` where everything that there is to be waited for is known.
    pub(super) fn add(&mut self, news: News) -> bool {
        match news {
            News::Batch { cluster, batch } => self.batch(cluster, batch),
            News::Gone(cluster) => {
                self.clusters.remove(&cluster);
                self.gone.insert(cluster);
            }
            News::Settled => return true,
        }
        false
    }

    /// How many changes wait.
    pub(super) fn count(&self) -> usize {
        self.gone.len() + self.clusters.values().map(Merged::waiting).sum::<usize>()
    }

    pub(super) fn take(&mut self) -> Works {
        let mut works = Works::new();
        for cluster in std::mem::take(&mut self.gone) {
            works.entry(cluster).or_default().forget = true;
        }
        for (cluster, merged) in &mut self.clusters {
            if merged.waiting() > 0 {
                works.entry(cluster.clone()).or_default().changes = merged.take().changes;
            }
        }
        works
    }

    fn batch(&mut self, cluster: String, batch: Batch) {
        self.clusters.entry(cluster).or_default().add(batch);
    }
}

impl Work {
    fn then(&mut self, later: Work) {
        if later.forget {
            *self = later;
        } else {
            self.changes.extend(later.changes);
        }
    }
}

/// Puts later work behind earlier.
pub(super) fn append(works: &mut Works, later: Works) {
    for (cluster, work) in later {
        works.entry(cluster).or_default().then(work);
    }
}

/// Which namespaces of which cluster take part.
#[derive(Default)]
pub(super) struct Scopes {
    by_cluster: BTreeMap<String, Scope>,
    selectors: Vec<Selector>,
}

impl Scopes {
    /// Compiles what waits, as one change, by the settings as they are now.
    pub(super) fn compile(
        &mut self,
        clusters: &mut Clusters,
        mesh: &mut MeshSettings,
        mut works: Works,
    ) -> Output {
        let mut whole = clusters.set_scopes(mesh.service_scopes().clone());
        if self.selectors != mesh.selectors() {
            self.selectors = mesh.selectors().to_vec();
            for cluster in self.by_cluster.keys() {
                works.entry(cluster.clone()).or_default();
            }
        }
        // First of all, so that there is room for the one that comes instead.
        for (cluster, _) in works.iter().filter(|(_, work)| work.forget) {
            self.by_cluster.remove(cluster);
            add(&mut whole, clusters.remove(cluster));
        }
        for (cluster, work) in works {
            if work.forget && work.changes.is_empty() {
                continue;
            }
            let root = mesh.fixed().root_namespace;
            let scope = self.by_cluster.entry(cluster.clone());
            let scope = scope.or_insert_with(|| Scope::new(root, mesh.revision()));
            scope.select(self.selectors.clone());
            let changes = scope.apply(work.changes);
            add(&mut whole, clusters.apply_remote(&cluster, changes));
        }
        whole
    }
}

/// One output after another, as one. Of what other clusters bring only addresses are told.
fn add(whole: &mut Output, later: Output) {
    for name in later.removed_addresses {
        whole.addresses.remove(&name);
        whole.removed_addresses.insert(name);
    }
    for (name, address) in later.addresses {
        whole.removed_addresses.remove(&name);
        whole.addresses.insert(name, address);
    }
}

#[cfg(test)]
mod tests;
