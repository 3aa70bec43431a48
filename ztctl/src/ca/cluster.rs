//! Asking the CA in a cluster: through the ConfigMap that its leader keeps, with the user's own `kubectl`, which knows how to
//! get there. Whoever may annotate that object may ask.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use lab::{LabError, RootQuestion};
use serde_json::Value;
use tokio::process::Command;

/// The ConfigMap, the annotation that asks, and what of it is the answer.
const MAP: &str = "ztunnel-ca";
const REQUEST: &str = "ztunnel.dev/rotate-root";
/// How long the leader, which looks every 5 s, may take to answer.
const ANSWER: Duration = Duration::from_secs(60);
/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);

/// Where the cluster is.
#[derive(Args)]
pub(super) struct Cluster {
    /// Ask the CA in the cluster of kubectl's current context, in place of a lab's
    #[arg(long, conflicts_with_all = ["name", "debug_socket"])]
    kubernetes: bool,
    /// The namespace that the mesh is installed in; with --kubernetes
    #[arg(short, long, default_value = "istio-system")]
    namespace: String,
    /// The kubeconfig file, as kubectl takes it; implies --kubernetes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "debug_socket"])]
    kubeconfig: Option<PathBuf>,
    /// The context in it; implies --kubernetes
    #[arg(long, value_name = "NAME", conflicts_with_all = ["name", "debug_socket"])]
    context: Option<String>,
}

impl Cluster {
    pub(super) fn is_meant(&self) -> bool {
        self.kubernetes || self.kubeconfig.is_some() || self.context.is_some()
    }

    /// Asks, waits for the leader's answer, and tells how the roots stand then.
    pub(super) async fn ask(&self, question: RootQuestion) -> Result<Value, LabError> {
        let word = match question {
            RootQuestion::Status => return status(&self.map().await?),
            RootQuestion::Rotate => "rotate".to_owned(),
            RootQuestion::Abort => "abort".to_owned(),
            RootQuestion::Revoke(serials) => format!("revoke {}", serials.join(",")),
            RootQuestion::RevokeAll(issued) => format!("revoke {}", issued.written(' ')),
            RootQuestion::Issued(_) => {
                return Err(self.unknown(&format!(
                    "each replica knows what it has issued, and its debug socket is not open to kubectl; the lines `certificate issued` \
                     in the logs of all replicas have serial, identity, node and end (kubectl logs -n {} --prefix --tail=-1 \
                     --max-log-requests=20 -l app.kubernetes.io/name=ztunnel-control-plane)",
                    self.namespace
                )));
            }
        };
        // Every request has a value of its own.
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let request = format!("{word} {}-{}", since.as_millis(), std::process::id());
        let annotation = format!("{REQUEST}={request}");
        let target = format!("configmap/{MAP}");
        self.kubectl(&["annotate", "--overwrite", &target, &annotation])
            .await?;
        let deadline = Instant::now() + ANSWER;
        loop {
            let map = self.map().await?;
            let answer = map["data"]["answer"].as_str().unwrap_or_default();
            if answer.contains(&request) {
                return match answer.strip_prefix("refused: ") {
                    Some(reason) => {
                        let reason = reason.strip_prefix(&request).unwrap_or(reason);
                        Err(LabError::Failed(reason.trim_start_matches(": ").to_owned()))
                    }
                    None => status(&map),
                };
            }
            if Instant::now() >= deadline {
                return Err(LabError::Late(format!(
                    "no answer within {} s; the request stands in the annotation {REQUEST} of ConfigMap {}/{MAP}. Is a replica of \
                     the control plane leading (kubectl get lease -n {})?",
                    ANSWER.as_secs(),
                    self.namespace,
                    self.namespace
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn map(&self) -> Result<Value, LabError> {
        let text = self.kubectl(&["get", "configmap", MAP, "-o", "json"]).await?;
        serde_json::from_str(&text).map_err(|error| self.unknown(&error.to_string()))
    }

    async fn kubectl(&self, args: &[&str]) -> Result<String, LabError> {
        let mut command = Command::new("kubectl");
        command.args(args).args(["--namespace", &self.namespace]);
        if let Some(file) = &self.kubeconfig {
            command.arg("--kubeconfig").arg(file);
        }
        if let Some(context) = &self.context {
            command.arg("--context").arg(context);
        }
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = match tokio::time::timeout(ANSWER, output).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => {
                return Err(self.unknown(&format!("kubectl cannot be run: {error}; install it")));
            }
            Err(_) => return Err(self.unknown("kubectl does not answer")),
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = complaint.trim();
        let hint = if complaint.contains("NotFound") {
            "; the control plane makes it once it leads and has a root of its own: is it there, and its CA not a plugged-in one?"
        } else {
            ""
        };
        Err(self.unknown(&format!("kubectl {} failed: {complaint}{hint}", args[0])))
    }

    fn unknown(&self, problem: &str) -> LabError {
        LabError::System {
            doing: format!("asking the CA in namespace {}", self.namespace),
            source: std::io::Error::other(problem.to_owned()),
        }
    }
}

fn status(map: &Value) -> Result<Value, LabError> {
    let text = map["data"]["status.json"].as_str().unwrap_or_default();
    serde_json::from_str(text).map_err(|_| LabError::System {
        doing: format!("reading the status in ConfigMap {MAP}"),
        source: std::io::Error::other("the control plane has written none yet"),
    })
}
