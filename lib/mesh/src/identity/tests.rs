use proptest::prelude::*;

use super::*;

#[test]
fn reads_and_writes_the_five_segments() {
    let identity: Identity = "spiffe://cluster.local/ns/shop/sa/cart_v-2.x".parse().unwrap();
    assert_eq!(identity.trust_domain(), "cluster.local");
    assert_eq!(identity.namespace(), "shop");
    assert_eq!(identity.service_account(), "cart_v-2.x");
    assert_eq!(
        identity.to_string(),
        "spiffe://cluster.local/ns/shop/sa/cart_v-2.x"
    );
    assert_eq!(identity.principal(), "cluster.local/ns/shop/sa/cart_v-2.x");
    assert_eq!(identity, Identity::new("cluster.local", "shop", "cart_v-2.x"));
}

#[test]
fn refuses_what_is_no_workload_identity() {
    let long = format!("spiffe://td/ns/x/sa/{}", "y".repeat(MAX_SPIFFE_ID_LENGTH));
    let long_domain = format!("spiffe://{}/ns/x/sa/y", "d".repeat(MAX_TRUST_DOMAIN_LENGTH + 1));
    let bad = [
        "",
        "spiffe://",
        "spiffe://td",
        "spiffe://td/ns/x",
        "spiffe://td/ns/x/sa",
        "spiffe://td/ns/x/sa/",
        "spiffe://td/ns/x/sa/y/",
        "spiffe://td/ns/x/sa/y/z",
        "spiffe://td//ns/x/sa/y",
        "spiffe:///ns/x/sa/y",
        "spiffe://td/ns//sa/y",
        "spiffe://td/sa/x/ns/y",
        "spiffe://td/NS/x/sa/y",
        "spiffe://td/ns/../sa/y",
        "spiffe://td/ns/x/sa/.",
        "SPIFFE://td/ns/x/sa/y",
        "https://td/ns/x/sa/y",
        "td/ns/x/sa/y",
        "spiffe://TD/ns/x/sa/y",
        "spiffe://td:443/ns/x/sa/y",
        "spiffe://user@td/ns/x/sa/y",
        "spiffe://td/ns/x/sa/y?q",
        "spiffe://td/ns/x/sa/y#f",
        "spiffe://td/ns/x/sa/y%2f",
        "spiffe://td/ns/x/sa/y\0",
        "spiffe://td/ns/x\0/sa/y",
        "spiffe://td/ns/x/sa/y z",
        "spiffe://td/ns/x/sa/\u{fc}",
        " spiffe://td/ns/x/sa/y",
        "spiffe://td/ns/x/sa/y*",
        &long,
        &long_domain,
    ];
    for text in bad {
        assert!(text.parse::<Identity>().is_err(), "{text:?} was accepted");
    }
}

#[test]
fn the_longest_id_is_accepted() {
    let prefix = "spiffe://td/ns/x/sa/";
    let text = format!("{prefix}{}", "y".repeat(MAX_SPIFFE_ID_LENGTH - prefix.len()));
    assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
}

#[test]
fn parts_with_separators_equal_no_parsed_identity() {
    assert!(Identity::try_new("td", "x/sa/y", "z").is_err());
    assert!(Identity::try_new("td", "x", "").is_err());
    let smuggled = Identity::new("td", "x/sa/y", "z");
    assert_ne!(Some(smuggled), "spiffe://td/ns/x/sa/y".parse().ok());
}

#[test]
fn errors_name_the_part() {
    let error = |text: &str| text.parse::<Identity>().unwrap_err().to_string();
    assert!(error("spiffe://td/ns/a%b/sa/y").contains("namespace"));
    assert!(error("spiffe://tD/ns/a/sa/y").contains("trust domain"));
    assert!(error("spiffe://td/ns/a/sa/..").contains("service account"));
}

proptest! {
    /// Whatever is accepted is written back exactly: two texts never mean one identity.
    #[test]
    fn accepted_text_is_canonical(text in "(spiffe://)?[a-zA-Z./%\0 -]{0,4}(/ns/|/)[a-z./]{0,3}(/sa/|/)[a-z./%]{0,3}") {
        if let Ok(identity) = text.parse::<Identity>() {
            prop_assert_eq!(identity.to_string(), text);
        }
    }

    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        let _ = text.parse::<Identity>();
    }
}
