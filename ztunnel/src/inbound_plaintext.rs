//! Connections to a captured pod that did not come through a tunnel.
//!
//! They carry no identity. Policy decides by that: PERMISSIVE lets them pass unless a rule denies them, STRICT
//! refuses callers without identity.

use crate::application;
use crate::connections::InboundSubject;
use crate::context::Context;
use crate::failure::Failure;
use crate::flow::{Direction, Flow, Parties};
use crate::pods::Pod;
use mesh::Workload;
use relay::{Ended, TcpEnd};
use std::net::IpAddr;
use std::sync::Arc;
use sys::socket;
use tokio::net::TcpStream;

/// Serves one redirected connection to its end.
pub(crate) async fn serve(context: &Arc<Context>, pod: &Arc<Pod>, stream: TcpStream) {
    let (source, destination) = match (
        socket::peer_address(&stream),
        socket::original_destination(&stream),
    ) {
        (Ok(source), Ok(destination)) => (source, destination),
        // The client has gone before anything was known of it.
        _ => return,
    };
    let subject = InboundSubject {
        peer: None,
        source_ip: source.ip(),
        destination,
    };
    let flow = Flow::open(
        context,
        pod,
        Direction::Inbound(subject.clone()),
        source,
        destination,
    );
    let outcome = match flow.unless_closed(reach(context, pod, &flow, &subject)).await {
        Ok(application) => Ok(flow.relay(TcpEnd::new(stream), TcpEnd::new(application)).await),
        Err(failure) => {
            // A refusal is a reset, not an empty success.
            let _ = socket::reset_on_close(&stream);
            Err::<Ended, _>(failure)
        }
    };
    flow.close(outcome);
}

async fn reach(
    context: &Arc<Context>,
    pod: &Pod,
    flow: &Flow,
    subject: &InboundSubject,
) -> Result<TcpStream, Failure> {
    application::refuse_proxy_port(context, subject.destination)?;
    let (snapshot, workload) = application::own_workload(context, pod).await?;
    let port = subject.destination.port();
    flow.opened(
        Parties::inbound(context, &snapshot, subject, &workload).serving(&snapshot, &workload, None, port),
    );
    refuse_other_address(pod, &workload, subject.destination.ip())?;
    application::reach(context, pod, flow, subject).await
}

/// Refuses what was addressed to somebody else. Redirection takes whatever comes in at the pod's interface, also what
/// a neighbour sends there for another address; the proxy would dial that address in the neighbour's name.
fn refuse_other_address(pod: &Pod, workload: &Workload, wanted: IpAddr) -> Result<(), Failure> {
    if workload.addresses.contains(&wanted) {
        return Ok(());
    }
    // The control plane need not know every address of a pod with several interfaces.
    let own = pod
        .network
        .addresses()
        .is_ok_and(|addresses| !wanted.is_loopback() && addresses.contains(&wanted));
    if own {
        Ok(())
    } else {
        Err(Failure::BadRequest(format!(
            "a connection for {wanted} came to pod {}, which does not have that address",
            pod.full_name()
        )))
    }
}

#[cfg(test)]
mod tests;
