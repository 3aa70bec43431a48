//! A proxy of one workload: no node agent, the listeners in the network namespace that the proxy itself runs in.

use crate::config::{Config, WorkloadInfo};
use crate::connections::CloseReason;
use crate::context::Context;
use crate::pod_proxy::PodProxy;
use crate::pods::{Pod, PodId};
use mesh::Identity;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use sys::Namespace;
use sys::socket::{self, ListenOptions};
use tokio_util::sync::CancellationToken;

/// Listens for the workload `info`.
pub(crate) async fn start(context: Arc<Context>, info: &WorkloadInfo) -> io::Result<PodProxy> {
    let pod = Pod {
        buffers: context.buffers.account(),
        id: PodId::from(info.name.as_str()),
        name: info.name.as_str().into(),
        identity: Identity::new(
            &context.config.trust_domain,
            &info.namespace,
            &info.service_account,
        ),
        network: Namespace::current().map_err(io::Error::other)?,
    };
    let metrics = context.metrics.clone();
    let proxy = PodProxy::start(context, Arc::new(pod)).await?;
    metrics.proxy_started();
    Ok(proxy)
}

/// Serves until `stop`, then drains within the deadline of the settings.
pub(crate) async fn serve(proxy: PodProxy, stop: CancellationToken) {
    stop.cancelled().await;
    proxy.leave(CloseReason::Stopping).await;
}

/// Settles what `ENABLE_ORIG_SRC=auto` means here: showing the client's own address takes a privilege that a proxy
/// beside one workload often lacks.
pub(crate) fn settle_original_source(config: &mut Config) {
    let setting = &mut config.sockets.original_source;
    if setting.is_none() {
        *setting = Some(may_be_transparent());
    }
}

fn may_be_transparent() -> bool {
    let options = ListenOptions {
        transparent: true,
        ..ListenOptions::default()
    };
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Namespace::current().is_ok_and(|here| socket::listen(&here, any_port, &options).is_ok())
}
