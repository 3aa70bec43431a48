use super::*;
use ca::Authority;
use mesh::Identity;
use std::time::{Duration, SystemTime};
use tls::{CompliancePolicy, ConfigCache, KeyAndRequest, WorkloadCertificate};

fn authority() -> Authority {
    let directory = tempfile::tempdir().unwrap();
    Authority::load_or_create(directory.path(), SystemTime::now()).unwrap()
}

fn certificate(authority: &Authority, account: &str) -> WorkloadCertificate {
    let identity = Identity::new("cluster.local", "shop", account);
    let KeyAndRequest { key, request_pem } = KeyAndRequest::generate(&identity).unwrap();
    let life = Duration::from_secs(3600);
    let signed = authority.sign(&request_pem, &identity, life, SystemTime::now());
    WorkloadCertificate::from_pem(&signed.unwrap().chain, &key, &identity).unwrap()
}

/// Who a server with `trust` sees.
async fn meet(authority: &Authority, trust: &Trust) -> Peer {
    let (a, b) = (certificate(authority, "a"), certificate(authority, "b"));
    let client = ConfigCache::new().client(&a, &[b.identity().clone()]);
    let server = ConfigCache::with(trust.clone(), CompliancePolicy::None).server(&b);
    let (one, other) = tokio::io::duplex(1 << 16);
    let (_client, server) = tokio::join!(tls::connect(one, &client), tls::accept(other, &server));
    server.unwrap().1
}

#[tokio::test]
async fn a_tunnel_whose_peer_is_no_longer_trusted_is_found_and_told() {
    let (authority, other) = (authority(), authority());
    let (trust, tunnels) = (Trust::default(), Tunnels::default());
    let peer = meet(&authority, &trust).await;
    let open = tunnels.enter(Reporter::Destination, peer, &trust).unwrap();
    assert!(tunnels.untrusted(&trust).is_empty());
    trust.set_roots(certificate(&authority, "x").roots().clone());
    assert!(tunnels.untrusted(&trust).is_empty());
    trust.set_roots(certificate(&other, "x").roots().clone());
    let untrusted = tunnels.untrusted(&trust);
    assert_eq!(untrusted.len(), 1);
    assert_eq!(untrusted[0].id, open.id());
    assert_eq!(untrusted[0].peer.identity.service_account(), "a");
    untrusted[0].close();
    assert_eq!(open.untrusted().await, HandshakeError::UntrustedIssuer);
    drop(open);
    assert_eq!(tunnels.len(), 0);
}

#[tokio::test]
async fn a_change_between_handshake_and_entry_is_not_missed() {
    let (authority, other) = (authority(), authority());
    let (trust, tunnels) = (Trust::default(), Tunnels::default());
    let peer = meet(&authority, &trust).await;
    trust.set_roots(certificate(&other, "x").roots().clone());
    let error = tunnels.enter(Reporter::Source, peer, &trust).unwrap_err();
    assert_eq!(error, HandshakeError::UntrustedIssuer);
    assert_eq!(tunnels.len(), 0);
}
