//! What reads bytes of others in this crate and is not public, as functions of bytes for the fuzz targets. Each returns
//! whether the bytes were accepted, and panics where something does not hold that must.

mod discovery;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::SystemTime;

use ca::KeyAndCertificate;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::TokenReviewStatus;

use crate::kubernetes::{secret, token_review};

pub use discovery::discovery_stream;

/// The status of a TokenReview, as JSON.
pub fn token_review(input: &[u8]) -> bool {
    const AUDIENCE: &str = "istio-ca";
    let Ok(status) = serde_json::from_slice::<TokenReviewStatus>(input) else {
        return false;
    };
    let username = status.user.as_ref().and_then(|user| user.username.clone());
    let audiences = status.audiences.clone().unwrap_or_default();
    let authenticated = status.authenticated;
    let Ok(caller) = token_review::judge(status, "header.payload.signature", AUDIENCE) else {
        return false;
    };
    assert_eq!(authenticated, Some(true));
    assert!(audiences.iter().any(|audience| audience == AUDIENCE));
    let expected = format!(
        "system:serviceaccount:{}:{}",
        caller.namespace, caller.service_account
    );
    assert_eq!(username, Some(expected), "the caller is whom the API names");
    assert!(!caller.pod_name.is_empty() && !caller.pod_uid.is_empty());
    true
}

/// A token that nobody has verified.
pub fn unverified_token(input: &[u8]) -> bool {
    let Ok(token) = std::str::from_utf8(input) else {
        return false;
    };
    let Some(claims) = token_review::claims::peek(token) else {
        return false;
    };
    if let Some(end) = claims.expires {
        assert!(end >= SystemTime::UNIX_EPOCH);
    }
    claims.is_for("istio-ca")
}

/// The Secret of an authority, in [`parts`]. What can be read is written again the same.
pub fn authority_secret(input: &[u8]) -> bool {
    let data = parts(input)
        .into_iter()
        .map(|(name, value)| (name, ByteString(value)));
    let data: BTreeMap<String, ByteString> = data.collect();
    let Ok(stored) = secret::read_out(Some(&data)) else {
        return false;
    };
    let mut written = BTreeMap::new();
    secret::fill(&mut written, &stored);
    assert!(secret::read_out(Some(&written)).is_ok_and(|again| again == stored));
    if let Some(state) = &stored.rotation
        && let Ok(state) = ca::rotation::RotationState::from_text(state)
    {
        state.age(SystemTime::now());
        let again = ca::rotation::RotationState::from_text(&state.to_text());
        assert_eq!(again, Ok(state));
    }
    ca::Material::of_stored(&stored, SystemTime::now()).is_ok()
}

/// Parts by name: `NAME\n`, the value, a zero byte, and so on. In values `@certificate` and `@key` stand for a root and
/// its key, which are made anew for each process: so no key lies in a corpus, and none expires there.
pub fn parts(input: &[u8]) -> BTreeMap<String, Vec<u8>> {
    static ROOT: OnceLock<KeyAndCertificate> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        let root = KeyAndCertificate::generate_root(SystemTime::now(), ca::ROOT_LIFE);
        root.unwrap_or_else(|error| panic!("no root can be made: {error}"))
    });
    let parts = input.split(|byte| *byte == 0).filter_map(|part| {
        let end = part.iter().position(|byte| *byte == b'\n')?;
        let name = String::from_utf8_lossy(&part[..end]).into_owned();
        let value = match std::str::from_utf8(&part[end + 1..]) {
            Ok(text) => text
                .replace("@certificate", &root.certificate)
                .replace("@key", &root.key)
                .into_bytes(),
            Err(_) => part[end + 1..].to_vec(),
        };
        Some((name, value))
    });
    parts.collect()
}
