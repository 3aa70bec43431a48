use std::time::Duration;

use ca::{Caller, IssueRecord, Observer};
use mesh::Identity;

use super::*;

#[test]
fn what_was_issued_is_listed_by_identity_and_node() {
    let (issues, now) = (IssueLog::default(), SystemTime::now());
    for (number, account, node) in [(1, "client", "node-a"), (2, "server", "node-b")] {
        issues.issued(&IssueRecord {
            at: now,
            serial: format!("{number:032x}"),
            identity: Identity::new("cluster.local", "demo", account),
            caller: Caller {
                namespace: "istio-system".to_owned(),
                service_account: "ztunnel".to_owned(),
                pod_name: format!("ztunnel-{node}"),
                pod_uid: "uid".to_owned(),
                node: node.to_owned(),
            },
            not_before: now,
            not_after: now + Duration::from_secs(3600),
            signed_with: String::new(),
        });
    }
    let serials = |query: &str| {
        let (status, page) = issued(&issues, query, now);
        assert_eq!(status, StatusCode::OK, "{page}");
        let certificates = page["certificates"].as_array().unwrap().iter();
        let last = |one: &Value| one["serial"].as_str().unwrap().chars().last().unwrap();
        certificates.map(last).collect::<String>()
    };
    assert_eq!(serials(""), "12");
    assert_eq!(serials("identity=spiffe://cluster.local/ns/demo/sa/server"), "2");
    assert_eq!(serials("node=node-a"), "1");
    assert_eq!(serials("node=node-c"), "");
    let (_, page) = issued(&issues, "node=node-a", now);
    let one = &page["certificates"][0];
    assert_eq!(one["identity"], "spiffe://cluster.local/ns/demo/sa/client");
    assert_eq!(
        (&one["node"], &one["caller"]),
        (&json!("node-a"), &json!("istio-system/ztunnel-node-a"))
    );
    assert!(one["notAfter"].as_str().unwrap() > one["issued"].as_str().unwrap());
    for bad in ["identity=client", "node=", "serials=1"] {
        assert_eq!(issued(&issues, bad, now).0, StatusCode::CONFLICT, "{bad}");
    }
}
