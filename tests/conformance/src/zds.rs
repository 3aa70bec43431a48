use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, listen, sendmsg,
    socket,
};
use prost::Message;
use proto::zds::workload_request::Payload;
use proto::zds::workload_response::Payload as Answer;
use proto::zds::{
    AddWorkload, DelWorkload, KeepWorkload, SnapshotSent, Version, WorkloadInfo, WorkloadRequest,
    WorkloadResponse, ZdsHello,
};

use crate::failure::{Doing, Failure, Outcome};
use crate::namespace::Namespace;

/// Records are no longer than this.
const MAX_RECORD: usize = 1024;
/// How long the subject may take to come, and to answer.
const DEADLINE: Duration = Duration::from_secs(20);

/// The node agent's socket.
#[derive(Debug)]
pub struct AgentSocket {
    socket: Arc<socket2::Socket>,
}

/// One proxy's connection to the node agent.
#[derive(Clone, Debug)]
pub struct Agent {
    socket: Arc<socket2::Socket>,
    /// Whether its first record was a good `ZdsHello`.
    pub hello: Result<(), String>,
}

impl AgentSocket {
    /// Listens on this path.
    pub fn bind(path: &Path) -> Outcome<AgentSocket> {
        let listener = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        bind(listener.as_raw_fd(), &UnixAddr::new(path)?).doing(format!("binding {}", path.display()))?;
        listen(&listener, Backlog::new(8)?)?;
        let socket = socket2::Socket::from(listener);
        socket.set_read_timeout(Some(DEADLINE))?;
        Ok(AgentSocket {
            socket: Arc::new(socket),
        })
    }

    /// Waits for a proxy and its greeting.
    pub async fn accept(&self) -> Outcome<Agent> {
        let listener = self.socket.clone();
        blocking(move || {
            let (socket, _) = listener
                .accept()
                .doing("waiting for the subject to call its node agent")?;
            socket.set_read_timeout(Some(DEADLINE))?;
            socket.set_write_timeout(Some(DEADLINE))?;
            let record = receive(&socket).doing("waiting for the greeting")?;
            let hello = match ZdsHello::decode(record.as_slice()) {
                Ok(hello) if hello.version == i32::from(Version::V1) => Ok(()),
                other => Err(format!("{other:?}")),
            };
            Ok(Agent {
                socket: Arc::new(socket),
                hello,
            })
        })
        .await
    }
}

impl Agent {
    /// Hands over a pod and its namespace; what the proxy answered, empty when good.
    pub async fn add(
        &self,
        uid: &str,
        name: &str,
        namespace: &str,
        account: &str,
        network: &Namespace,
    ) -> Outcome<String> {
        let add = Payload::Add(AddWorkload {
            uid: uid.to_owned(),
            workload_info: Some(WorkloadInfo {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
                service_account: account.to_owned(),
            }),
        });
        self.exchange(add, Some(network)).await
    }

    /// Takes a pod away.
    pub async fn delete(&self, uid: &str) -> Outcome<String> {
        self.exchange(Payload::Del(DelWorkload { uid: uid.to_owned() }), None)
            .await
    }

    /// Says that a pod exists whose namespace this agent does not hold.
    pub async fn keep(&self, uid: &str) -> Outcome<String> {
        self.exchange(Payload::Keep(KeepWorkload { uid: uid.to_owned() }), None)
            .await
    }

    /// Says that every pod of the node has been named.
    pub async fn snapshot_sent(&self) -> Outcome<String> {
        self.exchange(Payload::SnapshotSent(SnapshotSent {}), None).await
    }

    /// Sends any request, with or without a namespace, and waits for the answer.
    pub async fn exchange(&self, payload: Payload, network: Option<&Namespace>) -> Outcome<String> {
        let request = WorkloadRequest {
            payload: Some(payload),
        };
        self.raw(request.encode_to_vec(), network).await
    }

    /// Sends any record and waits for the answer.
    pub async fn raw(&self, record: Vec<u8>, network: Option<&Namespace>) -> Outcome<String> {
        let (socket, network) = (self.socket.clone(), network.cloned());
        blocking(move || {
            let descriptors: Vec<RawFd> = network.iter().map(|network| network.file().as_raw_fd()).collect();
            let rights = [ControlMessage::ScmRights(&descriptors)];
            let control: &[ControlMessage<'_>] = if descriptors.is_empty() { &[] } else { &rights };
            sendmsg::<UnixAddr>(
                socket.as_raw_fd(),
                &[IoSlice::new(&record)],
                control,
                MsgFlags::MSG_NOSIGNAL,
                None,
            )
            .doing("sending a record to the subject")?;
            let answer = receive(&socket).doing("waiting for the subject's answer")?;
            match WorkloadResponse::decode(answer.as_slice())?.payload {
                Some(Answer::Ack(ack)) => Ok(ack.error),
                None => Err(Failure::new("an answer without content")),
            }
        })
        .await
    }

    /// Waits until the proxy has hung up.
    pub async fn closed(&self) -> Outcome {
        let socket = self.socket.clone();
        blocking(move || match receive(&socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(Failure::new("the subject keeps its connection to the node agent"))
            }
            Ok(record) if !record.is_empty() => Err(Failure::new("a record that nobody asked for")),
            _ => Ok(()),
        })
        .await
    }

    /// Hangs up.
    pub fn hang_up(self) {
        // Clones share the socket; this ends them all.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

/// One record; empty at the end.
fn receive(socket: &socket2::Socket) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut record = vec![0; MAX_RECORD];
    let length = (&mut &*socket).read(&mut record)?;
    record.truncate(length);
    Ok(record)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Outcome<T> + Send + 'static) -> Outcome<T> {
    tokio::task::spawn_blocking(work).await?
}
