//! Keeps the metrics from naming, for ever, whatever was there once.

use crate::context::Context;
use crate::state::MeshState;
use std::sync::Arc;
use std::time::Duration;
use telemetry::Metrics;
use tracing::debug;

/// Time between sweeps. A series outlives its workload by some of these; see [`Metrics::sweep`].
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Sweeps at intervals, for ever.
pub(crate) async fn keep_few(context: Arc<Context>) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        interval.tick().await;
        let (metrics, state) = (context.metrics.clone(), context.state.clone());
        // The walk over all workloads of a large mesh takes its time.
        match tokio::task::spawn_blocking(move || sweep(&metrics, &state)).await {
            Ok(0) => {}
            Ok(series) => debug!(series, "dropped metric series of workloads that are gone"),
            Err(error) => debug!(%error, "a sweep of the metrics failed"),
        }
    }
}

/// Drops the series of workloads that the control plane no longer knows.
fn sweep(metrics: &Metrics, state: &MeshState) -> usize {
    if !state.progress().borrow().is_synced() {
        // Nobody is known yet, which says nothing of who is gone.
        return 0;
    }
    let snapshot = state.snapshot();
    metrics.sweep(|names| {
        for workload in snapshot.workloads() {
            if names.is_empty() {
                return;
            }
            names.found(
                &workload.namespace,
                &workload.workload_name,
                &workload.canonical_name,
            );
        }
    })
}

#[cfg(test)]
mod tests;
