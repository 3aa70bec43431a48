//! Questions about the program, over HTTP/1.1 on a unix socket that only its owner can open.
//!
//! `/debug/sync` tells how far each proxy is behind, `/debug/workloads`, `/debug/services` and `/debug/policies`
//! what is served, `/healthz` whether clients are served, `/debug/ca` how the CA's roots stand. A POST to
//! `/debug/ca/rotate` asks for a new root, one to `/debug/ca/abort` gives it up again, one to
//! `/debug/ca/revoke` takes certificates back; `/debug/ca/issued` tells which were issued and are valid. `/logging` tells the log's filter,
//! and changes it by `POST` with `?level=FILTER` or `?reset`. One question that walks over everything is answered at a
//! time.

mod authority;
mod dump;

#[cfg(test)]
mod tests;

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ca::IssueLog;
use hyper::{Method, StatusCode};
use object_store::ObjectSource;
use serde_json::{Value, json};
use telemetry::FilterHandle;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};

use crate::clock::Clock;
use crate::clusters::Board;
use crate::http::{Answer, Pages, Question};
use crate::rotation::Rotations;
use crate::xds::history::History;
use crate::xds::proxies::Proxies;
use crate::xds::table::View;

/// How many answers are made at once of everything that is served: each takes a core for a while.
const MAX_DUMPS: usize = 1;
/// The pages.
const PAGES: [&str; 8] = [
    "/healthz",
    "/logging",
    "/debug/sync",
    "/debug/workloads",
    "/debug/services",
    "/debug/policies",
    "/debug/ca",
    "/debug/clusters",
];

/// What questions are answered from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Debug {
    shared: Arc<Shared>,
}

struct Shared {
    /// Empty until everything is compiled once and clients are served.
    views: OnceLock<watch::Receiver<Arc<History>>>,
    /// What is compiled.
    source: OnceLock<Arc<dyn ObjectSource>>,
    proxies: Proxies,
    log: Option<FilterHandle>,
    dumps: Semaphore,
    /// Where the root is our own.
    authority: OnceLock<Rotations>,
    /// What this process issues.
    issues: OnceLock<(Arc<IssueLog>, Clock)>,
    /// Where other clusters are followed.
    clusters: OnceLock<Board>,
}

impl Pages for Debug {
    async fn answer(&self, question: Question) -> Answer {
        let _permit = if question.path.starts_with("/debug/") {
            // It is never closed.
            self.shared.dumps.acquire().await.ok()
        } else {
            None
        };
        let debug = self.clone();
        let made = tokio::task::spawn_blocking(move || {
            let (status, body) = debug.answer_now(&question.method, &question.path, &question.query);
            Answer::json(status, &body)
        });
        made.await.unwrap_or_else(|_| {
            let error = json!({ "error": "the answer could not be made; the log says why" });
            Answer::json(StatusCode::INTERNAL_SERVER_ERROR, &error)
        })
    }
}

impl Debug {
    pub(crate) fn new(proxies: Proxies, log: Option<FilterHandle>) -> Debug {
        Debug {
            shared: Arc::new(Shared {
                views: OnceLock::new(),
                source: OnceLock::new(),
                proxies,
                log,
                dumps: Semaphore::new(MAX_DUMPS),
                authority: OnceLock::new(),
                issues: OnceLock::new(),
                clusters: OnceLock::new(),
            }),
        }
    }

    /// From now on it answers for the CA too.
    pub(crate) fn answers_for(&self, authority: Rotations) {
        // There is one for each of these, so it is set once.
        let _ = self.shared.authority.set(authority);
    }

    /// From now on it tells what was issued.
    pub(crate) fn lists(&self, issues: Arc<IssueLog>, clock: Clock) {
        // There is one for each of these, so it is set once.
        let _ = self.shared.issues.set((issues, clock));
    }

    /// From now on it tells how it stands with other clusters.
    pub(crate) fn lists_clusters(&self, board: Board) {
        // There is one for each of these, so it is set once.
        let _ = self.shared.clusters.set(board);
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

    /// What is served; `None` before everything is compiled once.
    pub(crate) fn view(&self) -> Option<Arc<View>> {
        let views = self.shared.views.get()?;
        Some(views.borrow().latest().clone())
    }

    /// The answer to a question, and whether it is good news.
    fn answer_now(&self, method: &Method, path: &str, query: &str) -> (StatusCode, Value) {
        if path == "/logging" {
            return self.logging(method, query);
        }
        if let Some(question) = path.strip_prefix("/debug/ca") {
            if (method, question) == (&Method::GET, "/issued")
                && let Some((issues, clock)) = self.shared.issues.get()
            {
                return authority::issued(issues, query, clock.now().earliest);
            }
            return match self.shared.authority.get() {
                Some(authority) => authority::about_roots(authority, method, question, query),
                None => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    json!({ "error": "the CA has no root of its own, or is not read yet" }),
                ),
            };
        }
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
                let proxies = self.shared.proxies.list(Instant::now());
                let mut page = json!({ "revision": revision, "proxies": proxies });
                if let Some(position) = position {
                    page["source"] = json!(position);
                }
                (StatusCode::OK, page)
            }
            "/debug/workloads" => of_view(dump::workloads),
            "/debug/services" => of_view(dump::services),
            "/debug/policies" => of_view(dump::policies),
            "/debug/clusters" => match self.shared.clusters.get() {
                Some(board) => (StatusCode::OK, board.page()),
                None => (
                    StatusCode::NOT_FOUND,
                    json!({ "error": "no other clusters are followed (--multi-network)" }),
                ),
            },
            _ => (
                StatusCode::NOT_FOUND,
                json!({ "error": "no such page", "pages": PAGES }),
            ),
        }
    }

    fn logging(&self, method: &Method, query: &str) -> (StatusCode, Value) {
        let Some(log) = &self.shared.log else {
            return (
                StatusCode::NOT_FOUND,
                json!({ "error": "the log is not this program's" }),
            );
        };
        let changed = match (method, query) {
            (&Method::GET, _) => Ok(()),
            (&Method::POST, "reset") => log.reset(),
            (&Method::POST, query) => match query.strip_prefix("level=") {
                // Commas, equals signs and colons, of which filters are made, need no escape in a query.
                Some(filter) => log.set(filter),
                None => {
                    let error = json!({ "error": "write ?level=FILTER, such as debug or control_plane=debug,info, or ?reset" });
                    return (StatusCode::BAD_REQUEST, error);
                }
            },
            _ => {
                return (
                    StatusCode::METHOD_NOT_ALLOWED,
                    json!({ "error": "only GET and POST are answered" }),
                );
            }
        };
        match changed {
            Ok(()) => (
                StatusCode::OK,
                json!({ "filter": log.current(), "initial": log.initial() }),
            ),
            Err(error) => (StatusCode::BAD_REQUEST, json!({ "error": error.to_string() })),
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
