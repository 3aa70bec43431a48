use tls::server_auth::RootSource;

use super::{ChannelConfig, ConfigError, MAX_HEADERS};

fn config(address: &str) -> ChannelConfig {
    ChannelConfig::new(address, RootSource::System)
}

#[tokio::test]
async fn addresses() {
    for good in [
        "https://istiod.istio-system.svc:15012",
        "istiod.istio-system.svc:15012",
        "https://istiod.istio-system.svc",
        "https://10.0.0.1:15012",
        "https://[fd00::1]:15012",
    ] {
        assert!(config(good).channel().is_ok(), "{good}");
    }
    for bad in ["", "http://x:1", "https://", "unix:///x", "https://a b"] {
        let error = config(bad).channel().err().unwrap();
        assert!(matches!(error, ConfigError::Address { .. }), "{bad}: {error}");
        assert!(error.to_string().contains("https://HOST:PORT"));
    }
}

#[tokio::test]
async fn headers_are_checked_and_bounded_without_showing_their_values() {
    let mut bad = config("https://x");
    bad.headers = vec![("x-secret".to_owned(), "top\nsecret".to_owned())];
    let error = bad.channel().err().unwrap();
    assert_eq!(error, ConfigError::Header("x-secret".to_owned()));
    assert!(!error.to_string().contains("top"));
    let mut many = config("https://x");
    many.headers = vec![("x".to_owned(), "y".to_owned()); MAX_HEADERS + 1];
    assert!(matches!(
        many.channel().err().unwrap(),
        ConfigError::TooManyHeaders(_)
    ));
    let mut good = config("https://x");
    good.cluster_id = "Kubernetes".to_owned();
    good.headers = vec![
        ("x-a".to_owned(), "1".to_owned()),
        ("x-a".to_owned(), "2".to_owned()),
    ];
    let map = good.header_map().unwrap();
    assert_eq!(map.get("clusterid").unwrap(), "Kubernetes");
    assert_eq!(map.get_all("x-a").iter().count(), 2);
}
