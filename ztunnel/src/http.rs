//! What the proxy says about itself over HTTP: readiness, metrics, and state for people.
//!
//! Three listeners, as existing deployments expect them: readiness on 15021, metrics on 15020, and the admin
//! pages on 15000, loopback only. Each serves a bounded number of clients, each of them for a bounded time, and
//! one request a connection: nobody who reads slowly keeps others out for long, and nobody who asks for nothing at all.

pub(crate) mod admin;
mod health;
mod pieces;
mod places;
mod scrape;
#[cfg(test)]
mod tests;

use crate::acceptor;
use crate::context::Context;
use crate::readiness::Readiness;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use places::{Place, Places, Spares};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

/// The thread that answers probes.
const HEALTH_THREAD: &str = "health";

/// Port of `/healthz/ready`.
pub(crate) const READINESS_PORT: u16 = 15021;

/// Connections served at once on each listener.
const MAX_CONNECTIONS: usize = 64;
/// Connections of one address among them, where others than this machine may call.
const MAX_OF_ONE_ADDRESS: usize = 8;
/// Pause after a failure to accept that waiting may mend.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest request head, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Answers of one listener that are being made out of much state at once; further ones wait their turn.
const MAX_LARGE_ANSWERS: usize = 2 * MAX_OF_ONE_ADDRESS;

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
    /// Time that a client has to send its request head.
    fn head_deadline(&self) -> Duration {
        Duration::from_secs(match self {
            // Probes are this machine's and wait no longer themselves.
            Self::Readiness(..) => 2,
            Self::Metrics(_) | Self::Admin(_) => 10,
        })
    }

    /// Who is served at once.
    fn places(&self) -> Places {
        let share = match self {
            Self::Readiness(..) | Self::Metrics(_) => MAX_OF_ONE_ADDRESS,
            // All of it is loopback.
            Self::Admin(_) => MAX_CONNECTIONS,
        };
        Places::new(MAX_CONNECTIONS, share)
    }

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
    let (places, spares) = (pages.places(), Arc::new(Spares::new()));
    let large = Arc::new(Semaphore::new(MAX_LARGE_ANSWERS));
    loop {
        let (stream, from) = accept(&listener, &places, &spares).await;
        let Some(place) = places.take(from.ip()) else {
            debug!(%from, "an HTTP client is turned away: as many as may be are being served");
            drop(stream);
            spares.refill();
            continue;
        };
        let (pages, large, spares) = (pages.clone(), large.clone(), spares.clone());
        tokio::spawn(async move {
            serve_one(stream, &pages, &large, &place).await;
            drop(place);
            spares.refill();
        });
    }
}

/// The next client. Without free descriptors it gets a spare one, or that of a client that has asked for nothing yet.
async fn accept(listener: &TcpListener, places: &Places, spares: &Spares) -> (TcpStream, SocketAddr) {
    loop {
        let error = match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => error,
        };
        debug!(%error, "cannot accept");
        let lacks_descriptors = acceptor::lacks_descriptors(&error);
        if lacks_descriptors && spares.give_up() {
            // The kernel says so even where nobody waits.
            match listener.accept().now_or_never() {
                Some(Ok(accepted)) => return accepted,
                _ => spares.refill(),
            }
            tokio::task::yield_now().await;
        } else if lacks_descriptors && places.cut_one() {
            // Its task takes back the descriptor.
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Serves one client, at most until somebody else needs its place.
async fn serve_one(stream: TcpStream, pages: &Pages, large: &Arc<Semaphore>, place: &Place) {
    let deadline = pages.deadline();
    let service = service_fn(|request| {
        place.has_asked();
        let large = large.clone();
        async move { Ok::<_, Infallible>(answer(&request, pages, large).await) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(pages.head_deadline())
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        biased;
        () = place.cut() => debug!("an HTTP client that asked for nothing made room"),
        served = tokio::time::timeout(deadline, serving) => match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "an HTTP client went wrong"),
            Err(_) => debug!(
                seconds = deadline.as_secs(),
                "an HTTP client took too long and was cut off"
            ),
        },
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
