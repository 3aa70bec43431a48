use super::*;

#[test]
fn what_is_no_list_is_refused_and_said_so() {
    let parse = |texts: &[&[u8]]| RevocationLists::parse(texts.iter().copied()).err();
    assert_eq!(parse(&[]), Some(RevocationError::Empty));
    assert_eq!(parse(&[b" \n"]), Some(RevocationError::Empty));
    let certificate = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cut = b"-----BEGIN X509 CRL-----\nAAAA\n";
    for text in [&b"no list"[..], certificate, cut, &[0x30, 0x82, 0xff, 0xff, 0]] {
        let error = parse(&[text]).unwrap();
        let said = error.to_string();
        assert!(
            matches!(error, RevocationError::Malformed(_) | RevocationError::Empty),
            "{said}"
        );
    }
    let long = vec![b'x'; MAX_REVOCATION_BYTES + 1];
    assert_eq!(parse(&[&long]), Some(RevocationError::TooLong(long.len())));
}
