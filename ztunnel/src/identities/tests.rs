use super::*;
use ca::Authority;
use std::sync::atomic::{AtomicUsize, Ordering};
use tls::{BoxFuture, IssueError, KeyAndRequest};

/// An authority in this process that can be made to fail.
struct Local {
    authority: Mutex<Authority>,
    asked: AtomicUsize,
    failing: std::sync::atomic::AtomicBool,
}

impl Issuer for Local {
    fn issue<'a>(
        &'a self,
        identity: &'a Identity,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<WorkloadCertificate, IssueError>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.failing.load(Ordering::SeqCst) {
                return Err(IssueError::Failed("not today".into()));
            }
            let KeyAndRequest { key, request_pem } = KeyAndRequest::generate(identity)?;
            let chain = self
                .authority
                .lock()
                .unwrap()
                .sign(&request_pem, identity, ttl, SystemTime::now())
                .expect("signs")
                .chain;
            Ok(WorkloadCertificate::from_pem(&chain, &key, identity)?)
        })
    }
}

fn local(directory: &std::path::Path, failing: bool) -> Arc<Local> {
    let authority = Authority::load_or_create(directory, SystemTime::now()).expect("an authority");
    Arc::new(Local {
        authority: Mutex::new(authority),
        asked: AtomicUsize::new(0),
        failing: failing.into(),
    })
}

fn identity() -> Identity {
    Identity::new("cluster.local", "shop", "cart")
}

#[tokio::test]
async fn pods_of_one_identity_share_a_certificate_and_the_last_one_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    let issuer = local(directory.path(), false);
    let identities = Identities::new(issuer.clone(), Duration::from_secs(3600), configs());
    let (first, second) = (identities.hold(&identity()), identities.hold(&identity()));
    let certificate = identities.certificate(&identity()).await.unwrap();
    assert_eq!(*certificate.identity(), identity());
    drop(first);
    assert_eq!(
        identities.certificate(&identity()).await.unwrap().serial(),
        certificate.serial()
    );
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
    drop(second);
    assert_eq!(
        identities.certificate(&identity()).await.unwrap_err(),
        CertificateError::NotHeld(identity())
    );
    assert!(identities.list().is_empty());
}

#[tokio::test]
async fn a_refusal_is_named_after_the_wait() {
    let directory = tempfile::tempdir().unwrap();
    let identities = Identities::new(
        local(directory.path(), true),
        Duration::from_secs(3600),
        configs(),
    );
    let _held = identities.hold(&identity());
    tokio::time::pause();
    let error = identities.certificate(&identity()).await.unwrap_err();
    assert!(
        matches!(&error, CertificateError::Unavailable { reason, .. } if reason.contains("not today")),
        "{error}"
    );
}

#[tokio::test]
async fn a_short_life_is_renewed_before_it_ends_and_an_outage_does_not_take_what_is_valid() {
    let directory = tempfile::tempdir().unwrap();
    let issuer = local(directory.path(), false);
    let identities = Identities::new(issuer.clone(), Duration::from_secs(4), configs());
    let _held = identities.hold(&identity());
    let first = identities.certificate(&identity()).await.unwrap();
    let renewed = async {
        while identities.certificate(&identity()).await.unwrap().serial() == first.serial() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), renewed)
        .await
        .expect("renewed");
    issuer.failing.store(true, Ordering::SeqCst);
    let asked = issuer.asked.load(Ordering::SeqCst);
    let failed = async {
        while issuer.asked.load(Ordering::SeqCst) == asked {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), failed)
        .await
        .expect("asked again");
    assert!(
        identities.certificate(&identity()).await.is_ok(),
        "a valid certificate is kept while renewal fails"
    );
    let expired = async {
        loop {
            if let Err(error) = identities.certificate(&identity()).await {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(20), expired)
        .await
        .expect("expires");
    assert!(matches!(error, CertificateError::Expired { .. }), "{error}");
}

fn configs() -> Arc<ConfigCache> {
    Arc::default()
}

#[tokio::test]
async fn a_new_root_is_trusted_by_all_and_hurries_those_that_do_not_lead_to_it() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let issuer = local(old.path(), false);
    let configs = configs();
    let identities = Identities::new(issuer.clone(), Duration::from_secs(3600), configs.clone());
    let others = ["a", "b"].map(|account| Identity::new("cluster.local", "shop", account));
    let _held = others.each_ref().map(|identity| identities.hold(identity));
    let mut before = Vec::new();
    for identity in &others {
        before.push(identities.certificate(identity).await.unwrap());
    }
    assert_eq!(configs.trust().roots().as_ref(), Some(before[0].roots()));
    let kept = configs.server(&before[0]);
    *issuer.authority.lock().unwrap() = Authority::load_or_create(new.path(), SystemTime::now()).unwrap();

    let _new = identities.hold(&identity());
    let newest = identities.certificate(&identity()).await.unwrap();
    let renewed = async {
        for (identity, before) in others.iter().zip(&before) {
            while identities.certificate(identity).await.unwrap().serial() == before.serial() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        while configs.trust().roots().as_ref() != Some(newest.roots()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), renewed)
        .await
        .expect("renewed at once, not at half life");
    assert!(
        !kept.is_same(&configs.server(&before[0])),
        "what was built for the old one is dropped"
    );
}

#[tokio::test]
async fn a_certificate_on_disk_serves_while_the_authority_is_away_and_goes_with_its_last_pod() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    let life = Duration::from_secs(3600);
    let issuer = local(&directory.path().join("ca"), false);
    let started = || {
        let store = KeyStore::open(&keys, life).unwrap();
        Identities::kept_in(
            Some(store),
            issuer.clone(),
            life,
            configs(),
            Metrics::new(Default::default()),
        )
    };
    // Not the one that is being written.
    let kept = |entry: std::fs::DirEntry| entry.path().extension().is_some_and(|name| name == "pem");
    let files = || {
        std::fs::read_dir(&keys)
            .unwrap()
            .flatten()
            .map(kept)
            .filter(|kept| *kept)
            .count()
    };
    let eventually = async |count: usize| {
        let met = async {
            while files() != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), met).await.unwrap();
    };

    let first = started();
    let held = first.hold(&identity());
    let certificate = first.certificate(&identity()).await.unwrap();
    eventually(1).await;
    first.stopping();
    drop(held);
    assert_eq!(files(), 1, "the process ends, not the pod");

    issuer.failing.store(true, Ordering::SeqCst);
    let second = started();
    let held = second.hold(&identity());
    let restored = second.certificate(&identity()).await.unwrap();
    assert_eq!(restored.serial(), certificate.serial());
    assert_eq!(
        second.inner.configs.trust().roots().as_ref(),
        Some(certificate.roots())
    );
    drop(held);
    assert_eq!(files(), 0, "the last pod has left");
}

/// An issuer, and an authority of the same root that takes back what it has given.
fn revoking() -> (Arc<Local>, ca::StoredAuthority) {
    let now = SystemTime::now();
    let kept = ca::StoredAuthority::generate(now).unwrap();
    let authority = Authority::new(ca::Material::of_stored(&kept, now).unwrap());
    let issuer = Arc::new(Local {
        authority: Mutex::new(authority),
        asked: AtomicUsize::new(0),
        failing: false.into(),
    });
    (issuer, kept)
}

fn revoke(kept: &mut ca::StoredAuthority, serial: &str, identities: &Identities) {
    let life = Duration::from_secs(3600);
    kept.revoke(&[serial.to_owned()], SystemTime::now(), life)
        .unwrap();
    let revocations = kept.revocations().unwrap();
    let lists = RevocationLists::parse([revocations.lists.as_bytes()]).unwrap();
    identities.inner.configs.trust().set_told_revocation(lists);
    identities.judge();
}

#[tokio::test]
async fn who_holds_a_revoked_certificate_gets_another_at_once_and_says_so_until_then() {
    let (issuer, mut kept) = revoking();
    let identities = Identities::new(issuer.clone(), Duration::from_secs(3600), configs());
    let other = Identity::new("cluster.local", "shop", "other");
    let _held = [identities.hold(&identity()), identities.hold(&other)];
    let first = identities.certificate(&identity()).await.unwrap();
    let of_other = identities.certificate(&other).await.unwrap();

    issuer.failing.store(true, Ordering::SeqCst);
    revoke(&mut kept, first.serial(), &identities);
    let soon = Duration::from_secs(20);
    let revoked = async {
        while identities.state(&identity()).unwrap().failure.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(soon, revoked)
        .await
        .expect("it asks, and is refused");
    let summary = |identity: &Identity| identities.state(identity).unwrap().summary(SystemTime::now());
    assert_eq!(summary(&identity()), telemetry::CertificateState::Revoked);
    assert_eq!(summary(&other), telemetry::CertificateState::Valid);
    // Not everybody has been told.
    assert_eq!(
        identities.certificate(&identity()).await.unwrap().serial(),
        first.serial()
    );

    issuer.failing.store(false, Ordering::SeqCst);
    let renewed = async {
        while identities.certificate(&identity()).await.unwrap().serial() == first.serial() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(soon, renewed).await.expect("renewed");
    assert_eq!(summary(&identity()), telemetry::CertificateState::Valid);
    assert_eq!(
        identities.certificate(&other).await.unwrap().serial(),
        of_other.serial(),
        "only what is revoked is exchanged"
    );
    let text = identities.inner.metrics.encode();
    assert!(
        text.contains("ztunnel_own_certificates_revoked_total 1"),
        "{text}"
    );
}

#[tokio::test]
async fn an_authority_that_takes_back_all_it_gives_is_not_asked_without_end() {
    let (issuer, mut kept) = revoking();
    let identities = Identities::new(issuer.clone(), Duration::from_secs(3600), configs());
    let _held = identities.hold(&identity());
    let mut last = identities.certificate(&identity()).await.unwrap();
    let mut waits = Vec::new();
    for _ in 0..3 {
        revoke(&mut kept, last.serial(), &identities);
        let since = std::time::Instant::now();
        let next = async {
            loop {
                let certificate = identities.certificate(&identity()).await.unwrap();
                if certificate.serial() != last.serial() {
                    return certificate;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        last = tokio::time::timeout(Duration::from_secs(30), next).await.unwrap();
        waits.push(since.elapsed());
    }
    // The second one waits 2 s, the third one 4 s, each give or take a fifth.
    assert!(
        waits[1] > Duration::from_secs(1) && waits[2] > Duration::from_secs(3),
        "{waits:?}"
    );
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 4);
}
