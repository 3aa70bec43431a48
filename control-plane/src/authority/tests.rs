use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ca::{Authority, AuthorityStore, KeyAndCertificate, ROOT_LIFE, StoredAuthority};
use data_encoding::BASE64;
use kube_api::{ApiServer, Key, Requests, StatusError, Verb};
use mesh::Identity;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use tls::{KeyAndRequest, WorkloadCertificate};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Host, NoAuthority, Pace, Places, memory};
use crate::clock::Clock;
use crate::kubernetes::secret::{OWN, PLUGGED, SecretStore};
use crate::kubernetes::testing::{NAMESPACE, PATIENCE, asked, client, server, until};
use crate::leadership::{Candidate, Leadership, Timing, elect};

const LIFE: Duration = Duration::from_secs(3600);
/// So often that tests are quick.
const PACE: Pace = Pace {
    files: Duration::from_millis(20),
    secrets: Duration::from_millis(20),
};

/// A replica that follows its authority.
struct Replica {
    host: Arc<Host>,
    follower: JoinHandle<()>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Replica {
    fn of(host: Host) -> Replica {
        let host = Arc::new(host);
        Replica {
            follower: tokio::spawn(host.clone().follow()),
            host,
        }
    }

    /// As the follower does it, at this time.
    async fn look(&self, now: impl Into<ca::Moment>) -> Result<(), String> {
        let (source, following) = self.host.source.as_ref().unwrap();
        let looked = self.host.look(source, &mut *following.lock().await, now).await;
        looked.map_err(|problem| problem.to_string())
    }

    fn roots(&self) -> String {
        self.host.authority.root_pem()
    }

    async fn trusts(&self, roots: &str) {
        until("the replica follows", || self.roots() == roots).await;
        sign(&self.host.authority);
    }
}

/// Signs as for a workload, which accepts it.
fn sign(authority: &Authority) -> Vec<String> {
    let identity = Identity::new("cluster.local", "demo", "client");
    let made = KeyAndRequest::generate(&identity).unwrap();
    let hour = Duration::from_secs(3600);
    let issued = authority
        .sign(&made.request_pem, &identity, hour, SystemTime::now())
        .unwrap();
    WorkloadCertificate::from_pem(&issued.chain, &made.key, &identity).unwrap();
    issued.chain
}

fn in_cluster(server: &ApiServer) -> Places {
    Places {
        plugged_files: None,
        directory: None,
        cluster: Some((client(server), NAMESPACE.to_owned())),
        pace: PACE,
        longest_life: LIFE,
        clock: Clock::default(),
    }
}

fn in_files(directory: &Path) -> Places {
    Places {
        plugged_files: Some(directory.to_owned()),
        directory: None,
        cluster: None,
        pace: PACE,
        longest_life: LIFE,
        clock: Clock::default(),
    }
}

async fn open(places: Places, leadership: Leadership) -> Result<Host, NoAuthority> {
    tokio::time::timeout(PATIENCE, Host::open(places, leadership))
        .await
        .unwrap()
}

fn stand(server: &ApiServer, pod: &str) -> (Leadership, DropGuard) {
    let candidate = Candidate {
        client: client(server),
        pod: pod.to_owned(),
        namespace: NAMESPACE.to_owned(),
        timing: Timing::default(),
    };
    let stop = CancellationToken::new();
    let (leadership, election) = elect(candidate, stop.clone());
    tokio::spawn(election);
    (leadership, stop.drop_guard())
}

fn own_secret(server: &ApiServer) -> Value {
    let mut secret = server
        .store()
        .get(&Key::new("secrets", NAMESPACE, OWN))
        .unwrap()
        .value()
        .clone();
    secret["apiVersion"] = json!("v1");
    secret["kind"] = json!("Secret");
    secret
}

#[tokio::test]
async fn only_the_leader_makes_the_root_and_others_follow() {
    let server = server().await;
    let (mut leading, _stop_leading) = stand(&server, "one");
    leading.elected().await;
    let (waiting, _stop_waiting) = stand(&server, "two");
    let second = tokio::spawn(Host::open(in_cluster(&server), waiting));
    until("the second looks for it", || {
        !asked(&server, "GET", OWN).is_empty()
    })
    .await;
    assert!(asked(&server, "POST", "/secrets").is_empty());
    let first = Replica::of(open(in_cluster(&server), leading).await.unwrap());
    let second = Replica::of(
        tokio::time::timeout(PATIENCE, second)
            .await
            .unwrap()
            .unwrap()
            .unwrap(),
    );
    assert_eq!(first.roots(), second.roots());
    assert_eq!(asked(&server, "POST", "/secrets").len(), 1);

    // What one changes, both sign with.
    let store = SecretStore::new(client(&server), NAMESPACE, PACE.secrets);
    let found = store.load().await.unwrap().unwrap();
    let next = KeyAndCertificate::generate_root(SystemTime::now(), ROOT_LIFE).unwrap();
    let announced = StoredAuthority {
        next: Some(next.clone()),
        ..found.stored.clone()
    };
    let kept = first.host.kept.as_ref().unwrap();
    let version = kept.save(&announced, &found.version).await.unwrap();
    assert_eq!(
        first.roots(),
        announced.roots_pem(),
        "at once, where it was changed"
    );
    second.trusts(&announced.roots_pem()).await;
    let switched = StoredAuthority {
        previous: Some(found.stored.current.certificate.clone()),
        ..StoredAuthority::of(next)
    };
    store.save(&switched, Some(&version)).await.unwrap();
    first.trusts(&switched.roots_pem()).await;
    second.trusts(&switched.roots_pem()).await;
}

#[tokio::test]
async fn what_becomes_wrong_later_is_not_used() {
    let server = server().await;
    let replica = Replica::of(open(in_cluster(&server), Leadership::always()).await.unwrap());
    let roots = replica.roots();
    let good = own_secret(&server);
    let looked = || asked(&server, "GET", OWN).len();
    for damage in [
        json!(""),
        json!(BASE64.encode(b"-----BEGIN PRIVATE KEY-----\nMII")),
    ] {
        let mut bad = good.clone();
        bad["data"]["ca-key.pem"] = damage;
        server.put(bad).unwrap();
        let before = looked();
        // A look that began before the damage may end after it.
        until("it is looked at twice", || looked() >= before + 2).await;
        assert_eq!(replica.roots(), roots);
        sign(&replica.host.authority);
    }
    // Gone, or nobody answers: the same.
    server.remove(&Key::new("secrets", NAMESPACE, OWN));
    let before = looked();
    until("it is looked at twice", || looked() >= before + 2).await;
    server
        .faults()
        .fail(Requests::any().of("secrets"), StatusError::unavailable(), None);
    let before = looked();
    until("it is looked at twice", || looked() >= before + 2).await;
    assert_eq!(replica.roots(), roots);
    sign(&replica.host.authority);
    assert_eq!(
        asked(&server, "POST", "/secrets").len(),
        1,
        "no other root was made"
    );
    // A sound one is taken again.
    server.faults().clear();
    let other = StoredAuthority::generate(SystemTime::now()).unwrap();
    let store = SecretStore::new(client(&server), NAMESPACE, PACE.secrets);
    store.save(&other, None).await.unwrap();
    replica.trusts(&other.roots_pem()).await;
}

#[tokio::test]
async fn a_wrong_secret_at_the_start_ends_it_and_a_silent_server_does_not() {
    let server = server().await;
    server.faults().fail(
        Requests::with_verb(Verb::Get).of("secrets"),
        StatusError::unavailable(),
        Some(3),
    );
    drop(open(in_cluster(&server), Leadership::always()).await.unwrap());
    let mut bad = own_secret(&server);
    bad["data"]["ca-cert.pem"] = json!(BASE64.encode(b"rubbish"));
    server.put(bad).unwrap();
    let error = open(in_cluster(&server), Leadership::always())
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("istio-system/istio-ca-secret"), "{error}");
    assert!(error.contains("the certificate cannot be read"), "{error}");
}

/// A root, and an intermediate below it.
struct Plugged {
    root: String,
    certificate: String,
    key: String,
}

impl Plugged {
    fn new(root: &(CertificateParams, KeyPair)) -> Plugged {
        let (params, root_key) = root;
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(root_key).unwrap().pem();
        let issuer = Issuer::from_params(params, root_key);
        let certificate = authority("intermediate").signed_by(&key, &issuer).unwrap().pem();
        Plugged {
            root,
            certificate,
            key: key.serialize_pem(),
        }
    }

    fn istio(&self) -> [(&'static str, &str); 4] {
        [
            ("ca-cert.pem", &self.certificate),
            ("ca-key.pem", &self.key),
            ("cert-chain.pem", &self.certificate),
            ("root-cert.pem", &self.root),
        ]
    }

    fn secret(&self) -> Value {
        let part = |text: &str| BASE64.encode(text.as_bytes());
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": PLUGGED, "namespace": NAMESPACE },
            "data": { "tls.crt": part(&self.certificate), "tls.key": part(&self.key), "ca.crt": part(&self.root) } })
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn root() -> (CertificateParams, KeyPair) {
    (authority("root"), KeyPair::generate().unwrap())
}

fn write(directory: &Path, parts: &[(&str, &str)]) {
    for (name, text) in parts {
        std::fs::write(directory.join(name), text).unwrap();
    }
}

#[tokio::test]
async fn a_plugged_intermediate_in_files_is_exchanged_live() {
    let folder = tempfile::tempdir().unwrap();
    let root = root();
    let (one, two) = (Plugged::new(&root), Plugged::new(&root));
    // Incomplete at the start: the sentence says what is missing.
    write(folder.path(), &one.istio()[..3]);
    let error = open(in_files(folder.path()), Leadership::always())
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("root-cert.pem is missing"), "{error}");
    assert!(error.contains(&folder.path().display().to_string()), "{error}");
    write(folder.path(), &one.istio());
    let replica = Replica::of(open(in_files(folder.path()), Leadership::always()).await.unwrap());
    assert!(replica.host.kept.is_none());
    let authority = &replica.host.authority;
    let chain = sign(authority);
    assert_eq!(chain.len(), 3);
    let normal = |pem: &str| pem.replace("\r\n", "\n");
    assert_eq!(chain[1], normal(&one.certificate));

    // Half of the next one, for as long as somebody takes to write it.
    write(folder.path(), &two.istio()[..1]);
    assert!(replica.look(SystemTime::now()).await.is_err());
    assert_eq!(sign(authority)[1], normal(&one.certificate));
    write(folder.path(), &two.istio());
    until("the next one signs", || {
        sign(authority)[1] == normal(&two.certificate)
    })
    .await;
    // Lists of revoked certificates come and go with it; a bad one changes nothing.
    let mut list = replica.host.revocation_list();
    let text = revocation_list(&root);
    write(folder.path(), &[("ca-crl.pem", &text)]);
    let told = list.wait_for(|list| list.as_deref() == Some(&text));
    tokio::time::timeout(PATIENCE, told).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_root_signs_only_once_it_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (root(), (authority("new root"), KeyPair::generate().unwrap()));
    let (one, two) = (Plugged::new(&old), Plugged::new(&new));
    write(folder.path(), &one.istio());
    let replica = Replica::of(open(in_files(folder.path()), Leadership::always()).await.unwrap());
    // It is told when to look.
    replica.follower.abort();
    let normal = |pem: &str| pem.replace("\r\n", "\n");
    let authority = &replica.host.authority;
    let mut now = SystemTime::now();
    write(folder.path(), &two.istio());
    let error = replica.look(now).await.unwrap_err();
    assert!(error.contains("no workload trusts yet"), "{error}");
    // Nor with the old one beside it: workloads have not been told of the new one.
    let both = format!("{}{}", one.root, two.root);
    write(folder.path(), &[("root-cert.pem", &both)]);
    assert!(replica.look(now).await.is_err());
    assert_eq!(sign(authority)[1], normal(&one.certificate));
    write(folder.path(), &one.istio());
    write(folder.path(), &[("root-cert.pem", &both)]);
    replica.look(now).await.unwrap();
    assert_eq!(sign(authority)[1], normal(&one.certificate));
    assert_eq!(authority.material().roots().len(), 2);

    // Exchanged at once for the new one alone: it waits until everybody must have learned that.
    write(folder.path(), &two.istio());
    now += LIFE - Duration::from_secs(1);
    let error = replica.look(now).await.unwrap_err();
    assert!(
        error.contains("not every workload has learned") && error.contains("within 1h"),
        "{error}"
    );
    assert_eq!(sign(authority)[1], normal(&one.certificate));
    now += Duration::from_secs(2);
    replica.look(now).await.unwrap();
    assert_eq!(sign(authority)[1], normal(&two.certificate));
    // And the old one stays beside it until what it has signed last is over.
    assert_eq!(authority.material().roots().len(), 2);
    now += LIFE - Duration::from_secs(1);
    replica.look(now).await.unwrap();
    assert_eq!(authority.material().roots().len(), 2);
    now += Duration::from_secs(2);
    replica.look(now).await.unwrap();
    assert_eq!(authority.material().roots().len(), 1);
    assert_eq!(sign(authority)[1], normal(&two.certificate));
}

fn revocation_list(root: &(CertificateParams, KeyPair)) -> String {
    let now = time::OffsetDateTime::now_utc();
    let list = rcgen::CertificateRevocationListParams {
        this_update: now,
        next_update: now + Duration::from_secs(3600),
        crl_number: rcgen::SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(&Issuer::from_params(&root.0, &root.1))
        .unwrap()
        .pem()
        .unwrap()
}

#[tokio::test]
async fn a_volume_is_read_as_one_state() {
    let folder = tempfile::tempdir().unwrap();
    let root = root();
    let (one, two) = (Plugged::new(&root), Plugged::new(&root));
    // As a kubelet mounts a Secret: links through one link, which is replaced.
    for (name, plugged) in [("..1", &one), ("..2", &two)] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        write(&folder.path().join(name), &plugged.istio());
    }
    let link = |state: &str| {
        let fresh = folder.path().join("..fresh");
        std::os::unix::fs::symlink(state, &fresh).unwrap();
        std::fs::rename(fresh, folder.path().join("..data")).unwrap();
    };
    link("..1");
    for (name, _) in one.istio() {
        std::os::unix::fs::symlink(format!("..data/{name}"), folder.path().join(name)).unwrap();
    }
    let replica = Replica::of(open(in_files(folder.path()), Leadership::always()).await.unwrap());
    link("..2");
    let normal = two.certificate.replace("\r\n", "\n");
    until("the other state signs", || {
        sign(&replica.host.authority)[1] == normal
    })
    .await;
}

#[tokio::test]
async fn a_plugged_intermediate_in_a_secret_goes_before_a_root_of_our_own() {
    let server = server().await;
    let root = root();
    let (one, two) = (Plugged::new(&root), Plugged::new(&root));
    server.put(one.secret()).unwrap();
    let replica = Replica::of(open(in_cluster(&server), Leadership::always()).await.unwrap());
    let normal = |pem: &str| pem.replace("\r\n", "\n");
    assert_eq!(sign(&replica.host.authority)[1], normal(&one.certificate));
    assert!(server.store().get(&Key::new("secrets", NAMESPACE, OWN)).is_none());
    server.put(two.secret()).unwrap();
    until("the other one signs", || {
        sign(&replica.host.authority)[1] == normal(&two.certificate)
    })
    .await;
    // At the start a wrong one ends the program, and no root is made in its place.
    let mut wrong = two.secret();
    wrong["data"]["tls.key"] = one.secret()["data"]["tls.key"].clone();
    server.put(wrong).unwrap();
    let error = open(in_cluster(&server), Leadership::always())
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("istio-system/cacerts") && error.contains("not the certificate's"),
        "{error}"
    );
    assert!(server.store().get(&Key::new("secrets", NAMESPACE, OWN)).is_none());
}

#[tokio::test]
async fn a_restart_in_the_middle_of_an_exchange_forgets_no_root() {
    let server = server().await;
    let (old, new) = (root(), (authority("new root"), KeyPair::generate().unwrap()));
    let (one, mut two) = (Plugged::new(&old), Plugged::new(&new));
    let normal = |pem: &str| pem.replace("\r\n", "\n");
    let replica = async || {
        let replica = Replica::of(open(in_cluster(&server), Leadership::always()).await.unwrap());
        // It is told when to look.
        replica.follower.abort();
        replica
    };
    let mut now = SystemTime::now();
    server.put(one.secret()).unwrap();
    let first = replica().await;
    let mut both = one.secret();
    both["data"]["ca.crt"] = json!(BASE64.encode(format!("{}{}", one.root, two.root).as_bytes()));
    server.put(both).unwrap();
    first.look(now).await.unwrap();
    drop(first);
    // The next process knows that the new root is not known to everybody, though it finds both.
    let second = replica().await;
    server.put(two.secret()).unwrap();
    now += LIFE - Duration::from_secs(60);
    let error = second.look(now).await.unwrap_err();
    assert!(error.contains("not every workload has learned"), "{error}");
    now += Duration::from_secs(62);
    second.look(now).await.unwrap();
    assert_eq!(sign(&second.host.authority)[1], normal(&two.certificate));
    drop(second);
    // And one that finds the new one alone, that the old one is needed still.
    let third = replica().await;
    assert_eq!(third.host.authority.material().roots().len(), 2);
    let leaf = sign(&third.host.authority);
    assert_eq!(leaf[1], normal(&two.certificate));
    let secret = server
        .store()
        .get(&Key::new("secrets", NAMESPACE, memory::NAME))
        .unwrap();
    assert_eq!(secret.value()["type"], memory::TYPE);
    let writes = |verb: &str| asked(&server, verb, memory::NAME).len();
    let now = SystemTime::now();
    // What was written an hour ahead of this is put right, once.
    third.look(now).await.unwrap();
    let before = writes("PUT");
    third.look(now + Duration::from_secs(3)).await.unwrap();
    third.look(now + Duration::from_secs(5)).await.unwrap();
    assert_eq!(writes("PUT"), before, "time alone is not written");

    // Without the permission it goes on, by memory only.
    server.faults().fail(
        Requests::with_verb(Verb::Update).of("secrets"),
        StatusError::new(403, "Forbidden", "not allowed"),
        None,
    );
    two.root = format!("{}{}", two.root, normal(&one.root));
    server.put(two.secret()).unwrap();
    third.look(now + Duration::from_secs(10)).await.unwrap();
    assert_eq!(third.host.authority.material().roots().len(), 2);
}
