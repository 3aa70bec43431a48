use std::time::Duration;

use ca::rotation::RotationSettings;
use kube_api::{ApiServer, Key};
use serde_json::{Value, json};

use super::*;
use crate::authority::{Host, Pace, Places};
use crate::clock::Clock;
use crate::kubernetes::testing::{NAMESPACE, asked, client, server, until};
use crate::leadership::Leadership;
use crate::rotation::Settings;

/// A control plane's authority in the cluster, and the ConfigMap that is kept about it.
async fn rotations(server: &ApiServer) -> Rotations {
    let places = Places {
        plugged_files: None,
        directory: None,
        cluster: Some((client(server), NAMESPACE.to_owned())),
        pace: Pace::default(),
        longest_life: Duration::from_secs(3600),
        clock: Clock::default(),
    };
    let host = Host::open(places, Leadership::always()).await.unwrap();
    let settings = Settings {
        trust_domain: "cluster.local".to_owned(),
        certificate_life: Duration::from_secs(3600),
        rotation: RotationSettings {
            pause: Duration::from_secs(3600),
            alone: false,
        },
        share: Duration::from_secs(5),
        issues: Default::default(),
        clock: Clock::default(),
    };
    Rotations::open(host.kept.clone().unwrap(), settings, None)
        .await
        .unwrap()
}

fn map(server: &ApiServer) -> Option<Value> {
    let found = server.store().get(&Key::new("configmaps", NAMESPACE, NAME))?;
    Some(found.value().clone())
}

fn data(server: &ApiServer, key: &str) -> String {
    let map = map(server).unwrap_or_default();
    map["data"][key].as_str().unwrap_or_default().to_owned()
}

async fn ask(server: &ApiServer, request: &str) {
    let api = Api::<ConfigMap>::namespaced(client(server), NAMESPACE);
    let patch = json!({ "metadata": { "annotations": { REQUEST: request } } });
    let patch = Patch::Merge(&patch);
    api.patch(NAME, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn a_value_that_changes_asks_once_and_the_answer_stands_beside_it() {
    let server = server().await;
    let rotations = rotations(&server).await;
    let leading = tokio::spawn(rotations.clone().run(|| true));
    until("it leads", || rotations.is_leader()).await;
    let api = Api::<ConfigMap>::namespaced(client(&server), NAMESPACE);
    look(&api, &rotations).await.unwrap();
    assert_eq!(data(&server, "phase"), "steady");
    let status: Value = serde_json::from_str(&data(&server, "status.json")).unwrap();
    assert_eq!(status["roots"].as_array().unwrap().len(), 1);
    let writes = || asked(&server, "PATCH", NAME).len();
    let before = writes();
    look(&api, &rotations).await.unwrap();
    assert_eq!(writes(), before, "nothing is written when nothing has changed");

    ask(&server, "1").await;
    look(&api, &rotations).await.unwrap();
    until("a new root is introduced", || {
        rotations.report()["phase"] == "introduced"
    })
    .await;
    look(&api, &rotations).await.unwrap();
    assert_eq!(
        (data(&server, "phase"), data(&server, "answer")),
        ("introduced".into(), "accepted: 1".into())
    );
    let generation = rotations.report()["generation"].clone();

    ask(&server, "2").await;
    look(&api, &rotations).await.unwrap();
    let refused = data(&server, "answer");
    assert!(
        refused.starts_with("refused: 2: ") && refused.contains("under way"),
        "{refused}"
    );

    ask(&server, "abort 1").await;
    look(&api, &rotations).await.unwrap();
    until("it is given up", || rotations.report()["phase"] == "steady").await;
    assert_ne!(rotations.report()["generation"], generation);
    leading.abort();

    // Another leader does not take the same value for a new request.
    let next = self::rotations(&server).await;
    assert!(next.has_taken("abort 1") && !next.has_taken("3"));
    look(&api, &next).await.unwrap();
    assert_eq!(data(&server, "answer"), "accepted: abort 1");
    ask(&server, &"x".repeat(MAX_REQUEST + 1)).await;
    look(&api, &next).await.unwrap();
    assert!(data(&server, "answer").starts_with("refused: the value"));
}

#[tokio::test]
async fn certificates_are_revoked_through_it() {
    let server = server().await;
    let rotations = rotations(&server).await;
    let leading = tokio::spawn(rotations.clone().run(|| true));
    until("it leads", || rotations.is_leader()).await;
    let api = Api::<ConfigMap>::namespaced(client(&server), NAMESPACE);
    look(&api, &rotations).await.unwrap();
    let serial = "47".repeat(16);
    ask(&server, &format!("revoke {serial} 1")).await;
    look(&api, &rotations).await.unwrap();
    assert_eq!(data(&server, "answer"), format!("accepted: revoke {serial} 1"));
    until("it is revoked", || rotations.report()["revoked"] == 1).await;
    ask(&server, "revoke 1234 1").await;
    look(&api, &rotations).await.unwrap();
    assert!(data(&server, "answer").contains("no serial number"));

    for (request, reason) in [
        ("revoke", "no serial number"),
        ("revoked", "no serial number"),
        ("revoke identity", "selects no certificates"),
        ("revoke identity demo/client 1", "selects no certificates"),
        ("revoke node Node_A 1", "selects no certificates"),
    ] {
        ask(&server, request).await;
        look(&api, &rotations).await.unwrap();
        let answer = data(&server, "answer");
        assert!(
            answer.starts_with("refused: ") && answer.contains(reason),
            "{answer}"
        );
    }
    for request in [
        "revoke identity spiffe://cluster.local/ns/demo/sa/client 1",
        "revoke node node-a 1",
    ] {
        ask(&server, request).await;
        look(&api, &rotations).await.unwrap();
        assert_eq!(data(&server, "answer"), format!("accepted: {request}"));
    }
    until("both are ordered", || {
        let orders = &rotations.report()["revocations"];
        orders.as_array().is_some_and(|orders| orders.len() == 2)
    })
    .await;
    assert_eq!(rotations.report()["phase"], "steady");
    leading.abort();
}
