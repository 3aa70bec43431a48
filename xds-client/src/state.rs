//! The protocol without I/O: what is held, what to send, how long to wait.
//!
//! ```text
//!  connected ──▶ first requests ──▶ received ──▶ (the handler applies) ──▶ applied ──▶ ACK or NACK
//!      ▲                                                                      │
//!      └───────────── wait ◀── disconnected ◀─────────────────────────────────┘
//! ```
//!
//! What is held outlives the stream: a new stream begins by naming it, so that the control plane sends what has
//! changed and names what is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource, Status};

mod backoff;
mod on_demand;
#[cfg(test)]
mod tests;

pub use backoff::{Backoff, FIRST_WAIT, LONGEST_WAIT};
pub use on_demand::{IDLE_LIFE, MAX_NAMES, MISSING_LIFE, NO_ROOM_LIFE, ROOM, Want};
use on_demand::{OnDemand, WILDCARD};

/// How many resources of one type are held. Those beyond it are rejected by name.
pub const MAX_RESOURCES: usize = 2_000_000;

/// The longest text of a rejection in bytes. What exceeds it is summed up.
pub const MAX_ERROR_DETAIL: usize = 64 << 10;

/// A stream that has lived so long, and on which something was applied, is one that works.
pub const STEADY_AFTER: Duration = Duration::from_secs(10);

/// The gRPC status code of a rejection: INVALID_ARGUMENT.
const INVALID_ARGUMENT: i32 = 3;

/// A resource that is new or has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceUpdate {
    /// The resource's name.
    pub name: String,
    /// Other names it goes by.
    pub aliases: Vec<String>,
    /// Its version, opaque.
    pub version: String,
    /// The encoded message, without the envelope that names its type.
    pub payload: Bytes,
}

/// A resource that is new or has changed and came without a message of its type. There is such a resource, and nothing is
/// known of what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The resource's name.
    pub name: String,
    /// Other names it goes by.
    pub aliases: Vec<String>,
    /// What is wrong with it.
    pub reason: String,
}

/// What one response changes. Apply `resources` first, then `unreadable`, then `removed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// The type of everything in it.
    pub type_url: String,
    /// New or changed resources. A name that comes twice comes in the order to be applied.
    pub resources: Vec<ResourceUpdate>,
    /// Those that are rejected already, and must not be forgotten for that.
    pub unreadable: Vec<Unreadable>,
    /// Names of resources that no longer exist; also such that were never held.
    pub removed: Vec<String>,
}

/// A resource that is not accepted. It goes into the answer to the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The resource's name.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The client's side of the protocol.
#[derive(Debug)]
pub struct State {
    node: Node,
    types: Vec<TypeState>,
    backoff: Backoff,
    /// The present stream: when it began, and whether anything was applied on it.
    stream: Option<(Instant, bool)>,
}

#[derive(Debug)]
struct TypeState {
    url: String,
    /// Subscribed to only on streams on which the server offers it; whether it does on this one.
    offered: Option<bool>,
    /// Version in force by name. Empty where no version was ever accepted: then nothing is in force but a
    /// placeholder, and the name is still told to the control plane, so that it says when the resource is gone.
    held: BTreeMap<String, String>,
    synced: bool,
    /// What is asked for by name. `None`: everything is subscribed to.
    on_demand: Option<OnDemand>,
}

/// A response that is to be answered once it is applied.
#[derive(Debug)]
pub struct Pending {
    type_url: String,
    nonce: String,
    came: Vec<Came>,
    removed: Vec<String>,
    malformed: Vec<Rejection>,
}

/// A resource of a response.
#[derive(Debug)]
struct Came {
    name: String,
    version: String,
    aliases: Vec<String>,
}

/// The answer to a response.
#[derive(Debug)]
pub struct Answer {
    /// The message to send.
    pub request: DeltaDiscoveryRequest,
    /// What it rejects, as the control plane is told. `None`: all is accepted.
    pub rejected: Option<String>,
    /// Names asked for on demand that this response answers, and whether there is such a resource.
    pub answered: Vec<(String, bool)>,
}

impl State {
    /// Subscribes to every resource of each type, in this order.
    pub fn new(node: Node, types: impl IntoIterator<Item = String>) -> Self {
        let mut seen = BTreeSet::new();
        let types = types
            .into_iter()
            .filter(|url| seen.insert(url.clone()))
            .map(|url| TypeState {
                url,
                offered: None,
                held: BTreeMap::new(),
                synced: false,
                on_demand: None,
            })
            .collect();
        Self {
            node,
            types,
            backoff: Backoff::default(),
            stream: None,
        }
    }

    /// Subscribes to nothing of this type until a name is wanted.
    pub fn on_demand(mut self, type_url: &str) -> Self {
        if let Some(state) = self.of_type(type_url) {
            state.on_demand = Some(OnDemand::default());
        }
        self
    }

    /// Subscribes to this type too, on streams on which the server offers it.
    pub fn where_offered(mut self, type_url: &str) -> Self {
        if self.of_type(type_url).is_none() {
            self.types.push(TypeState {
                url: type_url.to_owned(),
                offered: Some(false),
                held: BTreeMap::new(),
                synced: false,
                on_demand: None,
            });
        }
        self
    }

    /// Notes what was held before this process began, by name and version.
    pub fn holding(mut self, type_url: &str, held: impl IntoIterator<Item = (String, String)>) -> Self {
        if let Some(state) = self.of_type(type_url) {
            state.held.extend(held.into_iter().take(MAX_RESOURCES));
        }
        self
    }

    /// The requests that a new stream begins with, one for each type. Where nothing is subscribed to by name,
    /// everything is meant; the wildcard both subscribed to and withdrawn means nothing but the names beside it.
    pub fn connected(&mut self, now: Instant) -> Vec<DeltaDiscoveryRequest> {
        self.stream = Some((now, false));
        for state in &mut self.types {
            state.offered = state.offered.map(|_| false);
        }
        self.types
            .iter_mut()
            .filter(|state| state.offered.is_none())
            .map(|state| {
                let mut request = DeltaDiscoveryRequest {
                    node: Some(self.node.clone()),
                    type_url: state.url.clone(),
                    initial_resource_versions: state.held.clone().into_iter().collect(),
                    ..DeltaDiscoveryRequest::default()
                };
                if let Some(names) = &mut state.on_demand {
                    request.resource_names_subscribe = names.all();
                    request.resource_names_unsubscribe = vec![WILDCARD.to_owned()];
                    let versions = &mut request.initial_resource_versions;
                    for name in names.pending() {
                        versions.entry(name.clone()).or_default();
                    }
                }
                request
            })
            .collect()
    }

    /// The server of the open stream offers these types: the requests for those that were waited for.
    pub fn offered<'a>(&mut self, types: impl IntoIterator<Item = &'a str>) -> Vec<DeltaDiscoveryRequest> {
        let mut requests = Vec::new();
        for url in types {
            let Some(state) = self.types.iter_mut().find(|state| state.url == url) else {
                continue;
            };
            if state.offered != Some(false) {
                continue;
            }
            state.offered = Some(true);
            requests.push(DeltaDiscoveryRequest {
                node: Some(self.node.clone()),
                type_url: state.url.clone(),
                initial_resource_versions: state.held.clone(),
                ..DeltaDiscoveryRequest::default()
            });
        }
        requests
    }

    /// Somebody needs the resource called `name`, on demand. A type that is not on demand is complete: nothing more
    /// exists.
    pub fn want(&mut self, type_url: &str, name: &str, now: Instant) -> Want {
        let names = self.of_type(type_url).and_then(|state| state.on_demand.as_mut());
        names.map_or(Want::Missing, |names| names.want(name, now))
    }

    /// Gives up names that nothing is called by, unless what `in_use` gives says that one is in use, and says whether there
    /// is room for a name now. Called when [`State::want`] said [`Want::Full`].
    pub fn make_room<F: Fn(&str) -> bool>(
        &mut self,
        type_url: &str,
        now: Instant,
        in_use: impl FnOnce() -> F,
    ) -> bool {
        let names = self.of_type(type_url).and_then(|state| state.on_demand.as_mut());
        names.is_some_and(|names| names.make_room(now, in_use))
    }

    /// Whether [`State::next_request`] has something to say.
    pub fn has_unsent(&self) -> bool {
        let mut names = self.types.iter().filter_map(|state| state.on_demand.as_ref());
        names.any(OnDemand::has_unsent)
    }

    /// What an open stream has not been told yet of the names wanted and given up.
    pub fn next_request(&mut self) -> Option<DeltaDiscoveryRequest> {
        let has_unsent = |state: &&mut TypeState| state.on_demand.as_ref().is_some_and(OnDemand::has_unsent);
        let state = self.types.iter_mut().find(has_unsent)?;
        let (subscribe, withdraw) = state.on_demand.as_mut()?.unsent();
        Some(DeltaDiscoveryRequest {
            type_url: state.url.clone(),
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: withdraw,
            ..DeltaDiscoveryRequest::default()
        })
    }

    /// Gives up names that nobody has wanted for [`IDLE_LIFE`], unless `in_use` says that what is called so still
    /// is. What is no longer kept up to date is for the handler to forget.
    pub fn give_up_idle(&mut self, now: Instant, in_use: impl Fn(&str) -> bool) -> Vec<Update> {
        let mut updates = Vec::new();
        for state in &mut self.types {
            let Some(names) = &mut state.on_demand else {
                continue;
            };
            let removed = names.give_up_idle(now, &in_use);
            for resource in &removed {
                state.held.remove(resource);
            }
            if !removed.is_empty() {
                updates.push(Update {
                    type_url: state.url.clone(),
                    removed,
                    ..Update::default()
                });
            }
        }
        updates
    }

    /// Takes a response apart. The update, if any, is to be applied before [`State::applied`] is called with what
    /// was not accepted. There is none for a type that was not subscribed to: that is answered and otherwise ignored.
    pub fn received(&mut self, response: DeltaDiscoveryResponse) -> (Option<Update>, Pending) {
        let DeltaDiscoveryResponse {
            resources,
            type_url,
            removed_resources: removed,
            nonce,
            ..
        } = response;
        let mut pending = Pending {
            type_url: type_url.clone(),
            nonce,
            came: Vec::new(),
            removed: Vec::new(),
            malformed: Vec::new(),
        };
        let subscribed = |state: &&TypeState| state.url == type_url && state.offered != Some(false);
        let Some(state) = self.types.iter().find(subscribed) else {
            return (None, pending);
        };
        let mut room = MAX_RESOURCES.saturating_sub(state.held.len());
        let mut accepted = Vec::with_capacity(resources.len());
        let mut unreadable = Vec::new();
        for resource in resources {
            let name = resource.name.clone();
            let is_new = !state.held.contains_key(&name);
            if name.is_empty() || (is_new && room == 0) {
                let reason = match name.is_empty() {
                    true => "the resource has no name".to_owned(),
                    false => format!("more than {MAX_RESOURCES} resources of one type"),
                };
                pending.malformed.push(Rejection { name, reason });
                continue;
            }
            room -= usize::from(is_new);
            pending.came.push(Came {
                name: name.clone(),
                version: resource.version.clone(),
                aliases: resource.aliases.clone(),
            });
            match read(&type_url, resource) {
                Ok(resource) => accepted.push(resource),
                Err(resource) => {
                    let reason = resource.reason.clone();
                    pending.malformed.push(Rejection { name, reason });
                    unreadable.push(resource);
                }
            }
        }
        pending.removed.clone_from(&removed);
        (
            Some(Update {
                type_url,
                resources: accepted,
                unreadable,
                removed,
            }),
            pending,
        )
    }

    /// Notes what is in force now and says what to answer.
    pub fn applied(&mut self, pending: Pending, rejections: Vec<Rejection>, now: Instant) -> Answer {
        let Pending {
            type_url,
            nonce,
            came,
            removed,
            mut malformed,
        } = pending;
        let known: BTreeSet<String> = malformed.iter().map(|one| one.name.clone()).collect();
        malformed.extend(rejections.into_iter().filter(|one| !known.contains(&one.name)));
        let rejections = malformed;
        let mut answered = Vec::new();
        let subscribed = |state: &&mut TypeState| state.url == type_url && state.offered != Some(false);
        if let Some(state) = self.types.iter_mut().find(subscribed) {
            let rejected: BTreeSet<&str> = rejections
                .iter()
                .map(|rejection| rejection.name.as_str())
                .collect();
            // A resource that is not accepted answers as well: there is such a thing, and nothing better will come.
            let malformed = rejected.iter().map(|name| (*name, &[][..]));
            let good = came
                .iter()
                .map(|came| (came.name.as_str(), came.aliases.as_slice()));
            if let Some(names) = &mut state.on_demand {
                for (name, aliases) in good.chain(malformed) {
                    answered.extend(names.came(name, aliases).into_iter().map(|name| (name, true)));
                }
                for name in &removed {
                    answered.extend(names.gone(name, now).into_iter().map(|name| (name, false)));
                }
            }
            for Came { name, version, .. } in came {
                if rejected.contains(name.as_str()) {
                    state.held.entry(name).or_default();
                } else {
                    state.held.insert(name, version);
                }
            }
            for name in removed {
                state.held.remove(&name);
            }
            state.synced = true;
            if let Some((_, applied)) = &mut self.stream {
                *applied = true;
            }
        }
        let rejected = (!rejections.is_empty()).then(|| describe(&rejections));
        let error_detail = rejected.clone().map(|message| Status {
            code: INVALID_ARGUMENT,
            message,
            ..Status::default()
        });
        let request = DeltaDiscoveryRequest {
            type_url,
            response_nonce: nonce,
            error_detail,
            ..DeltaDiscoveryRequest::default()
        };
        Answer {
            request,
            rejected,
            answered,
        }
    }

    /// The stream has ended or could not be opened: how long to wait before the next. `entropy` is any random
    /// number; it spreads the clients of one control plane. Only a stream that worked for [`STEADY_AFTER`] makes the waits
    /// begin anew: one that serves one type and fails at another would otherwise be opened again and again at once.
    pub fn disconnected(&mut self, now: Instant, entropy: u64) -> Duration {
        if let Some((since, true)) = self.stream.take()
            && now.saturating_duration_since(since) >= STEADY_AFTER
        {
            self.backoff.reset();
        }
        self.backoff.next(entropy)
    }

    fn of_type(&mut self, type_url: &str) -> Option<&mut TypeState> {
        self.types.iter_mut().find(|state| state.url == type_url)
    }

    /// The types whose first response has been applied.
    pub fn synced(&self) -> impl Iterator<Item = &str> {
        self.types
            .iter()
            .filter(|state| state.synced)
            .map(|state| state.url.as_str())
    }

    /// The names and versions held of a type. The version is empty where none was ever accepted.
    pub fn held(&self, type_url: &str) -> impl Iterator<Item = (&str, &str)> {
        self.types
            .iter()
            .filter(move |state| state.url == type_url)
            .flat_map(|state| {
                state
                    .held
                    .iter()
                    .map(|(name, version)| (name.as_str(), version.as_str()))
            })
    }
}

/// A resource as the handler gets it.
fn read(type_url: &str, resource: Resource) -> Result<ResourceUpdate, Unreadable> {
    let Resource {
        name,
        aliases,
        version,
        resource: body,
        ..
    } = resource;
    let reason = match body {
        Some(body) if body.type_url == type_url => {
            return Ok(ResourceUpdate {
                name,
                aliases,
                version,
                payload: body.value.into(),
            });
        }
        Some(body) => format!(
            "the resource's body is of type {:?}, not of the response's",
            body.type_url
        ),
        None => "the resource has no body".to_owned(),
    };
    Err(Unreadable {
        name,
        aliases,
        reason,
    })
}

/// The rejections as one text of bounded length.
fn describe(rejections: &[Rejection]) -> String {
    let mut text = String::new();
    for (index, Rejection { name, reason }) in rejections.iter().enumerate() {
        let one = format!("{}{name}: {reason}", if index == 0 { "" } else { ", " });
        if index > 0 && text.len() + one.len() > MAX_ERROR_DETAIL {
            text.push_str(&format!(", and {} more", rejections.len() - index));
            return text;
        }
        text.push_str(cut(&one, MAX_ERROR_DETAIL));
    }
    text
}

fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let end = (0..=limit)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    &text[..end]
}
