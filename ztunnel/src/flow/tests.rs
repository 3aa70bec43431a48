use super::*;
use crate::config;
use crate::pods::PodId;
use crate::testing::log;
use mesh::authorize::Connection;
use mesh::{Change, Identity, Snapshot, Workload};
use prost::Message;
use proto::security::{Action, Authorization, Rule, Scope};
use telemetry::{Metrics, MetricsSettings};

fn context() -> Arc<Context> {
    let variables = [("NODE_NAME".to_owned(), "node-a".to_owned())];
    let config = config::from_environment(variables, None).unwrap();
    Arc::new(crate::run::build(config, log(), Metrics::new(MetricsSettings::default())).unwrap())
}

fn subject() -> InboundSubject {
    InboundSubject {
        peer: Some(Identity::new("cluster.local", "shop", "client")),
        source_ip: [10, 0, 0, 9].into(),
        destination: ([10, 0, 0, 5], 8080).into(),
    }
}

fn flow(context: &Arc<Context>) -> Flow {
    let pod = Arc::new(Pod {
        buffers: context.buffers.account(),
        id: PodId::from("uid-1"),
        name: "web-1".into(),
        identity: Identity::new("cluster.local", "shop", "web"),
        network: sys::Namespace::current().unwrap(),
    });
    let (source, destination) = (([10, 0, 0, 9], 4000).into(), ([10, 0, 0, 5], 8080).into());
    Flow::open(context, &pod, Direction::Inbound(subject()), source, destination)
}

/// What is decided about the subject by these policies, for a workload that lists some.
fn decided(policies: &[Authorization], listed: &[&str]) -> Decision {
    let mut snapshot = Snapshot::new();
    let policies = policies.iter().map(|policy| {
        let name = format!("{}/{}", policy.namespace, policy.name);
        Change::decode_policy(&name, &policy.encode_to_vec())
    });
    snapshot.apply(policies.chain([Change::PoliciesSynced]));
    let workload = proto::workload::Workload {
        uid: "Kubernetes//Pod/shop/web-1".into(),
        namespace: "shop".into(),
        authorization_policies: listed.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    let subject = subject();
    let connection = Connection {
        peer: subject.peer.as_ref(),
        source_ip: subject.source_ip,
        workload: &Workload::from_proto(workload).unwrap(),
        destination: subject.destination,
    };
    mesh::authorize(&connection, &snapshot)
}

fn deny_all(name: &str, dry_run: bool) -> Authorization {
    Authorization {
        name: name.into(),
        namespace: "shop".into(),
        scope: Scope::Namespace.into(),
        action: Action::Deny.into(),
        rules: vec![Rule::default()],
        dry_run,
        ..Default::default()
    }
}

#[tokio::test]
async fn dry_runs_are_counted_and_in_the_access_log() {
    let context = context();
    let flow = flow(&context);
    let said = |flow: &Flow| {
        let described = flow.described();
        let record = flow.record(&described, None);
        (
            record.dry_run.map(str::to_owned),
            record.not_enforced.map(str::to_owned),
        )
    };
    assert_eq!(said(&flow), (None, None));
    flow.decided(&decided(&[deny_all("try", true)], &[]));
    assert_eq!(
        said(&flow),
        (Some("shop/try would deny; its rule 0 matches".to_owned()), None)
    );
    let scrape = context.metrics.encode();
    let line = r#"ztunnel_dry_run_decisions_total{policy="shop/try",verdict="deny"} 1"#;
    assert!(scrape.contains(line), "{scrape}");

    // However many there are, a line stays a line.
    let many: Vec<_> = (0..7)
        .map(|number| deny_all(&format!("try{number}"), true))
        .collect();
    flow.decided(&decided(&many, &[]));
    let (dry_run, _) = said(&flow);
    let dry_run = dry_run.unwrap();
    assert!(
        dry_run.contains("shop/try4 ") && !dry_run.contains("shop/try5"),
        "{dry_run}"
    );
    assert!(dry_run.ends_with("; and 2 more"), "{dry_run}");
    flow.close(Err(Failure::BadRequest("a test".into())));
}

#[tokio::test]
async fn a_refusal_by_an_unknown_policy_is_counted_and_names_it() {
    let context = context();
    let decision = decided(&[], &["shop/gone"]);
    let failure = Failure::Denied(Box::new(decision));
    assert_eq!(failure.code(), "policy_unknown");
    assert!(failure.to_string().contains("shop/gone"), "{failure}");
    let flow = flow(&context);
    flow.close(Err(failure));
    let scrape = context.metrics.encode();
    assert!(
        scrape.contains("ztunnel_unknown_policy_denials_total 1"),
        "{scrape}"
    );
    assert!(
        scrape.contains(r#"ztunnel_refusals_total{reporter="destination",reason="policy_unknown"} 1"#),
        "{scrape}"
    );
}

#[tokio::test]
async fn a_refusal_says_what_would_pass() {
    let by_port = Authorization {
        rules: vec![Rule {
            clauses: vec![proto::security::Clause {
                matches: vec![proto::security::Match {
                    destination_ports: vec![8080],
                    ..Default::default()
                }],
            }],
        }],
        ..deny_all("deny", false)
    };
    let failure = Failure::Denied(Box::new(decided(&[by_port], &[])));
    assert_eq!(
        failure.to_string(),
        "denied by rule 0 of DENY policy shop/deny; would be allowed if the port were not 8080 but 8081 (DENY policy \
         shop/deny, rule 0)"
    );
}

#[tokio::test]
async fn what_a_refused_peer_says_of_itself_makes_no_series() {
    let context = context();
    for number in 0..30 {
        let flow = flow(&context);
        let cluster = format!("c-{number}");
        let description = format!("k8s.deployment.name=w-{number},k8s.cluster.name={cluster}");
        let peer = Identity::new("cluster.local", "shop", "client");
        flow.described_by_peer(&peer, crate::headers::parse_baggage(&description));
        let described = flow.described();
        let logged = flow.record(&described, None);
        assert_eq!(logged.source.cluster, Some(cluster.as_str()));
        drop(described);
        flow.close(Err(Failure::BadRequest("a test".into())));
    }
    let scrape = context.metrics.encode();
    let failed = scrape
        .lines()
        .filter(|line| line.starts_with("istio_tcp_connections_failed_total{"));
    assert_eq!(failed.count(), 1, "{scrape}");
}

#[tokio::test]
async fn whoever_is_let_in_and_says_ever_something_else_makes_few_series() {
    let context = context();
    let peer = Identity::new("cluster.local", "shop", "client");
    for number in 0..2 * descriptions::MAX_DESCRIPTIONS {
        let flow = flow(&context);
        let description = format!("k8s.deployment.name=w-{number}");
        flow.described_by_peer(&peer, crate::headers::parse_baggage(&description));
        flow.count_open();
        flow.close(Err(Failure::BadRequest("a test".into())));
    }
    let scrape = context.metrics.encode();
    let opened = scrape
        .lines()
        .filter(|line| line.starts_with("istio_tcp_connections_opened_total{"));
    let of_none = opened
        .clone()
        .filter(|line| line.contains("source_workload=\"unknown\""));
    assert_eq!(of_none.count(), 1, "{scrape}");
    assert_eq!(opened.count(), descriptions::MAX_DESCRIPTIONS + 1, "{scrape}");
}
