//! A question, answered.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mesh::authorize::{ExplainedPolicy, explain};
use mesh::inbound::{self, Asked, Authority};
use mesh::{Connection, Decision, Identity, Snapshot, Workload, authorize};
use objects::{Kind, Object, ObjectKey, Protocol, Service, ServiceType, TargetPort};

use crate::answer::{Answer, EndpointAnswer, Ground, Unanswerable};
use crate::question::{Caller, Target};
use crate::world::{Basis, Pod, World};

pub(crate) mod notes;
mod waypoint;

use waypoint::Way;

/// The caller as a node proxy meets it.
#[derive(Clone, Debug)]
pub(crate) struct Speaker {
    /// The identity in its certificate; none for plaintext.
    pub(crate) identity: Option<Identity>,
    /// Where it connects from; empty where that is not known.
    addresses: Vec<IpAddr>,
    /// It is this pod, by namespace and name.
    pod: Option<(String, String)>,
}

/// How a decision is made: with or without all that led to it.
type Decide = fn(&Connection<'_>, &Snapshot) -> (Decision, Vec<ExplainedPolicy>);

/// An endpoint, and the port of it.
struct Endpoint {
    workload: Arc<Workload>,
    address: SocketAddr,
    membership: Result<(), String>,
}

impl World {
    /// Whether the caller may connect to the target, and why.
    ///
    /// # Errors
    /// When there is no such pod, account or Service here, or something else keeps the question from having an
    /// answer.
    pub fn ask(&self, caller: &Caller, target: &Target) -> Result<Answer, Unanswerable> {
        self.answer(caller, target, |connection, snapshot| {
            (authorize(connection, snapshot), Vec::new())
        })
    }

    /// The same with further objects, which are gone afterwards: each is added, or takes the place of the one with its
    /// key. Policies are weighed for the pods that the question is about, so that the cost does not grow with the
    /// others.
    ///
    /// # Errors
    /// As [`World::ask`].
    pub fn ask_with(
        &mut self,
        objects: impl IntoIterator<Item = Arc<Object>>,
        caller: &Caller,
        target: &Target,
    ) -> Result<Answer, Unanswerable> {
        let pods = self.pods_behind(target);
        self.with_for(Some(&pods), objects, |world| world.ask(caller, target))
    }

    /// The same as [`World::ask`], and what became of each policy on the way ([`EndpointAnswer::policies`]).
    ///
    /// # Errors
    /// As [`World::ask`].
    pub fn explain(&self, caller: &Caller, target: &Target) -> Result<Answer, Unanswerable> {
        self.answer(caller, target, |connection, snapshot| {
            let explanation = explain(connection, snapshot);
            (explanation.decision, explanation.policies)
        })
    }

    /// The pods whose policies decide about connections to the target.
    fn pods_behind(&self, target: &Target) -> BTreeSet<ObjectKey> {
        match target {
            Target::Pod { namespace, name, .. } => [ObjectKey::new(Kind::Pod, namespace, name)].into(),
            Target::Service { namespace, name, .. } => {
                let service = self.service_key(namespace, name);
                let workloads = self.snapshot().endpoints(&service);
                let pods = workloads.filter(|workload| workload.is_pod());
                pods.map(|workload| ObjectKey::new(Kind::Pod, &workload.namespace, &workload.name))
                    .collect()
            }
        }
    }

    /// What a node proxy calls a Service: `namespace/hostname`.
    fn service_key(&self, namespace: &str, name: &str) -> String {
        format!("{namespace}/{}", self.hostname(namespace, name))
    }

    fn hostname(&self, namespace: &str, name: &str) -> String {
        format!("{name}.{namespace}.svc.{}", self.settings().cluster_domain)
    }

    fn answer(&self, caller: &Caller, target: &Target, decide: Decide) -> Result<Answer, Unanswerable> {
        let speaker = self.speaker(caller)?;
        let (endpoints, mut notes) = self.endpoints(target)?;
        let way = self.way(&speaker, target)?;
        let seen = match &way {
            Way::Waypoint { speaker, .. } => speaker,
            Way::Direct | Way::Closed(_) => &speaker,
        };
        let mut answers = Vec::with_capacity(endpoints.len());
        for endpoint in &endpoints {
            let mut answer = self.decide(seen, endpoint, decide)?;
            if let Way::Closed(why) = &way {
                answer.ground = Ground::WaypointUnusable(why.clone());
                answer.policies.clear();
            }
            answers.push(answer);
        }
        if let Way::Waypoint { note, .. } = &way {
            notes.push(note.clone());
        }
        let passes = matches!(way, Way::Waypoint { .. });
        notes.extend(self.notes(caller, &speaker, &answers, passes));
        Answer::new(caller, target, answers, notes)
    }

    /// The caller as a node proxy meets it.
    pub(crate) fn speaker(&self, caller: &Caller) -> Result<Speaker, Unanswerable> {
        match caller {
            Caller::Plaintext(address) => Ok(Speaker {
                identity: None,
                addresses: vec![*address],
                pod: None,
            }),
            Caller::Account {
                namespace,
                name,
                address,
            } => {
                let trust_domain = &self.settings().trust_domain;
                let identity = Identity::try_new(trust_domain, namespace, name)
                    .map_err(|error| Unanswerable::NotAnIdentity(error.to_string()))?;
                Ok(Speaker {
                    identity: Some(identity),
                    addresses: address.iter().copied().collect(),
                    pod: None,
                })
            }
            Caller::Pod { namespace, name } => {
                let pod = self.existing_pod(namespace, name)?;
                let workload = self.existing_workload(pod)?;
                Ok(Speaker {
                    identity: pod.membership.is_inside().then(|| workload.identity()),
                    addresses: workload.addresses.clone(),
                    pod: Some((namespace.clone(), name.clone())),
                })
            }
        }
    }

    /// The endpoints that the target leads to, and what there is to say about others.
    fn endpoints(&self, target: &Target) -> Result<(Vec<Endpoint>, Vec<String>), Unanswerable> {
        match target {
            Target::Pod {
                namespace,
                name,
                port,
            } => {
                let pod = self.existing_pod(namespace, name)?;
                let workload = self.existing_workload(pod)?;
                let local = first_address(workload)?;
                let address = SocketAddr::new(local, *port);
                let endpoint = self.endpoint(workload, address, &Authority::Address(address))?;
                Ok((vec![endpoint], Vec::new()))
            }
            Target::Service {
                namespace,
                name,
                port,
            } => self.endpoints_of_service(namespace, name, *port),
        }
    }

    fn endpoints_of_service(
        &self,
        namespace: &str,
        name: &str,
        port: u16,
    ) -> Result<(Vec<Endpoint>, Vec<String>), Unanswerable> {
        let key = format!("{namespace}/{name}");
        let object = self
            .object(Kind::Service, namespace, name)
            .ok_or_else(|| Unanswerable::NoSuchService(key.clone()))?;
        let unusable = |problem: String| Unanswerable::Service {
            service: key.clone(),
            problem,
        };
        let content = object
            .as_service()
            .ok_or_else(|| Unanswerable::NoSuchService(key.clone()))?;
        let is_named = has_named_port(content, port).map_err(unusable)?;
        let resource = self.service_key(namespace, name);
        if self.snapshot().service(&resource).is_none() {
            return Err(unusable("a node proxy would not understand it".to_owned()));
        }
        let authority = Authority::Hostname(self.hostname(namespace, name).into(), port);
        let (mut found, mut notes) = (Vec::new(), Vec::new());
        for workload in self.snapshot().endpoints(&resource) {
            let shown = format!("{}/{}", workload.namespace, workload.name);
            let own = workload
                .services
                .get(resource.as_str())
                .map(Vec::as_slice)
                .unwrap_or_default();
            if is_named && !own.iter().any(|own| own.service_port == port) {
                notes.push(format!(
                    "{shown} is no endpoint for port {port}: it has no container port of that name"
                ));
                continue;
            }
            // Whether a pod is ready is a matter of the moment, which manifests are not about.
            let unready_too = self.basis() == Basis::Manifests || content.publish_not_ready_addresses;
            if !workload.healthy && !unready_too {
                notes.push(format!("{shown} is not ready, so no connection is sent to it"));
                continue;
            }
            let local = first_address(workload)?;
            found.push(self.endpoint(workload, SocketAddr::new(local, port), &authority)?);
        }
        if found.is_empty() {
            let why = if notes.is_empty() {
                "no pod is an endpoint of it".to_owned()
            } else {
                notes.join("; ")
            };
            return Err(unusable(why));
        }
        Ok((found, notes))
    }

    fn endpoint(
        &self,
        workload: &Arc<Workload>,
        address: SocketAddr,
        authority: &Authority,
    ) -> Result<Endpoint, Unanswerable> {
        let asked = Asked {
            authority,
            local: address.ip(),
            workload,
            preferred_namespace: None,
        };
        let membership = match self
            .pod(&workload.namespace, &workload.name)
            .filter(|_| workload.is_pod())
        {
            Some(pod) if pod.membership.is_inside() => Ok(()),
            Some(pod) => Err(pod.membership.to_string()),
            None => Err("is not in the mesh: it is no pod".to_owned()),
        };
        let address = match inbound::target(&asked, self.snapshot()) {
            Ok(target) => target.address,
            Err(inbound::Refusal::ProxyPort { address }) if membership.is_err() => address,
            Err(refusal) => return Err(Unanswerable::Refused(refusal.to_string())),
        };
        Ok(Endpoint {
            workload: Arc::clone(workload),
            address,
            membership,
        })
    }

    fn decide(
        &self,
        speaker: &Speaker,
        endpoint: &Endpoint,
        decide: Decide,
    ) -> Result<EndpointAnswer, Unanswerable> {
        let workload = &endpoint.workload;
        let itself = speaker
            .pod
            .as_ref()
            .is_some_and(|(namespace, name)| **namespace == *workload.namespace && **name == *workload.name);
        let mut answer = EndpointAnswer {
            pod: format!("{}/{}", workload.namespace, workload.name),
            uid: Arc::clone(&workload.uid),
            address: endpoint.address,
            ground: Ground::Itself,
            policies: Vec::new(),
        };
        if let Err(why) = &endpoint.membership {
            answer.ground = Ground::NotInMesh(why.clone());
        } else if !itself {
            let (source_ip, destination) = speaker.meets(workload, endpoint.address)?;
            let connection = Connection {
                peer: speaker.identity.as_ref(),
                source_ip,
                workload,
                destination,
            };
            let (decision, policies) = decide(&connection, self.snapshot());
            answer.address = destination;
            answer.ground = Ground::Decided(Box::new(decision));
            answer.policies = policies;
        }
        Ok(answer)
    }

    fn existing_pod(&self, namespace: &str, name: &str) -> Result<&Pod, Unanswerable> {
        self.pod(namespace, name).ok_or_else(|| Unanswerable::NoSuchPod {
            pod: format!("{namespace}/{name}"),
            known: self.pods_like(namespace, name),
        })
    }

    fn existing_workload(&self, pod: &Pod) -> Result<&Arc<Workload>, Unanswerable> {
        let metadata = &pod.object.metadata;
        self.workload_of(pod).ok_or_else(|| {
            let uid = self.uid(&metadata.namespace, &metadata.name);
            let problem = match (self.snapshot().not_understood_name(&uid), pod.object.as_pod()) {
                (Some(rejected), _) => format!("a node proxy would not understand it: {}", rejected.reason),
                (None, Some(content)) if content.status.phase.is_terminal() => "it has ended".to_owned(),
                (None, _) => "it has no address yet".to_owned(),
            };
            Unanswerable::Pod {
                pod: format!("{}/{}", metadata.namespace, metadata.name),
                problem,
            }
        })
    }

    /// A few pods that may be meant.
    fn pods_like(&self, namespace: &str, name: &str) -> Vec<String> {
        const SHOWN: usize = 3;
        let here = self.pods().map(|pod| &pod.object.metadata);
        let like = here.filter(|metadata| {
            metadata.namespace == namespace
                && (metadata.name.starts_with(name) || name.starts_with(&metadata.name))
        });
        like.take(SHOWN)
            .map(|metadata| format!("{}/{}", metadata.namespace, metadata.name))
            .collect()
    }
}

impl Speaker {
    /// A pod that speaks plaintext.
    pub(crate) fn plaintext(workload: &Workload) -> Speaker {
        Speaker {
            identity: None,
            addresses: workload.addresses.clone(),
            pod: None,
        }
    }

    /// The addresses of a connection to an endpoint: both of one family, IPv4 where there is a choice. A caller
    /// whose address is not known has the unspecified one, which is in no block.
    pub(crate) fn meets(
        &self,
        workload: &Workload,
        address: SocketAddr,
    ) -> Result<(IpAddr, SocketAddr), Unanswerable> {
        let Some(first) = self.addresses.first() else {
            let unknown = match address.ip() {
                IpAddr::V4(_) => IpAddr::from([0; 4]),
                IpAddr::V6(_) => IpAddr::from([0; 16]),
            };
            return Ok((unknown, address));
        };
        let pairs = self.addresses.iter().flat_map(|source| {
            let destinations = workload.addresses.iter();
            destinations.map(move |destination| (*source, *destination))
        });
        let (source, destination) = pairs
            .filter(|(source, destination)| source.is_ipv4() == destination.is_ipv4())
            .min_by_key(|(source, _)| source.is_ipv6())
            .ok_or_else(|| Unanswerable::Families {
                caller: *first,
                target: address.ip(),
            })?;
        Ok((source, SocketAddr::new(destination, address.port())))
    }
}

fn first_address(workload: &Workload) -> Result<IpAddr, Unanswerable> {
    workload
        .addresses
        .first()
        .copied()
        .ok_or_else(|| Unanswerable::Pod {
            pod: format!("{}/{}", workload.namespace, workload.name),
            problem: "it has no address".to_owned(),
        })
}

/// Whether the Service's TCP port leaves the number to each pod; an error when there is no such port.
fn has_named_port(service: &Service, port: u16) -> Result<bool, String> {
    if service.service_type == ServiceType::ExternalName {
        return Err("it is an alias of a DNS name: ask about what stands behind it".to_owned());
    }
    let mut same = service.ports.iter().filter(|known| known.port == port);
    if let Some(known) = same.clone().find(|known| known.protocol == Protocol::Tcp) {
        return Ok(matches!(known.target_port, TargetPort::Name(_)));
    }
    if same.next().is_some() {
        return Err(format!(
            "port {port} is not TCP, and the mesh carries nothing else"
        ));
    }
    let known: Vec<String> = service.ports.iter().map(|known| known.port.to_string()).collect();
    Err(format!(
        "it has no port {port}: its ports are {}",
        known.join(", ")
    ))
}

#[cfg(test)]
mod tests;
