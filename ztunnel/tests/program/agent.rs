//! A node agent in the test's hands: it sends what the test says, record by record.

use prost::Message;
use proto::zds::{
    AddWorkload, DelWorkload, KeepWorkload, SnapshotSent, WorkloadInfo, WorkloadRequest, WorkloadResponse,
    workload_request, workload_response,
};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;
use sys::Namespace;
use sys::seqpacket::{Connection, Listener};

pub(crate) struct Agent(Listener);

impl Agent {
    /// Listens at `agent` in `directory`.
    pub(crate) fn listen(directory: &Path) -> Self {
        Self(Listener::bind(directory.join("agent")).unwrap())
    }

    /// The proxy's next connection, after its hello.
    pub(crate) async fn meet(&self) -> Link {
        let waiting = tokio::time::timeout(super::running::LIMIT, self.0.accept());
        let link = Link(waiting.await.expect("the proxy connects").unwrap());
        assert!(link.receive().await.is_some(), "no hello");
        link
    }
}

pub(crate) struct Link(Connection);

impl Link {
    /// Sends a record as it is.
    pub(crate) async fn send(&self, record: &[u8], descriptor: Option<BorrowedFd<'_>>) {
        // A proxy that has had enough closes; what it does then is what tests look at.
        let _ = self.0.send(record, descriptor).await;
    }

    /// The answer to a request: an error's words, or none. `Err`: the proxy has closed.
    pub(crate) async fn ask(
        &self,
        request: workload_request::Payload,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<String, Closed> {
        self.send(&record(request), descriptor).await;
        self.answer().await
    }

    pub(crate) async fn answer(&self) -> Result<String, Closed> {
        let record = self.receive().await.ok_or(Closed)?;
        match WorkloadResponse::decode(&record[..]).unwrap().payload {
            Some(workload_response::Payload::Ack(ack)) => Ok(ack.error),
            other => panic!("{other:?}"),
        }
    }

    /// Whether the proxy closes now.
    pub(crate) async fn is_closed_by_proxy(&self) -> bool {
        self.receive().await.is_none()
    }

    async fn receive(&self) -> Option<Vec<u8>> {
        let waiting = tokio::time::timeout(super::running::LIMIT, self.0.recv(1 << 16));
        Some(waiting.await.expect("an answer in time").ok()?.0)
    }
}

#[derive(Debug)]
pub(crate) struct Closed;

pub(crate) fn record(request: workload_request::Payload) -> Vec<u8> {
    WorkloadRequest {
        payload: Some(request),
    }
    .encode_to_vec()
}

/// A pod `shop/NAME` whose uid and account are its name.
pub(crate) fn add(name: &str) -> workload_request::Payload {
    workload_request::Payload::Add(AddWorkload {
        uid: name.into(),
        workload_info: Some(WorkloadInfo {
            name: name.into(),
            namespace: "shop".into(),
            service_account: name.into(),
        }),
    })
}

pub(crate) fn keep(uid: &str) -> workload_request::Payload {
    workload_request::Payload::Keep(KeepWorkload { uid: uid.into() })
}

pub(crate) fn del(uid: &str) -> workload_request::Payload {
    workload_request::Payload::Del(DelWorkload { uid: uid.into() })
}

pub(crate) fn snapshot_sent() -> workload_request::Payload {
    workload_request::Payload::SnapshotSent(SnapshotSent {})
}

/// Whether somebody listens for captured connections in `network`.
pub(crate) async fn is_served(network: &Namespace) -> bool {
    let options = sys::socket::ConnectOptions {
        timeout: Some(Duration::from_secs(5)),
        ..Default::default()
    };
    let at = "127.0.0.1:15001".parse().unwrap();
    match sys::socket::connect(network, &options, at).await {
        Ok(_) => true,
        // Who is not redirected there is reset at once, maybe before this end has looked.
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// A file that is no namespace.
pub(crate) fn no_namespace() -> File {
    File::open("/dev/null").unwrap()
}

pub(crate) fn descriptor(network: &Namespace) -> Option<BorrowedFd<'_>> {
    Some(network.as_fd())
}

pub(crate) fn file(file: &File) -> Option<BorrowedFd<'_>> {
    Some(file.as_fd())
}
