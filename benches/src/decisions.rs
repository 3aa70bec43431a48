//! Policies to decide by: some that select the workload, many that do not.

use std::hint::black_box;
use std::net::IpAddr;
use std::ops::Range;

use mesh::{Change, Connection, Decision, Identity, Snapshot, Workload, authorize};
use prost::Message;
use proto::security as wire;
use proto::security::string_match::MatchType;

const NAMESPACE: &str = "shop";
const STRICT: &str = "istio-system/istio_converted_static_strict";

/// Whom the ALLOW policy lets in.
#[derive(Clone, Copy, Debug)]
pub enum Callers {
    /// So many principals, in one rule.
    Principals(u32),
    /// So many address blocks, in one rule.
    Blocks(u32),
    /// One principal in each of so many rules.
    Rules(u32),
}

/// A workload under STRICT, a DENY policy of its namespace, and an ALLOW policy that it lists.
pub struct Decisions {
    snapshot: Snapshot,
    workload: Workload,
    listed: (Identity, IpAddr),
    stranger: (Identity, IpAddr),
}

impl Decisions {
    /// Beside the three, this many policies that do not select the workload: of other namespaces, and of its own with
    /// selectors. The ALLOW policy lets these callers in.
    pub fn new(others: u32, callers: Callers) -> Self {
        let mut snapshot = Snapshot::new();
        let selecting = [strict(), deny(), allow(callers)];
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
        let (Callers::Principals(count) | Callers::Blocks(count) | Callers::Rules(count)) = callers;
        Self {
            snapshot,
            workload: workload(),
            listed: (
                Identity::new("cluster.local", "web", &account(count - 1)),
                address(count - 1).into(),
            ),
            stranger: (
                Identity::new("cluster.local", "elsewhere", "stranger"),
                [172, 16, 0, 1].into(),
            ),
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

    fn decide(&self, (peer, source_ip): &(Identity, IpAddr)) -> Decision {
        let connection = Connection {
            peer: Some(peer),
            source_ip: *source_ip,
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

/// Every other address, so that no two make one block.
fn address(number: u32) -> [u8; 4] {
    (0x0a01_0000 + 2 * number).to_be_bytes()
}

fn block(number: u32) -> wire::Address {
    wire::Address {
        address: address(number).to_vec().into(),
        length: 32,
    }
}

fn allow(callers: Callers) -> wire::Authorization {
    let principals = |numbers: Range<u32>| wire::Match {
        principals: numbers.map(principal).collect(),
        ..Default::default()
    };
    let matches = match callers {
        Callers::Principals(count) => vec![principals(0..count)],
        Callers::Blocks(count) => vec![wire::Match {
            source_ips: (0..count).map(block).collect(),
            ..Default::default()
        }],
        Callers::Rules(count) => (0..count).map(|number| principals(number..number + 1)).collect(),
    };
    let mut rules = matches.into_iter().map(|one| {
        policy(
            NAMESPACE,
            "allow",
            wire::Scope::WorkloadSelector,
            wire::Action::Allow,
            one,
        )
    });
    let mut first = rules.next().unwrap_or_default();
    first.rules.extend(rules.flat_map(|next| next.rules));
    first
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
