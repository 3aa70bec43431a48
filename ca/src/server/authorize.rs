//! For whom a node proxy may ask.

use mesh::Identity;

use super::authenticate::Caller;

/// Knows the pods, and so which identities a node proxy may hold.
pub trait NodeAuthorizer: Send + Sync + 'static {
    /// Whether `caller`, an authenticated node proxy, may have a certificate for `identity`: its own pod must
    /// exist as its token says, and a pod with that identity must run on its node. [`may_impersonate`] is this
    /// rule over a list of pods.
    ///
    /// # Errors
    /// The first condition that does not hold.
    fn may_impersonate(&self, caller: &Caller, identity: &Identity) -> Result<(), Denied>;
}

/// A pod, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Its service account.
    pub service_account: &'a str,
    /// The node it runs on; empty while it is not scheduled.
    pub node: &'a str,
    /// Whether its phase is Succeeded or Failed: such a pod holds no identity any more.
    pub terminal: bool,
}

/// Why a caller may not have a certificate for somebody else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// Only node proxies may ask for others.
    #[error("{caller} is not a node proxy account, so it may not ask for other identities")]
    NotTrusted {
        /// Namespace and service account.
        caller: String,
    },
    /// The identity asked for is not of the form `spiffe://TD/ns/NS/sa/SA`.
    #[error("the identity asked for is not of the form spiffe://TD/ns/NS/sa/SA")]
    Malformed,
    /// The identity belongs to another trust domain.
    #[error("{got} is of another trust domain than this authority's, {expected}")]
    TrustDomain {
        /// The authority's own.
        expected: String,
        /// What was asked for.
        got: Identity,
    },
    /// No such pod is known. It may be too new: trying again later helps then.
    #[error("the caller's pod {pod} is not known (yet)")]
    CallerPodUnknown {
        /// Namespace and name.
        pod: String,
    },
    /// The token belongs to an earlier pod of the same name.
    #[error("the caller's pod {pod} has another uid than its token says")]
    CallerPodReplaced {
        /// Namespace and name.
        pod: String,
    },
    /// The caller's pod runs under another service account than its token says.
    #[error("the caller's pod {pod} runs under another service account than its token says")]
    CallerAccount {
        /// Namespace and name.
        pod: String,
    },
    /// The caller's pod runs on another node than its token says.
    #[error("the caller's pod {pod} runs on another node than its token says")]
    CallerNode {
        /// Namespace and name.
        pod: String,
    },
    /// The caller's pod has ended.
    #[error("the caller's pod {pod} has ended")]
    CallerEnded {
        /// Namespace and name.
        pod: String,
    },
    /// No such workload runs on the caller's node. It may be too new: trying again later helps then.
    #[error("no running pod of {identity} is known on node {node} (yet)")]
    NotOnNode {
        /// What was asked for.
        identity: Identity,
        /// The caller's node.
        node: String,
    },
}

impl Denied {
    /// The identity that was asked for, where it is part of the reason.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::TrustDomain { got, .. } => Some(got),
            Self::NotOnNode { identity, .. } => Some(identity),
            _ => None,
        }
    }

    /// A stable word for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotTrusted { .. } => "not_trusted",
            Self::Malformed => "malformed_identity",
            Self::TrustDomain { .. } => "wrong_trust_domain",
            Self::CallerPodUnknown { .. } => "caller_pod_unknown",
            Self::CallerPodReplaced { .. } => "caller_pod_replaced",
            Self::CallerAccount { .. } => "caller_account",
            Self::CallerNode { .. } => "caller_node",
            Self::CallerEnded { .. } => "caller_ended",
            Self::NotOnNode { .. } => "not_on_node",
        }
    }
}

/// The rule of [`NodeAuthorizer::may_impersonate`] over all pods.
///
/// # Errors
/// The first condition that does not hold.
pub fn may_impersonate<'a>(
    caller: &Caller,
    identity: &Identity,
    pods: impl IntoIterator<Item = Pod<'a>>,
) -> Result<(), Denied> {
    let mut own = None;
    let mut on_node = false;
    for pod in pods {
        if pod.namespace == caller.namespace && pod.name == caller.pod_name {
            own = Some(pod);
        }
        on_node |= !pod.terminal
            && !pod.node.is_empty()
            && pod.node == caller.node
            && pod.namespace == identity.namespace()
            && pod.service_account == identity.service_account();
    }
    let name = || format!("{}/{}", caller.namespace, caller.pod_name);
    let own = own.ok_or_else(|| Denied::CallerPodUnknown { pod: name() })?;
    if own.uid != caller.pod_uid {
        return Err(Denied::CallerPodReplaced { pod: name() });
    }
    if own.service_account != caller.service_account {
        return Err(Denied::CallerAccount { pod: name() });
    }
    if own.node != caller.node {
        return Err(Denied::CallerNode { pod: name() });
    }
    if own.terminal {
        return Err(Denied::CallerEnded { pod: name() });
    }
    if !on_node {
        return Err(Denied::NotOnNode {
            identity: identity.clone(),
            node: caller.node.clone(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
