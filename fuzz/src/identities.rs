//! SPIFFE ids, as certificates and signing requests carry them.

use mesh::{Identity, MAX_SPIFFE_ID_LENGTH};

pub(crate) fn spiffe_id(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    let Ok(identity) = text.parse::<Identity>() else {
        return false;
    };
    // One text, one identity: nothing is normalized away, or two texts would be one caller.
    assert_eq!(identity.to_string(), text);
    assert!(text.len() <= MAX_SPIFFE_ID_LENGTH);
    assert_eq!(text.strip_prefix("spiffe://"), Some(&*identity.principal()));
    let parts = Identity::try_new(
        identity.trust_domain(),
        identity.namespace(),
        identity.service_account(),
    );
    assert_eq!(parts.as_ref(), Ok(&identity));
    true
}
