//! What somebody may have meant who typed another form: that of a certificate, of a host name, of another tool.

use std::fmt::Display;
use std::net::IpAddr;

use super::{Caller, Target};

/// What other tools put before the name of a pod.
const POD: [&str; 4] = ["pod:", "pod/", "pods/", "po/"];
const SERVICE: [&str; 6] = ["service/", "services/", "svc/", "service:", "svc:", ""];
const ACCOUNT: [&str; 4] = ["serviceaccount:", "serviceaccount/", "sa/", "sa:"];

/// The end of a message about what cannot be read.
pub(super) fn hint<T: Display>(meant: Option<T>) -> String {
    meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
}

pub(super) fn caller(text: &str) -> Option<Caller> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return format!("plaintext:{address}").parse().ok();
    }
    let principal = text.strip_prefix("spiffe://").unwrap_or(text);
    if let [_, "ns", namespace, "sa", name] = principal.split('/').collect::<Vec<_>>()[..] {
        return format!("sa:{namespace}/{name}").parse().ok();
    }
    if let Ok(Target::Pod { namespace, name, .. }) = text.parse() {
        return Some(Caller::Pod { namespace, name });
    }
    let account = stripped(text, &ACCOUNT).find_map(|rest| format!("sa:{rest}").parse().ok());
    account.or_else(|| stripped(text, &POD).find_map(|rest| rest.parse().ok()))
}

pub(super) fn target(text: &str) -> Option<Target> {
    if let Some(target) = stripped(text, &POD).find_map(|rest| rest.parse().ok()) {
        return Some(target);
    }
    stripped(text, &SERVICE).find_map(|rest| {
        let service: Option<Target> = format!("service:{rest}").parse().ok();
        service.or_else(|| of_host(rest))
    })
}

/// `NAME.NAMESPACE:PORT` and `NAME.NAMESPACE.svc…:PORT`.
fn of_host(text: &str) -> Option<Target> {
    let (host, port) = text.rsplit_once(':')?;
    let mut labels = host.split('.');
    let (name, namespace) = (labels.next()?, labels.next()?);
    let is_host = matches!(labels.next(), None | Some("svc"));
    let service = format!("service:{namespace}/{name}:{port}");
    service.parse().ok().filter(|_| is_host)
}

fn stripped<'a>(text: &'a str, prefixes: &'a [&str]) -> impl Iterator<Item = &'a str> {
    prefixes.iter().filter_map(|prefix| text.strip_prefix(prefix))
}
