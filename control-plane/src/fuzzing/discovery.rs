//! One proxy that speaks delta xDS as it likes, on a small mesh that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ca::Caller;
use prost::Message;
use proto::discovery::{self, DeltaDiscoveryRequest};

use crate::xds::bundle::{Bundle, BundleSession};
use crate::xds::history::History;
use crate::xds::node::{self, ProxyName, Role};
use crate::xds::resource::{Links, Resource};
use crate::xds::session::{ANSWER_DEADLINE, Client, Next, Request, Response, Session};
use crate::xds::table::View;
use crate::xds::{ResourceKind, codec};

/// How many responses may follow each other without a word from the proxy. The mesh is small, and each step of a plan
/// says something of it.
const MOST_RESPONSES: usize = 2000;

/// Pieces of one byte that says what it is, its length in one byte times four, and its content: a request as the proxy
/// has put it, an answer to the last response, a change of the mesh, or a new stream.
///
/// A proxy that says nothing of its own is held against what it was told: in the end it must have the whole mesh.
pub fn discovery_stream(mut input: &[u8]) -> bool {
    let mut bench = Bench::new();
    let mut accepted = false;
    while let [what, length, rest @ ..] = input {
        let (content, rest) = rest.split_at(rest.len().min(usize::from(*length) * 4));
        input = rest;
        match what % 8 {
            0 | 1 => match bench.request(content) {
                Some(()) => accepted = true,
                None => return accepted,
            },
            2 => bench.answer(None),
            3 => bench.answer(Some(&String::from_utf8_lossy(content))),
            4 | 5 => bench.change(content),
            6 => bench.reconnect(),
            _ => bench.now += Duration::from_millis(u64::from(*length) * 100),
        }
        bench.take_some();
    }
    bench.settle();
    accepted || bench.is_faithful
}

struct Bench {
    view: View,
    history: History,
    session: Session,
    bundle: BundleSession,
    now: Instant,
    streams: u64,
    /// What the proxy has: by kind and name the version.
    held: BTreeMap<(ResourceKind, String), String>,
    /// The last response that has no answer, by kind.
    unanswered: BTreeMap<ResourceKind, String>,
    nonces: BTreeSet<String>,
    /// The proxy has asked for everything, and for nothing else.
    is_faithful: bool,
}

fn client() -> Client {
    Client {
        node: "node-a".into(),
        dry_run: true,
        // A few resources, so that there are responses in parts.
        max_response: 512,
    }
}

impl Bench {
    fn new() -> Bench {
        let view = View::default();
        let history = History::new(Arc::new(view.clone()));
        let mut bench = Bench {
            session: Session::new(0, client(), Arc::new(history.clone())),
            bundle: BundleSession::new(0, None),
            view,
            history,
            now: Instant::now(),
            streams: 0,
            held: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            nonces: BTreeSet::new(),
            is_faithful: true,
        };
        bench.reconnect();
        bench
    }

    /// A new stream, on which the proxy names what it has.
    fn reconnect(&mut self) {
        self.streams += 1;
        let roots = Bundle::new(self.view.generation, "cluster.local", "roots", "", None);
        self.session = Session::new(self.streams, client(), Arc::new(self.history.clone()));
        self.bundle = BundleSession::new(self.streams, Some(Arc::new(roots)));
        self.unanswered.clear();
        if !self.is_faithful {
            return;
        }
        for kind in ResourceKind::ALL {
            let of_kind = self.held.iter().filter(|((of, _), _)| *of == kind);
            let request = Request {
                initial_versions: of_kind
                    .map(|((_, name), version)| (name.clone(), version.clone()))
                    .collect(),
                ..Request::default()
            };
            let outcome = self.session.request(self.now, kind, request);
            assert_eq!(outcome, Ok(Vec::new()));
        }
    }

    /// A request of the proxy's own making; `None` when the stream ends by it.
    fn request(&mut self, content: &[u8]) -> Option<()> {
        let request = codec::decode(Bytes::copy_from_slice(content)).ok()?;
        introduce(&request);
        if self.is_faithful {
            // From here on nobody knows what it ought to have; it begins anew with this.
            self.is_faithful = false;
            self.reconnect();
        }
        let kind = ResourceKind::from_type_url(&request.type_url).unwrap_or(ResourceKind::TrustBundle);
        let request = Request::from(request);
        match kind {
            ResourceKind::TrustBundle => drop(self.bundle.request(request)),
            _ => drop(self.session.request(self.now, kind, request).ok()?),
        }
        Some(())
    }

    fn answer(&mut self, error: Option<&str>) {
        let Some((kind, nonce)) = self.unanswered.pop_first() else {
            return;
        };
        let request = Request {
            nonce,
            error: error.map(str::to_owned),
            ..Request::default()
        };
        if kind == ResourceKind::TrustBundle {
            let rejection = self.bundle.request(request);
            assert_eq!(rejection.is_some(), error.is_some());
            return;
        }
        // It rejects in words only: what it was told it has.
        let Ok(rejections) = self.session.request(self.now, kind, request) else {
            panic!("an answer asks for nothing")
        };
        assert_eq!(rejections.is_empty(), error.is_none());
        assert!(self.session.acknowledged() <= self.session.sent());
    }

    /// Each byte adds, changes or removes something.
    fn change(&mut self, content: &[u8]) {
        for byte in content.iter().take(64) {
            let (number, content) = (byte % 8, byte / 8 % 8);
            let (policy, workload) = (format!("ns/policy-{number}"), format!("c//Pod/ns/pod-{number}"));
            match (byte / 64, content) {
                (0, 0) => self.view.policies.remove(&policy),
                (0, _) => self.view.policies.put(Resource::new(
                    ResourceKind::Authorization,
                    &policy,
                    vec![content],
                    Links {
                        is_wide: content % 2 == 1,
                        ..Links::default()
                    },
                )),
                (_, 0) => self.view.addresses.remove(&workload),
                (_, _) => {
                    let links = Links {
                        aliases: vec![format!("net/10.0.0.{number}").into()],
                        node: Some(format!("node-{}", if number < 4 { 'a' } else { 'b' }).into()),
                        services: vec!["ns/service".into()],
                        listed: vec![format!("ns/policy-{content}").into()],
                        ..Links::default()
                    };
                    let resource = Resource::new(ResourceKind::Address, &workload, vec![content], links);
                    self.view.addresses.put(resource);
                }
            }
        }
        self.view.revision += 1;
        self.view.generation += 1;
        self.history.push(Arc::new(self.view.clone()));
        self.session.update(Arc::new(self.history.clone()));
    }

    /// Takes what is to be sent without an answer; whether there is nothing more for now.
    fn take_some(&mut self) -> Option<Instant> {
        for _ in 0..MOST_RESPONSES {
            if let Some(response) = self.bundle.next() {
                self.unanswered.insert(response.kind, response.nonce);
            }
            match self.session.next(self.now) {
                Next::Send(response) => self.take(&response),
                Next::Wait(until) => return until,
                Next::Restart => self.reconnect(),
            }
        }
        panic!("the proxy says nothing, and responses go on");
    }

    /// Answers until there is nothing more.
    fn settle(&mut self) {
        for _ in 0..MOST_RESPONSES {
            let until = self.take_some();
            while !self.unanswered.is_empty() {
                self.answer(None);
            }
            match until {
                // A step whose answer was left out is waited for no longer.
                Some(until) => self.now = self.now.max(until.min(self.now + ANSWER_DEADLINE)),
                None if self.take_some().is_none() && self.unanswered.is_empty() => break,
                None => {}
            }
        }
        if !self.is_faithful {
            return;
        }
        for kind in ResourceKind::ALL {
            let served: BTreeMap<_, _> = self
                .view
                .table(kind)
                .iter()
                .map(|resource| (resource.name.to_string(), resource.version.to_string()))
                .collect();
            let has = self.held.iter().filter(|((of, _), _)| *of == kind);
            let has: BTreeMap<_, _> = has
                .map(|((_, name), version)| (name.clone(), version.clone()))
                .collect();
            assert_eq!(has, served, "{kind}");
        }
        assert_eq!(self.session.acknowledged(), self.view.revision);
    }

    fn take(&mut self, response: &Response) {
        assert!(
            self.nonces.insert(response.nonce.clone()),
            "no two responses share a nonce"
        );
        self.unanswered.insert(response.kind, response.nonce.clone());
        let mut named = BTreeSet::new();
        for encoded in response.resources.iter() {
            let resource = discovery::Resource::decode(encoded.clone()).expect("what is sent can be read");
            assert!(named.insert(resource.name.clone()), "twice in one response");
            self.held.insert((response.kind, resource.name), resource.version);
        }
        for name in &response.removed {
            assert!(named.insert(name.to_string()), "sent and removed in one response");
            self.held.remove(&(response.kind, name.to_string()));
        }
    }
}

/// Whoever is served, is served as whom the token names.
fn introduce(request: &DeltaDiscoveryRequest) {
    let said = request.node.as_ref();
    assert!(node::version(said).len() <= 253);
    node::knows_dry_run(said);
    let Ok(name) = ProxyName::from_node(said) else {
        return;
    };
    assert_eq!(name.still(said), Ok(()));
    let trusted = [("istio-system".to_owned(), "ztunnel".to_owned())];
    for account in ["ztunnel", "web"] {
        let caller = Caller {
            namespace: "istio-system".to_owned(),
            service_account: account.to_owned(),
            pod_name: "zt-1".to_owned(),
            pod_uid: "uid".to_owned(),
            node: "node-a".to_owned(),
        };
        let Ok(role) = name.check(said, &caller, &trusted, |_| Ok(())) else {
            continue;
        };
        assert_eq!((&*name.namespace, &*name.pod), ("istio-system", "zt-1"));
        assert!(name.node == "node-a" || (role == Role::Dedicated && name.node.is_empty()));
        assert_eq!(role == Role::Node, account == "ztunnel");
    }
}
