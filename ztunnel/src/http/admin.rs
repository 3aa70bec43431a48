//! The admin pages. They have no login: who can reach the node's loopback may use them. What guards against is a
//! web page in a browser there (by way of a port-forward, say) that makes requests in its user's stead.

mod connections;
mod dump;
#[cfg(feature = "jemalloc")]
mod heap;
#[cfg(not(feature = "jemalloc"))]
#[path = "admin/no_heap.rs"]
mod heap;
pub(crate) mod logging;
mod policies;
mod profile;
mod resources;
mod services;
#[cfg(test)]
mod tests;
mod workloads;

use super::{Body, no_such_page, page, pieces, text, whole};
use crate::context::Context;
use crate::pod_readiness;
use hyper::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::{Method, Request, Response, StatusCode};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tracing::info;

pub(super) async fn answer<B>(
    context: &Arc<Context>,
    request: &Request<B>,
    large: Arc<Semaphore>,
) -> Response<Body> {
    if let Err(refusal) = is_from_here(request.headers()) {
        return text(StatusCode::FORBIDDEN, refusal);
    }
    let (context, path) = (context.clone(), request.uri().path());
    let query = request.uri().query().unwrap_or_default();
    match (request.method(), path) {
        (&Method::GET, "/") => page(
            StatusCode::OK,
            "text/html; charset=utf-8",
            whole(dashboard(&context)),
        ),
        (&Method::GET, "/config_dump") => {
            json(pieces::body(large, move |out| dump::write(&context, out)).await)
        }
        (&Method::GET, "/connections") => {
            json(pieces::body(large, move |out| connections::write(&context, out)).await)
        }
        (&Method::GET, "/pods") => json(
            pieces::body(large, move |out| {
                Ok(serde_json::to_writer_pretty(out, &pod_readiness::all(&context))?)
            })
            .await,
        ),
        (&Method::GET, "/debug/resources") => {
            json(pieces::body(large, move |out| resources::write(&context, out)).await)
        }
        (&Method::GET | &Method::POST, "/logging") => logging::answer(&context.log, request.method(), query),
        (&Method::POST, "/quitquitquit") => {
            info!("told to stop by POST /quitquitquit");
            context.quit.cancel();
            text(
                StatusCode::OK,
                "shutting down: open connections have the drain deadline\n".into(),
            )
        }
        (
            _,
            "/" | "/config_dump" | "/connections" | "/pods" | "/debug/resources" | "/logging"
            | "/quitquitquit",
        ) => text(
            StatusCode::METHOD_NOT_ALLOWED,
            "this page is not for this method; GET / lists what there is\n".into(),
        ),
        (method, "/debug/pprof/profile") => profile::answer(method, query).await,
        (method, _) => heap::answer(method, path, query)
            .await
            .unwrap_or_else(no_such_page),
    }
}

/// A header, and the part of its value that names a host.
type NamesHost = (HeaderName, fn(&str) -> Option<&str>);

/// Refuses a request that a foreign web page made: its `Host` is a name that was made to point here, or its `Origin`
/// is elsewhere. No `Host` at all is no browser.
fn is_from_here(headers: &HeaderMap) -> Result<(), String> {
    let checks: [NamesHost; 2] = [
        (HOST, |host| Some(host)),
        (ORIGIN, |origin| origin.split_once("://").map(|(_, host)| host)),
    ];
    for (name, host_of) in checks {
        for value in headers.get_all(&name) {
            let host = value.to_str().ok().and_then(host_of);
            if !host.is_some_and(is_loopback) {
                return Err(format!(
                    "the admin pages are for this machine: call them as localhost or 127.0.0.1 ({name} is {value:?})\n"
                ));
            }
        }
    }
    Ok(())
}

/// Whether `host`, with or without a port, is this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn json(body: Body) -> Response<Body> {
    page(StatusCode::OK, "application/json", body)
}

fn dashboard(context: &Context) -> String {
    let snapshot = context.state.snapshot();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>ztunnel</title></head><body>\n\
         <h1>ztunnel {version} on {node}</h1>\n\
         <p>{pods} pods served, {open} connections open; state revision {revision}: {workloads} workloads, \
         {services} services, {policies} policies</p>\n\
         <ul>\n\
         <li><a href=\"/config_dump\">/config_dump</a>: workloads, services, policies, certificates, connections</li>\n\
         <li><a href=\"/connections\">/connections</a>: open connections</li>\n\
         <li><a href=\"/pods\">/pods</a>: which pods are ready, and what the others wait for</li>\n\
         <li><a href=\"/debug/resources\">/debug/resources</a>: memory, threads, and what each pod holds</li>\n\
         <li><a href=\"/debug/pprof/profile?seconds=10\">/debug/pprof/profile</a>: what the processor is used for, for pprof</li>\n\
         <li><a href=\"/debug/pprof/heap\">/debug/pprof/heap</a>: who holds the memory</li>\n\
         <li><a href=\"/logging\">/logging</a>: the log filter; POST changes it</li>\n\
         <li>POST /quitquitquit: drain and stop</li>\n\
         </ul>\n</body></html>\n",
        version = env!("CARGO_PKG_VERSION"),
        node = escape(&context.config.node_name),
        pods = context.pods.list().len(),
        open = context.connections.count(),
        revision = snapshot.revision(),
        workloads = snapshot.workloads().count(),
        services = snapshot.services().count(),
        policies = snapshot.policies().count(),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
