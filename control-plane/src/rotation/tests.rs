mod jumping;
mod lost;
mod shared;

use ca::Authority;
use ca::rotation::SETTLE;
use mesh::Identity;
use tls::{KeyAndRequest, Roots as TlsRoots, WorkloadCertificate};

use super::*;
use crate::authority::{self, Pace, Places};
use crate::leadership::Leadership;

const LIFE: Duration = Duration::from_secs(3600);
const PAUSE: Duration = Duration::from_secs(10);

struct Bench {
    directory: tempfile::TempDir,
    now: SystemTime,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            directory: tempfile::tempdir().unwrap(),
            now: SystemTime::now(),
        }
    }

    async fn replica(&self, alone: bool) -> (Rotations, Arc<Authority>) {
        self.replica_by(alone, Clock::default()).await
    }

    async fn replica_by(&self, alone: bool, clock: Clock) -> (Rotations, Arc<Authority>) {
        let places = Places {
            plugged_files: None,
            directory: Some(self.directory.path().to_owned()),
            cluster: None,
            pace: Pace::default(),
            longest_life: Duration::from_secs(3600),
            clock: clock.clone(),
        };
        let host = authority::Host::open(places, Leadership::always()).await.unwrap();
        let settings = Settings {
            trust_domain: "cluster.local".to_owned(),
            certificate_life: LIFE,
            rotation: RotationSettings { pause: PAUSE, alone },
            share: SHARE,
            issues: Arc::default(),
            clock,
        };
        let rotations = Rotations::open(host.kept.clone().unwrap(), settings, None).await;
        (rotations.unwrap(), host.authority.clone())
    }

    fn roots_file(&self) -> TlsRoots {
        let text = std::fs::read_to_string(self.directory.path().join("root-cert.pem")).unwrap();
        TlsRoots::from_pem(&text).unwrap()
    }

    async fn lead(&self, host: &Rotations) {
        host.lead(true, self.now).await.unwrap();
    }
}

fn caller(node: &str) -> ca::Caller {
    ca::Caller {
        namespace: "istio-system".to_owned(),
        service_account: "ztunnel".to_owned(),
        pod_name: format!("ztunnel-{node}"),
        pod_uid: "uid".to_owned(),
        node: node.to_owned(),
    }
}

fn proxy(node: &str) -> Holder {
    Holder {
        node: node.to_owned(),
        namespace: "istio-system".to_owned(),
        pod: format!("ztunnel-{node}"),
    }
}

/// What the CA's service does for a request of this node's proxy.
fn issue(host: &Rotations, authority: &Authority, node: &str, now: SystemTime) -> WorkloadCertificate {
    let identity = Identity::new("cluster.local", "demo", node);
    let KeyAndRequest { key, request_pem } = KeyAndRequest::generate(&identity).unwrap();
    let issued = authority.sign(&request_pem, &identity, LIFE, now).unwrap();
    let record = IssueRecord {
        at: now,
        serial: issued.serial,
        identity: identity.clone(),
        caller: caller(node),
        not_before: issued.not_before,
        not_after: issued.not_after,
        signed_with: issued.signed_with,
    };
    host.shared.settings.issues.issued(&record);
    host.issued(&record);
    WorkloadCertificate::from_pem(&issued.chain, &key, &identity).unwrap()
}

fn phase(host: &Rotations) -> String {
    host.report()["phase"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_root_is_exchanged_over_a_restart_and_every_certificate_leads_to_what_is_told() {
    let mut bench = Bench::new();
    let (host, authority) = bench.replica(true).await;
    let bundles = host.bundles();
    bench.lead(&host).await;
    let first = bundles.borrow().as_ref().unwrap().generation;
    let of_old = issue(&host, &authority, "node-a", bench.now);
    issue(&host, &authority, "node-b", bench.now);
    let old = bench.roots_file();

    host.request().unwrap();
    bench.lead(&host).await;
    assert_eq!(phase(&host), "introduced");
    let both = bench.roots_file();
    assert_eq!(both.len(), 2);
    let introduced = bundles.borrow().as_ref().unwrap().generation;
    assert!(introduced > first);
    let carrying = issue(&host, &authority, "node-a", bench.now);
    assert_eq!(carrying.roots(), &both);
    assert!(carrying.leads_to(&old), "the old root signs");

    bench.now += PAUSE + SETTLE;
    bench.lead(&host).await;
    assert_eq!(phase(&host), "introduced");
    let report = host.report_at(bench.now);
    let [blocker] = &report["blockers"].as_array().unwrap()[..] else {
        panic!("{report}")
    };
    assert_eq!(
        (blocker["code"].as_str(), blocker["node"].as_str()),
        (Some("not_acknowledged"), Some("node-b"))
    );
    assert_eq!(
        (&report["holders"], &report["acknowledged"]),
        (&2.into(), &1.into())
    );
    Roots::acknowledged(&host, &proxy("node-b"), introduced);
    bench.lead(&host).await;
    assert_eq!(phase(&host), "switched");
    assert_eq!(bench.roots_file(), both);
    let of_new = issue(&host, &authority, "node-a", bench.now);
    assert!(!of_new.leads_to(&old) && of_new.leads_to(&both) && of_old.leads_to(&both));

    // Another process goes on where this one was; what it has not seen it waits for.
    drop((host, authority));
    let (host, authority) = bench.replica(true).await;
    assert_eq!(phase(&host), "switched");
    assert_eq!(host.bundles().borrow().as_ref().unwrap().resource_roots(), both);
    bench.now += PAUSE + Duration::from_secs(1);
    bench.lead(&host).await;
    assert_eq!(host.report_at(bench.now)["blockers"][0]["code"], "unseen");
    bench.now += LIFE + Duration::from_secs(2);
    bench.lead(&host).await;
    assert_eq!(phase(&host), "steady");
    let last = bench.roots_file();
    assert_eq!(last.len(), 1);
    assert!(!of_old.leads_to(&last) && of_new.leads_to(&last));
    assert_eq!(issue(&host, &authority, "node-a", bench.now).roots(), &last);
}

#[tokio::test]
async fn of_two_leaders_one_takes_the_step_and_the_other_follows() {
    let bench = Bench::new();
    let (one, signs_one) = bench.replica(false).await;
    let (other, signs_other) = bench.replica(false).await;
    bench.lead(&one).await;
    other.follow().await.unwrap();
    one.request().unwrap();
    other.request().unwrap();
    let (first, second) = tokio::join!(one.lead(true, bench.now), other.lead(true, bench.now));
    first.unwrap();
    second.unwrap();
    for host in [&one, &other] {
        host.follow().await.unwrap();
        bench.lead(host).await;
    }
    one.follow().await.unwrap();
    assert_eq!(bench.roots_file().len(), 2, "one new root, not two");
    assert_eq!(
        signs_one.material().fingerprint(),
        signs_other.material().fingerprint()
    );
    let generation = |host: &Rotations| host.bundles().borrow().as_ref().unwrap().generation;
    assert_eq!(generation(&one), generation(&other));
    // Certificates that the other has issued are not seen here: time has to pass.
    assert!(one.report()["blockers"].to_string().contains("unseen"));
    // Who does not lead takes no step, but a longer life is news from everybody.
    other.abort().unwrap();
    other.lead(false, bench.now).await.unwrap();
    assert_eq!(phase(&other), "introduced");
    issue(&other, &signs_other, "node-a", bench.now);
    other.lead(false, bench.now).await.unwrap();
    one.follow().await.unwrap();
    assert!(one.state().rotation.state().longest_life >= LIFE);
}

#[tokio::test]
async fn what_is_kept_and_cannot_be_used_changes_nothing() {
    let bench = Bench::new();
    let (host, authority) = bench.replica(true).await;
    bench.lead(&host).await;
    let before = authority.material().fingerprint().to_owned();
    let path = bench.directory.path().join("root-key.pem");
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 3]).unwrap();
    host.request().unwrap();
    for outcome in [host.follow().await, host.lead(true, bench.now).await] {
        assert!(outcome.is_err());
        host.note(outcome);
    }
    assert_eq!(authority.material().fingerprint(), before);
    assert_eq!(phase(&host), "steady");
    assert!(
        host.report()["failure"]
            .as_str()
            .unwrap()
            .contains("root-key.pem"),
        "{}",
        host.report()
    );
    // Mended, it goes on.
    std::fs::write(&path, &whole).unwrap();
    bench.lead(&host).await;
    assert_eq!(phase(&host), "introduced");
    assert!(host.report()["failure"].is_null());
}

#[tokio::test]
async fn what_is_revoked_is_told_at_once_kept_and_forgotten_when_it_has_expired() {
    let mut bench = Bench::new();
    let (host, authority) = bench.replica(true).await;
    bench.lead(&host).await;
    let bundles = host.bundles();
    let number = || bundles.borrow().as_ref().unwrap().revocation_number;
    assert_eq!(number(), 0);
    let shown = issue(&host, &authority, "node-a", bench.now);
    let serial = shown.serial();
    assert!(host.revoke(&[serial, "rubbish"]).is_err());
    host.revoke(&[serial]).unwrap();
    bench.lead(&host).await;
    let first = number();
    assert!(first > 0);
    let generation = bundles.borrow().as_ref().unwrap().generation;
    assert_eq!(host.report()["revoked"], 1);
    let lists = bundles.borrow().as_ref().unwrap().resource_lists();
    assert_eq!(lists.len(), 1);
    // Nothing more is written for it, and the next process knows it.
    bench.lead(&host).await;
    assert_eq!(number(), first);
    drop(host);
    let (host, _) = bench.replica(true).await;
    let bundles = host.bundles();
    let number = || bundles.borrow().as_ref().unwrap().revocation_number;
    assert_eq!(
        (number(), bundles.borrow().as_ref().unwrap().generation),
        (first, generation)
    );
    // Each root's list is there while certificates of both are in use.
    host.request().unwrap();
    bench.lead(&host).await;
    assert_eq!(bundles.borrow().as_ref().unwrap().resource_lists().len(), 2);
    assert_eq!(host.report()["revoked"], 1);
    bench.now += LIFE + PAUSE + Duration::from_secs(5);
    for _ in 0..2 {
        bench.lead(&host).await;
    }
    assert_eq!(host.report()["revoked"], 0);
}

#[tokio::test]
async fn all_that_was_issued_on_a_node_is_revoked_and_what_is_not_known_is_said() {
    let mut bench = Bench::new();
    let (host, authority) = bench.replica(true).await;
    bench.lead(&host).await;
    let of_a = issue(&host, &authority, "node-a", bench.now);
    let of_b = issue(&host, &authority, "node-b", bench.now);
    let on = |node: &str| ca::Selection::Node(node.to_owned());
    let listed = |host: &Rotations, certificate: &WorkloadCertificate| {
        host.state()
            .revocations
            .as_ref()
            .is_some_and(|all| all.contains(certificate.serial()))
    };
    host.revoke_all(on("node-a")).unwrap();
    bench.lead(&host).await;
    assert!(listed(&host, &of_a) && !listed(&host, &of_b));
    let order = |host: &Rotations, now| host.report_at(now)["revocations"][0].clone();
    let shown = order(&host, bench.now);
    assert_eq!(
        (&shown["selection"], &shown["revoked"]),
        (&"node node-a".into(), &1.into())
    );
    assert_eq!(shown["unknown"].as_array().unwrap().len(), 0, "{shown}");

    // What comes next is not meant, but what was being signed is.
    bench.now += Duration::from_secs(1);
    let next = issue(&host, &authority, "node-a", bench.now);
    let late = issue(&host, &authority, "node-a", bench.now - Duration::from_secs(1));
    bench.lead(&host).await;
    assert!(listed(&host, &late) && !listed(&host, &next));
    assert_eq!(order(&host, bench.now)["revoked"], 2);

    // The next process does not know what this one has issued.
    drop(host);
    let (host, _) = bench.replica(true).await;
    bench.lead(&host).await;
    assert!(listed(&host, &of_a) && !listed(&host, &next));
    host.revoke_all(on("node-b")).unwrap();
    bench.lead(&host).await;
    assert!(!listed(&host, &of_b));
    let shown = host.report_at(bench.now)["revocations"][1].clone();
    assert_eq!(shown["revoked"], 0);
    assert!(shown["unknown"][0]["until"].is_string(), "{shown}");
    // Once it must have expired, nothing is left of it.
    bench.now += LIFE + PAUSE + Duration::from_secs(5);
    bench.lead(&host).await;
    let left = host.report_at(bench.now);
    assert_eq!(
        (&left["revoked"], &left["revocations"]),
        (&0.into(), &serde_json::json!([]))
    );
}
