//! Runs the server by hand: prints where, writes a kubeconfig to the file that is named, and serves until killed.
//!
//! `cargo run -p kube-api --example serve -- /tmp/kubeconfig`, then `KUBECONFIG=/tmp/kubeconfig kubectl get ns`.
//!
//! With an address, `/tmp/kubeconfig 127.0.0.1:6443`, it serves there, over TLS and to holders of its tokens only, as a
//! cluster's does.

use std::error::Error;
use std::fs;
use std::net::SocketAddr;

use kube_api::{ApiServer, Options};
use tls::PrivateKey;
use tls::server_auth::{Acceptor, ServerIdentity};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = match arguments.as_slice() {
        [] | [_] => Options::default(),
        [_, address] => as_in_a_cluster(address.parse()?)?,
        _ => return Err("usage: serve [KUBECONFIG [ADDRESS:PORT]]".into()),
    };
    let server = ApiServer::start(options).await?;
    if let Some(file) = arguments.first() {
        fs::write(file, server.kubeconfig())?;
    }
    println!("{}", server.url());
    std::future::pending().await
}

/// With a certificate of its own that nobody else has issued.
fn as_in_a_cluster(address: SocketAddr) -> Result<Options, Box<dyn Error>> {
    let key = rcgen::KeyPair::generate()?;
    let names = vec![address.ip().to_string(), "kubernetes.default.svc".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)?.self_signed(&key)?;
    let private = PrivateKey::from_pkcs8(key.serialize_der());
    let identity = ServerIdentity::from_pem(&certificate.pem(), &private)?.with_http1();
    Ok(Options {
        address,
        kubelet: true,
        require_token: true,
        tls: Some(Acceptor::new(identity)),
        authority_pem: certificate.pem(),
        ..Options::default()
    })
}
