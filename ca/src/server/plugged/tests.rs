use super::{Plugged, PluggedError};
use crate::server::testing::{TestCa, Wish, now, parts};

#[test]
fn both_layouts_are_read() {
    let root = TestCa::new("root", None, Wish::default());
    let middle = TestCa::new("middle", Some(&root), Wish::default());
    let issuing = TestCa::new("issuing", Some(&middle), Wish::default());
    let (key, both) = (issuing.key_pem(), format!("{}{}", issuing.pem, middle.pem));
    let istio = parts(&[
        ("ca-cert.pem", &issuing.pem),
        ("ca-key.pem", &key),
        ("cert-chain.pem", &both),
        ("root-cert.pem", &root.pem),
        ("something.else", "is not looked at"),
    ]);
    let manager = parts(&[("tls.crt", &both), ("tls.key", &key), ("ca.crt", &root.pem)]);
    for layout in [&istio, &manager] {
        let plugged = Plugged::from_parts(layout, "", now()).ok().unwrap();
        assert_eq!(plugged.material.intermediates().len(), 2);
        assert_eq!(plugged.material.roots().len(), 1);
        assert!(plugged.revocation_list.is_none());
    }
}

#[test]
fn what_is_missing_is_named() {
    let root = TestCa::new("root", None, Wish::default());
    let key = root.key_pem();
    let all = [
        ("ca-cert.pem", root.pem.as_str()),
        ("ca-key.pem", &key),
        ("cert-chain.pem", ""),
        ("root-cert.pem", &root.pem),
    ];
    assert!(Plugged::from_parts(&parts(&all), "", now()).is_ok());
    for left_out in 0..all.len() {
        let mut some = all.to_vec();
        let (name, _) = some.remove(left_out);
        let error = Plugged::from_parts(&parts(&some), "", now()).err().unwrap();
        assert!(
            matches!(error, PluggedError::Incomplete { missing, .. } if missing == name),
            "{error}"
        );
    }
    let error = Plugged::from_parts(&parts(&[("tls.crt", &root.pem)]), "", now())
        .err()
        .unwrap();
    assert!(error.to_string().contains("tls.key is missing"), "{error}");
    let nothing = Plugged::from_parts(&parts(&[("other", "x")]), "", now())
        .err()
        .unwrap();
    assert_eq!(nothing, PluggedError::Nothing);
    let mut binary = parts(&all);
    binary.insert(
        "root-cert.pem".to_owned(),
        zeroize::Zeroizing::new(vec![0xff, 0xfe]),
    );
    let error = Plugged::from_parts(&binary, "", now()).err().unwrap();
    assert_eq!(
        error,
        PluggedError::NotText {
            part: "root-cert.pem"
        }
    );
    let mut list = parts(&all);
    list.insert(
        "ca-crl.pem".to_owned(),
        zeroize::Zeroizing::new(b"rubbish".to_vec()),
    );
    assert_eq!(
        Plugged::from_parts(&list, "", now()).err().unwrap(),
        PluggedError::RevocationList
    );
}
