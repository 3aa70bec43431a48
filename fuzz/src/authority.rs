//! What callers of the authority send, and what it is kept in and plugged in by.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ca::rotation::Report;
use ca::{
    AuthError, Authenticator, Authority, Caller, Denied, IssueRecord, JwtAuthenticator, NodeAuthorizer,
    Observer, Plugged, Refusal, Service, ServiceConfig, TokenSigner,
};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use mesh::Identity;
use prost::Message;
use proto::auth::IstioCertificateRequest;
use proto::auth::istio_certificate_service_server::IstioCertificateService;
use tls::BoxFuture;
use zeroize::Zeroizing;

use crate::tunnels::run;

const ISSUER: &str = "https://kubernetes.default.svc";
const AUDIENCE: &str = "istio-ca";
/// When tokens are judged.
const NOW: u64 = 1_800_000_000;

/// An authenticator, and a key that it knows.
struct Tokens {
    authenticator: JwtAuthenticator,
    key: EncodingKey,
    _directory: tempfile::TempDir,
}

fn tokens() -> &'static Tokens {
    static TOKENS: OnceLock<Tokens> = OnceLock::new();
    TOKENS.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (private, public) = (directory.path().join("key"), directory.path().join("public"));
        let signer = TokenSigner::load_or_create(&private).expect("a key");
        std::fs::write(&public, signer.public_key_pem()).expect("a writable directory");
        let key = std::fs::read(&private).expect("the key that was made");
        Tokens {
            authenticator: JwtAuthenticator::new(&public, ISSUER, AUDIENCE).expect("a good key"),
            key: EncodingKey::from_ec_pem(&key).expect("a good key"),
            _directory: directory,
        }
    })
}

/// A token: claims, if they begin like JSON, which are then signed in good order; else the token as it is.
pub(crate) fn token(input: &[u8]) -> bool {
    let Tokens {
        authenticator, key, ..
    } = tokens();
    let token = if input.starts_with(b"{") {
        let header = BASE64URL_NOPAD.encode(br#"{"alg":"ES256","typ":"JWT"}"#);
        let message = format!("{header}.{}", BASE64URL_NOPAD.encode(input));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, Algorithm::ES256);
        format!("{message}.{}", signature.expect("a good key signs"))
    } else {
        String::from_utf8_lossy(input).into_owned()
    };
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let Ok(caller) = authenticator.authenticate_at(&token, now) else {
        return false;
    };
    let claims: serde_json::Value = serde_json::from_slice(input).expect("only what we signed is accepted");
    let expected = format!(
        "system:serviceaccount:{}:{}",
        caller.namespace, caller.service_account
    );
    assert_eq!(claims["sub"].as_str(), Some(expected.as_str()));
    assert_eq!(claims["iss"].as_str(), Some(ISSUER));
    assert!(claims["exp"].as_u64() > Some(NOW));
    let audiences = match &claims["aud"] {
        serde_json::Value::Array(several) => several.iter().any(|one| one == AUDIENCE),
        one => one == AUDIENCE,
    };
    assert!(audiences);
    true
}

thread_local! {
    /// The identity that the last certificate was issued for.
    static ISSUED: RefCell<Option<Identity>> = const { RefCell::new(None) };
}

struct Remembers;

impl Observer for Remembers {
    fn issued(&self, issue: &IssueRecord) {
        ISSUED.with(|issued| *issued.borrow_mut() = Some(issue.identity.clone()));
    }

    fn refused(&self, refusal: &Refusal) {
        assert!(
            refusal.reason.len() < 4096,
            "a refusal is short: {}",
            refusal.reason.len()
        );
    }
}

/// A node proxy, whatever the token.
struct Known;

impl Authenticator for Known {
    fn authenticate<'a>(&'a self, _: &'a str, _: Option<IpAddr>) -> BoxFuture<'a, Result<Caller, AuthError>> {
        Box::pin(async {
            Ok(Caller {
                namespace: "istio-system".to_owned(),
                service_account: "ztunnel".to_owned(),
                pod_name: "zt-1".to_owned(),
                pod_uid: "uid".to_owned(),
                node: "node-a".to_owned(),
            })
        })
    }
}

impl NodeAuthorizer for Known {
    fn may_impersonate(&self, _: &Caller, identity: &Identity) -> Result<(), Denied> {
        match (identity.namespace(), identity.service_account()) {
            ("default", "web") | ("istio-system", "ztunnel") => Ok(()),
            _ => Err(Denied::Malformed),
        }
    }
}

fn service() -> &'static Mutex<Service> {
    static SERVICE: OnceLock<Mutex<Service>> = OnceLock::new();
    SERVICE.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::load_or_create(directory.path(), SystemTime::now()).expect("a root");
        let service = Service::new(
            Arc::new(authority),
            Arc::new(Known),
            Arc::new(Known),
            ServiceConfig::default(),
        );
        Mutex::new(
            service
                .with_observer(Arc::new(Remembers))
                .with_limit_per_caller(u32::MAX, 1e9),
        )
    })
}

/// A request for a certificate: only those are certified that the caller may have.
pub(crate) fn service_request(input: &[u8]) -> bool {
    let Ok(message) = IstioCertificateRequest::decode(input) else {
        return false;
    };
    let mut request = tonic::Request::new(message);
    let token = "Bearer token".parse().expect("visible ASCII");
    request.metadata_mut().insert("authorization", token);
    let service = service().lock().expect("no thread panicked").clone();
    ISSUED.with(|issued| issued.borrow_mut().take());
    let Ok(answer) = run(service.create_certificate(request)) else {
        return false;
    };
    assert!(answer.get_ref().cert_chain.len() >= 2);
    let issued = ISSUED.with(|issued| issued.borrow_mut().take());
    let issued = issued.expect("what is issued is told");
    assert!(
        ["default/web", "istio-system/ztunnel"]
            .contains(&format!("{}/{}", issued.namespace(), issued.service_account()).as_str())
    );
    assert_eq!(issued.trust_domain(), "cluster.local");
    true
}

/// What another replica says it has seen: written again it reads the same, and written shorter it can be read.
pub(crate) fn replica_report(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    let Ok(report) = Report::from_text(text) else {
        return false;
    };
    let again = Report::from_text(&report.to_text(usize::MAX));
    assert_eq!(again.as_ref(), Ok(&report));
    let shortest = Report::from_text(&report.to_text(0)).expect("what is written can be read");
    assert_eq!(shortest.holders(), 0);
    report.is_spent(SystemTime::now(), Duration::from_secs(3600));
    true
}

/// An authority that somebody else issued, in parts.
pub(crate) fn plugged(input: &[u8]) -> bool {
    let parts = control_plane::fuzzing::parts(input).into_iter();
    let parts: BTreeMap<_, _> = parts.map(|(name, value)| (name, Zeroizing::new(value))).collect();
    Plugged::from_parts(&parts, "", SystemTime::now()).is_ok()
}
