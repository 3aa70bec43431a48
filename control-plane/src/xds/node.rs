//! Who a proxy says it is, and whether that is who its token says.
//!
//! Whoever is served reads every workload, service and policy: a proxy that did not know a workload would call it in
//! plaintext. So it matters who is served: node proxies, as themselves on their own node, and a ztunnel that serves
//! one pod alone ("dedicated"), as that very pod.

use ca::{Caller, Denied};
use prost_types::value::Kind;
use proto::discovery::Node;

/// The longest name or version that is looked at, in bytes; Kubernetes' names are shorter.
const MAX_TEXT: usize = 253;

/// The proxy as its Node message names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxyName {
    /// May be empty where the proxy is dedicated to a pod.
    pub(crate) node: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// Empty where the proxy does not say.
    service_account: String,
}

/// What a proxy is served as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The proxy of all pods of its node.
    Node,
    /// The proxy of its own pod.
    Dedicated,
}

/// The Node message is not one of a ztunnel.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("the first request has no Node")]
    Missing,
    #[error("Node.metadata has no {0} text; a ztunnel sends NAME, NAMESPACE and NODE_NAME")]
    NoMetadata(&'static str),
    #[error("Node.metadata {0} is longer than {MAX_TEXT} bytes")]
    TooLong(&'static str),
    #[error(
        "Node.id {0:?} is not ztunnel~ip~pod.namespace~domain with the pod and namespace of the metadata"
    )]
    BadId(String),
}

/// The proxy is not who its token says, or is none that is served.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "only ztunnels are served here, and Node.id says {0:?}; other proxies need a control plane that configures them"
    )]
    OtherProxy(String),
    #[error("{field} is {said:?}, but the token is for {token:?}; a node proxy speaks as itself only")]
    NotYours {
        field: &'static str,
        said: String,
        token: String,
    },
    #[error(
        "{account} is not a trusted node account, so it is served only as the dedicated proxy of its own pod, and \
         {field} is {said:?} where the token says {token:?}"
    )]
    NotYourPod {
        account: String,
        field: &'static str,
        said: String,
        token: String,
    },
    #[error("{who} is not served: {problem}")]
    NoSuchPod { who: String, problem: Denied },
    #[error("this stream is {known:?}'s, and a later request says {said:?}")]
    Changed { known: String, said: String },
}

impl Refusal {
    /// A stable word for metrics and logs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Refusal::OtherProxy(_) => "other_proxy",
            Refusal::NotYours { .. } => "not_its_node",
            Refusal::NotYourPod { .. } => "not_its_pod",
            Refusal::NoSuchPod { .. } => "no_such_pod",
            Refusal::Changed { .. } => "node_changed",
        }
    }

    /// The pod may be too new to be known; trying again helps then.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self,
            Refusal::NoSuchPod {
                problem: Denied::CallerPodUnknown { .. },
                ..
            }
        )
    }
}

/// The key in `Node.metadata` by which a proxy says that it evaluates dry-run policies without enforcing them. Older
/// proxies enforce them.
const DRY_RUN_KEY: &str = "ZTUNNEL_DRY_RUN_POLICIES";
/// The first part of `Node.id` of those who are served, Istio's node proxy included.
const ZTUNNEL: &str = "ztunnel";

/// Whether a caller's account is one of these, by namespace and name.
pub(crate) fn is_of(caller: &Caller, accounts: &[(String, String)]) -> bool {
    let mut accounts = accounts.iter();
    accounts.any(|(namespace, account)| *namespace == caller.namespace && *account == caller.service_account)
}

/// Whether the proxy says that it knows what a dry-run policy is.
pub(crate) fn knows_dry_run(node: Option<&Node>) -> bool {
    match value(node, DRY_RUN_KEY) {
        Some(Kind::StringValue(text)) => text == "true",
        Some(Kind::BoolValue(knows)) => *knows,
        _ => false,
    }
}

/// The version that the proxy says it has, for people and metrics.
pub(crate) fn version(node: Option<&Node>) -> String {
    let said = match value(node, "ISTIO_VERSION") {
        Some(Kind::StringValue(text)) => text.as_str(),
        _ => node.map_or("", |node| node.build_version.as_str()),
    };
    if said.is_empty() || said.len() > MAX_TEXT {
        "unknown".to_owned()
    } else {
        said.to_owned()
    }
}

fn value<'a>(node: Option<&'a Node>, key: &str) -> Option<&'a Kind> {
    node?.metadata.as_ref()?.fields.get(key)?.kind.as_ref()
}

impl ProxyName {
    pub(crate) fn from_node(node: Option<&Node>) -> Result<ProxyName, NodeError> {
        let node = node.ok_or(NodeError::Missing)?;
        let text = |field: &'static str| match value(Some(node), field) {
            Some(Kind::StringValue(text)) if text.len() > MAX_TEXT => Err(NodeError::TooLong(field)),
            Some(Kind::StringValue(text)) => Ok(text.clone()),
            _ => Ok(String::new()),
        };
        let needed = |field| match text(field) {
            Ok(text) if text.is_empty() => Err(NodeError::NoMetadata(field)),
            text => text,
        };
        let name = ProxyName {
            node: text("NODE_NAME")?,
            namespace: needed("NAMESPACE")?,
            pod: needed("NAME")?,
            service_account: text("SERVICE_ACCOUNT")?,
        };
        // `ztunnel~10.0.0.1~ztunnel-abc.istio-system~istio-system.svc.cluster.local`
        let parts: Vec<&str> = node.id.split('~').collect();
        match parts[..] {
            [_, _, pod, _] if pod == format!("{}.{}", name.pod, name.namespace) => Ok(name),
            _ => {
                let shown: String = node.id.chars().take(MAX_TEXT).collect();
                Err(NodeError::BadId(shown))
            }
        }
    }

    /// What the proxy is served as: whether this is who the token says. `pod` says why the token's own pod is none
    /// that runs here, if it is none.
    pub(crate) fn check(
        &self,
        node: Option<&Node>,
        caller: &Caller,
        trusted: &[(String, String)],
        pod: impl FnOnce(&Caller) -> Result<(), Denied>,
    ) -> Result<Role, Refusal> {
        let id = node.map_or("", |node| node.id.as_str());
        let sort = id.split('~').next().unwrap_or_default();
        if sort != ZTUNNEL {
            return Err(Refusal::OtherProxy(sort.chars().take(MAX_TEXT).collect()));
        }
        let is_trusted = is_of(caller, trusted);
        let account = || format!("{}/{}", caller.namespace, caller.service_account);
        if let Some((field, said, token)) = self.differs(caller, is_trusted) {
            let (said, token) = (said.to_owned(), token.to_owned());
            return Err(if is_trusted {
                Refusal::NotYours { field, said, token }
            } else {
                let account = account();
                Refusal::NotYourPod {
                    account,
                    field,
                    said,
                    token,
                }
            });
        }
        pod(caller).map_err(|problem| Refusal::NoSuchPod {
            who: if is_trusted {
                format!("the node proxy {}/{}", caller.namespace, caller.pod_name)
            } else {
                format!("{}, which is not a trusted node account,", account())
            },
            problem,
        })?;
        Ok(if is_trusted { Role::Node } else { Role::Dedicated })
    }

    /// The same with the node that the token is for, which a dedicated proxy may leave out.
    pub(crate) fn on_node_of(mut self, caller: &Caller) -> ProxyName {
        self.node.clone_from(&caller.node);
        self
    }

    /// Whether a later request on the stream says the same; `self` is what the first one said.
    pub(crate) fn still(&self, node: Option<&Node>) -> Result<(), Refusal> {
        // Only the first request must have it.
        if node.is_none() {
            return Ok(());
        }
        match ProxyName::from_node(node) {
            Ok(name) if name == *self => Ok(()),
            said => Err(Refusal::Changed {
                known: format!("{}/{}", self.namespace, self.pod),
                said: said.map_or_else(
                    |error| error.to_string(),
                    |name| format!("{}/{} on {}", name.namespace, name.pod, name.node),
                ),
            }),
        }
    }

    /// The first claim that is not the token's. A claim that the token does not have is never met.
    fn differs<'a>(
        &'a self,
        caller: &'a Caller,
        is_node_proxy: bool,
    ) -> Option<(&'static str, &'a str, &'a str)> {
        let may_be_left_out = |text: &str| text.is_empty();
        let claims = [
            (
                "NODE_NAME",
                &self.node,
                &caller.node,
                !is_node_proxy && may_be_left_out(&self.node),
            ),
            ("NAMESPACE", &self.namespace, &caller.namespace, false),
            ("the pod's NAME", &self.pod, &caller.pod_name, false),
            (
                "SERVICE_ACCOUNT",
                &self.service_account,
                &caller.service_account,
                may_be_left_out(&self.service_account),
            ),
        ];
        claims
            .into_iter()
            .find(|(_, said, token, left_out)| !left_out && (said != token || token.is_empty()))
            .map(|(field, said, token, _)| (field, said.as_str(), token.as_str()))
    }
}

#[cfg(test)]
mod tests;
