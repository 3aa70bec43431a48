//! Keeping what peers are held against current, and closing what rests on what no longer is.
//!
//! Roots come with the certificates that the authority signs (`identities.rs`) and from the control plane where it
//! offers them (`trust_bundle.rs`), revocation lists from a file
//! (`revocation.rs`). Whatever changes, new handshakes are judged by it at once, and then the open tunnels.

use crate::connections::CloseReason;
use crate::context::Context;
use crate::revocation::{self, Debounce, RevocationFile, Stamp};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use telemetry::Reporter;
use tls::HandshakeError;
use tls::server_auth::RootSource;
use tracing::{info, warn};

/// How often files are looked at, and time is told to what depends on it.
const TICK: Duration = Duration::from_secs(1);

/// How long connections inside a tunnel have to end, for the reason given, before the tunnel does.
const PATIENCE: Duration = Duration::from_millis(100);

/// Runs until the process ends.
pub(crate) async fn keep(context: Arc<Context>) {
    tokio::spawn(close_when_changed(context.clone()));
    let mut lists = context.config.trust.revocation_lists.clone().map(|path| {
        let required = context.config.trust.revocation_required;
        RevocationFile::new(path, required, context.tls.trust().clone())
    });
    let authority = context.config.authority.as_ref();
    let mut roots = authority
        .and_then(|endpoint| root_file(&endpoint.roots))
        .map(|path| {
            let stamp = Stamp::of(&path);
            (path, Debounce::new(stamp))
        });
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        context.identities.tick();
        if let Some(mut file) = lists.take() {
            let looked = tokio::task::spawn_blocking(move || {
                file.look(Instant::now());
                file
            });
            match looked.await {
                Ok(file) => lists = Some(file),
                Err(error) => warn!(%error, "revocation lists are not watched any more"),
            }
        }
        if let Some((path, seen)) = &mut roots
            && seen.observe(Instant::now(), Stamp::of(path))
        {
            let path = path.display();
            info!(%path, "the authority's root file has changed; certificates are renewed early");
            context.identities.renew_all_early();
        }
    }
}

/// Reads the lists for the first time, before anybody is accepted.
pub(crate) fn load_revocation_lists(context: &Context) {
    let settings = &context.config.trust;
    if let Some(path) = &settings.revocation_lists {
        revocation::load_first(path, settings.revocation_required, context.tls.trust());
    }
}

/// Counts a handshake that failed, by its reason.
pub(crate) fn count_failed_handshake(context: &Context, reporter: Reporter, error: &HandshakeError) {
    context.metrics.handshake_failed(reporter, error.code());
    if *error == HandshakeError::CertificateRevoked {
        context.metrics.revoked(reporter);
    }
}

async fn close_when_changed(context: Arc<Context>) {
    let mut changes = context.tls.trust().changes();
    while changes.next().await {
        context.identities.judge();
        close_untrusted(&context).await;
    }
}

/// Closes the tunnels whose peer is no longer trusted, with all connections in them.
pub(crate) async fn close_untrusted(context: &Context) {
    let (tunnels, trust) = (context.tunnels.clone(), context.tls.trust().clone());
    let untrusted = match tokio::task::spawn_blocking(move || tunnels.untrusted(&trust)).await {
        Ok(untrusted) => untrusted,
        Err(error) => {
            warn!(%error, "cannot judge open tunnels by what is trusted now");
            return;
        }
    };
    if untrusted.is_empty() {
        return;
    }
    for tunnel in &untrusted {
        let (peer, serial) = (&tunnel.peer.identity, &tunnel.peer.serial);
        info!(%peer, serial, reason = tunnel.reason.code(), "closing a tunnel: {}", tunnel.reason);
        context
            .metrics
            .closed_early(tunnel.reporter, code(&tunnel.reason));
        if tunnel.reason == HandshakeError::CertificateRevoked {
            context.metrics.revoked(tunnel.reporter);
        }
    }
    let reasons: std::collections::HashMap<u64, &HandshakeError> = untrusted
        .iter()
        .map(|tunnel| (tunnel.id.number(), &tunnel.reason))
        .collect();
    let connections = context.connections.close_where(PATIENCE, |open| {
        let reason = reasons.get(&open.tunnel()?)?;
        Some(CloseReason::PeerUntrusted((*reason).clone()))
    });
    let connections = connections.await;
    for tunnel in &untrusted {
        tunnel.close();
    }
    let peers: HashSet<_> = untrusted.iter().map(|tunnel| &tunnel.peer.identity).collect();
    info!(
        tunnels = untrusted.len(),
        connections,
        peers = peers.len(),
        "closed what rested on certificates that are no longer trusted"
    );
}

/// The stable word for the end of what rested on an untrusted peer.
pub(crate) fn code(reason: &HandshakeError) -> &'static str {
    match reason {
        HandshakeError::CertificateRevoked => "peer_revoked",
        _ => "peer_untrusted",
    }
}

fn root_file(setting: &str) -> Option<PathBuf> {
    match setting.parse() {
        Ok(RootSource::Path(path)) => Some(Path::new(&path).to_owned()),
        Ok(RootSource::System | RootSource::Pem(_)) => None,
        Err(never) => match never {},
    }
}
