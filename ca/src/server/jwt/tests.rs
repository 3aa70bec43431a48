use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use tempfile::TempDir;

use super::{Audience, Claims, JwtAuthenticator, Reference};
use crate::server::authenticate::{AuthError, Caller, MAX_TOKEN_BYTES};
use crate::server::token::{TokenSigner, TokenSubject, claims};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn subject() -> TokenSubject {
    TokenSubject {
        issuer: "https://lab".to_owned(),
        audience: "istio-ca".to_owned(),
        caller: Caller {
            namespace: "istio-system".to_owned(),
            service_account: "ztunnel".to_owned(),
            pod_name: "ztunnel-node-a".to_owned(),
            pod_uid: "1234".to_owned(),
            node: "node-a".to_owned(),
        },
        service_account_uid: "5678".to_owned(),
        node_uid: "9abc".to_owned(),
        ttl: Duration::from_secs(3600),
    }
}

struct Setup {
    signer: TokenSigner,
    authenticator: JwtAuthenticator,
    keys: PathBuf,
    directory: TempDir,
}

fn setup() -> Setup {
    let directory = tempfile::tempdir().unwrap();
    let signer = TokenSigner::load_or_create(&directory.path().join("token-key.pem")).unwrap();
    let keys = directory.path().join("keys.pem");
    fs::write(&keys, signer.public_key_pem()).unwrap();
    let authenticator = JwtAuthenticator::new(&keys, "https://lab", "istio-ca").unwrap();
    Setup {
        signer,
        authenticator,
        keys,
        directory,
    }
}

impl Setup {
    /// What is said of a token whose claims were changed.
    fn judge(&self, change: impl FnOnce(&mut Claims)) -> Result<Caller, AuthError> {
        let mut claims = claims(&subject(), now());
        change(&mut claims);
        self.authenticator
            .authenticate_at(&self.signer.sign_claims(&claims).unwrap(), now())
    }
}

#[test]
fn a_good_token_names_its_caller() {
    let setup = setup();
    let token = setup.signer.sign(&subject(), now()).unwrap();
    assert_eq!(
        setup.authenticator.authenticate_at(&token, now()).unwrap(),
        subject().caller
    );
    // One audience written as a text, and several, are both good.
    assert!(
        setup
            .judge(|claims| claims.aud = Some(Audience::One("istio-ca".to_owned())))
            .is_ok()
    );
    let several = Audience::Several(vec!["x".to_owned(), "istio-ca".to_owned()]);
    assert!(setup.judge(|claims| claims.aud = Some(several)).is_ok());
    assert!(setup.judge(|claims| claims.nbf = None).is_ok());
    assert!(setup.judge(|claims| claims.iat = None).is_ok());
}

#[test]
fn each_wrong_claim_has_its_own_error() {
    let setup = setup();
    let at = |offset: i64| Some(1_800_000_000_u64.saturating_add_signed(offset));
    type Change = Box<dyn Fn(&mut Claims)>;
    fn kubernetes(claims: &mut Claims) -> &mut super::Kubernetes {
        claims.kubernetes.as_mut().unwrap()
    }
    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }
    let issuer = AuthError::Issuer {
        expected: "https://lab".to_owned(),
    };
    let audience = AuthError::Audience {
        expected: "istio-ca".to_owned(),
    };
    let table: Vec<(&str, Change, AuthError)> = vec![
        (
            "no iss",
            Box::new(|c| c.iss = None),
            AuthError::MissingClaim("iss"),
        ),
        (
            "other iss",
            Box::new(|c| c.iss = text("https://evil")),
            issuer.clone(),
        ),
        ("iss prefix", Box::new(|c| c.iss = text("https://lab/")), issuer),
        (
            "no aud",
            Box::new(|c| c.aud = None),
            AuthError::MissingClaim("aud"),
        ),
        (
            "other aud",
            Box::new(|c| c.aud = Some(Audience::One("kubernetes".into()))),
            audience.clone(),
        ),
        (
            "empty aud",
            Box::new(|c| c.aud = Some(Audience::Several(vec![]))),
            audience.clone(),
        ),
        (
            "aud prefix",
            Box::new(|c| c.aud = Some(Audience::One("istio-ca2".into()))),
            audience,
        ),
        (
            "no exp",
            Box::new(|c| c.exp = None),
            AuthError::MissingClaim("exp"),
        ),
        (
            "expired now",
            Box::new(move |c| c.exp = at(0)),
            AuthError::Expired,
        ),
        (
            "expired long ago",
            Box::new(|c| c.exp = Some(0)),
            AuthError::Expired,
        ),
        (
            "nbf ahead",
            Box::new(move |c| c.nbf = at(60)),
            AuthError::NotYetValid,
        ),
        (
            "iat ahead",
            Box::new(move |c| c.iat = at(60)),
            AuthError::NotYetValid,
        ),
        (
            "nbf at the end of time",
            Box::new(|c| c.nbf = Some(u64::MAX)),
            AuthError::NotYetValid,
        ),
        (
            "neither nbf nor iat",
            Box::new(|c| (c.nbf, c.iat) = (None, None)),
            AuthError::MissingClaim("nbf"),
        ),
        (
            "no sub",
            Box::new(|c| c.sub = None),
            AuthError::MissingClaim("sub"),
        ),
        (
            "sub of a user",
            Box::new(|c| c.sub = text("admin")),
            AuthError::Subject,
        ),
        (
            "sub too short",
            Box::new(|c| c.sub = text("system:serviceaccount:a")),
            AuthError::Subject,
        ),
        (
            "sub too long",
            Box::new(|c| c.sub = text("system:serviceaccount:a:b:c")),
            AuthError::Subject,
        ),
        (
            "sub empty part",
            Box::new(|c| c.sub = text("system:serviceaccount::b")),
            AuthError::Subject,
        ),
        (
            "sub of another namespace",
            Box::new(|c| c.sub = text("system:serviceaccount:other:ztunnel")),
            AuthError::NamespaceMismatch,
        ),
        (
            "sub of another account",
            Box::new(|c| c.sub = text("system:serviceaccount:istio-system:other")),
            AuthError::ServiceAccountMismatch,
        ),
        (
            "no kubernetes.io",
            Box::new(|c| c.kubernetes = None),
            AuthError::MissingClaim("kubernetes.io"),
        ),
        (
            "no namespace",
            Box::new(|c| kubernetes(c).namespace = None),
            AuthError::MissingClaim("kubernetes.io.namespace"),
        ),
        (
            "other namespace",
            Box::new(|c| kubernetes(c).namespace = text("other")),
            AuthError::NamespaceMismatch,
        ),
        (
            "no account",
            Box::new(|c| kubernetes(c).serviceaccount = None),
            AuthError::MissingClaim("kubernetes.io.serviceaccount.name"),
        ),
        (
            "other account",
            Box::new(|c| {
                kubernetes(c).serviceaccount = Some(Reference {
                    name: text("other"),
                    uid: None,
                })
            }),
            AuthError::ServiceAccountMismatch,
        ),
        (
            "no pod",
            Box::new(|c| kubernetes(c).pod = None),
            AuthError::MissingClaim("kubernetes.io.pod"),
        ),
        (
            "no pod name",
            Box::new(|c| {
                kubernetes(c).pod = Some(Reference {
                    name: None,
                    uid: text("1"),
                })
            }),
            AuthError::MissingClaim("kubernetes.io.pod.name"),
        ),
        (
            "no pod uid",
            Box::new(|c| {
                kubernetes(c).pod = Some(Reference {
                    name: text("p"),
                    uid: None,
                })
            }),
            AuthError::MissingClaim("kubernetes.io.pod.uid"),
        ),
        (
            "empty pod uid",
            Box::new(|c| {
                kubernetes(c).pod = Some(Reference {
                    name: text("p"),
                    uid: text(""),
                })
            }),
            AuthError::MissingClaim("kubernetes.io.pod.uid"),
        ),
        (
            "no node",
            Box::new(|c| kubernetes(c).node = None),
            AuthError::MissingClaim("kubernetes.io.node.name"),
        ),
    ];
    for (what, change, expected) in table {
        assert_eq!(setup.judge(change).unwrap_err(), expected, "{what}");
    }
}

#[test]
fn a_little_clock_skew_is_forgiven_at_the_start_only() {
    let setup = setup();
    assert!(setup.judge(|claims| claims.nbf = Some(1_800_000_005)).is_ok());
    assert_eq!(
        setup
            .judge(|claims| claims.exp = Some(1_799_999_999))
            .unwrap_err(),
        AuthError::Expired
    );
}

#[test]
fn only_es256_by_a_known_key_is_accepted() {
    let setup = setup();
    let good = claims(&subject(), now());
    let judge = |token: &str| setup.authenticator.authenticate_at(token, now()).unwrap_err();

    let stranger = TokenSigner::load_or_create(&setup.directory.path().join("stranger.pem")).unwrap();
    assert_eq!(judge(&stranger.sign_claims(&good).unwrap()), AuthError::Signature);

    // The public key as the secret of a symmetric algorithm: the classic confusion.
    let secret = EncodingKey::from_secret(setup.signer.public_key_pem().as_bytes());
    let confused = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &good, &secret).unwrap();
    assert_eq!(judge(&confused), AuthError::Algorithm);

    let signed = setup.signer.sign_claims(&good).unwrap();
    let (rest, signature) = signed.rsplit_once('.').unwrap();
    let (_, body) = rest.split_once('.').unwrap();
    // {"alg":"none"}
    assert_eq!(
        judge(&format!("eyJhbGciOiJub25lIn0.{body}.")),
        AuthError::Malformed
    );
    assert_eq!(judge(&format!("{rest}.")), AuthError::Signature);
    let mut flipped: Vec<char> = signature.chars().collect();
    flipped[3] = if flipped[3] == 'A' { 'B' } else { 'A' };
    assert_eq!(
        judge(&format!("{rest}.{}", flipped.iter().collect::<String>())),
        AuthError::Signature
    );
    for rubbish in ["", ".", "..", "a.b.c", "not a token", rest] {
        assert_eq!(judge(rubbish), AuthError::Malformed, "{rubbish:?}");
    }
    assert_eq!(judge(&"x".repeat(MAX_TOKEN_BYTES + 1)), AuthError::TooLong);
}

#[test]
fn errors_never_repeat_the_token() {
    let setup = setup();
    let token = setup
        .signer
        .sign(&subject(), now() - Duration::from_secs(7200))
        .unwrap();
    let error = setup.authenticator.authenticate_at(&token, now()).unwrap_err();
    assert_eq!(error, AuthError::Expired);
    let signature = token.rsplit('.').next().unwrap();
    assert!(!error.to_string().contains(signature));
    assert_eq!(error.code(), "token_expired");
}

#[test]
fn keys_are_rotated_by_the_file() {
    let setup = setup();
    let old = setup.signer.sign(&subject(), now()).unwrap();
    let next = TokenSigner::load_or_create(&setup.directory.path().join("next.pem")).unwrap();
    let new = next.with_key_id("second").sign(&subject(), now()).unwrap();
    let judge = |token: &str| setup.authenticator.authenticate_at(token, now());
    assert_eq!(judge(&new).unwrap_err(), AuthError::Signature);

    let next = TokenSigner::load_or_create(&setup.directory.path().join("next.pem")).unwrap();
    fs::write(
        &setup.keys,
        format!("{}{}", setup.signer.public_key_pem(), next.public_key_pem()),
    )
    .unwrap();
    assert!(judge(&old).is_ok());
    assert!(judge(&new).is_ok());

    // Whatever befalls the file, the last good keys stay.
    fs::write(&setup.keys, "rubbish").unwrap();
    assert!(judge(&new).is_ok());
    fs::remove_file(&setup.keys).unwrap();
    assert!(judge(&old).is_ok());

    fs::write(&setup.keys, next.public_key_pem()).unwrap();
    assert_eq!(judge(&old).unwrap_err(), AuthError::Signature);
    assert!(judge(&new).is_ok());
}

#[test]
fn a_file_without_usable_keys_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys.pem");
    let open = || JwtAuthenticator::new(&file, "i", "a").err().unwrap().to_string();
    assert!(open().contains("keys.pem"));
    fs::write(&file, "").unwrap();
    assert!(open().contains("PUBLIC KEY"));
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    fs::write(&file, p384.public_key_pem()).unwrap();
    assert!(open().contains("P-256"));
}

#[test]
fn the_signers_key_is_kept_and_guarded() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key.pem");
    let first = TokenSigner::load_or_create(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let second = TokenSigner::load_or_create(&file).unwrap();
    assert_eq!(first.public_key_pem(), second.public_key_pem());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(TokenSigner::load_or_create(&file).is_err());
}
