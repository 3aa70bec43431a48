//! The control plane's process, and that of the Kubernetes API beside it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use control_plane::Config;
use kube_source::{KubernetesStore, Wanted};
use object_store::ObjectSource;
use objects::Object;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Outcome;
use super::feed::Feed;
use super::mesh::{self, Size};
use super::process::{commands, resident, tell};

/// The name in the server's certificate.
pub(super) const SERVER_NAME: &str = "control-plane.bench";
/// Who signs the tokens.
pub(super) const TOKEN_ISSUER: &str = "bench";

/// What the control plane's process is to do.
#[derive(Clone, Debug, clap::Args)]
pub struct PlaneOptions {
    /// The mesh
    #[command(flatten)]
    pub size: Size,
    /// Where keys and sockets are
    #[arg(long)]
    pub directory: PathBuf,
    /// Read the objects from the Kubernetes API there, in place of memory
    #[arg(long)]
    pub kubernetes_url: Option<String>,
}

/// Runs a control plane. Says when it serves, and then changes pods as it is told.
pub async fn plane(options: PlaneOptions) -> Outcome<()> {
    let mut commands = commands();
    let size = options.size;
    let (source, changes): (Arc<dyn ObjectSource>, _) = match &options.kubernetes_url {
        Some(url) => {
            let server = kube_source::ApiServer::at(url, None, None)?;
            (
                Arc::new(KubernetesStore::new(server, Wanted::for_control_plane())),
                None,
            )
        }
        None => {
            let (feed, sender) = Feed::new(mesh::objects(size, false).map(read).collect::<Outcome<_>>()?);
            (Arc::new(feed), Some(sender))
        }
    };
    let before = resident("self")?;
    let begun = Instant::now();
    let running = control_plane::start(config(&options)?, source, None, CancellationToken::new()).await?;
    tell(&json!({
        "address": running.address().to_string(),
        "seconds": begun.elapsed().as_secs_f64(),
        "bytes": resident("self")?.saturating_sub(before),
    }))?;
    let mut pods = Pods {
        size,
        revisions: vec![0; size.pods as usize],
        turn: 0,
        changes,
    };
    while let Some(command) = commands.recv().await {
        let words: Vec<&str> = command.split(' ').collect();
        let answer = match words.as_slice() {
            ["change"] => {
                pods.change()?;
                json!({})
            }
            ["rate", per_second, seconds] => pods.change_often(per_second.parse()?, seconds.parse()?).await?,
            ["digest"] => json!({ "digest": pods.digest() }),
            _ => return Err(format!("an unknown command: {command}").into()),
        };
        tell(&answer)?;
    }
    Ok(())
}

/// Serves the objects over a Kubernetes API until its standard input ends.
pub async fn serve_objects(size: Size) -> Outcome<()> {
    let mut commands = commands();
    let server = kube_api::ApiServer::start(kube_api::Options::default()).await?;
    for object in mesh::objects(size, true) {
        server.put(object)?;
    }
    tell(&json!({ "url": server.url() }))?;
    while commands.recv().await.is_some() {}
    Ok(())
}

/// The pods as they are now.
struct Pods {
    size: Size,
    revisions: Vec<u32>,
    turn: u32,
    changes: Option<mpsc::UnboundedSender<Arc<Object>>>,
}

impl Pods {
    /// Changes one pod, another one each time.
    fn change(&mut self) -> Outcome<()> {
        /// Prime to any size, so that every pod has its turn.
        const STEP: u32 = 7919;
        self.turn = (self.turn + STEP) % self.size.pods;
        let revision = &mut self.revisions[self.turn as usize];
        *revision += 1;
        let pod = read(mesh::pod(self.size, self.turn, *revision, false))?;
        let changes = self
            .changes
            .as_ref()
            .ok_or("over a Kubernetes API nothing is changed")?;
        changes.send(pod)?;
        Ok(())
    }

    async fn change_often(&mut self, per_second: u32, seconds: u32) -> Outcome<Value> {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
        for _ in 0..per_second * seconds {
            ticks.tick().await;
            self.change()?;
        }
        Ok(json!({ "changes": per_second * seconds }))
    }

    fn digest(&self) -> u64 {
        let of = |(number, revision): (usize, &u32)| {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let (uid, revision) = mesh::workload(self.size, number, *revision);
            mesh::digest(&uid, &revision)
        };
        self.revisions
            .iter()
            .enumerate()
            .map(of)
            .fold(0, u64::wrapping_add)
    }
}

fn read(value: Value) -> Outcome<Arc<Object>> {
    Ok(Arc::new(Object::from_value(value)?.without_text()))
}

fn config(options: &PlaneOptions) -> Outcome<Config> {
    let path = |name: &str| options.directory.join(name).display().to_string();
    let (objects, authority, keys, socket) =
        (path("objects"), path("ca"), path("token-keys.pem"), path("debug"));
    Ok(Config::try_parse_from([
        "control-plane",
        "--objects",
        &objects,
        "--ca-dir",
        &authority,
        "--listen",
        "127.0.0.1:0",
        "--server-name",
        SERVER_NAME,
        "--token-keys",
        &keys,
        "--token-issuer",
        TOKEN_ISSUER,
        "--monitoring-listen",
        "127.0.0.1:0",
        "--debug-socket",
        &socket,
    ])?)
}
