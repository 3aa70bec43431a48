//! What all parts are given.

use std::sync::{Arc, OnceLock};

use ca::{IssueLog, JwtAuthenticator};
use object_store::ObjectSource;
use telemetry::ControlPlaneMetrics;
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::clock::Clock;
use crate::config::Config;
use crate::debug::Debug;
use crate::events::Events;
use crate::kubernetes::token_review::TokenReviewer;
use crate::leadership::Leadership;
use crate::monitoring::Monitoring;
use crate::pods::Pods;
use crate::progress::Progress;
use crate::standstill::Standstill;
use crate::xds::proxies::Proxies;

/// What all parts are given.
pub(super) struct Shared {
    pub(super) config: Config,
    /// The Kubernetes API, where objects come from there.
    pub(super) cluster: Option<kube::Client>,
    pub(super) leadership: Leadership,
    /// Told to end, by whoever has started all this.
    pub(super) shutdown: CancellationToken,
    pub(super) authenticator: Arc<dyn ca::Authenticator>,
    pub(super) clock: Clock,
    pub(super) pods: Pods,
    pub(super) proxies: Proxies,
    /// What this process has signed.
    pub(super) issues: Arc<IssueLog>,
    /// Where there is no Kubernetes API there is nowhere to write Events to.
    pub(super) events: Option<Events>,
    pub(super) debug: Debug,
    pub(super) metrics: ControlPlaneMetrics,
    pub(super) progress: Progress,
    pub(super) standstill: Standstill,
}

impl Shared {
    pub(super) fn new(
        config: Config,
        leadership: Leadership,
        shutdown: CancellationToken,
    ) -> Result<Shared, Error> {
        let cluster = config.kubernetes()?.map(|server| server.client());
        let (pods, proxies) = (Pods::default(), Proxies::default());
        Ok(Shared {
            authenticator: authenticator(&config, cluster.clone(), pods.clone())?,
            clock: Clock::for_pause(config.ca_rotation_pause),
            issues: Arc::default(),
            events: (cluster.is_some() && config.write_events).then(Events::default),
            debug: Debug::new(proxies.clone(), config.log.clone()),
            metrics: config.metrics(),
            progress: Progress::default(),
            standstill: Standstill::default(),
            config,
            cluster,
            leadership,
            shutdown,
            pods,
            proxies,
        })
    }

    /// What is asked over HTTP. The authority is not known yet.
    pub(super) fn monitoring(&self, source: Arc<dyn ObjectSource>) -> Monitoring {
        Monitoring {
            metrics: self.metrics.clone(),
            debug: self.debug.clone(),
            proxies: self.proxies.clone(),
            progress: self.progress.clone(),
            standstill: self.standstill.clone(),
            leadership: self.leadership.clone(),
            source,
            authority: Arc::new(OnceLock::new()),
        }
    }
}

/// Who says whose a token is: keys in a file, where there is one, otherwise the Kubernetes API.
fn authenticator(
    config: &Config,
    cluster: Option<kube::Client>,
    pods: Pods,
) -> Result<Arc<dyn ca::Authenticator>, Error> {
    match (&config.token_keys, &config.token_issuer, cluster) {
        (Some(keys), Some(issuer), _) => Ok(Arc::new(JwtAuthenticator::new(
            keys,
            issuer,
            &config.token_audience,
        )?)),
        (_, _, Some(client)) => Ok(Arc::new(TokenReviewer::new(client, &config.token_audience, pods))),
        _ => Err(Error::Nobody),
    }
}
