use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use proto::workload::Workload;
use tempfile::TempDir;

use crate::authority::{Authority, Claims, Credentials};
use crate::control_plane::{CONTROL_PLANE_PORT, ControlPlane};
use crate::failure::{Failure, Outcome};
use crate::hbone_client::HboneClient;
use crate::hbone_server::{Asked, HBONE_PORT, HboneServer, Reply, ServerSettings};
use crate::mesh::{CLUSTER, NODE, uid, workload};
use crate::namespace::Namespace;
use crate::network::{Addresses, GATEWAY_V4, Network, redirect};
use crate::subject::Subject;
use crate::tls::TlsSettings;
use crate::zds::{Agent, AgentSocket};

/// The token that the subject is given.
pub const TOKEN: &str = "token-of-the-subject";

/// One node with the subject on it, and everything around it played by the suite.
#[derive(Debug)]
pub struct World {
    // First, so that it ends before what it leans on.
    /// The program under test.
    pub subject: Subject,
    /// The node and its wires.
    pub network: Network,
    /// The root of all identities.
    pub authority: Arc<Authority>,
    /// Discovery and signing.
    pub control_plane: ControlPlane,
    /// Where node agents listen.
    pub agent_socket: AgentSocket,
    /// The subject's connection to the node agent.
    pub agent: Agent,
    environment: BTreeMap<String, String>,
    directory: TempDir,
}

/// A pod. One of the node is served by the subject; any other is a bare namespace for peers of the check.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its service account.
    pub account: String,
    /// Its network namespace.
    pub network: Namespace,
    /// Its addresses.
    pub addresses: Addresses,
}

impl World {
    /// Starts a subject without pods, and waits until it is ready.
    pub async fn start() -> Outcome<World> {
        World::start_with(&[]).await
    }

    /// As [`World::start`], with more or other variables for the subject.
    pub async fn start_with(environment: &[(&str, &str)]) -> Outcome<World> {
        let mut world = World::start_waiting(environment).await?;
        let answer = world.agent.snapshot_sent().await?;
        match answer.as_str() {
            "" => {}
            error => return Err(Failure::new(format!("the snapshot was refused: {error}"))),
        }
        world
            .explained(async |world| {
                world.subject.ready().await?;
                world.control_plane.discovery.settled().await
            })
            .await?;
        Ok(world)
    }

    /// Starts a subject that has called its node agent and is still to be told of pods.
    pub async fn start_waiting(environment: &[(&str, &str)]) -> Outcome<World> {
        let network = Network::new()?;
        let authority = Arc::new(Authority::new("conformance root")?);
        let control_plane = ControlPlane::start(&network.node, &authority)?;
        let directory = tempfile::Builder::new().prefix("conformance-").tempdir()?;
        let agent_path = directory.path().join("agent.sock");
        let agent_socket = AgentSocket::bind(&agent_path)?;
        let root = directory.path().join("root.pem");
        std::fs::write(&root, &authority.root)?;
        let token = directory.path().join("token");
        std::fs::write(&token, TOKEN)?;
        let control_plane_url = format!("https://localhost:{CONTROL_PLANE_PORT}");
        let text = |path: &PathBuf| path.display().to_string();
        let own = [
            ("PROXY_MODE", "shared".to_owned()),
            ("NODE_NAME", NODE.to_owned()),
            ("POD_NAME", format!("ztunnel-{NODE}")),
            ("POD_NAMESPACE", "istio-system".to_owned()),
            ("SERVICE_ACCOUNT", "ztunnel".to_owned()),
            ("INSTANCE_IP", "10.244.0.1".to_owned()),
            ("ISTIO_META_CLUSTER_ID", CLUSTER.to_owned()),
            ("CLUSTER_ID", CLUSTER.to_owned()),
            ("CLUSTER_DOMAIN", "cluster.local".to_owned()),
            ("TRUST_DOMAIN", "cluster.local".to_owned()),
            ("NETWORK", String::new()),
            ("IPV6_ENABLED", "true".to_owned()),
            ("TERMINATION_GRACE_PERIOD_SECONDS", "15".to_owned()),
            ("RUST_LOG", "info".to_owned()),
            ("XDS_ADDRESS", control_plane_url.clone()),
            ("CA_ADDRESS", control_plane_url),
            ("XDS_ROOT_CA", text(&root)),
            ("CA_ROOT_CA", text(&root)),
            ("AUTH_TOKEN", text(&token)),
            ("INPOD_UDS", text(&agent_path)),
        ];
        let mut variables: BTreeMap<String, String> = own
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        for (name, value) in environment {
            variables.insert((*name).to_owned(), (*value).to_owned());
        }
        let listed: Vec<(String, String)> = variables.clone().into_iter().collect();
        let subject = Subject::start(&network.node, directory.path(), &listed)?;
        let agent = match agent_socket.accept().await {
            Ok(agent) => agent,
            Err(failure) => {
                return Err(Failure::new(format!(
                    "{failure}; it said:\n{}",
                    subject.last_words()
                )));
            }
        };
        Ok(World {
            subject,
            network,
            authority,
            control_plane,
            agent_socket,
            agent,
            environment: variables,
            directory,
        })
    }

    /// Starts the subject once more beside the first, as an upgrade does, and waits until it has called the node agent. It
    /// has a network namespace of its own, as each proxy's pod has, since both have the same ports for their pages.
    pub async fn start_another(&mut self) -> Outcome<(Subject, Agent)> {
        let (place, addresses) = self.network.attach()?;
        let mut environment = self.environment.clone();
        let control_plane = format!("https://{GATEWAY_V4}:{CONTROL_PLANE_PORT}");
        for name in ["XDS_ADDRESS", "CA_ADDRESS"] {
            environment.insert(name.to_owned(), control_plane.clone());
        }
        environment.insert("INSTANCE_IP".to_owned(), addresses.v4.to_string());
        environment.insert("POD_NAME".to_owned(), "ztunnel-successor".to_owned());
        let environment: Vec<(String, String)> = environment.into_iter().collect();
        let subject = Subject::start(&place, self.directory.path(), &environment)?;
        Ok((subject, self.agent_socket.accept().await?))
    }

    /// A pod of this node: wired, redirected, announced, and taken on by the subject.
    pub async fn pod(&mut self, namespace: &str, name: &str) -> Outcome<Pod> {
        let pod = self.bare_pod(namespace, name, name)?;
        redirect(&pod.network)?;
        self.announce(pod.workload(NODE)).await?;
        self.add(&pod).await?;
        Ok(pod)
    }

    /// A namespace on the same segment that nothing is known of, for a peer that the check plays.
    pub fn bare_pod(&mut self, namespace: &str, name: &str, account: &str) -> Outcome<Pod> {
        let (network, addresses) = self.network.attach()?;
        Ok(Pod {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            network,
            addresses,
        })
    }

    /// A pod of another node, whose proxy is played by the check: announced as HBONE, and answering on port 15008.
    pub async fn peer(
        &mut self,
        namespace: &str,
        name: &str,
        handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Outcome<(Pod, HboneServer)> {
        let pod = self.bare_pod(namespace, name, name)?;
        let settings = ServerSettings::new(TlsSettings::tunnel(Some(self.credentials(&pod)?)));
        let server = self.serve(&pod, settings, handler)?;
        self.announce(pod.workload("node-elsewhere")).await?;
        Ok((pod, server))
    }

    /// An HBONE server on port 15008 of a pod's address.
    pub fn serve(
        &self,
        pod: &Pod,
        settings: ServerSettings,
        handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Outcome<HboneServer> {
        let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, HBONE_PORT));
        HboneServer::start(&pod.network, any, settings, handler)
    }

    /// Serves a workload over discovery; the subject must take it.
    pub async fn announce(&self, workload: Workload) -> Outcome {
        let verdicts = self.control_plane.discovery.workloads([workload]).await?;
        accepted(&verdicts)
    }

    /// Hands a pod to the subject; it must take it.
    pub async fn add(&self, pod: &Pod) -> Outcome {
        let uid = pod.uid();
        let answer = self
            .agent
            .add(&uid, &pod.name, &pod.namespace, &pod.account, &pod.network);
        match answer.await?.as_str() {
            "" => Ok(()),
            error => Err(Failure::new(format!("the pod {} was refused: {error}", pod.name))),
        }
    }

    /// A good certificate of the pod's identity.
    pub fn credentials(&self, pod: &Pod) -> Outcome<Credentials> {
        self.authority
            .sign(&Claims::workload(&pod.namespace, &pod.account))
    }

    /// A tunnel from a bare pod, under its own identity, to the proxy of another pod.
    pub async fn tunnel(&self, from: &Pod, to: &Pod) -> Outcome<HboneClient> {
        let tls = TlsSettings::tunnel(Some(self.credentials(from)?));
        HboneClient::open(&from.network, to.at(HBONE_PORT), &tls).await
    }

    /// The directory that holds the subject's files and its log.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Adds to a failure what the subject said last.
    pub async fn explained<T>(&mut self, work: impl AsyncFnOnce(&mut World) -> Outcome<T>) -> Outcome<T> {
        let outcome = work(self).await;
        outcome.map_err(|failure| {
            Failure::new(format!(
                "{failure}; the subject said:\n{}",
                self.subject.last_words()
            ))
        })
    }
}

/// Fails unless all of it was taken.
pub fn accepted(verdicts: &[crate::xds::Verdict]) -> Outcome {
    let refused = verdicts
        .iter()
        .find(|verdict| **verdict != crate::xds::Verdict::Ack);
    match refused {
        None => Ok(()),
        Some(verdict) => Err(Failure::new(format!("a push was refused: {verdict:?}"))),
    }
}

impl Pod {
    /// Its address with this port.
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.addresses.v4, port).into()
    }

    /// As [`Pod::at`], IPv6.
    pub fn at_v6(&self, port: u16) -> SocketAddr {
        (self.addresses.v6, port).into()
    }

    /// Its uid, for the node agent's protocol.
    pub fn uid(&self) -> String {
        format!("pod-{}-{}", self.namespace, self.name)
    }

    /// The key of its workload.
    pub fn workload_uid(&self) -> String {
        uid(&self.namespace, &self.name)
    }

    /// Its workload as the control plane describes it.
    pub fn workload(&self, node: &str) -> Workload {
        let ips: [IpAddr; 2] = [self.addresses.v4.into(), self.addresses.v6.into()];
        workload(&self.namespace, &self.name, &self.account, node, &ips)
    }

    /// Its identity.
    pub fn identity(&self) -> String {
        crate::authority::spiffe(&self.namespace, &self.account)
    }
}
