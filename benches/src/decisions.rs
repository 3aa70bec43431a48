//! Policies to decide by: some that select the workload, many that do not.

use std::hint::black_box;

use mesh::{Change, Connection, Decision, Identity, Snapshot, Workload, authorize};
use prost::Message;
use proto::security as wire;
use proto::security::string_match::MatchType;

const NAMESPACE: &str = "shop";
const STRICT: &str = "istio-system/istio_converted_static_strict";

/// A workload under STRICT, a DENY policy of its namespace, and an ALLOW policy that it lists.
pub struct Decisions {
    snapshot: Snapshot,
    workload: Workload,
    listed: Identity,
    stranger: Identity,
}

impl Decisions {
    /// Beside the three, this many policies that do not select the workload: of other namespaces, and of its own with
    /// selectors. The ALLOW policy's rule has this many principals.
    pub fn new(others: u32, principals: u32) -> Self {
        let mut snapshot = Snapshot::new();
        let selecting = [strict(), deny(), allow(principals)];
        let others = (0..others).map(other);
        snapshot.apply(
            selecting
                .into_iter()
                .chain(others)
                .map(|policy| {
                    Change::decode_policy(
                        &format!("{}/{}", policy.namespace, policy.name),
                        &policy.encode_to_vec(),
                    )
                })
                .chain([Change::PoliciesSynced]),
        );
        Self {
            snapshot,
            workload: workload(),
            listed: Identity::new("cluster.local", "web", &account(principals - 1)),
            stranger: Identity::new("cluster.local", "elsewhere", "stranger"),
        }
    }

    /// Decides about the caller that the ALLOW policy names last.
    pub fn allow(&self) -> Decision {
        self.decide(&self.listed)
    }

    /// Decides about a caller that it does not name, which includes the search for the nearest miss.
    pub fn refuse(&self) -> Decision {
        self.decide(&self.stranger)
    }

    fn decide(&self, peer: &Identity) -> Decision {
        let connection = Connection {
            peer: Some(peer),
            source_ip: [10, 0, 0, 9].into(),
            workload: &self.workload,
            destination: ([10, 0, 0, 1], 8080).into(),
        };
        authorize(black_box(&connection), &self.snapshot)
    }
}

fn account(number: u32) -> String {
    format!("caller-{number}")
}

fn workload() -> Workload {
    let workload = wire_workload();
    Workload::from_proto(workload).expect("a good workload")
}

fn wire_workload() -> proto::workload::Workload {
    proto::workload::Workload {
        uid: "Kubernetes//Pod/shop/cart".to_owned(),
        name: "cart".to_owned(),
        namespace: NAMESPACE.to_owned(),
        authorization_policies: vec![STRICT.to_owned(), format!("{NAMESPACE}/allow")],
        ..Default::default()
    }
}

fn policy(
    namespace: &str,
    name: &str,
    scope: wire::Scope,
    action: wire::Action,
    one: wire::Match,
) -> wire::Authorization {
    wire::Authorization {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        scope: scope.into(),
        action: action.into(),
        rules: vec![wire::Rule {
            clauses: vec![wire::Clause { matches: vec![one] }],
        }],
        ..Default::default()
    }
}

fn text(match_type: MatchType) -> wire::StringMatch {
    wire::StringMatch {
        match_type: Some(match_type),
    }
}

fn strict() -> wire::Authorization {
    let one = wire::Match {
        not_principals: vec![text(MatchType::Presence(()))],
        ..Default::default()
    };
    let name = STRICT.rsplit('/').next().unwrap_or_default();
    policy(
        "istio-system",
        name,
        wire::Scope::WorkloadSelector,
        wire::Action::Deny,
        one,
    )
}

fn deny() -> wire::Authorization {
    let one = wire::Match {
        namespaces: vec![text(MatchType::Exact("refused".to_owned()))],
        ..Default::default()
    };
    policy(NAMESPACE, "deny", wire::Scope::Namespace, wire::Action::Deny, one)
}

fn principal(number: u32) -> wire::StringMatch {
    text(MatchType::Exact(format!(
        "cluster.local/ns/web/sa/{}",
        account(number)
    )))
}

fn allow(principals: u32) -> wire::Authorization {
    let one = wire::Match {
        principals: (0..principals).map(principal).collect(),
        ..Default::default()
    };
    policy(
        NAMESPACE,
        "allow",
        wire::Scope::WorkloadSelector,
        wire::Action::Allow,
        one,
    )
}

fn other(number: u32) -> wire::Authorization {
    let one = wire::Match {
        principals: vec![principal(number)],
        ..Default::default()
    };
    if number.is_multiple_of(2) {
        let namespace = format!("team-{}", number % 200);
        policy(
            &namespace,
            &format!("policy-{number}"),
            wire::Scope::Namespace,
            wire::Action::Allow,
            one,
        )
    } else {
        policy(
            NAMESPACE,
            &format!("policy-{number}"),
            wire::Scope::WorkloadSelector,
            wire::Action::Allow,
            one,
        )
    }
}
