//! The Kubernetes API of a lab: the small API server over the lab's own objects, so that kubectl works there and the
//! mesh's programs read and write what they would in a cluster.
//!
//! It lives in the supervisor, in threads of its own, and listens in two places: on this machine's loopback for
//! kubectl, and on the wire between the nodes for the mesh's programs. Both speak TLS and want a token.

mod objects;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ca::Authority;
use futures_util::StreamExt;
use kube_api::{ApiServer, Container, Key, Logs, Options, Store, TokenKey};
use object_store::{Directory, ObjectSource, StoreChange};
use sys::Namespace;
use tls::server_auth::{Acceptor, ServerIdentity};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use self::objects::Kept;
use super::mesh::{SYSTEM_NAMESPACE, proxy_pod};
use super::tokens::write_secret;
use crate::control::RestartHow;
use crate::error::{LabError, other};
use crate::layout::Layout;
use crate::options::LabOptions;
use crate::plan;
use crate::status::KubeApiView;

/// The port on the wire between the nodes.
const PORT: u16 = 6443;
/// How long the server's certificate lives: as long as the authority signs for. A lab does not live longer.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// The ConfigMap with the mesh's root certificates, of which there is one in every namespace.
const ROOTS: &str = "istio-ca-root-cert";
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Threads of the server. A step on an object blocks one while a file is written.
const THREADS: usize = 4;

/// A running API server.
pub(crate) struct KubeApi {
    runtime: Option<Runtime>,
    store: Store,
    server: tokio::sync::Mutex<Option<ApiServer>>,
    plan: Plan,
    shown: Arc<Mutex<Shown>>,
}

/// How it is started, each time.
#[derive(Clone)]
struct Plan {
    network: Namespace,
    /// On loopback, once it is known.
    address: SocketAddr,
    root_pem: String,
    certificate: Arc<(String, tls::PrivateKey)>,
    token_key: TokenKey,
    kubeconfig: PathBuf,
    logs: Arc<PodLogs>,
}

/// The output of the lab's containers and node proxies, for `kubectl logs`.
struct PodLogs {
    layout: Layout,
    /// The pods that stand for the node proxies, which no container runs for.
    proxies: BTreeSet<String>,
}

impl Logs for PodLogs {
    fn file(&self, container: Container<'_>) -> PathBuf {
        let Container { namespace, pod, name } = container;
        if namespace == SYSTEM_NAMESPACE && self.proxies.contains(pod) {
            return self.layout.log(pod);
        }
        self.layout.container_log(namespace, pod, name)
    }
}

/// How far the API is in showing what is in the lab's own store.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    /// The revision of the lab's store.
    objects: u64,
    /// The revision of the API at which everything up to there is shown.
    revision: u64,
}

impl KubeApi {
    /// Shows the objects of `directory`, and serves.
    pub(crate) async fn start(
        layout: &Layout,
        options: &LabOptions,
        network: &Namespace,
        directory: &Directory,
    ) -> Result<KubeApi, LabError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("kube-api")
            .enable_all()
            .build()
            .map_err(LabError::system("starting the API server's threads"))?;
        let plan = plan(layout, options, network)?;
        let kept = Kept::new(directory.clone(), options);
        let store = Store::over(Arc::new(kept));
        let shown = Arc::new(Mutex::new(Shown::default()));
        let (first, complete) = oneshot::channel();
        runtime.spawn(follow(directory.clone(), store.clone(), shown.clone(), first));
        runtime.spawn(project_roots(store.clone(), layout.mesh_roots()));
        let mut api = KubeApi {
            runtime: Some(runtime),
            store,
            server: tokio::sync::Mutex::new(None),
            plan,
            shown,
        };
        complete
            .await
            .map_err(|_| LabError::Failed("the API server cannot read the lab's objects".to_owned()))?;
        let server = api.serve().await?;
        api.plan.address = server.address();
        write_secret(&api.plan.kubeconfig, &server.kubeconfig())?;
        *api.server.get_mut() = Some(server);
        Ok(api)
    }

    /// Breaks all connections and serves again. Killed, it comes back without its history: who continues from what it
    /// knows is answered 410.
    pub(crate) async fn restart(&self, how: RestartHow) -> Result<(), LabError> {
        let mut server = self.server.lock().await;
        if let Some(server) = server.take() {
            server.stop().await;
        }
        if how == RestartHow::Kill {
            self.store.compact();
        }
        *server = Some(self.serve().await?);
        Ok(())
    }

    /// What `status` tells of it.
    pub(crate) fn view(&self) -> KubeApiView {
        let shown = *self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        KubeApiView {
            url: format!("https://{}", self.plan.address),
            kubeconfig: self.plan.kubeconfig.clone(),
            objects: shown.objects,
            revision: shown.revision,
        }
    }

    /// Ends it without waiting for what it does.
    pub(crate) fn stop(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    async fn serve(&self) -> Result<ApiServer, LabError> {
        let (plan, store) = (self.plan.clone(), self.store.clone());
        let Some(runtime) = &self.runtime else {
            return Err(LabError::Failed("the API server has ended".to_owned()));
        };
        // Its sockets belong to its own threads.
        let started = runtime.spawn(async move { start(plan, store).await }).await;
        started.map_err(other("starting the API server"))?
    }
}

/// The URL by which the mesh's programs call it.
pub(crate) fn url() -> String {
    format!("https://{}", SocketAddr::from((plan::KUBE_API_V4, PORT)))
}

/// The certificates that it is held against.
pub(crate) fn root_certificates(layout: &Layout) -> PathBuf {
    layout.kube_api().join("root-cert.pem")
}

fn plan(layout: &Layout, options: &LabOptions, network: &Namespace) -> Result<Plan, LabError> {
    let doing = "giving the API server a certificate";
    let now = SystemTime::now();
    let authority = Authority::load_or_create(&layout.kube_api(), now).map_err(other(doing))?;
    let names = [
        plan::KUBE_API_V4.to_string(),
        Ipv4Addr::LOCALHOST.to_string(),
        "localhost".to_owned(),
        "kubernetes.default.svc".to_owned(),
    ];
    let certificate = authority
        .issue_server_certificate(&names, CERTIFICATE_LIFE, now)
        .map_err(other(doing))?;
    let read = |path: PathBuf| {
        std::fs::read_to_string(&path).map_err(LabError::system(format!("reading {}", path.display())))
    };
    let (private, public) = (read(layout.token_signing_key())?, read(layout.token_keys())?);
    Ok(Plan {
        network: network.clone(),
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        root_pem: authority.root_pem().to_owned(),
        certificate: Arc::new((certificate.chain_pem, certificate.key)),
        token_key: TokenKey::from_pem(&private, &public).map_err(other("reading the key for tokens"))?,
        kubeconfig: layout.kubeconfig(),
        logs: Arc::new(PodLogs {
            layout: layout.clone(),
            proxies: options.node_names().iter().map(|node| proxy_pod(node)).collect(),
        }),
    })
}

async fn start(plan: Plan, store: Store) -> Result<ApiServer, LabError> {
    let (chain, key) = &*plan.certificate;
    let identity = ServerIdentity::from_pem(chain, key)
        .map_err(other("using the API server's certificate"))?
        .with_http1();
    let address = SocketAddr::from((plan::KUBE_API_V4, PORT));
    let listener = sys::socket::listen(&plan.network, address, &sys::socket::ListenOptions::default())
        .map_err(LabError::system(format!("listening on {address}")))?;
    let options = Options {
        address: plan.address,
        store,
        kubelet: true,
        require_token: true,
        token_key: plan.token_key,
        service_addresses: false,
        prompt_bookmarks: true,
        logs: Some(plan.logs),
        listeners: vec![listener],
        definitions: definitions()?,
        tls: Some(Acceptor::new(identity)),
        authority_pem: plan.root_pem,
        ..Options::default()
    };
    ApiServer::start(options)
        .await
        .map_err(LabError::system("starting the API server"))
}

/// The definitions that the chart installs, and those of the Gateway API, which a cluster gets from elsewhere.
fn definitions() -> Result<Vec<serde_json::Value>, LabError> {
    let mut definitions = charts::definitions().map_err(other("reading the definitions of custom kinds"))?;
    let name = |definition: &serde_json::Value| definition["metadata"]["name"].clone();
    let ours: Vec<_> = definitions.iter().map(name).collect();
    let further = kube_api::mesh_definitions().into_iter();
    definitions.extend(further.filter(|definition| !ours.contains(&name(definition))));
    Ok(definitions)
}

/// Writes the root certificates that the control plane publishes where the node proxies read them, as a kubelet does
/// with a volume of a ConfigMap; for ever.
async fn project_roots(store: Store, path: PathBuf) {
    let key = Key::new("configmaps", SYSTEM_NAMESPACE, ROOTS);
    let mut written = None;
    loop {
        let found = store.get(&key);
        let roots = found.and_then(|map| map.value()["data"]["root-cert.pem"].as_str().map(str::to_owned));
        if let Some(roots) = roots.filter(|roots| written.as_ref() != Some(roots)) {
            match write_secret(&path, &roots) {
                Ok(()) => written = Some(roots),
                Err(error) => tracing::error!(%error, "the mesh's roots cannot be written"),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Shows what becomes of the lab's objects, for ever.
async fn follow(directory: Directory, store: Store, shown: Arc<Mutex<Shown>>, first: oneshot::Sender<()>) {
    let mut first = Some(first);
    let mut batches = directory.watch();
    while let Some(batch) = batches.next().await {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                tracing::warn!(%error, "the API server cannot watch the lab's objects");
                continue;
            }
        };
        let (store, revision) = (store.clone(), batch.revision);
        let keys: Vec<_> = batch
            .changes
            .iter()
            .map(|change| match change {
                StoreChange::Put(object) => object.key(),
                StoreChange::Delete(key) => key.clone(),
            })
            .collect();
        let looked = tokio::task::spawn_blocking(move || {
            for key in keys {
                if let Err(error) = store.refresh(&objects::key_of(&key)) {
                    tracing::warn!(%key, %error, "the API server cannot show an object");
                }
            }
            store.revision()
        });
        let Ok(at) = looked.await else { return };
        *shown.lock().unwrap_or_else(PoisonError::into_inner) = Shown {
            objects: revision,
            revision: at,
        };
        if let Some(first) = first.take() {
            // Who waits may have given up.
            let _ = first.send(());
        }
    }
}
