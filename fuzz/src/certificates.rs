//! Signing requests, certificates, and the handshake before any of them is believed.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use ca::Authority;
use mesh::Identity;
use tls::{ClientConfig, ConfigCache, PrivateKey, ServerConfig, WorkloadCertificate};
use tokio::io::{join, sink};

use crate::tunnels::{Sent, run};

struct Own {
    authority: Authority,
    identity: Identity,
    key: PrivateKey,
    server: ServerConfig,
    client: ClientConfig,
}

/// An authority and a certificate of it, made once.
fn own() -> &'static Own {
    static OWN: OnceLock<Own> = OnceLock::new();
    OWN.get_or_init(|| {
        let now = SystemTime::now();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::load_or_create(directory.path(), now).expect("a root");
        let identity = Identity::new("cluster.local", "default", "own");
        let request = tls::KeyAndRequest::generate(&identity).expect("a key");
        let issued = authority
            .sign(&request.request_pem, &identity, Duration::from_secs(3600), now)
            .expect("a good request is signed");
        let certificate = WorkloadCertificate::from_pem(&issued.chain, &request.key, &identity)
            .expect("a good certificate is accepted");
        let configs = ConfigCache::new();
        Own {
            server: configs.server(&certificate),
            client: configs.client(&certificate, std::slice::from_ref(&identity)),
            authority,
            identity,
            key: request.key,
        }
    })
}

/// A signing request: whatever it says, what is signed names the identity that the authority was told.
pub(crate) fn request(input: &[u8]) -> bool {
    let Ok(pem) = std::str::from_utf8(input) else {
        return false;
    };
    let own = own();
    let life = Duration::from_secs(60);
    let signed = own.authority.sign(pem, &own.identity, life, SystemTime::now());
    signed.is_ok()
}

/// What an authority may answer instead of a certificate: never accepted, as it is not for our key.
pub(crate) fn chain(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    let chain: Vec<String> = text.split("\n\n").map(str::to_owned).collect();
    let own = own();
    WorkloadCertificate::from_pem(&chain, &own.key, &own.identity).is_ok()
}

/// A file of revocation lists.
pub(crate) fn revocation_list(input: &[u8]) -> bool {
    match tls::RevocationLists::parse([input]) {
        Ok(lists) => {
            assert!(!lists.is_empty(), "no list is an error, not an empty set");
            true
        }
        Err(_) => false,
    }
}

/// Bytes of a client that has proven nothing yet.
pub(crate) fn server(input: &[u8]) -> bool {
    run(async {
        tls::accept(join(Sent::new(input), sink()), &own().server)
            .await
            .is_ok()
    })
}

/// Bytes of a server that has proven nothing yet.
pub(crate) fn client(input: &[u8]) -> bool {
    run(async {
        tls::connect(join(Sent::new(input), sink()), &own().client)
            .await
            .is_ok()
    })
}
