use tonic::metadata::{MetadataMap, MetadataValue};

use super::{AuthError, MAX_TOKEN_BYTES, bearer_token};

fn metadata(values: &[&str]) -> MetadataMap {
    let mut map = MetadataMap::new();
    for value in values {
        map.append("authorization", MetadataValue::try_from(*value).unwrap());
    }
    map
}

#[test]
fn exactly_one_bearer_token_is_taken() {
    for good in ["Bearer abc", "bearer abc", "BEARER  abc "] {
        assert_eq!(bearer_token(&metadata(&[good])), Ok("abc"), "{good}");
    }
    let long = format!("Bearer {}", "x".repeat(MAX_TOKEN_BYTES + 1));
    for (values, expected) in [
        (&[][..], AuthError::NoToken),
        (&["Bearer"], AuthError::NoToken),
        (&["Bearer "], AuthError::NoToken),
        (&["Basic abc"], AuthError::NoToken),
        (&["abc"], AuthError::NoToken),
        (&["Bearer a", "Bearer b"], AuthError::SeveralTokens),
        (&[&long], AuthError::TooLong),
    ] {
        assert_eq!(bearer_token(&metadata(values)), Err(expected), "{values:?}");
    }
}

#[test]
fn a_caller_has_an_identity_only_if_its_names_can_be_part_of_one() {
    let caller = |account: &str| super::Caller {
        namespace: "demo".to_owned(),
        service_account: account.to_owned(),
        pod_name: "p".to_owned(),
        pod_uid: "u".to_owned(),
        node: "n".to_owned(),
    };
    let identity = caller("web").identity("cluster.local").unwrap();
    assert_eq!(identity.to_string(), "spiffe://cluster.local/ns/demo/sa/web");
    assert_eq!(caller("web/sa/admin").identity("cluster.local"), None);
}
