use super::{MAX_TOKEN_BYTES, Token, TokenError};

#[tokio::test]
async fn a_file_is_trimmed_and_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("istio-token");
    let token = Token::File(path.clone());
    let error = token.authorization().await.unwrap_err();
    assert!(matches!(error, TokenError::Read { .. }));
    assert!(error.to_string().contains("istio-token") && error.to_string().contains("audience"));
    std::fs::write(&path, " abc.def.ghi \n").unwrap();
    let value = token.authorization().await.unwrap().unwrap();
    assert_eq!(value, "Bearer abc.def.ghi");
    assert!(value.is_sensitive());
    for bad in [
        String::new(),
        "\n".to_owned(),
        "x".repeat(MAX_TOKEN_BYTES as usize + 1),
        "a\nb".to_owned(),
    ] {
        std::fs::write(&path, &bad).unwrap();
        let error = token.authorization().await.unwrap_err();
        assert!(matches!(error, TokenError::Unusable { .. }));
        assert!(error.to_string().len() < 300, "the token is never shown");
    }
}

#[tokio::test]
async fn the_other_forms() {
    assert_eq!(Token::None.authorization().await.unwrap(), None);
    let inline = Token::Inline("abc".to_owned());
    assert_eq!(inline.authorization().await.unwrap().unwrap(), "Bearer abc");
    assert!(!format!("{inline:?}").contains("abc"));
    assert!(matches!(Token::from_setting("./var/run/token"), Token::File(_)));
    assert!(matches!(Token::from_setting("eyJh.eyJp.c2ln"), Token::Inline(_)));
    assert!(matches!(Token::from_setting(""), Token::None));
}
