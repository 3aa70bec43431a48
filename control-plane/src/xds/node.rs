//! Who a proxy says it is, and whether that is who its token says.

use ca::Caller;
use prost_types::value::Kind;
use proto::discovery::Node;

/// The proxy as its Node message names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxyName {
    pub(crate) node: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
}

/// The Node message is not one of a node proxy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("the first request has no Node")]
    Missing,
    #[error("Node.metadata has no {0} text; a node proxy sends NAME, NAMESPACE and NODE_NAME")]
    NoMetadata(&'static str),
    #[error("Node.id {0:?} is not type~ip~pod.namespace~domain with the pod and namespace of the metadata")]
    BadId(String),
}

/// The proxy is not who its token says, or is none that is served.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0} is not a trusted node account; only node proxies are served")]
    NotTrusted(String),
    #[error("{field} is {said:?}, but the token is for {token:?}")]
    NotYours {
        field: &'static str,
        said: String,
        token: String,
    },
}

/// The key in `Node.metadata` by which a proxy says that it evaluates dry-run policies without enforcing them. Older
/// proxies enforce them.
const DRY_RUN_KEY: &str = "ZTUNNEL_DRY_RUN_POLICIES";

/// Whether the proxy says that it knows what a dry-run policy is.
pub(crate) fn knows_dry_run(node: Option<&Node>) -> bool {
    let metadata = node.and_then(|node| node.metadata.as_ref());
    let value = metadata.and_then(|metadata| metadata.fields.get(DRY_RUN_KEY));
    match value.and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text == "true",
        Some(Kind::BoolValue(knows)) => *knows,
        _ => false,
    }
}

impl ProxyName {
    /// Whether this is who the token says: a node proxy, speaking as itself on its own node.
    pub(crate) fn check(&self, caller: &Caller, trusted: &[(String, String)]) -> Result<(), Refusal> {
        let is_trusted = trusted
            .iter()
            .any(|(namespace, account)| *namespace == caller.namespace && *account == caller.service_account);
        if !is_trusted {
            return Err(Refusal::NotTrusted(format!(
                "{}/{}",
                caller.namespace, caller.service_account
            )));
        }
        let claims = [
            ("NODE_NAME", &self.node, &caller.node),
            ("NAMESPACE", &self.namespace, &caller.namespace),
            ("the pod's NAME", &self.pod, &caller.pod_name),
        ];
        for (field, said, token) in claims {
            if said != token {
                return Err(Refusal::NotYours {
                    field,
                    said: said.clone(),
                    token: token.clone(),
                });
            }
        }
        Ok(())
    }

    pub(crate) fn from_node(node: Option<&Node>) -> Result<ProxyName, NodeError> {
        let node = node.ok_or(NodeError::Missing)?;
        let text = |field: &'static str| {
            let value = node
                .metadata
                .as_ref()
                .and_then(|metadata| metadata.fields.get(field));
            match value.and_then(|value| value.kind.as_ref()) {
                Some(Kind::StringValue(text)) if !text.is_empty() => Ok(text.clone()),
                _ => Err(NodeError::NoMetadata(field)),
            }
        };
        let name = ProxyName {
            node: text("NODE_NAME")?,
            namespace: text("NAMESPACE")?,
            pod: text("NAME")?,
        };
        // `ztunnel~10.0.0.1~ztunnel-abc.istio-system~istio-system.svc.cluster.local`
        let parts: Vec<&str> = node.id.split('~').collect();
        match parts[..] {
            [_, _, pod, _] if pod == format!("{}.{}", name.pod, name.namespace) => Ok(name),
            _ => Err(NodeError::BadId(node.id.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_types::{Struct, Value};

    use super::*;

    fn node(id: &str, fields: &[(&str, &str)]) -> Node {
        let value = |text: &str| Value {
            kind: Some(Kind::StringValue(text.to_owned())),
        };
        let fields = fields
            .iter()
            .map(|(name, text)| ((*name).to_owned(), value(text)))
            .collect();
        Node {
            id: id.to_owned(),
            metadata: Some(Struct { fields }),
            ..Node::default()
        }
    }

    const METADATA: [(&str, &str); 3] = [
        ("NAME", "zt-1"),
        ("NAMESPACE", "istio-system"),
        ("NODE_NAME", "node-a"),
    ];
    const ID: &str = "ztunnel~10.0.0.1~zt-1.istio-system~istio-system.svc.cluster.local";

    #[test]
    fn the_name_is_in_metadata_and_id() {
        let name = ProxyName::from_node(Some(&node(ID, &METADATA))).unwrap();
        assert_eq!(
            (&*name.node, &*name.namespace, &*name.pod),
            ("node-a", "istio-system", "zt-1")
        );
        assert_eq!(ProxyName::from_node(None), Err(NodeError::Missing));
        let no_node = node(ID, &METADATA[..2]);
        assert_eq!(
            ProxyName::from_node(Some(&no_node)),
            Err(NodeError::NoMetadata("NODE_NAME"))
        );
        for id in [
            "",
            "ztunnel~10.0.0.1~zt-1.istio-system",
            "ztunnel~10.0.0.1~other.istio-system~x",
        ] {
            let bad = ProxyName::from_node(Some(&node(id, &METADATA)));
            assert_eq!(bad, Err(NodeError::BadId(id.to_owned())));
        }
    }

    #[test]
    fn only_true_says_that_dry_run_is_known() {
        let said = |value: &str| knows_dry_run(Some(&node(ID, &[(DRY_RUN_KEY, value)])));
        assert!(said("true"));
        assert!(!said("false") && !said("") && !said("1"));
        assert!(!knows_dry_run(None) && !knows_dry_run(Some(&node(ID, &METADATA))));
    }

    #[test]
    fn each_claim_must_be_the_tokens() {
        let name = ProxyName::from_node(Some(&node(ID, &METADATA))).unwrap();
        let caller = Caller {
            namespace: "istio-system".to_owned(),
            service_account: "ztunnel".to_owned(),
            pod_name: "zt-1".to_owned(),
            pod_uid: "uid".to_owned(),
            node: "node-a".to_owned(),
        };
        let trusted = [("istio-system".to_owned(), "ztunnel".to_owned())];
        assert_eq!(name.check(&caller, &trusted), Ok(()));
        let other_account = Caller {
            service_account: "default".to_owned(),
            ..caller.clone()
        };
        assert!(matches!(
            name.check(&other_account, &trusted),
            Err(Refusal::NotTrusted(_))
        ));
        let other_namespace = Caller {
            namespace: "demo".to_owned(),
            ..caller.clone()
        };
        assert!(matches!(
            name.check(&other_namespace, &trusted),
            Err(Refusal::NotTrusted(_))
        ));
        let both = [trusted[0].clone(), ("demo".to_owned(), "ztunnel".to_owned())];
        let refused = |caller: &Caller, field: &str| match name.check(caller, &both) {
            Err(Refusal::NotYours { field: refused, .. }) => assert_eq!(refused, field),
            other => panic!("{other:?}"),
        };
        refused(&other_namespace, "NAMESPACE");
        refused(
            &Caller {
                node: "node-b".to_owned(),
                ..caller.clone()
            },
            "NODE_NAME",
        );
        refused(
            &Caller {
                pod_name: "zt-2".to_owned(),
                ..caller.clone()
            },
            "the pod's NAME",
        );
    }
}
