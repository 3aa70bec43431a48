//! What is revoked stays so, whatever becomes of what is written down.

use k8s_openapi::ByteString;
use kube_api::Key;
use serde_json::json;

use super::shared::Two;
use super::*;
use crate::kubernetes::testing::NAMESPACE;

const SECRET: &str = "istio-ca-secret";
const REVOKED: &str = "ztunnel-revoked";

impl Two {
    /// The list in the Secret, as text.
    fn kept_list(&self) -> Option<String> {
        let stored = self.server.store().get(&Key::new("secrets", NAMESPACE, SECRET))?;
        let encoded = stored.value()["data"].get(REVOKED)?.clone();
        let decoded: ByteString = serde_json::from_value(encoded).unwrap();
        Some(String::from_utf8(decoded.0).unwrap())
    }

    /// What somebody does by hand.
    fn write_list(&self, text: Option<&str>) {
        let key = Key::new("secrets", NAMESPACE, SECRET);
        let mut secret = self.server.store().get(&key).unwrap().value().clone();
        secret["apiVersion"] = json!("v1");
        secret["kind"] = json!("Secret");
        let data = secret["data"].as_object_mut().unwrap();
        match text {
            Some(text) => {
                let encoded = ByteString(text.as_bytes().to_vec());
                data.insert(REVOKED.to_owned(), json!(encoded));
            }
            None => drop(data.remove(REVOKED)),
        }
        self.server.put(secret).unwrap();
    }
}

fn revoked(host: &Rotations) -> (usize, u64) {
    let number = host.bundles().borrow().as_ref().unwrap().revocation_number;
    let count = host.report()["revoked"].as_u64().unwrap();
    (count as usize, number)
}

#[tokio::test]
async fn a_list_that_is_taken_out_or_set_back_is_written_down_again() {
    let two = Two::new().await;
    let (leader, other) = (&two.leader.0, &two.other.0);
    leader.lead(true, two.now).await.unwrap();
    let mut lists = Vec::new();
    for node in ["node-a", "node-b"] {
        let shown = issue(leader, &two.leader.1, node, two.now);
        leader.revoke(&[shown.serial()]).unwrap();
        leader.lead(true, two.now).await.unwrap();
        lists.push(two.kept_list().unwrap());
    }
    other.follow().await.unwrap();
    let before = revoked(leader);
    assert_eq!((before.0, revoked(other)), (2, before));

    for by_hand in [None, Some(lists[0].as_str())] {
        two.write_list(by_hand);
        assert_eq!(two.kept_list().as_deref(), by_hand);
        for host in [other, leader] {
            host.follow().await.unwrap();
            assert_eq!(revoked(host), before, "{by_hand:?}");
        }
        other.lead(false, two.now).await.unwrap();
        assert_eq!(two.kept_list().as_deref(), by_hand, "the leader writes");
        leader.lead(true, two.now).await.unwrap();
        assert_eq!(two.kept_list().as_ref(), lists.last());
        other.follow().await.unwrap();
        assert_eq!(revoked(other), before);
    }
    // Nothing is written again and again.
    let version = two.server.store().get(&Key::new("secrets", NAMESPACE, SECRET));
    leader.follow().await.unwrap();
    leader.lead(true, two.now).await.unwrap();
    let after = two.server.store().get(&Key::new("secrets", NAMESPACE, SECRET));
    assert_eq!(version.unwrap().value(), after.unwrap().value());
}

#[tokio::test]
async fn a_list_that_is_emptied_or_damaged_stays_in_force_and_is_not_written_over() {
    let two = Two::new().await;
    let leader = &two.leader.0;
    leader.lead(true, two.now).await.unwrap();
    let shown = issue(leader, &two.leader.1, "node-a", two.now);
    leader.revoke(&[shown.serial()]).unwrap();
    leader.lead(true, two.now).await.unwrap();
    let (before, whole) = (revoked(leader), two.kept_list().unwrap());
    for damaged in ["", "{\"number\":"] {
        two.write_list(Some(damaged));
        let error = leader.follow().await.unwrap_err().to_string();
        assert!(error.contains("what is revoked cannot be read"), "{error}");
        assert_eq!(revoked(leader), before);
        // What is asked for meanwhile waits.
        leader
            .revoke(&[&shown.serial().replace(|_: char| true, "4")])
            .unwrap();
        assert!(leader.lead(true, two.now).await.is_err());
        assert_eq!(two.kept_list().as_deref(), Some(damaged));
    }
    two.write_list(Some(&whole));
    leader.follow().await.unwrap();
    leader.lead(true, two.now).await.unwrap();
    assert_eq!(revoked(leader).0, 2);
}

/// There was room when it was asked for.
#[tokio::test]
async fn what_was_accepted_and_could_not_be_written_down_is_said() {
    let two = Two::new().await;
    let (leader, other) = (&two.leader.0, &two.other.0);
    leader.lead(true, two.now).await.unwrap();
    other.follow().await.unwrap();
    let shown = issue(leader, &two.leader.1, "node-a", two.now);
    leader.revoke(&[shown.serial()]).unwrap();
    let many: Vec<String> = (0..ca::MAX_REVOKED)
        .map(|number| format!("4{number:031x}"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    other.revoke(&many).unwrap();
    other.lead(true, two.now).await.unwrap();
    leader.follow().await.unwrap();
    assert!(leader.lead(true, two.now).await.is_err());
    let said = leader.report()["notRevoked"].as_str().unwrap().to_owned();
    assert!(
        said.starts_with(shown.serial()) && said.contains("revoked already"),
        "{said}"
    );
    // It is said until a request is carried out, and is not tried for ever.
    leader.lead(true, two.now).await.unwrap();
    assert_eq!(leader.report()["notRevoked"], said);
    leader
        .revoke_all(ca::Selection::Node("node-z".to_owned()))
        .unwrap();
    leader.lead(true, two.now).await.unwrap();
    assert!(leader.report()["notRevoked"].is_null());
}
