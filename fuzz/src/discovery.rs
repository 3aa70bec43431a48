//! Responses of a control plane, and the resources in them.

use mesh::authorize::{Connection, Reason};
use mesh::{Change, Identity, Snapshot, Workload, authorize};
use prost::Message;
use proto::discovery::{DeltaDiscoveryResponse, Node};
use proto::security::AUTHORIZATION_TYPE_URL;
use proto::workload::ADDRESS_TYPE_URL;
use xds_client::state::State;

/// A response and the protocol's state after it.
pub(crate) fn response(input: &[u8]) -> bool {
    let types = [ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL];
    let mut state = State::new(Node::default(), types.map(str::to_owned));
    let Ok(response) = DeltaDiscoveryResponse::decode(input) else {
        return false;
    };
    let (nonce, size) = (response.nonce.clone(), input.len());
    let (update, pending) = state.received(response);
    let known = update.is_some();
    let answer = state.applied(pending, Vec::new(), std::time::Instant::now());
    assert_eq!(
        answer.request.response_nonce, nonce,
        "each response is answered by its nonce"
    );
    assert!(types.iter().map(|url| state.held(url).count()).sum::<usize>() <= size);
    known
}

/// A workload or service.
pub(crate) fn address(input: &[u8]) -> bool {
    let change = Change::decode_address("name", input);
    let accepted = !matches!(change, Change::RejectedAddress(_));
    let mut snapshot = Snapshot::new();
    snapshot.apply([change, Change::PoliciesSynced]);
    // Nothing is held that could not be removed again.
    let names: Vec<String> = snapshot
        .workloads()
        .map(|workload| workload.uid.to_string())
        .chain(snapshot.services().map(|service| service.key().to_string()))
        .collect();
    assert_eq!(names.len(), usize::from(accepted));
    snapshot.apply(names.into_iter().map(Change::RemoveAddress));
    assert_eq!(snapshot.workloads().count() + snapshot.services().count(), 0);
    accepted
}

/// A policy: whatever is not understood closes.
pub(crate) fn policy(input: &[u8]) -> bool {
    let name = proto::security::Authorization::decode(input)
        .map(|policy| format!("{}/{}", policy.namespace, policy.name))
        .unwrap_or_default();
    let change = Change::decode_policy(&name, input);
    let rejected = match &change {
        Change::RejectedPolicy(rejected) => Some(rejected.clone()),
        _ => None,
    };
    let mut snapshot = Snapshot::new();
    snapshot.apply([Change::PoliciesSynced, change]);
    let workload = selected_workload(&name);
    let peer = Identity::new("cluster.local", "default", "caller");
    for peer in [None, Some(&peer)] {
        let connection = Connection {
            peer,
            source_ip: [10, 0, 0, 1].into(),
            workload: &workload,
            destination: ([10, 0, 0, 2], 80).into(),
        };
        let decision = authorize(&connection, &snapshot);
        if rejected.as_ref().is_some_and(|rejected| !rejected.dry_run) {
            assert!(
                !decision.is_allowed(),
                "not understood and let pass: {decision:?}"
            );
            assert!(matches!(decision.reason, Reason::PolicyNotUnderstood { .. }));
        }
    }
    rejected.is_none()
}

/// A workload in the policy's namespace that lists it too.
fn selected_workload(policy: &str) -> Workload {
    let namespace = policy.split('/').next().unwrap_or_default();
    let valid = Identity::try_new("cluster.local", namespace, "default").is_ok();
    let workload = proto::workload::Workload {
        uid: "cluster//Pod/ns/pod".into(),
        name: "pod".into(),
        namespace: if valid { namespace.into() } else { "ns".into() },
        authorization_policies: vec![policy.into()],
        ..Default::default()
    };
    Workload::from_proto(workload).expect("a plain workload is understood")
}
