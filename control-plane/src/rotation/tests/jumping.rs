//! An authority whose clock is set, ahead and back, while it runs and before it begins.

use ca::RevokeError;

use super::*;
use crate::clock::tests::Set;

const MONTH: i64 = 30 * 86_400;
/// As with the pauses of these tests it would be, and more.
const SETTLED_AFTER: Duration = Duration::from_secs(600);

struct Jumping {
    bench: Bench,
    set: Set,
    clock: Clock,
    host: Rotations,
    authority: Arc<Authority>,
}

impl Jumping {
    async fn new() -> Jumping {
        Jumping::over(Bench::new(), Set::default()).await
    }

    async fn over(bench: Bench, set: Set) -> Jumping {
        let clock = set.clock(SETTLED_AFTER);
        let (host, authority) = bench.replica_by(true, clock.clone()).await;
        let jumping = Jumping {
            bench,
            set,
            clock,
            host,
            authority,
        };
        jumping.lead().await;
        jumping
    }

    /// Another process, with a clock of its own.
    async fn restarted(self, wrong_by: i64) -> Jumping {
        drop((self.host, self.authority));
        self.set.wrong_by(wrong_by);
        Jumping::over(self.bench, self.set).await
    }

    async fn lead(&self) {
        let now = self.clock.now();
        // As a loop it goes on after an error; none is expected here.
        self.host.lead(true, now).await.unwrap();
    }

    /// What the program does in so many seconds.
    async fn pass(&self, seconds: u64) {
        for second in 0..seconds.div_ceil(5) {
            self.set.pass(5);
            if second % 4 == 0 {
                self.lead().await;
            }
            self.clock.now();
        }
        self.lead().await;
    }

    fn issue(&self, node: &str) -> WorkloadCertificate {
        issue(&self.host, &self.authority, node, self.clock.now().wall)
    }

    fn revoke(&self, certificate: &WorkloadCertificate) -> Result<(), RevokeError> {
        self.host.revoke(&[certificate.serial()])
    }

    fn is_revoked(&self, certificate: &WorkloadCertificate) -> bool {
        let state = self.host.state();
        let revocations = state.revocations.as_ref();
        revocations.is_some_and(|all| all.contains(certificate.serial()))
    }

    fn phase(&self) -> String {
        phase(&self.host)
    }

    fn codes(&self) -> Vec<String> {
        let report = self.host.report();
        let blockers = report["blockers"].as_array().unwrap().iter();
        blockers
            .map(|blocker| blocker["code"].as_str().unwrap().to_owned())
            .collect()
    }

    /// With holders that have acknowledged the new root, and not renewed.
    async fn switched(&self) -> WorkloadCertificate {
        let certificate = self.issue("node-a");
        self.host.request().unwrap();
        self.lead().await;
        let generation = self.host.bundles().borrow().as_ref().unwrap().generation;
        for node in ["node-a", "node-b"] {
            Roots::acknowledged(&self.host, &proxy(node), generation);
        }
        self.pass(PAUSE.as_secs() + 5).await;
        assert_eq!(self.phase(), "switched");
        certificate
    }
}

#[tokio::test]
async fn what_is_revoked_stays_revoked_when_the_clock_jumps_ahead_and_back() {
    let mesh = Jumping::new().await;
    mesh.pass(1200).await;
    let stolen = mesh.issue("node-a");
    mesh.revoke(&stolen).unwrap();
    mesh.lead().await;
    assert!(mesh.is_revoked(&stolen));
    let number = || mesh.host.bundles().borrow().as_ref().unwrap().revocation_number;
    let before = number();
    mesh.set.wrong_by(MONTH);
    mesh.pass(550).await;
    assert!(mesh.is_revoked(&stolen) && number() == before);
    assert_eq!(mesh.host.report()["clock"]["doubt"]["code"], "set");

    // What is revoked meanwhile is so from now on, and as long as the certificate lives by the time that is right.
    mesh.set.pass(5);
    let ahead = mesh.issue("node-b");
    mesh.revoke(&ahead).unwrap();
    mesh.lead().await;
    assert!(mesh.is_revoked(&ahead));
    let lists = mesh.host.bundles().borrow().as_ref().unwrap().resource_lists();
    assert_eq!(lists.len(), 1, "others can read it");
    let text = mesh.host.state().revocations.as_ref().unwrap().lists.clone();
    let block = pem::parse(text).unwrap();
    let (_, list) = x509_parser::parse_x509_crl(block.contents()).unwrap();
    mesh.set.wrong_by(0);
    let truth = mesh
        .clock
        .now()
        .wall
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    assert!(list.last_update().timestamp() <= i64::try_from(truth.as_secs()).unwrap());
    mesh.pass(LIFE.as_secs() - 600).await;
    assert!(mesh.is_revoked(&stolen) && mesh.is_revoked(&ahead));

    // Forgotten when its time is over, by a clock that is right; the other one lives for a month.
    mesh.pass(1200).await;
    assert!(!mesh.is_revoked(&stolen) && mesh.is_revoked(&ahead));
    assert_eq!(mesh.host.report()["clock"]["doubt"], Value::Null);
}

#[tokio::test]
async fn what_is_revoked_while_the_clock_is_behind_is_not_over_when_it_is_right_again() {
    let mesh = Jumping::new().await;
    mesh.pass(1200).await;
    // Issued by an earlier process: nobody here knows when it ends.
    let stolen = "41".repeat(16);
    let is_revoked = || {
        let state = mesh.host.state();
        state
            .revocations
            .as_ref()
            .is_some_and(|all| all.contains(&stolen))
    };
    // Not before the root begins, or nothing could be signed.
    mesh.set.wrong_by(-1000);
    mesh.lead().await;
    mesh.host.revoke(&[&stolen]).unwrap();
    mesh.lead().await;
    mesh.set.wrong_by(0);
    mesh.pass(LIFE.as_secs() - 100).await;
    assert!(is_revoked());
    mesh.pass(1200).await;
    assert!(!is_revoked());
}

#[tokio::test]
async fn all_of_a_node_is_revoked_though_it_was_issued_while_the_clock_was_ahead() {
    let mesh = Jumping::new().await;
    let right = mesh.issue("node-a");
    mesh.set.wrong_by(MONTH);
    mesh.pass(30).await;
    let ahead = mesh.issue("node-a");
    mesh.set.wrong_by(0);
    mesh.pass(30).await;
    mesh.host
        .revoke_all(ca::Selection::Node("node-a".to_owned()))
        .unwrap();
    mesh.lead().await;
    assert!(mesh.is_revoked(&right) && mesh.is_revoked(&ahead));
    mesh.pass(60).await;
    let next = mesh.issue("node-a");
    mesh.pass(60).await;
    assert!(!mesh.is_revoked(&next));
}

#[tokio::test]
async fn the_old_root_stays_while_its_certificates_live_however_the_clock_is_set() {
    let mesh = Jumping::new().await;
    mesh.pass(1200).await;
    let held = mesh.switched().await;
    for wrong in [MONTH, -600, MONTH, 0] {
        mesh.set.wrong_by(wrong);
        mesh.pass(300).await;
        assert_eq!(mesh.phase(), "switched", "wrong by {wrong} s");
        assert!(held.leads_to(&mesh.bench.roots_file()));
        assert!(mesh.codes().contains(&"clock".to_owned()), "{:?}", mesh.codes());
    }
    mesh.pass(LIFE.as_secs() - 1300).await;
    assert_eq!(
        (mesh.phase(), mesh.codes()),
        ("switched".to_owned(), vec!["not_renewed".to_owned()])
    );
    mesh.pass(700).await;
    assert_eq!(mesh.phase(), "steady");
    assert!(!held.leads_to(&mesh.bench.roots_file()));
}

#[tokio::test]
async fn no_rotation_begins_or_goes_on_by_a_wrong_clock_but_it_is_given_up() {
    let mesh = Jumping::new().await;
    mesh.pass(1200).await;
    // The last fifth of the root's life, by this clock; then its end.
    for wrong in [110 * MONTH, 125 * MONTH] {
        mesh.set.wrong_by(wrong);
        mesh.pass(60).await;
        assert_eq!(mesh.phase(), "steady");
    }
    mesh.set.wrong_by(MONTH);
    mesh.host.request().unwrap();
    mesh.pass(60).await;
    assert_eq!(mesh.phase(), "steady", "it would write down when that was");
    mesh.set.wrong_by(0);
    mesh.pass(620).await;
    assert_eq!(mesh.phase(), "introduced");
    mesh.set.wrong_by(MONTH);
    mesh.pass(60).await;
    assert_eq!(mesh.phase(), "introduced");
    mesh.host.abort().unwrap();
    mesh.lead().await;
    assert_eq!(mesh.phase(), "steady");
    assert_eq!(mesh.bench.roots_file().len(), 1);
    // And the next one does not wait for that month.
    mesh.set.wrong_by(0);
    mesh.host.request().unwrap();
    mesh.pass(640).await;
    assert_eq!(mesh.phase(), "switched", "{}", mesh.host.report());
}

#[tokio::test]
async fn the_service_signs_for_whoever_has_the_right_time_while_its_clock_is_ahead() {
    let mesh = Jumping::new().await;
    mesh.pass(1200).await;
    mesh.set.wrong_by(14 * 3600);
    mesh.pass(30).await;
    let identity = Identity::new("cluster.local", "demo", "node-a");
    let KeyAndRequest { key, request_pem } = KeyAndRequest::generate(&identity).unwrap();
    let now = mesh.clock.now();
    let issued = mesh.authority.sign(&request_pem, &identity, LIFE, now).unwrap();
    let certificate = WorkloadCertificate::from_pem(&issued.chain, &key, &identity).unwrap();
    assert!(certificate.is_valid_at(now.wall) && certificate.is_valid_at(now.earliest));
    mesh.set.wrong_by(0);
    assert!(certificate.is_valid_at(mesh.clock.now().wall));
}

#[tokio::test]
async fn a_process_that_begins_with_a_wrong_clock_forgets_nothing_before_it_is_right() {
    let mesh = Jumping::new().await;
    mesh.pass(1200).await;
    let stolen = mesh.issue("node-b");
    mesh.revoke(&stolen).unwrap();
    let held = mesh.switched().await;
    let mesh = mesh.restarted(MONTH).await;
    mesh.pass(500).await;
    assert_eq!(mesh.phase(), "switched");
    assert!(mesh.is_revoked(&stolen) && held.leads_to(&mesh.bench.roots_file()));
    assert!(mesh.codes().contains(&"clock".to_owned()));
    assert_eq!(mesh.host.report()["clock"]["doubt"]["code"], "young");
    mesh.set.wrong_by(0);
    mesh.pass(600).await;
    assert!(mesh.is_revoked(&stolen) && held.leads_to(&mesh.bench.roots_file()));
    mesh.pass(LIFE.as_secs()).await;
    assert_eq!(
        (mesh.phase(), mesh.is_revoked(&stolen)),
        ("steady".to_owned(), false)
    );
}
