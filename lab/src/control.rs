//! What the command line and the supervisor say to each other: one line of JSON each way.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::error::LabError;
use crate::layout::Layout;
use crate::lock;
use crate::status::LabStatus;

/// The longest line either side accepts.
pub(crate) const LINE_MAX: u64 = 16 * 1024 * 1024;

/// A question to the supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub(crate) enum Request {
    Status,
    Restart { target: String, how: RestartHow },
    Fault(FaultRequest),
    Down,
}

/// How a process of the mesh is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartHow {
    /// SIGTERM; the next is started when it has ended.
    Stop,
    /// SIGKILL.
    Kill,
    /// The next is started first, and SIGTERM sent when it is ready, as in an upgrade. For node proxies only.
    Surge,
}

/// A fault on the wire of a node, or of the control plane.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FaultRequest {
    /// The node's name, or `control-plane`.
    pub link: String,
    /// The part of packets that are lost in each direction, 0 to 1.
    pub loss: Option<f64>,
    /// How long packets are under way in each direction, at most a minute.
    pub delay: Option<Duration>,
    /// How many bits per second pass in each direction, not zero.
    pub rate: Option<u64>,
    /// Cut the wire.
    pub partition: bool,
    /// First undo all faults of this link.
    pub clear: bool,
}

/// An answer of the supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub(crate) enum Answer {
    Status { status: Box<LabStatus> },
    Done,
    Refused { text: String, exit_code: u8 },
}

/// Asks the supervisor of a lab.
pub(crate) async fn ask(layout: &Layout, request: &Request) -> Result<Answer, LabError> {
    let connection = UnixStream::connect(layout.supervisor_socket())
        .await
        .map_err(|_| LabError::NotUp(layout.name().to_owned()))?;
    let (reader, mut writer) = connection.into_split();
    let talk = async {
        write_line(&mut writer, request).await?;
        read_line(&mut BufReader::new(reader)).await
    };
    let answer = talk.await.map_err(|error| {
        // It was killed meanwhile.
        if lock::is_held(layout) {
            LabError::system("talking to the lab's supervisor")(error)
        } else {
            LabError::NotUp(layout.name().to_owned())
        }
    })?;
    match answer {
        Answer::Refused { text, exit_code: 2 } => Err(LabError::Usage(text)),
        Answer::Refused { text, exit_code: 3 } => Err(LabError::Late(text)),
        Answer::Refused { text, .. } => Err(LabError::Failed(text)),
        answer => Ok(answer),
    }
}

/// The status of a running lab.
pub async fn status(layout: &Layout) -> Result<LabStatus, LabError> {
    match ask(layout, &Request::Status).await? {
        Answer::Status { status } => Ok(*status),
        other => Err(LabError::Failed(format!(
            "the supervisor answers {other:?} to a question for its status"
        ))),
    }
}

/// Where the kubeconfig of a running lab's Kubernetes API is.
pub async fn kubeconfig(layout: &Layout) -> Result<std::path::PathBuf, LabError> {
    let status = status(layout).await?;
    match status.kube_api {
        Some(api) => Ok(api.kubeconfig),
        None => Err(LabError::Usage(
            "this lab has no Kubernetes API: bring it up with `--control-plane kubernetes`".to_owned(),
        )),
    }
}

/// Ends a process of the mesh and returns when it is back and ready. `target`: `ztunnel/NODE`, `node-agent/NODE` or
/// `control-plane`.
pub async fn restart(layout: &Layout, target: &str, how: RestartHow) -> Result<(), LabError> {
    ask(
        layout,
        &Request::Restart {
            target: target.to_owned(),
            how,
        },
    )
    .await
    .map(drop)
}

/// Changes the faults of a link.
pub async fn fault(layout: &Layout, request: FaultRequest) -> Result<(), LabError> {
    ask(layout, &Request::Fault(request)).await.map(drop)
}

pub(crate) async fn write_line(
    writer: &mut (impl AsyncWriteExt + Unpin),
    value: &impl Serialize,
) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

pub(crate) async fn read_line<T: DeserializeOwned>(
    reader: &mut (impl AsyncBufReadExt + Unpin),
) -> std::io::Result<T> {
    let mut line = Vec::new();
    reader.take(LINE_MAX).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&line)?)
}
