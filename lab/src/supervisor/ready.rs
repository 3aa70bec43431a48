//! Waiting until a new lab is ready.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::runner::{Run, RunState};
use super::{Lab, mesh};
use crate::error::LabError;
use crate::layout::Layout;
use crate::logs::tail;
use crate::settle::{self, Scope};

const LOOK: Duration = Duration::from_millis(50);
const SOCKET_WITHIN: Duration = Duration::from_secs(10);

/// What happens while a lab comes up.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "progress", content = "text", rename_all = "kebab-case")]
pub enum Progress {
    /// What is done now.
    Step(String),
    /// Every pod and proxy is ready.
    Ready,
    /// It could not come up.
    Failed {
        /// Why.
        text: String,
        /// The exit code that says so.
        exit_code: u8,
    },
}

/// Waits until every proxy and pod is ready and every enrolment done.
pub(super) async fn wait(lab: &Lab, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), LabError> {
    let deadline = tokio::time::Instant::now() + lab.options.timeout;
    if lab.options.mesh {
        progress(Progress::Step("waiting for the node proxies".to_owned()));
        for node in &lab.network.nodes {
            while !mesh::proxy_is_ready(node).await {
                let runner = lab
                    .nodes
                    .get(&node.plan.name)
                    .map(|processes| processes.ztunnel.now());
                if tokio::time::Instant::now() > deadline {
                    let name = &node.plan.name;
                    return Err(LabError::Late(format!(
                        "the proxy of {name} is not ready after {:?} ({}){}{}",
                        lab.options.timeout,
                        runner.map_or_else(String::new, |run| state(&run)),
                        tail(&lab.layout.log(&format!("ztunnel-{name}"))),
                        tail(&lab.layout.log("control-plane")),
                    )));
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }
    progress(Progress::Step("waiting for the pods".to_owned()));
    settle::wait(&lab.layout, &lab.store, &Scope::everything(), deadline).await
}

/// A process' state with how it ended last.
fn state(run: &Run) -> String {
    let word = super::container::state_word(run);
    match &run.state {
        RunState::Waiting { last: Some(ended) } => format!("{word}: {}", ended.text),
        _ => word,
    }
}

/// Whether the node agent answers on its status socket.
pub(super) async fn agent_answers(layout: &Layout, node: &str) -> bool {
    crate::http::get_json(&layout.agent_socket(node), "/status")
        .await
        .is_ok()
}

/// Waits for a socket to be there; who needs it says so if it never comes.
pub(super) async fn wait_for_path(path: &Path) {
    let deadline = tokio::time::Instant::now() + SOCKET_WITHIN;
    while !path.exists() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
