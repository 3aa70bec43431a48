use super::*;
use crate::pods::PodId;

fn pod(id: &str) -> Arc<Pod> {
    Arc::new(Pod {
        buffers: hbone::budget::Budget::new(1 << 20).account(),
        id: PodId::from(id),
        name: id.into(),
        identity: Identity::new("cluster.local", "default", "default"),
        network: sys::Namespace::current().unwrap(),
    })
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn inbound() -> Subject {
    Subject::Inbound(InboundSubject {
        peer: None,
        source_ip: address("10.0.0.1:1").ip(),
        destination: address("10.0.0.2:80"),
    })
}

#[tokio::test]
async fn closing_waits_until_the_connection_has_left() {
    let connections = Connections::default();
    let pod = pod("pod-1");
    let entry = connections.enter(
        pod.clone(),
        inbound(),
        address("10.0.0.1:1"),
        address("10.0.0.2:80"),
    );
    let (done, ended) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        entry.closed().await;
        let _ = done.send(entry.reason());
    });
    let told = connections
        .close_where(Duration::from_secs(60), |_| {
            Some(CloseReason::Policy("denied by a/b".into()))
        })
        .await;
    assert_eq!(told, 1);
    assert!(connections.list().is_empty());
    assert_eq!(
        ended.await.unwrap(),
        Some(CloseReason::Policy("denied by a/b".into()))
    );
}

#[tokio::test(start_paused = true)]
async fn patience_ends() {
    let connections = Connections::default();
    let entry = connections.enter(
        pod("p"),
        Subject::Outbound(OutboundSubject::default()),
        address("10.0.0.1:1"),
        address("10.0.0.2:80"),
    );
    connections
        .close_where(Duration::from_secs(1), |_| Some(CloseReason::PodLeft))
        .await;
    assert_eq!(connections.list().len(), 1);
    assert_eq!(entry.reason(), Some(CloseReason::PodLeft));
}

#[tokio::test]
async fn only_the_judged_are_closed_and_the_first_reason_stays() {
    let connections = Connections::default();
    let (a, b) = (pod("a"), pod("b"));
    let kept = connections.enter(
        a.clone(),
        Subject::Outbound(OutboundSubject::default()),
        address("10.0.0.1:1"),
        address("10.0.0.2:80"),
    );
    let closed = connections.enter(
        b.clone(),
        Subject::Outbound(OutboundSubject::default()),
        address("10.0.0.1:2"),
        address("10.0.0.2:80"),
    );
    let told = connections
        .close_where(Duration::ZERO, |open| {
            Arc::ptr_eq(&open.pod, &b).then_some(CloseReason::PodLeft)
        })
        .await;
    connections
        .close_where(Duration::ZERO, |_| Some(CloseReason::Stopping))
        .await;
    assert_eq!(told, 1);
    assert_eq!(closed.reason(), Some(CloseReason::PodLeft));
    assert_eq!(kept.reason(), Some(CloseReason::Stopping));
    assert_eq!(connections.list().len(), 2);
    drop(kept);
    assert_eq!(connections.list().len(), 1);
}
