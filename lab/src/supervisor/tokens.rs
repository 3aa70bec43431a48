//! Tokens by which node proxies prove who they are, as the kubelet would project them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ca::{Caller, TokenSigner, TokenSubject};
use object_store::Directory;
use objects::{Kind, ObjectKey};

use super::mesh::{CONTROL_PLANE_ACCOUNT, NODE_AGENT_ACCOUNT, SYSTEM_NAMESPACE, TOKEN_ISSUER, proxy_pod};
use crate::error::{LabError, other};
use crate::layout::Layout;
use crate::network::Network;

/// How long a token lives; it is renewed at half life.
const LIFE: Duration = Duration::from_secs(3600);
const AUDIENCE: &str = "istio-ca";
const ACCOUNT: &str = "ztunnel";
/// How long the control plane may take to make its root.
const ROOT_WITHIN: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// The tokens of all node proxies.
pub(super) struct Tokens {
    signer: TokenSigner,
    /// Where each goes, and whose it is.
    tokens: Vec<(PathBuf, TokenSubject)>,
}

impl Tokens {
    /// Makes the signing key, writes its public half for the control plane, and the first tokens.
    pub(super) async fn new(
        layout: &Layout,
        store: &Directory,
        network: &Network,
        kubernetes: bool,
    ) -> Result<Tokens, LabError> {
        let signer = TokenSigner::load_or_create(&layout.token_signing_key())
            .map_err(other("making the key for tokens"))?;
        write_secret(&layout.token_keys(), signer.public_key_pem())?;
        let mut tokens = Vec::new();
        // Where there is an API server, it looks at what a token is bound to.
        let proxies_account = if kubernetes {
            account(store, ACCOUNT).await?
        } else {
            String::new()
        };
        if kubernetes {
            for name in [CONTROL_PLANE_ACCOUNT, NODE_AGENT_ACCOUNT] {
                let subject = TokenSubject {
                    issuer: TOKEN_ISSUER.to_owned(),
                    audience: kube_api::SERVER_AUDIENCE.to_owned(),
                    caller: Caller {
                        namespace: SYSTEM_NAMESPACE.to_owned(),
                        service_account: name.to_owned(),
                        pod_name: String::new(),
                        pod_uid: String::new(),
                        node: String::new(),
                    },
                    service_account_uid: account(store, name).await?,
                    node_uid: String::new(),
                    ttl: LIFE,
                };
                tokens.push((layout.kube_token(name), subject));
            }
        }
        for node in &network.nodes {
            let name = &node.plan.name;
            let pod = uid(
                store,
                ObjectKey::new(Kind::Pod, SYSTEM_NAMESPACE, &proxy_pod(name)),
            )
            .await?;
            let node_uid = uid(store, ObjectKey::new(Kind::Node, "", name)).await?;
            let caller = Caller {
                namespace: SYSTEM_NAMESPACE.to_owned(),
                service_account: ACCOUNT.to_owned(),
                pod_name: proxy_pod(name),
                pod_uid: pod,
                node: name.clone(),
            };
            let subject = TokenSubject {
                issuer: TOKEN_ISSUER.to_owned(),
                audience: AUDIENCE.to_owned(),
                caller,
                service_account_uid: proxies_account.clone(),
                node_uid,
                ttl: LIFE,
            };
            tokens.push((layout.token(name), subject));
        }
        let tokens = Tokens { signer, tokens };
        tokens.write()?;
        Ok(tokens)
    }

    /// Writes new tokens at half life, for ever.
    pub(super) async fn renew_for_ever(self) {
        let mut wait = LIFE / 2;
        loop {
            tokio::time::sleep(wait).await;
            wait = match self.write() {
                Ok(()) => LIFE / 2,
                Err(error) => {
                    tracing::error!(%error, "tokens cannot be renewed; trying again");
                    LIFE / 20
                }
            };
        }
    }

    fn write(&self) -> Result<(), LabError> {
        for (path, subject) in &self.tokens {
            let token = self
                .signer
                .sign(subject, SystemTime::now())
                .map_err(other("signing a token"))?;
            write_secret(path, &token)?;
        }
        Ok(())
    }
}

/// Waits for the control plane's root certificate.
pub(super) async fn wait_for_root(layout: &Layout) -> Result<PathBuf, LabError> {
    let path = layout.mesh_roots();
    let deadline = tokio::time::Instant::now() + ROOT_WITHIN;
    while !path.exists() {
        if tokio::time::Instant::now() > deadline {
            return Err(LabError::Failed(format!(
                "the control plane has made no root certificate within {ROOT_WITHIN:?}{}",
                crate::logs::tail(&layout.log("control-plane"))
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(path)
}

async fn account(store: &Directory, name: &str) -> Result<String, LabError> {
    uid(
        store,
        ObjectKey::new(Kind::ServiceAccount, SYSTEM_NAMESPACE, name),
    )
    .await
}

async fn uid(store: &Directory, key: ObjectKey) -> Result<String, LabError> {
    let (store, wanted) = (store.clone(), key.clone());
    let found = tokio::task::spawn_blocking(move || store.get(&wanted)).await;
    let found = found
        .map_err(other("reading the objects"))?
        .map_err(other("reading the objects"))?;
    found
        .map(|object| object.metadata.uid.clone())
        .ok_or_else(|| LabError::Failed(format!("{key} is not in the store though the lab wrote it")))
}

/// Readable by its owner alone, and never half there.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<(), LabError> {
    let doing = || format!("writing {}", path.display());
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(LabError::system(doing()))?;
    file.write_all(text.as_bytes())
        .map_err(LabError::system(doing()))?;
    fs::rename(&fresh, path).map_err(LabError::system(doing()))
}
