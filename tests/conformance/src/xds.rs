use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message;
use proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
use proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use proto::security::{AUTHORIZATION_TYPE_URL, Authorization};
use proto::workload::address::Type as AddressKind;
use proto::workload::{ADDRESS_TYPE_URL, Address, Service, Workload};
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::failure::{Failure, Outcome};
use crate::wait::{eventually, eventually_some};

/// How long the subject may take to answer a push.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Discovery as Istio's control plane serves it: delta, two types, wildcard or on demand. Clones share it.
#[derive(Clone, Debug)]
pub struct Discovery {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Counts changes of what is served.
    revision: watch::Sender<u64>,
    /// Counts cuts of all streams.
    cuts: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    resources: BTreeMap<(&'static str, String), Served>,
    /// Resources that were never served and are to be said to be gone.
    phantoms: BTreeSet<(&'static str, String)>,
    away: bool,
    next_version: u64,
    next_nonce: u64,
    next_stream: u64,
    open: BTreeSet<u64>,
    /// The last change that each stream has heard of, if it concerned it.
    heard: BTreeMap<u64, u64>,
    seen: Vec<Seen>,
    sent: Vec<Sent>,
}

#[derive(Clone, Debug)]
struct Served {
    version: String,
    aliases: Vec<String>,
    body: Vec<u8>,
    /// Sent without being asked for, as istiod does with workloads of the client's node.
    is_of_node: bool,
}

/// One request of the subject.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which stream it came on; they are counted from 1.
    pub stream: u64,
    /// Its gRPC metadata: `authorization` and `clusterid`.
    pub headers: BTreeMap<String, String>,
    /// The request.
    pub request: DeltaDiscoveryRequest,
}

/// One response that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Which stream it went on.
    pub stream: u64,
    /// Its nonce.
    pub nonce: String,
    /// Its type.
    pub type_url: String,
    /// Names of the resources in it.
    pub names: Vec<String>,
    /// Names it says are gone.
    pub removed: Vec<String>,
    revision: u64,
}

/// What the subject said to a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has taken it.
    Ack,
    /// It has refused some of it, for this reason.
    Nack(String),
}

impl Discovery {
    /// Serves nothing yet.
    pub fn new() -> Discovery {
        let shared = Shared {
            state: Mutex::default(),
            revision: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
        };
        Discovery {
            shared: Arc::new(shared),
        }
    }

    /// Serves these workloads, besides or in place of those of the same uid, and waits for the verdict.
    pub async fn workloads(&self, workloads: impl IntoIterator<Item = Workload>) -> Outcome<Vec<Verdict>> {
        self.change(|state| {
            workloads
                .into_iter()
                .for_each(|workload| state.put_workload(workload));
        })
        .await
    }

    /// As [`Discovery::workloads`], for services.
    pub async fn services(&self, services: impl IntoIterator<Item = Service>) -> Outcome<Vec<Verdict>> {
        self.change(|state| {
            for service in services {
                let name = format!("{}/{}", service.namespace, service.hostname);
                let aliases = service
                    .addresses
                    .iter()
                    .filter_map(|address| alias(&address.network, &address.address))
                    .collect();
                let address = Address {
                    r#type: Some(AddressKind::Service(service)),
                };
                state.put(ADDRESS_TYPE_URL, name, aliases, address.encode_to_vec());
            }
        })
        .await
    }

    /// As [`Discovery::workloads`], for policies.
    pub async fn policies(&self, policies: impl IntoIterator<Item = Authorization>) -> Outcome<Vec<Verdict>> {
        self.change(|state| {
            for policy in policies {
                let name = format!("{}/{}", policy.namespace, policy.name);
                state.put(AUTHORIZATION_TYPE_URL, name, Vec::new(), policy.encode_to_vec());
            }
        })
        .await
    }

    /// Serves a resource whose body is not what its type says.
    pub async fn malformed(&self, type_url: &'static str, name: &str, body: &[u8]) -> Outcome<Vec<Verdict>> {
        self.change(|state| state.put(type_url, name.to_owned(), Vec::new(), body.to_vec()))
            .await
    }

    /// Serves workloads and a resource whose body is not what its type says, in one push.
    pub async fn together(
        &self,
        workloads: impl IntoIterator<Item = Workload>,
        (type_url, name): (&'static str, &str),
        body: &[u8],
    ) -> Outcome<Vec<Verdict>> {
        self.change(|state| {
            workloads
                .into_iter()
                .for_each(|workload| state.put_workload(workload));
            state.put(type_url, name.to_owned(), Vec::new(), body.to_vec());
        })
        .await
    }

    /// Says that a resource is gone that was never served.
    pub async fn removed_unheld(&self, type_url: &'static str, name: &str) -> Outcome<Vec<Verdict>> {
        self.change(|state| {
            state.phantoms.insert((type_url, name.to_owned()));
        })
        .await
    }

    /// From now on refuses new streams with `UNAVAILABLE`, or no longer.
    pub fn away(&self, away: bool) {
        self.lock().away = away;
    }

    /// No longer serves the named resources of a type.
    pub async fn remove(&self, type_url: &'static str, names: &[&str]) -> Outcome<Vec<Verdict>> {
        self.change(|state| {
            for name in names {
                state.resources.remove(&(type_url, (*name).to_owned()));
            }
        })
        .await
    }

    /// Ends every open stream with `UNAVAILABLE`.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// All requests so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// All responses so far, in order.
    pub fn sent(&self) -> Vec<Sent> {
        self.lock().sent.clone()
    }

    /// What the subject said to a response.
    pub fn verdict(&self, nonce: &str) -> Option<Verdict> {
        let state = self.lock();
        let answer = state
            .seen
            .iter()
            .find(|seen| seen.request.response_nonce == nonce)?;
        Some(match &answer.request.error_detail {
            None => Verdict::Ack,
            Some(detail) => Verdict::Nack(detail.message.clone()),
        })
    }

    /// Waits until the subject has a stream open and has answered everything sent on it.
    pub async fn settled(&self) -> Outcome {
        eventually(
            "the subject asks for both types and answers what it got",
            ANSWER_DEADLINE,
            || {
                let state = self.lock();
                let Some(stream) = state.open.last() else {
                    return false;
                };
                let sent: Vec<_> = state.sent.iter().filter(|sent| sent.stream == *stream).collect();
                sent.len() >= 2
                    && sent.iter().all(|sent| {
                        state
                            .seen
                            .iter()
                            .any(|seen| seen.request.response_nonce == sent.nonce)
                    })
            },
        )
        .await
    }

    /// Makes a change and waits until every open stream that hears of it has said what it makes of it. Without an open
    /// stream that is nobody.
    async fn change(&self, make: impl FnOnce(&mut State)) -> Outcome<Vec<Verdict>> {
        let open = {
            let mut state = self.lock();
            make(&mut state);
            state.open.clone()
        };
        let mut revision = 0;
        self.shared.revision.send_modify(|counted| {
            *counted += 1;
            revision = *counted;
        });
        let mut verdicts = Vec::new();
        for stream in open {
            let nonces = eventually_some("a change is pushed", ANSWER_DEADLINE, || {
                let state = self.lock();
                let heard = state.heard.get(&stream).is_some_and(|heard| *heard >= revision);
                let nonces = || {
                    let of_change = |sent: &&Sent| sent.stream == stream && sent.revision >= revision;
                    state
                        .sent
                        .iter()
                        .filter(of_change)
                        .map(|sent| sent.nonce.clone())
                        .collect()
                };
                (heard || !state.open.contains(&stream)).then(nonces)
            });
            let nonces: Vec<String> = nonces.await?;
            for nonce in nonces {
                let verdict = eventually_some("the subject answers a push", ANSWER_DEADLINE, || {
                    self.verdict(&nonce)
                });
                verdicts.push(verdict.await?);
            }
        }
        Ok(verdicts)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Discovery {
    fn default() -> Self {
        Discovery::new()
    }
}

/// The name under which a resource is also known to who asks for an address.
fn alias(network: &str, bytes: &[u8]) -> Option<String> {
    crate::mesh::ip_of(bytes).map(|ip| format!("{network}/{ip}"))
}

impl State {
    fn put_workload(&mut self, workload: Workload) {
        let name = workload.uid.clone();
        let aliases = workload
            .addresses
            .iter()
            .filter_map(|bytes| alias(&workload.network, bytes))
            .collect();
        let is_of_node = workload.node == crate::mesh::NODE;
        let address = Address {
            r#type: Some(AddressKind::Workload(workload)),
        };
        self.put_served(
            ADDRESS_TYPE_URL,
            name,
            aliases,
            address.encode_to_vec(),
            is_of_node,
        );
    }

    fn put(&mut self, type_url: &'static str, name: String, aliases: Vec<String>, body: Vec<u8>) {
        self.put_served(type_url, name, aliases, body, false);
    }

    fn put_served(
        &mut self,
        type_url: &'static str,
        name: String,
        aliases: Vec<String>,
        body: Vec<u8>,
        is_of_node: bool,
    ) {
        self.next_version += 1;
        let version = format!("v{}", self.next_version);
        let served = Served {
            version,
            aliases,
            body,
            is_of_node,
        };
        self.resources.insert((type_url, name), served);
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Discovery {
    type StreamAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;
    type DeltaAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn stream_aggregated_resources(
        &self,
        _request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only the delta variant is served"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let headers = ["authorization", "clusterid"]
            .into_iter()
            .filter_map(|name| {
                let value = request.metadata().get(name)?.to_str().ok()?;
                Some((name.to_owned(), value.to_owned()))
            })
            .collect();
        let stream = {
            let mut state = self.lock();
            if state.away {
                return Err(Status::unavailable("away, by the check"));
            }
            state.next_stream += 1;
            let stream = state.next_stream;
            state.open.insert(stream);
            stream
        };
        let (out, responses) = mpsc::channel(16);
        let session = Session {
            discovery: self.clone(),
            stream,
            headers,
            types: BTreeMap::new(),
            phantoms: BTreeSet::new(),
            out,
        };
        tokio::spawn(session.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}

/// One stream.
struct Session {
    discovery: Discovery,
    stream: u64,
    headers: BTreeMap<String, String>,
    types: BTreeMap<&'static str, Subscription>,
    phantoms: BTreeSet<(&'static str, String)>,
    out: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
}

#[derive(Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<String>,
    /// Versions that the subject holds, by resource name.
    held: BTreeMap<String, String>,
}

impl Session {
    async fn run(mut self, mut requests: Streaming<DeltaDiscoveryRequest>) {
        let mut revision = self.discovery.shared.revision.subscribe();
        let mut cuts = self.discovery.shared.cuts.subscribe();
        cuts.mark_unchanged();
        loop {
            let going_on = tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.request(request).await,
                    _ => Err(Failure::new("the stream has ended")),
                },
                changed = revision.changed() => match changed {
                    Ok(()) => {
                        let revision = *revision.borrow_and_update();
                        self.push_all(revision).await
                    }
                    Err(_) => Err(Failure::new("the server has ended")),
                },
                _ = cuts.changed() => {
                    let _ = self.out.send(Err(Status::unavailable("cut by the check"))).await;
                    Err(Failure::new("cut"))
                }
            };
            if going_on.is_err() {
                break;
            }
        }
        self.discovery.lock().open.remove(&self.stream);
    }

    async fn request(&mut self, request: DeltaDiscoveryRequest) -> Outcome {
        self.discovery.lock().seen.push(Seen {
            stream: self.stream,
            headers: self.headers.clone(),
            request: request.clone(),
        });
        let type_url = match request.type_url.as_str() {
            url if url == ADDRESS_TYPE_URL => ADDRESS_TYPE_URL,
            url if url == AUTHORIZATION_TYPE_URL => AUTHORIZATION_TYPE_URL,
            _ => return Ok(()),
        };
        let first = !self.types.contains_key(type_url);
        let subscription = self.types.entry(type_url).or_default();
        let star = |names: &[String]| names.iter().any(|name| name == "*");
        if first {
            let (subscribes, unsubscribes) = (
                &request.resource_names_subscribe,
                &request.resource_names_unsubscribe,
            );
            subscription.wildcard =
                subscribes.is_empty() && unsubscribes.is_empty() || star(subscribes) && !star(unsubscribes);
            subscription.held = request.initial_resource_versions.clone();
        }
        let asked: Vec<String> = request
            .resource_names_subscribe
            .iter()
            .filter(|name| *name != "*")
            .cloned()
            .collect();
        subscription.names.extend(asked.iter().cloned());
        if first || !asked.is_empty() {
            let revision = *self.discovery.shared.revision.borrow();
            return self.push(type_url, &asked, true, revision).await;
        }
        Ok(())
    }

    async fn push_all(&mut self, revision: u64) -> Outcome {
        let types: Vec<&'static str> = self.types.keys().copied().collect();
        for type_url in types {
            self.push(type_url, &[], false, revision).await?;
        }
        self.discovery.lock().heard.insert(self.stream, revision);
        Ok(())
    }

    /// Sends what differs from what the subject holds. What was `asked` for and is not there is said to be gone.
    async fn push(
        &mut self,
        type_url: &'static str,
        asked: &[String],
        even_empty: bool,
        revision: u64,
    ) -> Outcome {
        let Some(subscription) = self.types.get_mut(type_url) else {
            return Ok(());
        };
        let response = {
            let mut state = self.discovery.lock();
            let wanted = |name: &String, served: &Served| {
                subscription.wildcard
                    || served.is_of_node
                    || subscription.names.contains(name)
                    || served
                        .aliases
                        .iter()
                        .any(|alias| subscription.names.contains(alias))
            };
            let of_type = || {
                state
                    .resources
                    .iter()
                    .filter(|((url, _), _)| *url == type_url)
                    .map(|((_, name), served)| (name, served))
            };
            let mut resources = Vec::new();
            for (name, served) in of_type().filter(|(name, served)| wanted(name, served)) {
                let again = asked.contains(name) || served.aliases.iter().any(|alias| asked.contains(alias));
                if again || subscription.held.get(name) != Some(&served.version) {
                    resources.push(Resource {
                        name: name.clone(),
                        aliases: if subscription.wildcard {
                            Vec::new()
                        } else {
                            served.aliases.clone()
                        },
                        version: served.version.clone(),
                        resource: Some(prost_types::Any {
                            type_url: type_url.to_owned(),
                            value: served.body.clone(),
                        }),
                        ..Resource::default()
                    });
                }
            }
            let exists =
                |name: &String| of_type().any(|(own, served)| own == name || served.aliases.contains(name));
            let mut removed: Vec<String> = subscription
                .held
                .keys()
                .filter(|name| !exists(name))
                .cloned()
                .collect();
            removed.extend(asked.iter().filter(|name| !exists(name)).cloned());
            for phantom in &state.phantoms {
                if phantom.0 == type_url && self.phantoms.insert(phantom.clone()) {
                    removed.push(phantom.1.clone());
                }
            }
            if resources.is_empty() && removed.is_empty() && !even_empty {
                return Ok(());
            }
            for resource in &resources {
                subscription
                    .held
                    .insert(resource.name.clone(), resource.version.clone());
            }
            for name in &removed {
                subscription.held.remove(name);
            }
            state.next_nonce += 1;
            let nonce = format!("nonce-{}", state.next_nonce);
            state.sent.push(Sent {
                stream: self.stream,
                nonce: nonce.clone(),
                type_url: type_url.to_owned(),
                names: resources.iter().map(|resource| resource.name.clone()).collect(),
                removed: removed.clone(),
                revision,
            });
            DeltaDiscoveryResponse {
                system_version_info: revision.to_string(),
                resources,
                type_url: type_url.to_owned(),
                removed_resources: removed,
                nonce,
            }
        };
        Ok(self.out.send(Ok(response)).await?)
    }
}
