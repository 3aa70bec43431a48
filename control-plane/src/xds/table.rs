//! All resources of one type, as an immutable value: a change costs what it changes, and every reader keeps what it
//! has. Also knows what changed since any earlier state, so that nothing is remembered for each client.

use std::ops::Bound;
use std::sync::{Arc, LazyLock, OnceLock};

use rpds::{HashTrieMapSync, HashTrieSetSync, RedBlackTreeMapSync};

use super::ResourceKind;
use super::resource::Resource;
use super::resources::field_len;

/// How many removals are remembered. A client that is further behind is made to reconnect, and then tells itself
/// what it has.
pub(crate) const MAX_REMOVED: usize = 65_536;

/// Of what is not made of objects.
static NOTHING: LazyLock<Table> = LazyLock::new(Table::default);

/// Everything that is served, at one revision of the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// The revision of the store that this was compiled from.
    pub(crate) revision: u64,
    /// Counts views: a greater number, a later view.
    pub(crate) generation: u64,
    pub(crate) policies: Table,
    pub(crate) addresses: Table,
}

impl View {
    pub(crate) fn table(&self, kind: ResourceKind) -> &Table {
        match kind {
            ResourceKind::Authorization => &self.policies,
            ResourceKind::Address => &self.addresses,
            ResourceKind::TrustBundle => &NOTHING,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    listed: HashTrieMapSync<Arc<str>, Listed>,
    /// Counts changes; each listed or removed name has the number of its last one.
    sequence: u64,
    changed: RedBlackTreeMapSync<u64, Arc<str>>,
    removed: RedBlackTreeMapSync<u64, Arc<str>>,
    removed_at: HashTrieMapSync<Arc<str>, u64>,
    /// The number of the last removal that is no longer remembered.
    forgotten: u64,
    fingerprint: u128,
    enforced_fingerprint: u128,
    services: usize,
    by_alias: Index,
    by_node: Index,
    by_service: Index,
    /// Without and with dry-run policies; empty as soon as something changes.
    whole: [OnceLock<Arc<Whole>>; 2],
}

/// All of a table, for those who know nothing yet.
#[derive(Debug)]
pub(crate) struct Whole {
    resources: Box<[Arc<Resource>]>,
    encoded_len: usize,
}

impl Whole {
    /// In the order of their names.
    pub(crate) fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// How long they are in a response, in bytes.
    pub(crate) fn encoded_len(&self) -> usize {
        self.encoded_len
    }
}

#[derive(Clone, Debug)]
struct Listed {
    resource: Arc<Resource>,
    sequence: u64,
}

/// What became of a table after an earlier state of it.
#[derive(Debug)]
pub(crate) struct Since {
    pub(crate) changed: Vec<Arc<Resource>>,
    pub(crate) removed: Vec<Arc<str>>,
}

type Index = HashTrieMapSync<Arc<str>, HashTrieSetSync<Arc<str>>>;

impl Table {
    /// Adds or replaces. A resource that is the same as the one that is there changes nothing.
    pub(crate) fn put(&mut self, resource: Resource) {
        if self
            .get(&resource.name)
            .is_some_and(|old| old.version == resource.version)
        {
            return;
        }
        let name = resource.name.clone();
        self.whole = Default::default();
        self.unlist(&name);
        if let Some(sequence) = self.removed_at.get(&name).copied() {
            self.removed.remove_mut(&sequence);
            self.removed_at.remove_mut(&name);
        }
        self.sequence += 1;
        for alias in &resource.aliases {
            link(&mut self.by_alias, alias, &name);
        }
        if let Some(node) = &resource.node {
            link(&mut self.by_node, node, &name);
        }
        for service in &resource.services {
            link(&mut self.by_service, service, &name);
        }
        self.services += usize::from(resource.is_service);
        self.changed.insert_mut(self.sequence, name.clone());
        self.fingerprint = self.fingerprint.wrapping_add(resource.fingerprint);
        if !resource.is_dry_run {
            self.enforced_fingerprint = self.enforced_fingerprint.wrapping_add(resource.fingerprint);
        }
        self.listed.insert_mut(
            name,
            Listed {
                resource: Arc::new(resource),
                sequence: self.sequence,
            },
        );
    }

    /// Removes; a name that is not there changes nothing.
    pub(crate) fn remove(&mut self, name: &str) {
        let Some(name) = self.unlist(name) else { return };
        self.whole = Default::default();
        self.sequence += 1;
        self.removed.insert_mut(self.sequence, name.clone());
        self.removed_at.insert_mut(name, self.sequence);
        while self.removed.size() > MAX_REMOVED {
            let Some((oldest, name)) = self.removed.first().map(|(oldest, name)| (*oldest, name.clone()))
            else {
                break;
            };
            self.forgotten = oldest;
            self.removed.remove_mut(&oldest);
            self.removed_at.remove_mut(&name);
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.listed.get(name).map(|listed| &listed.resource)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.listed.values().map(|listed| &listed.resource)
    }

    /// Everything, with or without dry-run policies. Made once for all who ask: many may come at the same time.
    pub(crate) fn whole(&self, with_dry_run: bool) -> Arc<Whole> {
        let made = &self.whole[usize::from(with_dry_run)];
        let make = || {
            let shown = self
                .iter()
                .filter(|resource| with_dry_run || !resource.is_dry_run);
            let mut resources: Box<[_]> = shown.cloned().collect();
            resources.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            let encoded_len = resources.iter().map(|one| field_len(&one.encoded)).sum();
            Arc::new(Whole {
                resources,
                encoded_len,
            })
        };
        made.get_or_init(make).clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.listed.size()
    }

    /// How many of the resources are services.
    pub(crate) fn services(&self) -> usize {
        self.services
    }

    /// The sum of the fingerprints of what is listed, with or without dry-run policies: equal for equal content.
    pub(crate) fn fingerprint(&self, with_dry_run: bool) -> u128 {
        if with_dry_run {
            self.fingerprint
        } else {
            self.enforced_fingerprint
        }
    }

    /// Where in the history this state is; for [`Table::since`].
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What changed and what was removed after an earlier state of this table, each name once and as it is now;
    /// `None` when that is too long ago to be known.
    pub(crate) fn since(&self, sequence: u64) -> Option<Since> {
        if sequence < self.forgotten {
            return None;
        }
        let after = (Bound::Excluded(sequence), Bound::Unbounded);
        let changed = self
            .changed
            .range(after)
            .filter_map(|(_, name)| self.get(name).cloned())
            .collect();
        let removed = self.removed.range(after).map(|(_, name)| name.clone()).collect();
        Some(Since { changed, removed })
    }

    /// The resources that can be asked for by this alias.
    pub(crate) fn by_alias(&self, alias: &str) -> impl Iterator<Item = &Arc<Resource>> {
        self.indexed(&self.by_alias, alias)
    }

    /// The workloads on a node.
    pub(crate) fn by_node(&self, node: &str) -> impl Iterator<Item = &Arc<Resource>> {
        self.indexed(&self.by_node, node)
    }

    /// The workloads of a service.
    pub(crate) fn by_service(&self, service: &str) -> impl Iterator<Item = &Arc<Resource>> {
        self.indexed(&self.by_service, service)
    }

    fn indexed<'a>(&'a self, index: &'a Index, key: &str) -> impl Iterator<Item = &'a Arc<Resource>> {
        index
            .get(key)
            .into_iter()
            .flat_map(|names| names.iter())
            .filter_map(|name| self.get(name))
    }

    /// Takes a resource out of everything but the memory of removals.
    fn unlist(&mut self, name: &str) -> Option<Arc<str>> {
        let Listed { resource, sequence } = self.listed.get(name)?.clone();
        for alias in &resource.aliases {
            unlink(&mut self.by_alias, alias, name);
        }
        if let Some(node) = &resource.node {
            unlink(&mut self.by_node, node, name);
        }
        for service in &resource.services {
            unlink(&mut self.by_service, service, name);
        }
        self.services -= usize::from(resource.is_service);
        self.fingerprint = self.fingerprint.wrapping_sub(resource.fingerprint);
        if !resource.is_dry_run {
            self.enforced_fingerprint = self.enforced_fingerprint.wrapping_sub(resource.fingerprint);
        }
        self.changed.remove_mut(&sequence);
        self.listed.remove_mut(name);
        Some(resource.name.clone())
    }
}

fn link(index: &mut Index, key: &Arc<str>, name: &Arc<str>) {
    let names = index.get(key).cloned().unwrap_or_else(HashTrieSetSync::new_sync);
    index.insert_mut(key.clone(), names.insert(name.clone()));
}

fn unlink(index: &mut Index, key: &Arc<str>, name: &str) {
    let Some(names) = index.get(key).map(|names| names.remove(name)) else {
        return;
    };
    if names.is_empty() {
        index.remove_mut(key);
    } else {
        index.insert_mut(key.clone(), names);
    }
}
