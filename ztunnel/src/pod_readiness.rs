//! Whether one pod is served in full, and why not.
//!
//! The agent is told of a pod as soon as its listeners are up: from then on nothing of it passes by. What comes later,
//! its workload from the control plane and its certificate, connections wait for; a pod is ready once none has to.

use crate::context::Context;
use crate::pods::Pod;
use serde::Serialize;
use std::time::SystemTime;
use telemetry::CertificateState;

/// One pod, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodReadiness {
    /// `namespace/name`.
    pub(crate) pod: String,
    /// Uid.
    pub(crate) uid: String,
    /// Whether all of the following holds.
    pub(crate) ready: bool,
    /// Whether its ports are listened on.
    pub(crate) listeners: bool,
    /// Whether the control plane has told of it.
    pub(crate) workload: bool,
    /// Whether its identity has a certificate that has not run out.
    pub(crate) certificate: bool,
    /// What is missing, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) waiting_for: Vec<String>,
}

/// All pods, by name.
pub(crate) fn all(context: &Context) -> Vec<PodReadiness> {
    let waiting = context
        .pods
        .waiting()
        .into_iter()
        .map(|(id, waiting)| PodReadiness {
            pod: waiting.name,
            uid: id.to_string(),
            ready: false,
            listeners: false,
            workload: false,
            certificate: false,
            waiting_for: vec![format!("listeners: {}", waiting.reason)],
        });
    let served = context.pods.list();
    let served = served.iter().map(|pod| of(context, pod));
    let mut all: Vec<_> = waiting.chain(served).collect();
    all.sort_by(|one, other| (&one.pod, &one.uid).cmp(&(&other.pod, &other.uid)));
    all
}

/// The pod `namespace/name`. One that came anew under the name of one that leaves is judged together with it. None: no
/// such pod was handed over.
pub(crate) fn named(context: &Context, name: &str) -> Option<PodReadiness> {
    let mut found = all(context).into_iter().filter(|pod| pod.pod == name);
    let first = found.next()?;
    Some(found.fold(first, |worst, next| if worst.ready { next } else { worst }))
}

fn of(context: &Context, pod: &Pod) -> PodReadiness {
    let (node, identity) = (&context.config.node_name, &pod.identity);
    let mut waiting_for = Vec::new();
    let snapshot = context.state.snapshot();
    let known = snapshot
        .local_workload(node, identity.namespace(), &pod.name, identity.service_account())
        .is_some_and(|workload| workload.identity() == *identity);
    let workload = known && context.state.is_synced();
    if !workload {
        waiting_for.push(if context.state.is_synced() {
            format!(
                "its workload: the control plane has told of no pod of this name and service account on node {node}"
            )
        } else {
            "its workload: the control plane has not answered yet".to_owned()
        });
    }
    let state = context.identities.state(identity).unwrap_or_default();
    let certificate = match (state.summary(SystemTime::now()), &state.failure) {
        (CertificateState::Valid | CertificateState::RenewalFailing, _) => true,
        (state, failure) => {
            let word = match state {
                CertificateState::Expired => "has expired",
                CertificateState::Revoked => "is revoked",
                _ => "is not there yet",
            };
            let why = failure.as_ref().map(|failure| format!(": {failure}"));
            waiting_for.push(format!(
                "the certificate of {identity}, which {word}{}",
                why.unwrap_or_default()
            ));
            false
        }
    };
    PodReadiness {
        pod: pod.full_name(),
        uid: pod.id.to_string(),
        ready: waiting_for.is_empty(),
        listeners: true,
        workload,
        certificate,
        waiting_for,
    }
}

#[cfg(test)]
mod tests;
