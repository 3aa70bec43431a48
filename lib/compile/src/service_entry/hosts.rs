//! Whose the names are that authors of ServiceEntries write down. The names of Services belong to their namespaces, also
//! while there is no such Service: whoever may write entries in one namespace must not stand for a Service that another
//! will have, or has had. In its own namespace an entry may say what such a name is to mean.

use objects::{Metadata, ServiceEntry};

use crate::condition::{CONFLICTED, Condition, HOSTS_ACCEPTED};
use crate::settings::Settings;

/// Whether a host is, or as a pattern may be, the name of a Service of another namespace.
pub(super) fn is_foreign(settings: &Settings, namespace: &str, host: &str) -> bool {
    let suffix = format!(".svc.{}", settings.cluster_domain);
    if let Some(pattern) = host.strip_prefix('*') {
        // `*.local` has every Service, `*.svc.cluster.local` too.
        if suffix.ends_with(pattern) {
            return true;
        }
    }
    // What resolvers make of `web.shop.svc` before they ask for it as it is.
    let rest = host.strip_suffix(&suffix).or_else(|| host.strip_suffix(".svc"));
    let owner = rest.and_then(|rest| rest.rsplit('.').next());
    owner.is_some_and(|owner| owner != namespace)
}

/// What the author is told of a name that is somebody else's.
pub(super) fn condition(settings: &Settings, metadata: &Metadata, entry: &ServiceEntry) -> Option<Condition> {
    let namespace = &metadata.namespace;
    let host = entry
        .hosts
        .iter()
        .find(|host| is_foreign(settings, namespace, host))?;
    Some(Condition {
        kind: HOSTS_ACCEPTED,
        status: false,
        reason: CONFLICTED,
        message: format!(
            "{host} is a name of Services of another namespace, so only {namespace} sees this entry by it; write the \
             entry in the namespace of the name"
        ),
        observed_generation: metadata.generation,
    })
}
