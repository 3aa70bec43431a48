//! Readiness and liveness, for probes.

use super::{Body, text};
use crate::context::Context;
use crate::pod_readiness;
use crate::readiness::Readiness;
use hyper::{Response, StatusCode, Uri};
use percent_encoding::percent_decode_str;

const USAGE: &str = "\
GET /healthz/ready                      whether this proxy is ready
GET /healthz/ready?pod=NAMESPACE/NAME   whether a pod of this node is
GET /healthz/live                       whether this proxy makes progress
";

pub(super) fn answer(readiness: &Readiness, context: &Context, uri: &Uri) -> Response<Body> {
    match (uri.path(), uri.query()) {
        ("/healthz/live", _) => live(readiness),
        (_, None | Some("")) => ready(readiness, context),
        (_, Some(query)) => {
            let name = query.strip_prefix("pod=").filter(|name| !name.contains('&'));
            match name.map(|name| percent_decode_str(name).decode_utf8()) {
                Some(Ok(name)) => pod(context, &name),
                _ => text(StatusCode::BAD_REQUEST, USAGE.into()),
            }
        }
    }
}

fn live(readiness: &Readiness) -> Response<Body> {
    match readiness.stalled(std::time::Instant::now()) {
        stalled if stalled.is_empty() => text(StatusCode::OK, "alive\n".into()),
        stalled => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("no progress with: {}\n", stalled.join(", ")),
        ),
    }
}

fn ready(readiness: &Readiness, context: &Context) -> Response<Body> {
    let open = readiness.open();
    if !open.is_empty() {
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("not ready, waiting for: {}\n", open.join(", ")),
        );
    }
    // The process, since another one may answer on the same port during an upgrade.
    let mut lines = vec!["ready".to_owned(), format!("process {}", std::process::id())];
    lines.extend(readiness.notes());
    let pods = pod_readiness::all(context);
    let waiting = pods.iter().filter(|pod| !pod.ready).count();
    if waiting > 0 {
        // One pod's trouble is not the node's: others are served.
        lines.push(format!(
            "{waiting} of {} pods are not ready; /pods on the admin port says why",
            pods.len()
        ));
    }
    let lines = lines.into_iter().map(|line| line + "\n").collect();
    text(StatusCode::OK, lines)
}

fn pod(context: &Context, name: &str) -> Response<Body> {
    match pod_readiness::named(context, name) {
        None => text(
            StatusCode::NOT_FOUND,
            format!("no pod {name:?} was handed over by the node agent (NAMESPACE/NAME is asked for)\n"),
        ),
        Some(pod) if pod.ready => text(StatusCode::OK, "ready\n".into()),
        Some(pod) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("not ready, waiting for {}\n", pod.waiting_for.join("; ")),
        ),
    }
}
