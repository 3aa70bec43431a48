//! What the agent says of itself: JSON over HTTP on a unix socket.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use object_store::{ObjectSource, Position, SourceError};
use serde::Serialize;
use tokio::{net::UnixListener, sync::Semaphore};

use crate::proxies::Proxies;

/// Connections to the status socket at a time; more have to wait.
const MAX_CONNECTIONS: usize = 32;
/// How long one connection may stay.
const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// The answer to `GET /status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The node this agent serves.
    pub node: String,
    /// The variant of iptables in use.
    pub firewall: String,
    /// The store's revision up to which everything is in `pods`; none before the first look.
    pub revision: Option<u64>,
    /// How far the source is in its own words; none where the revision says it all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Position>,
    /// Node proxies that are connected.
    pub proxies: usize,
    /// Why the objects cannot be read at present.
    pub error: Option<String>,
    /// The pods of this node.
    pub pods: Vec<PodStatus>,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PodStatus {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Whether it is to be enrolled.
    pub wanted: bool,
    /// Why not.
    pub reason: Option<String>,
    /// How far it is.
    pub state: PodState,
    /// Whether nothing is left to be done.
    pub settled: bool,
    /// What went wrong last; none once it has gone right.
    pub error: Option<String>,
}

/// How far a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PodState {
    /// Not looked at yet.
    Unknown,
    /// Its traffic goes its own way, nothing of ours is in its network namespace.
    Direct,
    /// It is to be enrolled and its rules are not in.
    Installing,
    /// Its rules are in; the node proxy has not answered, or the annotation is not written.
    Pending,
    /// It is in the mesh.
    Enrolled,
    /// It is on its way out and still captured.
    Leaving,
    /// It is on its way out: new connections are direct, open ones have their time.
    Draining,
    /// It has ended.
    Gone,
}

/// The present status. Clones share it.
#[derive(Clone, Debug)]
pub struct Board {
    posted: Arc<Mutex<Posted>>,
}

/// Why the objects cannot be read at present, in one word for whoever may not read more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The kernel gives no notifications of changed files.
    NoNotifications,
    /// What is stored cannot be read.
    Unreadable,
    /// The Kubernetes API does not answer as it should.
    ApiServer,
}

impl Trouble {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Trouble::NoNotifications => "NoNotifications",
            Trouble::Unreadable => "Unreadable",
            Trouble::ApiServer => "ApiServer",
        }
    }
}

impl From<&SourceError> for Trouble {
    fn from(error: &SourceError) -> Self {
        match error {
            SourceError::Notify { .. } => Trouble::NoNotifications,
            SourceError::Store(_) => Trouble::Unreadable,
            SourceError::Remote { .. } => Trouble::ApiServer,
        }
    }
}

#[derive(Debug)]
struct Posted {
    status: Status,
    trouble: Option<Trouble>,
    pods: BTreeMap<String, PodStatus>,
}

impl Board {
    /// A board for this node, without pods.
    pub fn new(node: &str, firewall: &str) -> Self {
        let status = Status {
            node: node.to_owned(),
            firewall: firewall.to_owned(),
            revision: None,
            source: None,
            proxies: 0,
            error: None,
            pods: Vec::new(),
        };
        let posted = Posted {
            status,
            trouble: None,
            pods: BTreeMap::new(),
        };
        Self {
            posted: Arc::new(Mutex::new(posted)),
        }
    }

    /// Changes what is known of the pods, by uid; nobody reads or writes the board meanwhile.
    pub fn change<R>(&self, change: impl FnOnce(&mut BTreeMap<String, PodStatus>) -> R) -> R {
        change(&mut self.lock().pods)
    }

    /// Everything up to this revision of the store is on the board.
    pub fn caught_up(&self, revision: u64) {
        let mut posted = self.lock();
        posted.status.revision = Some(revision);
        posted.status.error = None;
        posted.trouble = None;
    }

    /// The objects cannot be read.
    pub fn failed(&self, trouble: Trouble, error: &str) {
        let mut posted = self.lock();
        posted.status.error = Some(error.to_owned());
        posted.trouble = Some(trouble);
    }

    /// Whether everything was read once, and why objects cannot be read at present.
    pub(crate) fn progress(&self) -> (bool, Option<Trouble>) {
        let posted = self.lock();
        (posted.status.revision.is_some(), posted.trouble)
    }

    /// A copy of what the board says.
    pub fn read(&self) -> Status {
        let posted = self.lock();
        Status {
            pods: posted.pods.values().cloned().collect(),
            ..posted.status.clone()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Posted> {
        // Plain values: a panic elsewhere cannot leave them half written.
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Binds the status socket with mode 0600, in place of one that an earlier process left behind.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers requests for ever.
pub async fn serve(listener: UnixListener, board: Board, proxies: Proxies, source: Arc<dyn ObjectSource>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("cannot accept a connection on the status socket: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (board, proxies, source) = (board.clone(), proxies.clone(), source.clone());
        tokio::spawn(async move {
            let _place = place;
            let answer = service_fn(move |request| {
                let answer = respond(&request, &board, &proxies, &*source);
                async move { Ok::<_, Infallible>(answer) }
            });
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            // Whatever ends it, the client knows.
            let _ = tokio::time::timeout(CONNECTION_TIME, serving).await;
        });
    }
}

fn respond(
    request: &Request<Incoming>,
    board: &Board,
    proxies: &Proxies,
    source: &dyn ObjectSource,
) -> Response<Full<Bytes>> {
    let (code, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/status") => {
            // Asked first: what it says was told is on the board that is read then.
            let position = source.position();
            let status = Status {
                proxies: proxies.connected(),
                source: position,
                ..board.read()
            };
            match serde_json::to_vec(&status) {
                Ok(json) => (StatusCode::OK, "application/json", json),
                Err(error) => (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "text/plain",
                    error.to_string().into_bytes(),
                ),
            }
        }
        (_, "/status") => (
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            b"only GET is served here\n".to_vec(),
        ),
        _ => (
            StatusCode::NOT_FOUND,
            "text/plain",
            b"only /status is served here\n".to_vec(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
