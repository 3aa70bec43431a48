//! Runs the server by hand: prints where, writes a kubeconfig to the file that is named, and serves until killed.
//!
//! `cargo run -p kube-api --example serve -- /tmp/kubeconfig`, then `KUBECONFIG=/tmp/kubeconfig kubectl get ns`.

use kube_api::{ApiServer, Options};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let server = ApiServer::start(Options::default()).await?;
    println!("{}", server.url());
    if let Some(file) = std::env::args().nth(1) {
        std::fs::write(file, server.kubeconfig())?;
    }
    std::future::pending().await
}
