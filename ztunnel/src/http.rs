//! What the proxy says about itself over HTTP: readiness, metrics, and state for people.
//!
//! Three listeners, as existing deployments expect them: readiness on 15021, metrics on 15020, and the admin
//! pages on 15000, loopback only. Each serves a bounded number of clients, each of them for a bounded time, and
//! one request a connection: nobody who reads slowly keeps others out for long.

pub(crate) mod admin;
mod health;
mod pieces;
mod scrape;
#[cfg(test)]
mod tests;

use crate::context::Context;
use crate::readiness::Readiness;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

/// The thread that answers probes.
const HEALTH_THREAD: &str = "health";

/// Port of `/healthz/ready`.
pub(crate) const READINESS_PORT: u16 = 15021;

/// Connections served at once on each listener.
const MAX_CONNECTIONS: usize = 64;
/// Time a client has to send its request head.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// Longest request head, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Answers of one listener that are being made out of much state at once; further ones wait their turn.
const MAX_LARGE_ANSWERS: usize = 8;

/// What one listener answers.
#[derive(Clone)]
pub(crate) enum Pages {
    /// Readiness, of the process and of single pods.
    Readiness(Readiness, Arc<Context>),
    /// Metrics.
    Metrics(Arc<Context>),
    /// State for people.
    Admin(Arc<Context>),
}

impl Pages {
    /// Time from a connection's beginning to its end.
    fn deadline(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Readiness(..) => 10,
            Self::Metrics(_) => 60,
            Self::Admin(_) => 120,
        })
    }
}

/// The body of an answer, whole or in pieces.
type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// Binds `port` on every address, or on loopback only. Another process of this proxy may have it too: during an
/// upgrade without network namespaces of their own, both answer.
pub(crate) fn bind(port: u16, ipv6: bool, loopback: bool) -> io::Result<TcpListener> {
    let ip: IpAddr = match (loopback, ipv6) {
        (true, _) => Ipv4Addr::LOCALHOST.into(),
        (false, true) => Ipv6Addr::UNSPECIFIED.into(),
        (false, false) => Ipv4Addr::UNSPECIFIED.into(),
    };
    sys::socket::listen_here(SocketAddr::new(ip, port), true)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on port {port}: {error}")))
}

/// Serves `pages` on `listener` for ever.
pub(crate) async fn serve(listener: TcpListener, pages: Pages) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let large = Arc::new(Semaphore::new(MAX_LARGE_ANSWERS));
    loop {
        // The semaphore is never closed.
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (pages, large) = (pages.clone(), large.clone());
        tokio::spawn(async move {
            let deadline = pages.deadline();
            let service = service_fn(move |request| {
                let (pages, large) = (pages.clone(), large.clone());
                async move { Ok::<_, Infallible>(answer(&request, &pages, large).await) }
            });
            let serving = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_DEADLINE)
                .max_buf_size(MAX_HEAD)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(deadline, serving).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "an HTTP client went wrong"),
                Err(_) => debug!(
                    seconds = deadline.as_secs(),
                    "an HTTP client took too long and was cut off"
                ),
            }
            drop(slot);
        });
    }
}

/// Serves `pages` on a thread of its own until `stop`: whether the runtime that moves connections runs is not for that
/// runtime to say.
pub(crate) fn serve_apart(listener: TcpListener, pages: Pages, stop: CancellationToken) -> io::Result<()> {
    let listener = listener.into_std()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let serving = move || {
        runtime.block_on(async {
            match TcpListener::from_std(listener) {
                Ok(listener) => {
                    stop.run_until_cancelled(serve(listener, pages)).await;
                }
                Err(error) => error!(%error, "probes are not answered"),
            }
        });
    };
    std::thread::Builder::new()
        .name(HEALTH_THREAD.into())
        .spawn(serving)?;
    Ok(())
}

async fn answer(request: &Request<Incoming>, pages: &Pages, large: Arc<Semaphore>) -> Response<Body> {
    let path = request.uri().path();
    match (pages, request.method(), path) {
        (Pages::Readiness(readiness, context), &Method::GET, "/healthz/ready" | "/healthz/live") => {
            health::answer(readiness, context, request.uri())
        }
        (Pages::Metrics(context), &Method::GET, "/metrics" | "/stats/prometheus") => {
            scrape::answer(context, request, large).await
        }
        (Pages::Admin(context), _, _) => admin::answer(context, request, large).await,
        _ => no_such_page(),
    }
}

fn no_such_page() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "no such page\n".into())
}

fn text(status: StatusCode, body: String) -> Response<Body> {
    page(status, "text/plain; charset=utf-8", whole(body))
}

fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn page(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
