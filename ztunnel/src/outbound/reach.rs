//! From a captured connection to its destination, by one endpoint or another.

use super::tunnels::{TunnelRequest, Tunnels};
use super::{Reached, Upstream};
use crate::context::{CONNECT_DEADLINE, Context};
use crate::failure::Failure;
use crate::flow::{Flow, Parties, workload_labels};
use crate::pods::Pod;
use mesh::route::{self, Facts, HboneRoute, Hop, Need, Request, Route};
use mesh::standing::{self, Opened, Stale, Way};
use mesh::{Service, Workload};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sys::socket;
use tokio::net::TcpStream;

/// How many endpoints one connection tries.
const MAX_ATTEMPTS: usize = 3;

/// How many look-ups one connection waits for.
const MAX_WAITS: usize = 8;

/// Time for all attempts and look-ups of one connection together.
const REACH_DEADLINE: Duration = Duration::from_secs(25);

/// Time to reach one endpoint, where there is another to try: two retransmissions of a lost SYN.
const HURRIED_ATTEMPT: Duration = Duration::from_secs(4);

/// One captured connection on its way.
pub(super) struct Reach<'a> {
    pub(super) context: &'a Arc<Context>,
    pub(super) pod: &'a Pod,
    pub(super) tunnels: &'a Tunnels,
    pub(super) flow: &'a Flow,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

/// What one connection has been through.
#[derive(Default)]
struct History {
    /// Uids of endpoints that failed.
    tried: Vec<Arc<str>>,
    /// What was looked up.
    asked: Vec<Need>,
    /// Host names by which endpoints were found; each is counted once a connection.
    named: Vec<Arc<str>>,
    /// The last failure: with every endpoint tried, it says more than that none is left.
    last: Option<Failure>,
}

impl Reach<'_> {
    /// Connects. Nothing of the connection's bytes has been sent when this fails.
    pub(super) async fn run(&self) -> Result<Reached, Failure> {
        let node = &self.context.config.node_name;
        let own = self
            .context
            .state
            .own_workload(node, &self.pod.name, &self.pod.identity);
        let (_, own) = own
            .await
            .ok_or_else(|| Failure::OwnWorkloadUnknown(self.pod.full_name()))?;
        let mut history = History::default();
        let end = Instant::now() + REACH_DEADLINE;
        let attempts = self.attempts(&own, &mut history, end);
        match tokio::time::timeout_at(end.into(), attempts).await {
            Ok(outcome) => outcome,
            Err(_) => Err(history.last.unwrap_or(Failure::TooLate {
                destination: self.destination,
                seconds: REACH_DEADLINE.as_secs(),
            })),
        }
    }

    async fn attempts(
        &self,
        own: &Arc<Workload>,
        history: &mut History,
        end: Instant,
    ) -> Result<Reached, Failure> {
        while history.tried.len() < MAX_ATTEMPTS {
            // One roll of the dice for the decision and for the look at what would come after it.
            let entropy = rand::random();
            let (endpoint, attempt) = match self.route(own, &history.tried, &history.asked, entropy) {
                Route::Passthrough {
                    destination,
                    workload,
                    service,
                    ..
                } => {
                    if let Some(name) = workload.as_deref().and_then(name_of) {
                        self.count_name(own, &name, history);
                    }
                    let endpoint = workload.as_ref().map(|workload| workload.uid.clone());
                    (
                        endpoint,
                        Attempt::Plain {
                            destination,
                            workload,
                            service,
                        },
                    )
                }
                Route::Hbone(route) => {
                    if let Some(name) = name_of(&route.next) {
                        self.count_name(own, &name, history);
                    }
                    (Some(route.next.uid.clone()), Attempt::Tunnel(route))
                }
                Route::Wait(need) if history.asked.len() < MAX_WAITS && !history.asked.contains(&need) => {
                    if let Need::Hostname(name) = &need {
                        self.count_name(own, name, history);
                    }
                    self.look_up(&need).await?;
                    history.asked.push(need);
                    continue;
                }
                Route::Wait(need) => {
                    return Err(Failure::LookUp(format!(
                        "{need:?} was looked up and is not known"
                    )));
                }
                Route::Refuse(refusal) => return Err(history.last.take().unwrap_or(Failure::Route(refusal))),
            };
            if endpoint.as_ref().is_some_and(|uid| history.tried.contains(uid)) {
                // A pod's own address: there is no other endpoint behind it, and asking again would only
                // multiply the wait for one that does not answer.
                break;
            }
            let limit = self.time_for(own, endpoint.as_ref(), history, entropy, end);
            let counted = endpoint.as_ref().map(|uid| self.context.load.count(uid));
            match self.attempt(own, attempt, limit).await {
                Ok(way) => {
                    if let Some(uid) = &endpoint {
                        self.context.load.reached(uid);
                    }
                    return Ok(Reached {
                        way,
                        _counted: counted,
                    });
                }
                Err(failed) => {
                    let Some(uid) = endpoint.filter(|_| failed.failure.may_try_elsewhere()) else {
                        return Err(failed.failure);
                    };
                    if failed.blames_endpoint {
                        self.context.load.failed(&uid);
                    }
                    history.tried.push(uid);
                    history.last = Some(failed.failure);
                }
            }
        }
        Err(history
            .last
            .take()
            .unwrap_or_else(|| Failure::BadRequest("no endpoint was tried".into())))
    }

    fn count_name(&self, own: &Workload, name: &Arc<str>, history: &mut History) {
        if !history.named.contains(name) {
            let source = workload_labels(own, true);
            self.context.metrics.on_demand_dns(&source, name);
            history.named.push(name.clone());
        }
    }

    fn route(&self, own: &Workload, tried: &[Arc<str>], asked: &[Need], entropy: u64) -> Route {
        let snapshot = self.context.state.snapshot();
        let request = Request {
            source: own,
            destination: self.destination,
        };
        let facts = Facts {
            snapshot: &snapshot,
            health: &self.context.load.now(),
            tried,
            asked,
            now: Instant::now(),
            entropy,
            names: &self.context.host_names,
            rules: &self.context.rules,
        };
        route::route(&request, &facts)
    }

    /// The time for an attempt at `endpoint`: little, if another could be tried after it.
    fn time_for(
        &self,
        own: &Workload,
        endpoint: Option<&Arc<str>>,
        history: &History,
        entropy: u64,
        end: Instant,
    ) -> Duration {
        let left = end.saturating_duration_since(Instant::now());
        let Some(endpoint) = endpoint.filter(|_| history.tried.len() + 1 < MAX_ATTEMPTS) else {
            return left;
        };
        let mut tried = history.tried.clone();
        tried.push(endpoint.clone());
        let another = match self.route(own, &tried, &history.asked, entropy) {
            Route::Hbone(route) => !tried.contains(&route.next.uid),
            Route::Passthrough { workload, .. } => {
                workload.is_some_and(|workload| !tried.contains(&workload.uid))
            }
            Route::Wait(_) => true,
            Route::Refuse(_) => false,
        };
        if another { left.min(HURRIED_ATTEMPT) } else { left }
    }

    async fn look_up(&self, need: &Need) -> Result<(), Failure> {
        match need {
            Need::Hostname(name) => {
                self.context.host_names.ask(name).await;
                Ok(())
            }
            other => match self.context.state.on_demand().look_up(other).await {
                Some(Ok(_)) => Ok(()),
                Some(Err(error)) => Err(Failure::LookUp(format!("{other:?} is not known: {error}"))),
                None => Err(Failure::LookUp(format!(
                    "{other:?} cannot be looked up on demand"
                ))),
            },
        }
    }

    async fn attempt(
        &self,
        own: &Arc<Workload>,
        attempt: Attempt,
        limit: Duration,
    ) -> Result<Upstream, Failed> {
        match attempt {
            Attempt::Plain {
                destination,
                workload,
                service,
            } => {
                self.flow.opened(Parties::outbound(
                    own,
                    workload.as_deref(),
                    service.as_deref(),
                    None,
                ));
                let stream = self.connect(destination, limit).await.map_err(Failed::endpoint)?;
                self.stands(own, destination, Way::Plain { workload })?;
                Ok(Upstream::Direct(stream))
            }
            Attempt::Tunnel(route) => self.tunnel(own, *route, limit).await,
        }
    }

    async fn connect(&self, to: SocketAddr, limit: Duration) -> Result<TcpStream, Failure> {
        let options = self
            .context
            .config
            .sockets
            .connect(None, limit.min(CONNECT_DEADLINE));
        let began = Instant::now();
        let connected = socket::connect(&self.pod.network, &options, to)
            .await
            .map_err(|error| Failure::Connect { to, error })?;
        self.context
            .metrics
            .connected(telemetry::Reporter::Source, began.elapsed());
        Ok(connected)
    }

    async fn tunnel(
        &self,
        own: &Arc<Workload>,
        route: HboneRoute,
        limit: Duration,
    ) -> Result<Upstream, Failed> {
        let HboneRoute {
            hop,
            peer,
            authority,
            accepted,
            next,
            inner,
            workload,
            service,
            destination,
        } = route;
        let named = workload.as_deref().unwrap_or(&next);
        let parties = Parties::outbound(own, Some(named), service.as_deref(), Some(&self.pod.identity));
        self.flow.opened(parties.through(peer, authority.as_str()));
        if self.pod.buffers.is_exhausted() {
            return Err(Failed {
                failure: Failure::BuffersFull(self.pod.full_name()),
                blames_endpoint: false,
            });
        }
        let request = TunnelRequest {
            peer,
            authority,
            accepted,
            inner,
            limit,
            service_host: service.as_ref().map(|service| service.hostname.clone()),
        };
        let opened = self.tunnels.open(self.flow, own, self.source, request).await;
        // What a waypoint or gateway says of those behind it is not its own fault.
        let opened = opened.map_err(|failure| Failed {
            blames_endpoint: hop == Hop::Endpoint || failure.is_of_the_next_hop(),
            failure,
        })?;
        let way = Way::Tunnel {
            next,
            peer: opened.proven.peer,
            workload,
        };
        self.stands(own, destination, way)?;
        Ok(Upstream::Tunnel(opened.tunnel))
    }

    /// Notes where the connection goes, so that changes from now on can close it, and asks once more whether it may:
    /// a change since the decision has not seen it.
    fn stands(&self, own: &Arc<Workload>, destination: SocketAddr, way: Way) -> Result<(), Stale> {
        let opened = Opened {
            source: own.clone(),
            destination,
            way,
        };
        self.flow.goes(opened.clone());
        standing::stale(&opened, &self.context.state.snapshot(), &self.context.rules).map_or(Ok(()), Err)
    }
}

/// The name by which a workload without addresses is found.
fn name_of(workload: &Workload) -> Option<Arc<str>> {
    let by_name = workload.addresses.is_empty() && !workload.hostname.is_empty();
    by_name.then(|| workload.hostname.clone())
}

/// What is tried.
enum Attempt {
    Plain {
        destination: SocketAddr,
        workload: Option<Arc<Workload>>,
        service: Option<Arc<Service>>,
    },
    Tunnel(Box<HboneRoute>),
}

/// Why it did not work.
struct Failed {
    failure: Failure,
    /// Whether others should pass over the endpoint for a while.
    blames_endpoint: bool,
}

impl From<Stale> for Failed {
    fn from(stale: Stale) -> Self {
        Self {
            failure: Failure::Closed(crate::connections::CloseReason::Stale(stale)),
            blames_endpoint: false,
        }
    }
}

impl Failed {
    fn endpoint(failure: Failure) -> Self {
        Self {
            failure,
            blames_endpoint: true,
        }
    }
}
