use super::{Caller, QuestionError, Target};

#[test]
fn every_form_is_read_and_written_the_same() {
    let callers = [
        "shop/web-0",
        "sa:shop/web",
        "sa:shop/web@10.1.2.3",
        "sa:shop/web@2001:db8::1",
        "plaintext:10.1.2.3",
        "plaintext:2001:db8::1",
    ];
    for text in callers {
        assert_eq!(
            text.parse::<Caller>().map(|caller| caller.to_string()),
            Ok(text.to_owned())
        );
    }
    for text in ["shop/web-0:80", "service:shop/web:8080", "shop/web.v1:65535"] {
        assert_eq!(
            text.parse::<Target>().map(|target| target.to_string()),
            Ok(text.to_owned())
        );
    }
}

#[test]
fn the_ipv6_form_of_an_ipv4_address_is_that_address() {
    assert_eq!(
        "plaintext:::ffff:10.0.0.1".parse(),
        Ok(Caller::Plaintext([10, 0, 0, 1].into()))
    );
}

#[test]
fn what_is_wrong_is_named() {
    for text in [
        "",
        "web",
        "a/b/c",
        "sa:web",
        "service:a/b:80",
        "a/b:80",
        "plain:1.2.3.4",
        "sa:a/b:c",
    ] {
        assert_eq!(
            text.parse::<Caller>(),
            Err(QuestionError::Caller(text.to_owned())),
            "{text}"
        );
    }
    for text in ["", "web:80", "a/b", "sa:a/b:80", "service:web:80", "a/b/c:80"] {
        assert_eq!(
            text.parse::<Target>(),
            Err(QuestionError::Target(text.to_owned())),
            "{text}"
        );
    }
    for text in [
        "plaintext:",
        "plaintext:10.0.0",
        "plaintext:0.0.0.0",
        "sa:a/b@",
        "sa:a/b@x",
        "sa:a/b@::",
    ] {
        assert!(
            matches!(text.parse::<Caller>(), Err(QuestionError::Address { .. })),
            "{text}"
        );
    }
    for text in [
        "a/b:0",
        "a/b:65536",
        "a/b:http",
        "a/b:",
        "a/b:080",
        "service:a/b:-1",
    ] {
        assert!(
            matches!(text.parse::<Target>(), Err(QuestionError::Port { .. })),
            "{text}"
        );
    }
    for text in ["A/b", "a/", "/b", "a/b_c", "a/-b", "a/b..c"] {
        assert!(
            matches!(text.parse::<Caller>(), Err(QuestionError::Name { .. })),
            "{text}"
        );
    }
}

#[test]
fn other_forms_are_answered_with_what_may_be_meant() {
    let caller = |text: &str| text.parse::<Caller>().unwrap_err().to_string();
    for (text, meant) in [
        ("spiffe://cluster.local/ns/shop/sa/web", "sa:shop/web"),
        ("cluster.local/ns/shop/sa/web", "sa:shop/web"),
        ("serviceaccount:shop/web", "sa:shop/web"),
        ("pod:shop/web-0", "shop/web-0"),
        ("pod/shop/web-0", "shop/web-0"),
        ("shop/web-0:80", "shop/web-0"),
        ("10.0.0.1", "plaintext:10.0.0.1"),
    ] {
        let told = caller(text);
        assert!(
            told.ends_with(&format!("plaintext:IP; did you mean {meant}?")),
            "{told}"
        );
    }
    let target = |text: &str| text.parse::<Target>().unwrap_err().to_string();
    for (text, meant) in [
        ("svc:shop/web:80", "service:shop/web:80"),
        ("service/shop/web:80", "service:shop/web:80"),
        ("web.shop:80", "service:shop/web:80"),
        ("service:web.shop:80", "service:shop/web:80"),
        ("web.shop.svc.cluster.local:80", "service:shop/web:80"),
        ("pod/shop/web-0:80", "shop/web-0:80"),
    ] {
        let told = target(text);
        assert!(
            told.ends_with(&format!("/NAME:PORT; did you mean {meant}?")),
            "{told}"
        );
    }
    for text in ["", "web", "0.0.0.0", "spiffe://a/b", "a/b/c/d/e", "sa:web"] {
        assert!(!caller(text).contains("did you mean"), "{text}");
    }
    for text in [
        "",
        "web:80",
        "a/b",
        "www.example.com:80",
        "deployment/a/b:80",
        "10.0.0.1:80",
    ] {
        assert!(!target(text).contains("did you mean"), "{text}");
    }
}
