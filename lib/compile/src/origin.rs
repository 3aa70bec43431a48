//! What is attached to policies and workloads so that a decision can name the object that a user wrote. Other
//! implementations ignore extensions that they do not know.

use objects::{Object, Spec};
use prost::Message;
use proto::origin::{
    DRY_RUN_EXTENSION, DRY_RUN_TYPE_URL, DryRunPolicies, ORIGIN_EXTENSION, ORIGIN_TYPE_URL, Origin,
    PEER_AUTHENTICATION_EXTENSION, PEER_AUTHENTICATION_TYPE_URL, PeerAuthenticationOrigin,
};
use proto::workload::Extension;

/// The most characters of [`Origin::closed_because`]; the conditions of the object have all of it.
const MAX_CLOSED_BECAUSE: usize = 400;

/// The object, without anything about its rules.
pub(crate) fn of(object: &Object) -> Origin {
    let metadata = &object.metadata;
    Origin {
        kind: object.kind().as_str().to_owned(),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        generation: metadata.generation,
        closed_because: closed_because(object),
        ..Origin::default()
    }
}

/// Why the object cannot be read as a whole; empty when it can.
fn closed_because(object: &Object) -> String {
    let problems = match &object.spec {
        Spec::AuthorizationPolicy(policy) => &policy.unreadable,
        Spec::PeerAuthentication(policy) => &policy.unreadable,
        _ => return String::new(),
    };
    let whole = problems.join("; ");
    match whole.char_indices().nth(MAX_CLOSED_BECAUSE) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

/// For a policy: what it was made of.
pub(crate) fn of_policy(origin: &Origin) -> Extension {
    extension(ORIGIN_EXTENSION, ORIGIN_TYPE_URL, origin)
}

/// For a workload: what decides whether it takes plaintext.
pub(crate) fn of_mtls(origin: &PeerAuthenticationOrigin) -> Extension {
    extension(
        PEER_AUTHENTICATION_EXTENSION,
        PEER_AUTHENTICATION_TYPE_URL,
        origin,
    )
}

/// For a workload: the dry-run policies that select it.
pub(crate) fn dry_run(policies: Vec<String>) -> Extension {
    extension(DRY_RUN_EXTENSION, DRY_RUN_TYPE_URL, &DryRunPolicies { policies })
}

fn extension(name: &str, type_url: &str, message: &impl Message) -> Extension {
    Extension {
        name: name.to_owned(),
        config: Some(prost_types::Any {
            type_url: type_url.to_owned(),
            value: message.encode_to_vec(),
        }),
    }
}

#[cfg(test)]
mod tests;
