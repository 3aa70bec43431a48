//! Two replicas that tell each other through an API server what they have seen.

use kube_api::{ApiServer, Key, Requests, StatusError, Verb};
use serde_json::json;

use super::*;
use crate::kubernetes::ca_reports::{NAME, ReportStore};
use crate::kubernetes::testing::{NAMESPACE, asked, client, server, until};

/// A replica of the control plane in the cluster.
async fn replica(server: &ApiServer, pod: &str) -> (Rotations, Arc<Authority>) {
    let places = Places {
        plugged_files: None,
        directory: None,
        cluster: Some((client(server), NAMESPACE.to_owned())),
        pace: Pace {
            files: QUICK,
            secrets: QUICK,
        },
        longest_life: Duration::from_secs(3600),
        clock: Clock::default(),
    };
    let host = authority::Host::open(places, Leadership::always()).await.unwrap();
    let settings = Settings {
        trust_domain: "cluster.local".to_owned(),
        certificate_life: LIFE,
        rotation: RotationSettings {
            pause: PAUSE,
            alone: false,
        },
        share: QUICK,
        issues: Arc::default(),
        clock: Clock::default(),
    };
    let reports = ReportStore::new(client(server), NAMESPACE, pod);
    let rotations = Rotations::open(host.kept.clone().unwrap(), settings, Some(reports)).await;
    (rotations.unwrap(), host.authority.clone())
}

const QUICK: Duration = Duration::from_millis(20);

pub(super) struct Two {
    pub(super) server: ApiServer,
    pub(super) now: SystemTime,
    pub(super) leader: (Rotations, Arc<Authority>),
    pub(super) other: (Rotations, Arc<Authority>),
}

impl Two {
    pub(super) async fn new() -> Two {
        let server = server().await;
        Two {
            now: SystemTime::now(),
            leader: replica(&server, "one").await,
            other: replica(&server, "two").await,
            server,
        }
    }

    /// What the loops of both do in a few seconds.
    async fn beat(&self) {
        self.other.0.follow().await.unwrap();
        self.other.0.share(false, self.now).await.unwrap();
        self.leader.0.share(true, self.now).await.unwrap();
        self.leader.0.lead(true, self.now).await.unwrap();
    }

    fn phase(&self) -> String {
        phase(&self.leader.0)
    }

    fn codes(&self) -> Vec<String> {
        let report = self.leader.0.report_at(self.now);
        let blockers = report["blockers"].as_array().unwrap().iter();
        blockers
            .map(|blocker| blocker["code"].as_str().unwrap().to_owned())
            .collect()
    }

    fn generation(&self) -> u64 {
        self.leader.0.bundles().borrow().as_ref().unwrap().generation
    }

    fn keys(&self) -> Vec<String> {
        let map = self
            .server
            .store()
            .get(&Key::new("configmaps", NAMESPACE, NAME))
            .unwrap();
        let data = map.value()["data"].as_object().unwrap();
        let keys = data.keys().filter_map(|key| key.strip_prefix("replica."));
        keys.map(|key| key.split('.').next().unwrap_or_default().to_owned())
            .collect()
    }
}

#[tokio::test]
async fn a_rotation_ends_within_the_pauses_when_all_follow_whoever_serves_them() {
    let mut two = Two::new().await;
    assert_eq!(two.keys(), ["one", "two"]);
    issue(&two.leader.0, &two.leader.1, "node-a", two.now);
    issue(&two.other.0, &two.other.1, "node-b", two.now);
    two.beat().await;
    two.leader.0.request().unwrap();
    two.beat().await;
    assert_eq!(two.phase(), "introduced");
    two.now += PAUSE + Duration::from_secs(1);
    two.beat().await;
    assert_eq!(two.codes(), ["not_acknowledged", "not_acknowledged"]);
    // Each is served by the other one from now on.
    Roots::acknowledged(&two.leader.0, &proxy("node-b"), two.generation());
    two.beat().await;
    assert_eq!(
        (two.phase(), two.codes().len()),
        ("introduced".to_owned(), 1),
        "one does not follow"
    );
    Roots::acknowledged(&two.other.0, &proxy("node-a"), two.generation());
    two.beat().await;
    assert_eq!(two.phase(), "switched");

    // The leader ends in good order, and another process takes its place: nothing is lost.
    two.leader.0.leave().await;
    two.leader = replica(&two.server, "three").await;
    assert_eq!(two.keys(), ["one", "three", "two"]);
    two.now += PAUSE + Duration::from_secs(1);
    two.beat().await;
    assert_eq!(two.codes(), ["not_renewed", "not_renewed"]);
    issue(&two.other.0, &two.other.1, "node-a", two.now);
    issue(&two.leader.0, &two.leader.1, "node-b", two.now);
    two.now += SETTLE;
    two.beat().await;
    assert_eq!(two.phase(), "steady");
    assert_eq!(two.leader.1.root_pem(), {
        two.other.0.follow().await.unwrap();
        two.other.1.root_pem()
    });
    // What the one before has told is taken out once its certificates have ended.
    two.now += 2 * LIFE;
    two.beat().await;
    assert!(!two.keys().contains(&"one".to_owned()), "{:?}", two.keys());
}

#[tokio::test]
async fn a_node_that_is_gone_holds_it_up_as_long_as_its_certificates_live() {
    let mut two = Two::new().await;
    issue(&two.other.0, &two.other.1, "node-b", two.now);
    let began = two.now;
    two.beat().await;
    two.leader.0.request().unwrap();
    for phase in ["introduced", "switched"] {
        two.beat().await;
        assert_eq!(two.phase(), phase);
        let last = if phase == "introduced" {
            LIFE - Duration::from_secs(2)
        } else {
            PAUSE
        };
        two.now += last;
        two.beat().await;
        if phase == "introduced" {
            assert_eq!(two.codes(), ["not_acknowledged"]);
        }
        two.now += Duration::from_secs(4);
    }
    two.beat().await;
    assert_eq!(two.phase(), "steady");
    assert!(two.now < began + LIFE + 2 * PAUSE);
}

#[tokio::test]
async fn damage_and_loss_cost_time_and_a_replica_that_is_silent_is_named() {
    let mut two = Two::new().await;
    issue(&two.other.0, &two.other.1, "node-b", two.now);
    two.other.0.lead(false, two.now).await.unwrap();
    two.leader.0.follow().await.unwrap();
    two.leader.0.request().unwrap();
    two.leader.0.lead(true, two.now).await.unwrap();
    two.now += PAUSE + Duration::from_secs(1);
    // The other one does not follow: it may be signing with the old root.
    two.leader.0.share(true, two.now).await.unwrap();
    two.leader.0.lead(true, two.now).await.unwrap();
    assert_eq!(two.codes(), ["replica"]);
    let text = two.leader.0.report_at(two.now).to_string();
    assert!(text.contains("\"replica\":\"two."), "{text}");

    // Its report is damaged: what it told counts as unseen, and the damage goes.
    two.other.0.follow().await.unwrap();
    two.other.0.share(false, two.now).await.unwrap();
    Roots::acknowledged(&two.other.0, &proxy("node-b"), two.generation());
    let key = Key::new("configmaps", NAMESPACE, NAME);
    let mut map = two.server.store().get(&key).unwrap().value().clone();
    map["apiVersion"] = json!("v1");
    map["kind"] = json!("ConfigMap");
    let data = map["data"].as_object_mut().unwrap();
    for (name, text) in data.iter_mut() {
        if name.starts_with("replica.two") {
            *text = json!("{\"generation\":");
        }
    }
    two.server.put(map).unwrap();
    two.leader.0.share(true, two.now).await.unwrap();
    assert_eq!(two.keys(), ["one"]);
    two.beat().await;
    assert_eq!(two.keys(), ["one", "two"], "it tells anew");
    assert_eq!(two.codes(), ["unseen"]);
    assert_eq!(two.phase(), "introduced");

    // The same when all of it is deleted; and as long as nothing can be read or written.
    two.server.remove(&key);
    two.beat().await;
    two.beat().await;
    assert_eq!(two.codes(), ["unseen"]);
    two.server
        .faults()
        .fail(Requests::any().of("configmaps"), StatusError::unavailable(), None);
    assert!(two.leader.0.share(true, two.now).await.is_err());
    assert_eq!(two.codes(), ["unseen"]);
    two.server.faults().clear();
    two.now += LIFE + PAUSE + Duration::from_secs(4);
    two.beat().await;
    assert_eq!(two.phase(), "switched");
}

#[tokio::test]
async fn nothing_is_signed_before_others_know_of_it() {
    let server = server().await;
    drop(replica(&server, "one").await);
    server.faults().fail(
        Requests::with_verb(Verb::Patch).of("configmaps"),
        StatusError::new(403, "Forbidden", "not allowed"),
        Some(1),
    );
    let tries = || asked(&server, "PATCH", NAME).len();
    let before = tries();
    let (second, _) = replica(&server, "two").await;
    assert_eq!(tries(), before + 2, "it was tried again");
    // Where there is nothing to tell, nothing is written.
    let writes = tries();
    for _ in 0..3 {
        second.share(false, SystemTime::now()).await.unwrap();
    }
    assert_eq!(tries(), writes);
    // By itself, as the program does it.
    let running = tokio::spawn(second.clone().run(|| true));
    second.request().unwrap();
    until("a root is introduced", || phase(&second) == "introduced").await;
    until("it is told", || tries() > writes).await;
    running.abort();
}

#[tokio::test]
async fn each_replica_revokes_what_it_has_issued_of_an_identity_and_who_has_not_is_named() {
    let mut two = Two::new().await;
    let here = issue(&two.leader.0, &two.leader.1, "client", two.now);
    let there = issue(&two.other.0, &two.other.1, "client", two.now);
    let bystander = issue(&two.other.0, &two.other.1, "bystander", two.now);
    two.beat().await;
    let identity = here.identity().clone();
    two.leader
        .0
        .revoke_all(ca::Selection::Identity(identity))
        .unwrap();
    two.leader.0.lead(true, two.now).await.unwrap();
    let listed = |certificate: &WorkloadCertificate| {
        let state = two.leader.0.state();
        state.revocations.as_ref().unwrap().contains(certificate.serial())
    };
    assert!(listed(&here) && !listed(&there));
    let order = |now| two.leader.0.report_at(now)["revocations"][0].clone();
    let names = |order: &Value| -> Vec<String> {
        let unknown = order["unknown"].as_array().unwrap().iter();
        unknown
            .filter_map(|one| Some(one["replica"].as_str()?.split('.').next()?.to_owned()))
            .collect()
    };
    assert_eq!(names(&order(two.now)), ["two"]);

    // It hears of it with its next look, whoever leads.
    two.other.0.follow().await.unwrap();
    two.other.0.lead(false, two.now).await.unwrap();
    two.leader.0.follow().await.unwrap();
    assert!(listed(&here) && listed(&there) && !listed(&bystander));
    let shown = order(two.now);
    assert_eq!((&shown["revoked"], &shown["answered"]), (&2.into(), &2.into()));
    assert_eq!(names(&shown), [""; 0]);
    let lists = |host: &Rotations| host.bundles().borrow().as_ref().unwrap().revocation_number;
    assert_eq!(lists(&two.leader.0), lists(&two.other.0));

    // One that has ended without an answer: what it has issued is named until it has expired.
    let gone = replica(&two.server, "three").await;
    issue(&gone.0, &gone.1, "bystander", two.now);
    gone.0.leave().await;
    two.beat().await;
    two.leader
        .0
        .revoke_all(ca::Selection::Node("bystander".to_owned()))
        .unwrap();
    two.beat().await;
    two.other.0.follow().await.unwrap();
    two.other.0.lead(false, two.now).await.unwrap();
    two.leader.0.follow().await.unwrap();
    assert!({
        let state = two.leader.0.state();
        state.revocations.as_ref().unwrap().contains(bystander.serial())
    });
    let unknown = |now| names(&two.leader.0.report_at(now)["revocations"][1]);
    assert_eq!(unknown(two.now), ["three"]);
    assert_eq!(unknown(two.now + LIFE + Duration::from_secs(2)), [""; 0]);
    two.now += LIFE + PAUSE + Duration::from_secs(5);
    two.beat().await;
    assert_eq!(
        two.leader.0.report_at(two.now)["revocations"],
        serde_json::json!([])
    );
}
