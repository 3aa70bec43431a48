//! What a stream has asked for of one type, and what it was told.

mod shown;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

pub(super) use self::shown::Shown;
use super::{MAX_NAMES, Request, RequestError};
use crate::xds::resource::{Resource, fingerprint};
use crate::xds::resources::Resources;
use crate::xds::table::{Since, Whole};

const WILDCARD: &str = "*";

pub(super) struct Subscription {
    mode: Mode,
    /// The next response is sent even when it says nothing.
    owed: bool,
    /// Names to answer although nothing about them changed: they were asked for (again) just now.
    asked: BTreeSet<Arc<str>>,
}

enum Mode {
    Everything(Everything),
    Names(Names),
}

/// No names are kept: what the client has is known from how far in the history it is.
struct Everything {
    told: Told,
}

enum Told {
    /// Nothing on this stream; from an earlier one the client has these versions.
    Nothing { before: BTreeMap<String, String> },
    /// Everything up to this point of the table's history.
    Until(u64),
}

#[derive(Default)]
struct Names {
    /// Asked for on this stream; [`MAX_NAMES`] at most.
    wanted: BTreeSet<Arc<str>>,
    /// Had from an earlier stream, and wanted on this one too. These are more than may be asked for where they came
    /// with services; what a request may hold bounds them.
    before: BTreeSet<Arc<str>>,
    /// The name under which something was sent, and its version; `None`: that it does not exist.
    told: HashMap<Arc<str>, Option<Arc<str>>>,
}

/// What a client has to be told.
#[derive(Default)]
pub(super) struct Difference {
    pub(super) changed: Changes,
    pub(super) removed: Vec<Arc<str>>,
    /// To be sent even when empty.
    pub(super) owed: bool,
}

/// A resource, and the name by which it is sent: its own or one that the client asked for.
pub(super) struct Changed {
    pub(super) name: Arc<str>,
    pub(super) resource: Arc<Resource>,
}

/// Resources to tell of.
pub(super) enum Changes {
    These(Vec<Changed>),
    /// All of a table, each under its own name.
    All(Arc<Whole>),
}

impl Default for Changes {
    fn default() -> Changes {
        Changes::These(Vec::new())
    }
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Changes::These(these) => these.is_empty(),
            Changes::All(whole) => whole.resources().is_empty(),
        }
    }

    /// One by one.
    pub(super) fn into_these(self) -> Vec<Changed> {
        match self {
            Changes::These(these) => these,
            Changes::All(whole) => whole
                .resources()
                .iter()
                .map(Changed::under_its_own_name)
                .collect(),
        }
    }

    /// Names under which resources are told, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let (these, all) = match self {
            Changes::These(these) => (these.as_slice(), [].as_slice()),
            Changes::All(whole) => ([].as_slice(), whole.resources()),
        };
        let these = these.iter().map(|changed| &*changed.name);
        these.chain(all.iter().map(|resource| &*resource.name))
    }

    /// About how long they are in a response, in bytes.
    pub(super) fn length(&self) -> usize {
        match self {
            Changes::These(these) => these.iter().map(Changed::length).sum(),
            Changes::All(whole) => whole.encoded_len(),
        }
    }

    pub(super) fn encoded(&self) -> Resources {
        match self {
            Changes::These(these) => Resources::These(these.iter().map(Changed::encoded).collect()),
            Changes::All(whole) => Resources::All(whole.clone()),
        }
    }
}

/// What a field adds to its content on the wire, in bytes, at most.
pub(super) const FIELD_OVERHEAD: usize = 11;

impl Changed {
    fn under_its_own_name(resource: &Arc<Resource>) -> Changed {
        Changed {
            name: resource.name.clone(),
            resource: resource.clone(),
        }
    }

    /// About how long it is in a response, in bytes.
    pub(super) fn length(&self) -> usize {
        self.resource.encoded.len()
            + self.name.len().saturating_sub(self.resource.name.len())
            + FIELD_OVERHEAD
    }

    /// The resource encoded under that name.
    pub(super) fn encoded(&self) -> Bytes {
        if self.name == self.resource.name {
            self.resource.encoded.clone()
        } else {
            self.resource.encoded_as(&self.name)
        }
    }
}

impl Subscription {
    /// The first request of a type. Asking for nothing in particular is asking for everything; `*` together with
    /// the withdrawal of `*` is asking for nothing yet.
    pub(super) fn begin(request: Request) -> Result<Subscription, RequestError> {
        let withdrawn = request.unsubscribe.iter().any(|name| name == WILDCARD);
        let wildcard = request.subscribe.is_empty() || request.subscribe.iter().any(|name| name == WILDCARD);
        let mode = if wildcard && !withdrawn {
            Mode::Everything(Everything {
                told: Told::Nothing {
                    before: request.initial_versions,
                },
            })
        } else {
            let told = request.initial_versions.into_iter();
            let told: HashMap<Arc<str>, _> = told
                .map(|(name, version)| (Arc::from(name), Some(Arc::from(version))))
                .collect();
            Mode::Names(Names {
                wanted: BTreeSet::new(),
                before: told.keys().cloned().collect(),
                told,
            })
        };
        let mut subscription = Subscription {
            mode,
            owed: true,
            asked: BTreeSet::new(),
        };
        let named = request.subscribe.into_iter().filter(|name| name != WILDCARD);
        // What the client already has by its version needs no second sending.
        let fresh = named.map(Arc::from).collect();
        subscription.want(fresh, false)?;
        Ok(subscription)
    }

    /// A later request: an answer only, a change of what is wanted, or both.
    pub(super) fn change(&mut self, request: Request) -> Result<(), RequestError> {
        let spontaneous = request.nonce.is_empty();
        let wildcard = |names: &[String]| names.iter().any(|name| name == WILDCARD);
        if wildcard(&request.subscribe) && !wildcard(&request.unsubscribe) {
            self.want_everything();
        }
        if wildcard(&request.unsubscribe) && matches!(self.mode, Mode::Everything(_)) {
            self.mode = Mode::Names(Names::default());
        }
        if let Mode::Names(names) = &mut self.mode {
            for name in &request.unsubscribe {
                names.wanted.remove(name.as_str());
                names.before.remove(name.as_str());
                names.told.remove(name.as_str());
            }
        }
        let named: BTreeSet<Arc<str>> = request
            .subscribe
            .into_iter()
            .filter(|name| name != WILDCARD)
            .map(Arc::from)
            .collect();
        self.owed |= spontaneous || !named.is_empty();
        self.want(named, true)
    }

    pub(super) fn is_owed(&self) -> bool {
        self.owed
    }

    /// Whether the client wants everything and has nothing, so that it cannot have decided anything yet.
    pub(super) fn knows_nothing(&self) -> bool {
        let Mode::Everything(everything) = &self.mode else {
            return false;
        };
        matches!(&everything.told, Told::Nothing { before } if before.is_empty())
    }

    /// The fingerprint of everything that the client has from an earlier stream, 0 for nothing; `None` when it does
    /// not want everything, or was told something on this stream.
    pub(super) fn fingerprint_before(&self) -> Option<u128> {
        match &self.mode {
            Mode::Everything(Everything {
                told: Told::Nothing { before },
            }) => Some(before.iter().fold(0, |sum, (name, version)| {
                sum.wrapping_add(fingerprint(name, version))
            })),
            _ => None,
        }
    }

    /// The client has everything of a table from an earlier stream.
    pub(super) fn resume(&mut self, table: Shown<'_>) {
        if let Mode::Everything(everything) = &mut self.mode {
            everything.told = Told::Until(table.sequence());
        }
    }

    /// What has to be told of a table, where the client was last told of `base`, if of anything; it counts as told
    /// from here on. `None` when it cannot be known any more.
    pub(super) fn take(
        &mut self,
        base: Option<Shown<'_>>,
        table: Shown<'_>,
        node: &str,
    ) -> Option<Difference> {
        let asked = std::mem::take(&mut self.asked);
        let mut difference = match &mut self.mode {
            Mode::Everything(everything) => everything.take(base, table, &asked)?,
            Mode::Names(names) => names.take(table, node, &asked),
        };
        difference.owed = std::mem::take(&mut self.owed);
        Some(difference)
    }

    fn want(&mut self, fresh: BTreeSet<Arc<str>>, again: bool) -> Result<(), RequestError> {
        if let Mode::Names(names) = &mut self.mode {
            names.wanted.extend(fresh.iter().cloned());
            if names.wanted.len() > MAX_NAMES {
                return Err(RequestError::TooManyNames);
            }
            if !again {
                return Ok(());
            }
        }
        self.asked.extend(fresh);
        if self.asked.len() > MAX_NAMES {
            Err(RequestError::TooManyNames)
        } else {
            Ok(())
        }
    }

    fn want_everything(&mut self) {
        if let Mode::Names(names) = &mut self.mode {
            let told = std::mem::take(&mut names.told).into_iter();
            let before = told
                .filter_map(|(name, version)| Some((name.to_string(), version?.to_string())))
                .collect();
            self.mode = Mode::Everything(Everything {
                told: Told::Nothing { before },
            });
        }
    }
}

impl Everything {
    fn take(
        &mut self,
        base: Option<Shown<'_>>,
        table: Shown<'_>,
        asked: &BTreeSet<Arc<str>>,
    ) -> Option<Difference> {
        let told = std::mem::replace(&mut self.told, Told::Until(table.sequence()));
        let Since { changed, removed } = match told {
            Told::Nothing { before } if before.is_empty() && asked.is_empty() => {
                return Some(Difference {
                    changed: Changes::All(table.whole()),
                    ..Difference::default()
                });
            }
            Told::Nothing { before } => {
                let is_new = |resource: &&Arc<Resource>| {
                    before
                        .get(&*resource.name)
                        .is_none_or(|version| *version != *resource.version)
                };
                let changed: Vec<_> = table.iter().filter(is_new).cloned().collect();
                let gone = before.keys().filter(|name| table.get(name).is_none());
                Since {
                    changed,
                    removed: gone.map(|name| Arc::from(name.as_str())).collect(),
                }
            }
            Told::Until(sequence) => table.since(sequence, base)?,
        };
        let mut changed: BTreeMap<Arc<str>, Arc<Resource>> = changed
            .into_iter()
            .map(|resource| (resource.name.clone(), resource))
            .collect();
        let mut removed: BTreeSet<Arc<str>> = removed.into_iter().collect();
        for name in asked {
            let found = resolve(table, name);
            if found.is_empty() {
                removed.insert(name.clone());
            }
            changed.extend(found.into_iter().map(|(name, resource)| (name, resource.clone())));
        }
        let changed = changed
            .into_iter()
            .map(|(name, resource)| Changed { name, resource });
        Some(Difference {
            changed: Changes::These(changed.collect()),
            removed: removed.into_iter().collect(),
            owed: false,
        })
    }
}

impl Names {
    /// Looks at everything wanted, not at what changed: on-demand clients want little, and one request may change
    /// what many names lead to.
    fn take(&mut self, table: Shown<'_>, node: &str, asked: &BTreeSet<Arc<str>>) -> Difference {
        let mut now: BTreeMap<Arc<str>, &Arc<Resource>> = BTreeMap::new();
        let mut missing = Vec::new();
        for name in self.wanted.union(&self.before) {
            let found = resolve(table, name);
            if found.is_empty() {
                missing.push(name.clone());
            }
            now.extend(found);
        }
        now.extend(
            table
                .by_node(node)
                .map(|resource| (resource.name.clone(), resource)),
        );
        // What was sent once is kept up to date, wanted by name or not.
        for name in self.told.keys() {
            if let Some(resource) = table.get(name) {
                now.insert(resource.name.clone(), resource);
            }
        }
        let mut changed = Vec::new();
        for (name, resource) in &now {
            let known = self.told.get(name).and_then(Option::as_ref) == Some(&resource.version);
            if !known || asked.contains(name) {
                changed.push(Changed {
                    name: name.clone(),
                    resource: Arc::clone(resource),
                });
            }
        }
        let gone = self
            .told
            .iter()
            .filter(|(name, version)| version.is_some() && !now.contains_key(*name));
        let mut removed: BTreeSet<_> = gone.map(|(name, _)| name.clone()).collect();
        let is_news = |name: &Arc<str>| !self.told.contains_key(name) || asked.contains(name);
        removed.extend(missing.iter().filter(|name| is_news(name)).cloned());
        let difference = Difference {
            changed: Changes::These(changed),
            removed: removed.into_iter().collect(),
            owed: false,
        };
        let missing = missing.into_iter().map(|name| (name, None));
        let present = now
            .into_iter()
            .map(|(name, resource)| (name, Some(resource.version.clone())));
        self.told = missing.chain(present).collect();
        difference
    }
}

/// What a name leads to, each under the name it is sent by: the resource of that name, or those with such an alias
/// (under their own name, and the first also under the alias, for clients that wait for exactly what they asked
/// for); with a service come its workloads.
fn resolve<'a>(table: Shown<'a>, name: &Arc<str>) -> Vec<(Arc<str>, &'a Arc<Resource>)> {
    let mut found = Vec::new();
    match table.get(name) {
        Some(resource) => found.push((name.clone(), resource)),
        None => {
            let mut aliased: Vec<_> = table.by_alias(name).collect();
            aliased.sort_by_key(|resource| &resource.name);
            found.extend(aliased.first().map(|first| (name.clone(), *first)));
            found.extend(
                aliased
                    .into_iter()
                    .map(|resource| (resource.name.clone(), resource)),
            );
        }
    }
    let members = found
        .iter()
        .flat_map(|(_, resource)| table.by_service(&resource.name));
    let members: Vec<_> = members.map(|member| (member.name.clone(), member)).collect();
    found.extend(members);
    found
}
