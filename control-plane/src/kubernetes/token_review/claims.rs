//! What a token says of itself, before anybody has verified it: good for refusing it without a request, and for
//! keeping an answer no longer than the token lives. Never for accepting it.

use std::time::{Duration, SystemTime};

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

/// Claims that nobody has verified.
pub(crate) struct Unverified {
    audiences: Vec<String>,
    pub(crate) expires: Option<SystemTime>,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    aud: Option<Audiences>,
    #[serde(default)]
    exp: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

/// The claims of a token of three parts; nothing for what is no JSON Web Token (RFC 7519).
pub(crate) fn peek(token: &str) -> Option<Unverified> {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let payload = BASE64URL_NOPAD.decode(payload.as_bytes()).ok()?;
    let payload: Payload = serde_json::from_slice(&payload).ok()?;
    let seconds = payload.exp.filter(|seconds| (0.0..1e12).contains(seconds));
    Some(Unverified {
        audiences: match payload.aud {
            None => Vec::new(),
            Some(Audiences::One(audience)) => vec![audience],
            Some(Audiences::Several(audiences)) => audiences,
        },
        expires: seconds.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds)),
    })
}

impl Unverified {
    pub(crate) fn is_for(&self, audience: &str) -> bool {
        self.audiences.iter().any(|given| given == audience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", BASE64URL_NOPAD.encode(payload.as_bytes()))
    }

    #[test]
    fn claims_are_read_as_they_come() {
        let one = peek(&token(r#"{"aud":"istio-ca","exp":1000}"#)).unwrap();
        assert!(one.is_for("istio-ca") && !one.is_for("istio"));
        assert_eq!(
            one.expires,
            Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1000))
        );
        let several = peek(&token(r#"{"aud":["a","istio-ca"],"exp":1e300,"iss":"x"}"#)).unwrap();
        assert!(several.is_for("istio-ca") && several.expires.is_none());
        let none = peek(&token("{}")).unwrap();
        assert!(!none.is_for("istio-ca") && none.expires.is_none());
        for bad in [
            "",
            "a.b",
            "a.b.c.d",
            "e30.!.x",
            &token("1"),
            &token(r#"{"aud":1}"#),
        ] {
            assert!(peek(bad).is_none(), "{bad}");
        }
    }
}
