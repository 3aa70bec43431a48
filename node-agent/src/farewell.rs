//! The end of the agent. Where a mesh is taken down, its pods are taken out just before, and agent and proxy end together: a
//! pod must not be left redirected to a proxy that is gone.

use std::time::{Duration, Instant};

use crate::status::{Board, PodState};

/// The agent ends after this time, also where a pod could not be let go of. Kubernetes gives it ten seconds.
pub const LONGEST_FAREWELL: Duration = Duration::from_secs(8);
const LOOK: Duration = Duration::from_millis(50);

/// Waits until no pod that leaves the mesh is captured any more. Enrolled pods stay as they are, and what is left for open
/// connections stays for them; the next agent takes it out.
pub(crate) async fn farewell(board: &Board) {
    let mut captured = still_captured(board);
    if captured.is_empty() {
        return;
    }
    tracing::info!(
        "ending once pods that leave the mesh are let go of: {}",
        captured.join(", ")
    );
    let deadline = Instant::now() + LONGEST_FAREWELL;
    while !captured.is_empty() {
        if Instant::now() >= deadline {
            tracing::warn!(
                "ending although these pods leave the mesh and may still be redirected to the node proxy: {}; the next agent takes \
                 the rules out, or the end of the pods",
                captured.join(", ")
            );
            return;
        }
        tokio::time::sleep(LOOK).await;
        captured = still_captured(board);
    }
}

/// Pods on their way out with their redirection, and those with news that nobody has looked at.
fn still_captured(board: &Board) -> Vec<String> {
    let pods = board.read().pods.into_iter();
    pods.filter(|pod| matches!(pod.state, PodState::Unknown | PodState::Leaving))
        .map(|pod| format!("{}/{}", pod.namespace, pod.name))
        .collect()
}
