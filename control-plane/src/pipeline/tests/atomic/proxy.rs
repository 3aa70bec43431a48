//! A proxy as simple as can be: what it was told, and what it would decide.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use proptest::test_runner::TestCaseError;
use prost::Message;
use proto::discovery::Resource;
use proto::security::{Action, Authorization, Match, Scope, string_match::MatchType};
use proto::workload::{Address, Workload, address::Type};

use crate::xds::ResourceKind;
use crate::xds::history::History;
use crate::xds::session::{Client, Next, Request, Response, Session};
use crate::xds::table::View;

/// Which workloads must be judged by whole sets.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Judged {
    Always,
    IfListsTheSame,
}

/// A proxy on one stream.
pub(super) struct Proxy {
    session: Session,
    dry_run: bool,
    world: World,
    versions: BTreeMap<ResourceKind, BTreeMap<String, String>>,
    /// So that a time can be said; nothing waits for it.
    now: Instant,
}

impl Proxy {
    pub(super) fn connect(history: &Arc<History>, dry_run: bool) -> Proxy {
        let mut proxy = Proxy {
            session: session(history, dry_run),
            dry_run,
            world: World {
                dry_run,
                ..World::default()
            },
            versions: BTreeMap::new(),
            now: Instant::now(),
        };
        proxy.reconnect(history);
        proxy
    }

    /// Begins a new stream, and says what it has.
    pub(super) fn reconnect(&mut self, history: &Arc<History>) {
        self.session = session(history, self.dry_run);
        for kind in ResourceKind::ALL {
            let request = Request {
                initial_versions: self.versions.get(&kind).cloned().unwrap_or_default(),
                ..Request::default()
            };
            assert!(self.session.request(self.now, kind, request).unwrap().is_empty());
        }
    }

    pub(super) fn forget_versions(&mut self) {
        for version in self.versions.values_mut().flat_map(BTreeMap::values_mut) {
            version.clear();
        }
    }

    pub(super) fn told(&mut self, history: &Arc<History>) {
        self.session.update(history.clone());
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.session.acknowledged()
    }

    /// Takes a response, if there is one, and looks how each workload is judged then.
    pub(super) fn step(&mut self, judged: Judged) -> Result<bool, TestCaseError> {
        let before = self.world.clone();
        if !self.unchecked_step() {
            return Ok(false);
        }
        let (old, new) = self.session.between();
        let of = |view: Option<Arc<View>>| {
            view.map(|view| World::of(&view, self.dry_run))
                .unwrap_or_default()
        };
        let (old, new) = (of(old), of(new));
        for uid in self.world.workloads.keys() {
            if judged == Judged::IfListsTheSame && old.listed(uid) != new.listed(uid) {
                continue;
            }
            let [is, was, will_be] = [&self.world, &old, &new].map(|world| world.verdicts(uid));
            if is != was && is != will_be {
                return Err(TestCaseError::fail(format!(
                    "{uid} is judged {is:?}, neither as before {was:?} nor as after {will_be:?}\nbefore the response: \
                     {before:#?}\nafter it: {:#?}\nnew: {new:#?}",
                    self.world
                )));
            }
        }
        Ok(true)
    }

    pub(super) fn unchecked_step(&mut self) -> bool {
        let response = match self.session.next(self.now) {
            Next::Send(response) => response,
            Next::Wait(None) => return false,
            other => panic!("{other:?}"),
        };
        self.world.apply(&response, &mut self.versions);
        let request = Request {
            nonce: response.nonce,
            ..Request::default()
        };
        assert!(
            self.session
                .request(self.now, response.kind, request)
                .unwrap()
                .is_empty()
        );
        true
    }

    /// Whether it knows exactly what it should know.
    pub(super) fn has(&self, view: &View) -> bool {
        self.world == World::of(view, self.dry_run)
    }
}

fn session(history: &Arc<History>, dry_run: bool) -> Session {
    let client = Client {
        node: "node-a".into(),
        dry_run,
        max_response: crate::xds::session::MAX_RESPONSE_BYTES,
    };
    Session::new(1, client, history.clone())
}

/// All that a proxy knows.
#[derive(Clone, Debug, Default, PartialEq)]
struct World {
    workloads: BTreeMap<String, Workload>,
    policies: BTreeMap<String, Authorization>,
    /// Dry-run policies are not enforced.
    dry_run: bool,
}

impl World {
    fn of(view: &View, dry_run: bool) -> World {
        let mut world = World {
            dry_run,
            ..World::default()
        };
        for kind in ResourceKind::ALL {
            for resource in view
                .table(kind)
                .iter()
                .filter(|resource| dry_run || !resource.is_dry_run)
            {
                world.put(kind, &Resource::decode(resource.encoded.clone()).unwrap());
            }
        }
        world
    }

    fn apply(
        &mut self,
        response: &Response,
        versions: &mut BTreeMap<ResourceKind, BTreeMap<String, String>>,
    ) {
        let versions = versions.entry(response.kind).or_default();
        for resource in response.resources.iter() {
            let resource = Resource::decode(resource.clone()).unwrap();
            self.put(response.kind, &resource);
            versions.insert(resource.name, resource.version);
        }
        for name in &response.removed {
            versions.remove(&**name);
            match response.kind {
                ResourceKind::Authorization => drop(self.policies.remove(&**name)),
                ResourceKind::Address => drop(self.workloads.remove(&**name)),
                ResourceKind::TrustBundle => panic!("not of the mesh's objects"),
            }
        }
    }

    fn put(&mut self, kind: ResourceKind, resource: &Resource) {
        let payload = &resource.resource.as_ref().unwrap().value[..];
        match kind {
            ResourceKind::Authorization => {
                let policy = Authorization::decode(payload).unwrap();
                self.policies.insert(resource.name.clone(), policy);
            }
            ResourceKind::Address => match Address::decode(payload).unwrap().r#type {
                Some(Type::Workload(workload)) => {
                    drop(self.workloads.insert(resource.name.clone(), workload))
                }
                other => panic!("{other:?}"),
            },
            ResourceKind::TrustBundle => panic!("not of the mesh's objects"),
        }
    }

    fn listed(&self, uid: &str) -> Option<&[String]> {
        self.workloads
            .get(uid)
            .map(|workload| &*workload.authorization_policies)
    }

    /// What every caller is answered; `None` when there is no such workload.
    fn verdicts(&self, uid: &str) -> Option<Vec<bool>> {
        let workload = self.workloads.get(uid)?;
        let callers = [None, Some("demo"), Some("other"), Some("third")];
        let probes = callers
            .into_iter()
            .flat_map(|caller| [80, 81].map(|port| (caller, port)));
        Some(
            probes
                .map(|(caller, port)| self.admits(workload, caller, port))
                .collect(),
        )
    }

    fn admits(&self, workload: &Workload, caller: Option<&str>, port: u32) -> bool {
        let by_scope = self.policies.values().filter(|policy| match policy.scope() {
            Scope::Global => true,
            Scope::Namespace => policy.namespace == workload.namespace,
            Scope::WorkloadSelector => false,
        });
        let listed = workload
            .authorization_policies
            .iter()
            .filter_map(|key| self.policies.get(key));
        let enforced = by_scope
            .chain(listed)
            .filter(|policy| !(self.dry_run && policy.dry_run));
        let (allow, deny): (Vec<_>, Vec<_>) = enforced.partition(|policy| policy.action() == Action::Allow);
        let matches = |policy: &&Authorization| {
            let holds = |part: &Match| holds(part, caller, port);
            policy
                .rules
                .iter()
                .any(|rule| rule.clauses.iter().all(|clause| clause.matches.iter().any(holds)))
        };
        !deny.iter().any(matches) && (allow.is_empty() || allow.iter().any(matches))
    }
}

/// Of what a match may ask, as much as the policies of this test do.
fn holds(part: &Match, caller: Option<&str>, port: u32) -> bool {
    let known = Match {
        namespaces: part.namespaces.clone(),
        not_principals: part.not_principals.clone(),
        destination_ports: part.destination_ports.clone(),
        not_destination_ports: part.not_destination_ports.clone(),
        ..Match::default()
    };
    assert_eq!(*part, known);
    let is_caller = |text: &proto::security::StringMatch| match &text.match_type {
        Some(MatchType::Exact(text)) => caller == Some(text),
        Some(MatchType::Presence(())) => caller.is_some(),
        other => panic!("{other:?}"),
    };
    *part != Match::default()
        && (part.namespaces.is_empty() || part.namespaces.iter().any(is_caller))
        && !part.not_principals.iter().any(is_caller)
        && (part.destination_ports.is_empty() || part.destination_ports.contains(&port))
        && !part.not_destination_ports.contains(&port)
}
