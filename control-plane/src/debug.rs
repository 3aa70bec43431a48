//! Questions about the program, over HTTP/1.1 on a unix socket that only its owner can open.
//!
//! `/debug/sync` tells how far each proxy is behind, `/debug/workloads`, `/debug/services` and `/debug/policies`
//! what is served, `/healthz` whether clients are served.

mod dump;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use object_store::ObjectSource;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use crate::xds::history::History;
use crate::xds::proxies::Proxies;
use crate::xds::table::View;

/// How many questions are answered at once.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to ask.
const ASK_DEADLINE: Duration = Duration::from_secs(10);

/// What questions are answered from. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Debug {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Empty until everything is compiled once and clients are served.
    views: OnceLock<watch::Receiver<Arc<History>>>,
    /// What is compiled.
    source: OnceLock<Arc<dyn ObjectSource>>,
    proxies: Proxies,
}

impl Debug {
    pub(crate) fn new(proxies: Proxies) -> Debug {
        Debug {
            shared: Arc::new(Shared {
                views: OnceLock::new(),
                source: OnceLock::new(),
                proxies,
            }),
        }
    }

    /// From now on the program counts as ready.
    pub(crate) fn ready(&self, views: watch::Receiver<Arc<History>>) {
        // There is one server for each of these, so it is set once.
        let _ = self.shared.views.set(views);
    }

    /// From now on it is told how far this source is.
    pub(crate) fn follows(&self, source: Arc<dyn ObjectSource>) {
        // There is one source for each of these, so it is set once.
        let _ = self.shared.source.set(source);
    }

    fn view(&self) -> Option<Arc<View>> {
        let views = self.shared.views.get()?;
        Some(views.borrow().latest().clone())
    }

    /// The answer to a question, and whether it is good news.
    fn answer(&self, method: &Method, path: &str) -> (StatusCode, Value) {
        if method != Method::GET {
            return (
                StatusCode::METHOD_NOT_ALLOWED,
                json!({ "error": "only GET is answered" }),
            );
        }
        let of_view = |dump: fn(&View) -> Value| match self.view() {
            Some(view) => (StatusCode::OK, dump(&view)),
            None => (
                StatusCode::SERVICE_UNAVAILABLE,
                json!({ "error": "not everything is compiled yet" }),
            ),
        };
        match path {
            "/healthz" => of_view(|_| json!({ "status": "ok" })),
            "/debug/sync" => {
                let position = self.shared.source.get().and_then(|source| source.position());
                let revision = self.view().map(|view| view.revision);
                let mut page = json!({ "revision": revision, "proxies": self.shared.proxies.list() });
                if let Some(position) = position {
                    page["source"] = json!(position);
                }
                (StatusCode::OK, page)
            }
            "/debug/workloads" => of_view(dump::workloads),
            "/debug/services" => of_view(dump::services),
            "/debug/policies" => of_view(dump::policies),
            _ => {
                let known = [
                    "/healthz",
                    "/debug/sync",
                    "/debug/workloads",
                    "/debug/services",
                    "/debug/policies",
                ];
                (
                    StatusCode::NOT_FOUND,
                    json!({ "error": "no such page", "pages": known }),
                )
            }
        }
    }
}

/// The socket cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {path}: {source}", path = .path.display())]
pub struct DebugSocketError {
    path: PathBuf,
    source: io::Error,
}

/// Makes the socket, in place of one that an earlier process left.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, DebugSocketError> {
    let make = || {
        if let Ok(metadata) = std::fs::symlink_metadata(path)
            && !metadata.file_type().is_socket()
        {
            return Err(io::Error::other(
                "there is something that is not a socket; remove it",
            ));
        }
        // Made under another name, so that nobody can open it before its mode is set.
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        if let Err(error) = std::fs::remove_file(&fresh)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let listener = UnixListener::bind(&fresh)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&fresh, path)?;
        Ok(listener)
    };
    make().map_err(|source| DebugSocketError {
        path: path.to_owned(),
        source,
    })
}

/// Answers questions until the future is dropped.
pub(crate) async fn serve(listener: UnixListener, debug: Debug) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let debug = debug.clone();
                tokio::spawn(async move {
                    converse(stream, debug).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept on the debug socket: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, debug: Debug) {
    let service = service_fn(|request: Request<Incoming>| {
        let (status, body) = debug.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response(status, &body)) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ASK_DEADLINE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("debug socket: {error}");
    }
}

fn response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{body}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static("application/json"),
    );
    response
}
