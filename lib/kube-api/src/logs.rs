//! The output of containers, as the subresource `log` of a Pod (`kubectl logs`), where somebody keeps it in files.

use std::collections::VecDeque;
use std::io::{self, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::{Api, Body, Call, stream_text};
use crate::kinds::Resource;
use crate::rules;
use crate::status::StatusError;
use crate::store::Key;

/// How much of a log is sent at most, from its end, in bytes; what is followed has no end.
pub const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;
/// How much is read at once.
const PIECE: usize = 64 * 1024;
/// How many pieces wait for a client that reads slowly.
const PIECES_AHEAD: usize = 4;
/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// One container of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Container<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub pod: &'a str,
    /// The container's name.
    pub name: &'a str,
}

/// Knows where the output of containers is.
pub trait Logs: Send + Sync + 'static {
    /// The file with the output of a container, which is only ever added to.
    fn file(&self, container: Container<'_>) -> PathBuf;
}

/// Whether a resource has logs.
pub(crate) fn has_logs(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "pods"
}

/// What is wanted of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    container: String,
    lines: Option<usize>,
    bytes: Option<u64>,
    follow: bool,
}

impl Wanted {
    fn parse(query: &str) -> Result<Wanted, StatusError> {
        let mut wanted = Wanted::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let bad = || StatusError::bad_request(format!("{name}: invalid value {value:?}"));
            let is_true = matches!(value.as_ref(), "true" | "1");
            match name.as_ref() {
                "container" => wanted.container = value.into_owned(),
                "follow" => wanted.follow = is_true,
                "tailLines" => wanted.lines = Some(value.parse().map_err(|_| bad())?),
                "limitBytes" => wanted.bytes = Some(value.parse().map_err(|_| bad())?),
                "previous" | "timestamps" if !is_true => {}
                "previous" | "timestamps" | "sinceSeconds" | "sinceTime" => {
                    return Err(StatusError::bad_request(format!(
                        "{name} cannot be answered: the output is kept in one piece and without times"
                    )));
                }
                _ => {}
            }
        }
        Ok(wanted)
    }
}

impl Call<'_> {
    pub(crate) async fn log(&self, query: &str) -> Result<Response<Body>, StatusError> {
        let wanted = Wanted::parse(query)?;
        let name = self.name.as_deref().unwrap_or_default();
        let key = self.key(name);
        let pod = self.api.store.get(&key).ok_or_else(|| self.not_found(name))?;
        let containers = pod.value()["spec"]["containers"].as_array();
        let names: Vec<&str> = containers
            .into_iter()
            .flatten()
            .filter_map(|container| container["name"].as_str())
            .collect();
        let container = match (wanted.container.as_str(), names.as_slice()) {
            ("", [one]) => *one,
            ("", several) => {
                return Err(StatusError::bad_request(format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    several.join(" ")
                )));
            }
            (wanted, known) if known.contains(&wanted) => wanted,
            (wanted, _) => {
                return Err(StatusError::bad_request(format!(
                    "container {wanted} is not valid for pod {name}"
                )));
            }
        };
        let Some(logs) = &self.api.logs else {
            return Err(StatusError::new(
                501,
                "NotImplemented",
                "this server has no output of containers",
            ));
        };
        let file = logs.file(Container {
            namespace: &key.namespace,
            pod: name,
            name: container,
        });
        let mut file = File::open(&file).await.map_err(|error| {
            StatusError::bad_request(format!(
                "container {container:?} in pod {name:?} is waiting to start: there is no output of it ({error})"
            ))
        })?;
        let failed = |error: io::Error| StatusError::internal(format!("the output cannot be read: {error}"));
        let end = start_at(&mut file, wanted.lines).await.map_err(failed)?;
        let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
        let reader = Reader {
            api: self.api.clone(),
            key,
            uid: rules::text(pod.value(), "uid"),
            file,
            follow: wanted.follow,
            left: wanted.bytes.unwrap_or(u64::MAX),
            end,
        };
        tokio::spawn(reader.run(pieces));
        Ok(stream_text(ReceiverStream::new(receiver)))
    }
}

/// Goes to where the wanted lines begin; returns where the file ends now.
async fn start_at(file: &mut File, lines: Option<usize>) -> io::Result<u64> {
    let size = file.metadata().await?.len();
    let first = size.saturating_sub(MAX_LOG_BYTES);
    file.seek(SeekFrom::Start(first)).await?;
    let Some(lines) = lines else { return Ok(size) };
    if lines == 0 {
        file.seek(SeekFrom::Start(size)).await?;
        return Ok(size);
    }
    // Where lines begin, the last ones; a line begins after each newline but the last letter of the file.
    let mut begins = VecDeque::from([first]);
    let (mut at, mut piece) = (first, vec![0; PIECE]);
    while at < size {
        let read = file.read(&mut piece).await?;
        if read == 0 {
            break;
        }
        for (offset, _) in piece[..read]
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
        {
            let begin = at + offset as u64 + 1;
            if begin < size {
                begins.push_back(begin);
                if begins.len() > lines {
                    begins.pop_front();
                }
            }
        }
        at += read as u64;
    }
    file.seek(SeekFrom::Start(begins.front().copied().unwrap_or(size)))
        .await?;
    Ok(size)
}

/// Sends a log.
struct Reader {
    api: Arc<Api>,
    key: Key,
    uid: String,
    file: File,
    follow: bool,
    /// How many bytes may still be sent.
    left: u64,
    /// Where a log ended that is not followed.
    end: u64,
}

impl Reader {
    async fn run(mut self, pieces: mpsc::Sender<Result<Bytes, io::Error>>) {
        loop {
            // Looked at before the rest is read: nothing is added once the pod is gone.
            let goes_on = self.follow && self.pod_is_there();
            loop {
                match self.piece().await {
                    Ok(piece) if piece.is_empty() => break,
                    Ok(piece) => {
                        if pieces.send(Ok(piece)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        // The client may be gone as well.
                        let _ = pieces.send(Err(error)).await;
                        return;
                    }
                }
            }
            if !goes_on || self.left == 0 {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = pieces.closed() => return,
            }
        }
    }

    /// What follows; nothing where there is no more at present.
    async fn piece(&mut self) -> io::Result<Bytes> {
        let mut limit = self.left.min(PIECE as u64);
        if !self.follow {
            limit = limit.min(self.end.saturating_sub(self.file.stream_position().await?));
        }
        let mut piece = Vec::new();
        (&mut self.file).take(limit).read_to_end(&mut piece).await?;
        self.left -= piece.len() as u64;
        Ok(Bytes::from(piece))
    }

    fn pod_is_there(&self) -> bool {
        let pod = self.api.store.get(&self.key);
        pod.is_some_and(|pod| rules::text(pod.value(), "uid") == self.uid)
    }
}
