//! What the proxy says about itself over HTTP: readiness, metrics, and state for people.
//!
//! Three listeners, as existing deployments expect them: readiness on 15021, metrics on 15020, and the admin
//! pages on 15000, loopback only.

mod admin;

use crate::context::Context;
use crate::readiness::Readiness;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tracing::debug;

/// Port of `/healthz/ready`.
pub(crate) const READINESS_PORT: u16 = 15021;

/// Connections served at once on each listener.
const MAX_CONNECTIONS: usize = 64;
/// Time a client has to send its request head.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);

/// What one listener answers.
#[derive(Clone)]
pub(crate) enum Pages {
    /// Readiness.
    Readiness(Readiness),
    /// Metrics.
    Metrics(Arc<Context>),
    /// State for people.
    Admin(Arc<Context>),
}

/// Connections waiting to be accepted.
const BACKLOG: u32 = 128;

/// Binds `port` on every address, or on loopback only. Another process of this proxy may have it too: during an
/// upgrade without network namespaces of their own, both answer.
pub(crate) fn bind(port: u16, ipv6: bool, loopback: bool) -> io::Result<TcpListener> {
    let any = Ipv4Addr::UNSPECIFIED.into();
    let ip: IpAddr = match (loopback, ipv6) {
        (true, _) => Ipv4Addr::LOCALHOST.into(),
        (false, true) => Ipv6Addr::UNSPECIFIED.into(),
        (false, false) => any,
    };
    match listen(SocketAddr::new(ip, port)) {
        // A kernel without IPv6.
        Err(error) if ip.is_ipv6() && error.kind() != io::ErrorKind::AddrInUse => {
            listen(SocketAddr::new(any, port))
        }
        bound => bound,
    }
    .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on port {port}: {error}")))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `pages` on `listener` for ever.
pub(crate) async fn serve(listener: TcpListener, pages: Pages) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
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
        let pages = pages.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let pages = pages.clone();
                async move { Ok::<_, Infallible>(answer(&request, &pages)) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_DEADLINE)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                debug!(%error, "an HTTP client went wrong");
            }
            drop(slot);
        });
    }
}

fn answer(request: &Request<Incoming>, pages: &Pages) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    match (pages, request.method(), path) {
        (Pages::Readiness(readiness), &Method::GET, "/healthz/ready") => match readiness.open() {
            // The process, since another one may answer on the same port during an upgrade.
            open if open.is_empty() => {
                let mut lines = vec!["ready".to_owned(), format!("process {}", std::process::id())];
                lines.extend(readiness.notes());
                text(
                    StatusCode::OK,
                    lines.into_iter().map(|line| line + "\n").collect(),
                )
            }
            open => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("not ready, waiting for: {}\n", open.join(", ")),
            ),
        },
        (Pages::Readiness(readiness), &Method::GET, "/healthz/live") => {
            match readiness.stalled(std::time::Instant::now()) {
                stalled if stalled.is_empty() => text(StatusCode::OK, "alive\n".into()),
                stalled => text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("no progress with: {}\n", stalled.join(", ")),
                ),
            }
        }
        (Pages::Metrics(context), &Method::GET, "/metrics" | "/stats/prometheus") => page(
            StatusCode::OK,
            telemetry::OPENMETRICS_CONTENT_TYPE,
            context.scrape(),
        ),
        (Pages::Admin(context), &Method::GET, "/config_dump") => json(admin::config_dump(context)),
        (Pages::Admin(context), &Method::GET, "/connections") => json(admin::connections(context)),
        (Pages::Admin(_), &Method::GET, "/") => text(StatusCode::OK, ADMIN_INDEX.into()),
        (Pages::Admin(context), &Method::POST, "/logging") => {
            let level = request
                .uri()
                .query()
                .and_then(|query| query.strip_prefix("level="));
            match level.map(|level| context.log.set(level)) {
                Some(Ok(())) => text(StatusCode::OK, "log level set\n".into()),
                Some(Err(error)) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
                None => text(
                    StatusCode::BAD_REQUEST,
                    "say which level: POST /logging?level=debug\n".into(),
                ),
            }
        }
        _ => text(StatusCode::NOT_FOUND, "no such page\n".into()),
    }
}

const ADMIN_INDEX: &str = "\
GET  /config_dump           workloads, services, policies, certificates, connections\n\
GET  /connections           open connections\n\
POST /logging?level=debug   change the log filter\n";

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    page(status, "text/plain; charset=utf-8", body)
}

fn json(value: serde_json::Value) -> Response<Full<Bytes>> {
    page(StatusCode::OK, "application/json", format!("{value:#}\n"))
}

fn page(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(content_type),
    );
    response
}
