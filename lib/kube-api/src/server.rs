//! Starting and stopping the server.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::api::{Api, MAX_WATCHERS, now};
use crate::definitions::mesh_definitions;
use crate::faults::Faults;
use crate::kinds::DEFINITIONS;
use crate::logs::Logs;
use crate::records::{Record, Records};
use crate::registry::Registry;
use crate::status::StatusError;
use crate::store::{Change, Key, Store, Stored};
use crate::tokens::{TokenKey, TokenSubject, Tokens};
use crate::write::uid;
use crate::{defaults, rules};

/// How many connections are served at once.
pub const MAX_CONNECTIONS: usize = 8192;

/// How long the token of a kubeconfig lives: a year.
const ADMINISTRATOR_TOKEN_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// How a server is to be.
pub struct Options {
    /// Where it listens; port 0 is any free one.
    pub address: SocketAddr,
    /// What it serves: a fresh store, or that of a server that was stopped.
    pub store: Store,
    /// The definitions that are made at the start, so that their kinds are served; those that exist are left alone.
    pub definitions: Vec<Value>,
    /// Whether somebody plays the kubelet: then a pod on a node that is deleted stays, with its deletion timestamp,
    /// until it is deleted with no grace. Otherwise it goes at once.
    pub kubelet: bool,
    /// Whether requests must carry a token of this server.
    pub require_token: bool,
    /// What tokens are signed with; those of a server before are good here if it is the same.
    pub token_key: TokenKey,
    /// Whether Services get addresses here. Without, somebody else gives them.
    pub service_addresses: bool,
    /// Time between the bookmarks of a watch.
    pub bookmark_interval: Duration,
    /// Whether a watch also gets a bookmark after each change that does not concern it, so that its client knows at once
    /// that there is nothing to know. No other server does that: no client may wait for it.
    pub prompt_bookmarks: bool,
    /// Where the output of containers is; without, there is none.
    pub logs: Option<Arc<dyn Logs>>,
    /// Further sockets to serve, beside that of `address`.
    pub listeners: Vec<TcpListener>,
    /// TLS, where it is wanted; see [`tls::server_auth::ServerIdentity::with_http1`] for clients without HTTP/2.
    pub tls: Option<tls::server_auth::Acceptor>,
    /// With TLS, the roots that clients are to trust, in PEM, for [`ApiServer::kubeconfig`].
    pub authority_pem: String,
}

impl Default for Options {
    /// Loopback, any port, no TLS; all the mesh's kinds.
    fn default() -> Options {
        Options {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            store: Store::default(),
            definitions: mesh_definitions(),
            kubelet: false,
            require_token: false,
            token_key: TokenKey::default(),
            service_addresses: true,
            bookmark_interval: Duration::from_secs(60),
            prompt_bookmarks: false,
            logs: None,
            listeners: Vec::new(),
            tls: None,
            authority_pem: String::new(),
        }
    }
}

/// A running server. Dropping it stops it and breaks its connections; its [`Store`] can be served again.
pub struct ApiServer {
    api: Arc<Api>,
    address: SocketAddr,
    /// The roots of a server over HTTPS.
    authority: Option<String>,
    /// One for each socket.
    tasks: Vec<JoinHandle<()>>,
}

impl ApiServer {
    /// Starts a server.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub async fn start(options: Options) -> io::Result<ApiServer> {
        let listener = TcpListener::bind(options.address).await?;
        let address = listener.local_addr()?;
        let store = options.store;
        let api = Arc::new(Api {
            registry: Registry::new(&store),
            faults: Faults::new(&store),
            tokens: Tokens::new(options.token_key),
            access: RwLock::new(Box::new(|_| true)),
            records: Records::new(),
            watchers: Arc::new(Semaphore::new(MAX_WATCHERS)),
            kubelet: options.kubelet,
            require_token: options.require_token,
            service_addresses: options.service_addresses,
            bookmark_interval: options.bookmark_interval.max(Duration::from_millis(1)),
            prompt_bookmarks: options.prompt_bookmarks,
            logs: options.logs,
            store,
        });
        let authority = options.tls.is_some().then_some(options.authority_pem);
        let acceptor = options.tls.map(Arc::new);
        let listeners = std::iter::once(listener).chain(options.listeners);
        let tasks = listeners
            .map(|listener| tokio::spawn(accept(listener, acceptor.clone(), api.clone())))
            .collect();
        let server = ApiServer {
            api,
            address,
            authority,
            tasks,
        };
        let namespace =
            |name: &str| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        let mut first = vec![namespace("default"), namespace("kube-system")];
        first.extend(options.definitions);
        for object in first {
            server
                .make(object)
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as clients are configured with it.
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// A kubeconfig for this server, with a token that it accepts.
    pub fn kubeconfig(&self) -> String {
        let mut cluster = json!({ "server": self.url() });
        if let Some(authority) = &self.authority {
            let encoded = data_encoding::BASE64.encode(authority.as_bytes());
            cluster["certificate-authority-data"] = json!(encoded);
        }
        // Over TLS, kubectl asks for a password where there is nothing to show.
        let administrator = TokenSubject {
            namespace: "kube-system".to_owned(),
            service_account: "administrator".to_owned(),
            ..TokenSubject::default()
        };
        let token = self.sign_token(&administrator, SystemTime::now(), ADMINISTRATOR_TOKEN_LIFE);
        // JSON is YAML.
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "lab", "cluster": cluster }],
            "users": [{ "name": "admin", "user": { "token": token.unwrap_or_default() } }],
            "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "admin" } }],
            "current-context": "lab",
        })
        .to_string()
    }

    /// The objects.
    pub fn store(&self) -> &Store {
        &self.api.store
    }

    /// The handle by which tests break things.
    pub fn faults(&self) -> &Faults {
        &self.api.faults
    }

    /// The requests that were answered, oldest first; at most [`crate::MAX_RECORDS`].
    pub fn records(&self) -> Vec<Record> {
        self.api.records.list()
    }

    /// Forgets what [`ApiServer::records`] tells.
    pub fn forget_records(&self) {
        self.api.records.forget();
    }

    /// Waits until the records are as wanted.
    pub async fn wait_for_records(&self, wanted: impl Fn(&[Record]) -> bool) {
        let mut count = self.api.records.count();
        while !wanted(&self.api.records.list()) {
            if count.changed().await.is_err() {
                return;
            }
        }
    }

    /// Stores a whole object as it is, status included, in place of what is there: what tests begin with. Only what
    /// every object has is filled in (uid, times, defaults). The namespace need not exist.
    ///
    /// # Errors
    /// When no such kind is served or the object has no sound name.
    pub fn put(&self, object: Value) -> Result<Arc<Stored>, StatusError> {
        self.store_object(object, true)
    }

    /// Removes an object at once, whatever its finalizers; whether there was one.
    pub fn remove(&self, key: &Key) -> bool {
        let known = self.api.store.get(key).is_some();
        let removed = self.api.store.transact(key, |_, _| Ok(Change::Remove));
        if key.resource == DEFINITIONS {
            self.api.registry.refresh(&self.api.store);
            self.api.store.nudge();
        }
        known && removed.is_ok()
    }

    /// Decides access reviews from now on; the function gets the review's `spec`. At the start all is allowed.
    pub fn decide_access(&self, access: impl Fn(&Value) -> bool + Send + Sync + 'static) {
        *self.api.access.write().unwrap_or_else(PoisonError::into_inner) = Box::new(access);
    }

    /// Signs a token, valid from `issued` for `lifetime`, also one that nobody could ask for: expired, for an
    /// account that does not exist.
    ///
    /// # Errors
    /// When the library fails.
    pub fn sign_token(
        &self,
        subject: &TokenSubject,
        issued: SystemTime,
        lifetime: Duration,
    ) -> Result<String, StatusError> {
        self.api.tokens.sign(subject, issued, lifetime)
    }

    /// Stops listening and breaks every connection.
    pub async fn stop(mut self) {
        for task in &mut self.tasks {
            task.abort();
            // It was aborted, so it ends with an error.
            let _ = task.await;
        }
    }

    /// Makes an object unless it is there.
    fn make(&self, object: Value) -> Result<(), StatusError> {
        self.store_object(object, false).map(|_| ())
    }

    fn store_object(&self, mut object: Value, replace: bool) -> Result<Arc<Stored>, StatusError> {
        let word = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (word("apiVersion"), word("kind"));
        let resource = self
            .api
            .registry
            .served()
            .by_kind(&api_version, &kind)
            .ok_or_else(|| {
                StatusError::bad_request(format!("no kind {kind:?} of {api_version:?} is served"))
            })?;
        let namespace = resource
            .namespaced
            .then(|| match rules::text(&object, "namespace") {
                namespace if namespace.is_empty() => "default".to_owned(),
                namespace => namespace,
            });
        let version = api_version.rsplit('/').next().unwrap_or_default();
        rules::check_identity(&resource, version, namespace.as_deref(), &mut object)?;
        let key = Key::new(
            &resource.id(),
            namespace.as_deref().unwrap_or_default(),
            &rules::text(&object, "name"),
        );
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        // Another uid is another object: the old one goes, and watches are told so.
        let uid_now = self
            .api
            .store
            .get(&key)
            .map(|known| rules::text(known.value(), "uid"));
        let given = rules::text(&object, "uid");
        if replace && !given.is_empty() && uid_now.is_some_and(|known| known != given) {
            self.remove(&key);
        }
        let stored = self.api.store.transact(&key, |current, revision| {
            if current.is_some() && !replace {
                return Ok(Change::Keep);
            }
            let mut fresh = object.clone();
            rules::prepare_create(&resource, &mut fresh, &now(), &uid())?;
            for (field, value) in object.as_object().into_iter().flatten() {
                if field != "metadata" {
                    fresh[field] = value.clone();
                }
            }
            let given = &object["metadata"];
            for field in [
                "uid",
                "creationTimestamp",
                "generation",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
            ] {
                if let Some(value) = given.get(field) {
                    fresh["metadata"][field] = value.clone();
                } else if let Some(value) = current.and_then(|current| current.value()["metadata"].get(field))
                {
                    fresh["metadata"][field] = value.clone();
                }
            }
            defaults::fill(
                &resource,
                &mut fresh,
                self.api.service_addresses.then_some(revision),
            );
            Ok(Change::Put(fresh))
        })?;
        if key.resource == DEFINITIONS {
            self.api.registry.refresh(&self.api.store);
        }
        stored.ok_or_else(|| StatusError::internal("the object is not there after it was stored"))
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Accepts for ever. Connections end with this task.
async fn accept(listener: TcpListener, tls: Option<Arc<tls::server_auth::Acceptor>>, api: Arc<Api>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
            _ = connections.join_next(), if connections.len() >= MAX_CONNECTIONS => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, tls.clone(), api.clone()));
            }
            Err(error) => {
                tracing::warn!("cannot accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<Arc<tls::server_auth::Acceptor>>, api: Arc<Api>) {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    match tls {
        None => converse(stream, api).await,
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => converse(stream, api).await,
            Err(error) => tracing::debug!("TLS: {error}"),
        },
    }
}

async fn converse<IO>(io: IO, api: Arc<Api>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| api.clone().serve(request));
    let served = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(io), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("connection: {error}");
    }
}
