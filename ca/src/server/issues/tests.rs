use super::*;
use crate::server::testing::now;

const HOUR: Duration = Duration::from_secs(3600);

fn caller(node: &str) -> Caller {
    Caller {
        namespace: "istio-system".to_owned(),
        service_account: "ztunnel".to_owned(),
        pod_name: format!("ztunnel-{node}"),
        pod_uid: "uid".to_owned(),
        node: node.to_owned(),
    }
}

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "demo", account)
}

fn issue(log: &IssueLog, number: u128, account: &str, node: &str, at: SystemTime, life: Duration) {
    log.issued(&IssueRecord {
        at,
        serial: format!("{number:032x}"),
        identity: identity(account),
        caller: caller(node),
        not_before: at,
        not_after: at + life,
        signed_with: String::new(),
    });
}

fn serials(log: &IssueLog, now: SystemTime, selection: Option<&Selection>) -> Vec<u128> {
    let valid = log.valid(now, selection).into_iter();
    valid
        .map(|one| u128::from_str_radix(&one.serial, 16).unwrap())
        .collect()
}

#[test]
fn what_is_valid_is_found_by_identity_and_node() {
    let log = IssueLog::default();
    issue(&log, 1, "client", "node-a", now(), HOUR);
    issue(&log, 2, "server", "node-a", now(), 2 * HOUR);
    issue(&log, 3, "client", "node-b", now(), 3 * HOUR);
    let of_client = Selection::Identity(identity("client"));
    let of_node = Selection::Node("node-a".to_owned());
    assert_eq!(serials(&log, now(), None), [1, 2, 3]);
    assert_eq!(serials(&log, now(), Some(&of_client)), [1, 3]);
    assert_eq!(serials(&log, now(), Some(&of_node)), [1, 2]);
    let first = &log.valid(now(), Some(&of_client))[0];
    assert_eq!(first.serial.len(), 32);
    assert_eq!((first.at, first.not_after), (now(), now() + HOUR));
    assert_eq!(first.caller.node, "node-a");
    // To the second at which it ends, and no longer.
    assert_eq!(
        serials(&log, now() + HOUR - Duration::from_secs(1), None),
        [1, 2, 3]
    );
    assert_eq!(serials(&log, now() + HOUR, None), [2, 3]);
}

#[test]
fn what_has_expired_takes_no_room_and_what_finds_none_is_told() {
    let log = IssueLog::with_capacity(100);
    for round in 0..50_u32 {
        let at = now() + round * HOUR;
        log.forget_expired(at);
        for number in 0..50 {
            let node = format!("node-{round}-{number}");
            issue(&log, u128::from(round * 50 + number), "client", &node, at, HOUR);
        }
    }
    let last = now() + 49 * HOUR;
    assert_eq!(log.forgotten_until(last), None);
    let state = log.state();
    assert_eq!((state.issues.len(), state.callers.len()), (50, 50));
    drop(state);
    for number in 0..60 {
        issue(&log, 10_000 + number, "client", "node-z", last, 2 * HOUR);
    }
    let until = log.forgotten_until(last).unwrap();
    assert_eq!(until, last + HOUR);
    assert_eq!(log.valid(last, None).len(), 100);
    assert_eq!(log.state().callers.len(), 41);
    assert_eq!(log.forgotten_until(until), None, "it has ended");
}

#[test]
fn selections_are_written_and_read() {
    for text in [
        "identity spiffe://cluster.local/ns/demo/sa/client",
        "node node-a.example",
    ] {
        let selection: Selection = text.parse().unwrap();
        assert_eq!(selection.to_string(), text);
    }
    for bad in [
        "",
        "node",
        "node ",
        "node A B",
        "node a\nb",
        "identity demo/client",
        "identity spiffe://cluster.local/ns/demo",
        "everything all",
    ] {
        let error = bad.parse::<Selection>().unwrap_err().to_string();
        assert!(error.contains("selects no certificates"), "{error}");
    }
    let long = format!("node {}", "a".repeat(MAX_NODE_NAME + 1));
    assert!(long.parse::<Selection>().is_err());
}
