//! The node proxies that are connected over ZDS, and the pods they are to serve.
//!
//! Usually there is one; during an upgrade there are two. New pods go to the newest connection only, removals to all.
//! A pod counts as served once the newest connection has acknowledged it.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sys::{Namespace, seqpacket};
use tokio::sync::{mpsc, oneshot, watch};
use zds::{
    ANSWER_DEADLINE, FrameError, MAX_RECORD, PodInfo,
    agent::{Connection, ConnectionError, Event, SnapshotPod},
};

/// Connections served at a time; further ones are closed at once.
pub const MAX_CONNECTIONS: usize = 8;

/// Between two accepted connections, so that a proxy that comes and goes does not keep the agent busy.
const ACCEPT_INTERVAL: Duration = Duration::from_millis(200);

/// What has become of a pod that is to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    /// No connected proxy has acknowledged it yet.
    NotYet,
    /// The newest proxy serves it.
    Yes,
    /// The newest proxy has refused, with this reason.
    Refused(String),
}

/// The connected proxies and the pods. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    pods: BTreeMap<String, Pod>,
    /// The newest last.
    connections: Vec<Connected>,
    last_connection: u64,
    last_generation: u64,
}

#[derive(Debug)]
struct Pod {
    info: PodInfo,
    namespace: Option<Namespace>,
    /// Told apart from an earlier request for the same pod, whose answer may be still to come.
    generation: u64,
    served: watch::Sender<Served>,
}

#[derive(Debug)]
struct Connected {
    id: u64,
    /// Unbounded, since its task takes commands at any time; there are at most a few per pod.
    commands: mpsc::UnboundedSender<Command>,
    /// Generations that this proxy has acknowledged.
    acknowledged: HashMap<String, u64>,
}

#[derive(Debug)]
enum Command {
    Add(String),
    Remove(String, oneshot::Sender<()>),
}

impl Proxies {
    /// Nobody is connected and no pod is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Has the pod served by the newest proxy, now or as soon as one connects. Without a namespace, proxies that
    /// connect later are told to keep the pod if they have it.
    ///
    /// Asking again for the same pod sends it again, as after a refusal or with another namespace.
    pub fn serve(&self, uid: &str, info: PodInfo, namespace: Option<Namespace>) -> watch::Receiver<Served> {
        let mut shared = self.lock();
        shared.last_generation += 1;
        let generation = shared.last_generation;
        let send = namespace.is_some();
        let pod = shared.pods.entry(uid.to_owned()).or_insert_with(|| Pod {
            info: PodInfo::default(),
            namespace: None,
            generation,
            served: watch::Sender::new(Served::NotYet),
        });
        pod.info = info;
        pod.namespace = namespace;
        pod.generation = generation;
        pod.served.send_replace(Served::NotYet);
        let receiver = pod.served.subscribe();
        if let Some(newest) = shared.connections.last().filter(|_| send) {
            let _ = newest.commands.send(Command::Add(uid.to_owned()));
        }
        receiver
    }

    /// Has every proxy let go of the pod; returns when each has answered or is gone, which takes a few seconds at
    /// most.
    pub async fn stop(&self, uid: &str) {
        let answers: Vec<oneshot::Receiver<()>> = {
            let mut shared = self.lock();
            shared.pods.remove(uid);
            let tell = |connected: &mut Connected| {
                connected.acknowledged.remove(uid);
                let (done, answer) = oneshot::channel();
                let _ = connected.commands.send(Command::Remove(uid.to_owned(), done));
                answer
            };
            shared.connections.iter_mut().map(tell).collect()
        };
        for answer in answers {
            // An error means that the connection is gone; its proxy will be given a snapshot without the pod.
            let _ = answer.await;
        }
    }

    /// How many proxies are connected.
    pub fn connected(&self) -> usize {
        self.lock().connections.len()
    }

    /// Accepts proxies for ever. Every pod that must survive in a proxy has to be known by now: what a snapshot does
    /// not name, a proxy lets go.
    pub async fn run(self, listener: seqpacket::Listener) {
        loop {
            match listener.accept().await {
                Ok(_) if self.connected() >= MAX_CONNECTIONS => {
                    tracing::warn!(
                        "{MAX_CONNECTIONS} node proxies are connected already: another one is turned away"
                    );
                }
                Ok(socket) => {
                    tokio::spawn(self.clone().converse(socket));
                }
                Err(error) => tracing::warn!("cannot accept a node proxy: {error}"),
            }
            tokio::time::sleep(ACCEPT_INTERVAL).await;
        }
    }

    async fn converse(self, socket: seqpacket::Connection) {
        // The snapshot is taken when the proxy has shown itself to be one: until then it is not the newest.
        let hello = tokio::time::timeout(ANSWER_DEADLINE, socket.recv(MAX_RECORD)).await;
        let hello = match hello {
            Ok(Ok((hello, _))) => hello,
            Ok(Err(error)) => return tracing::warn!("a node proxy went before it said hello: {error}"),
            Err(_) => return tracing::warn!("a node proxy did not say hello within {ANSWER_DEADLINE:?}"),
        };
        let (id, machine, commands) = self.register(Instant::now());
        tracing::info!(connection = id, "a node proxy is connected");
        let conversation = Conversation {
            proxies: &self,
            id,
            socket,
            machine,
            removals: HashMap::new(),
            asked: None,
        };
        let ended = conversation.run(&hello, commands).await;
        self.unregister(id);
        match ended {
            End::Socket(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                tracing::info!(connection = id, "the node proxy has disconnected");
            }
            end => tracing::warn!(
                connection = id,
                "the connection to the node proxy is closed: {end}"
            ),
        }
    }

    fn register(&self, now: Instant) -> (u64, Connection, mpsc::UnboundedReceiver<Command>) {
        let mut shared = self.lock();
        shared.last_connection += 1;
        let id = shared.last_connection;
        let (commands, receiver) = mpsc::unbounded_channel();
        let snapshot = shared.pods.iter().map(|(uid, pod)| match &pod.namespace {
            Some(_) => SnapshotPod::Add {
                uid: uid.clone(),
                info: pod.info.clone(),
            },
            None => SnapshotPod::Keep { uid: uid.clone() },
        });
        let machine = Connection::new(snapshot, now);
        for pod in shared.pods.values() {
            pod.served.send_replace(Served::NotYet);
        }
        shared.connections.push(Connected {
            id,
            commands,
            acknowledged: HashMap::new(),
        });
        (id, machine, receiver)
    }

    /// Where an older proxy becomes the newest again, it is given what it lacks.
    fn unregister(&self, id: u64) {
        let mut shared = self.lock();
        let was_newest = shared.connections.last().is_some_and(|newest| newest.id == id);
        shared.connections.retain(|connected| connected.id != id);
        if !was_newest {
            return;
        }
        let Shared {
            pods, connections, ..
        } = &mut *shared;
        for (uid, pod) in pods {
            let Some(newest) = connections.last() else {
                pod.served.send_replace(Served::NotYet);
                continue;
            };
            let has_it = newest.acknowledged.get(uid) == Some(&pod.generation);
            pod.served
                .send_replace(if has_it { Served::Yes } else { Served::NotYet });
            if !has_it && pod.namespace.is_some() {
                let _ = newest.commands.send(Command::Add(uid.clone()));
            }
        }
    }

    fn answered(&self, connection: u64, uid: &str, generation: u64, result: Result<(), String>) {
        let mut shared = self.lock();
        let Shared {
            pods, connections, ..
        } = &mut *shared;
        let newest = connections.last().is_some_and(|newest| newest.id == connection);
        let Some(pod) = pods.get(uid).filter(|pod| pod.generation == generation) else {
            return;
        };
        if result.is_ok()
            && let Some(connected) = connections
                .iter_mut()
                .find(|connected| connected.id == connection)
        {
            connected.acknowledged.insert(uid.to_owned(), generation);
        }
        if newest {
            pod.served.send_replace(match result {
                Ok(()) => Served::Yes,
                Err(reason) => Served::Refused(reason),
            });
        }
    }

    fn pod(&self, uid: &str) -> Option<(PodInfo, Option<Namespace>, u64)> {
        let shared = self.lock();
        shared
            .pods
            .get(uid)
            .map(|pod| (pod.info.clone(), pod.namespace.clone(), pod.generation))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Nothing panics while it is held; and if it did, what is inside is still consistent for each pod.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection: the state machine of `zds` with a socket and the pods' descriptors.
struct Conversation<'a> {
    proxies: &'a Proxies,
    id: u64,
    socket: seqpacket::Connection,
    machine: Connection,
    removals: HashMap<String, Vec<oneshot::Sender<()>>>,
    /// The pod and generation that the outstanding request is about.
    asked: Option<(String, u64)>,
}

#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] ConnectionError),
    #[error("it did not take over the snapshot: {0}")]
    Snapshot(String),
}

impl Conversation<'_> {
    async fn run(mut self, hello: &[u8], mut commands: mpsc::UnboundedReceiver<Command>) -> End {
        if let Err(end) = self.machine.received(hello) {
            return end.into();
        }
        loop {
            if let Err(end) = self.send_next().await {
                return end;
            }
            let deadline = self.machine.deadline();
            let result = tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => {
                        self.command(command);
                        Ok(())
                    }
                    None => return End::Socket(io::ErrorKind::UnexpectedEof.into()),
                },
                record = self.socket.recv(MAX_RECORD) => self.record(record),
                () = sleep_until(deadline) => self.machine.check_deadline(Instant::now()).map_err(End::from),
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    async fn send_next(&mut self) -> Result<(), End> {
        while let Some(next) = self.machine.next_request(Instant::now()) {
            let outgoing = match next {
                Ok(outgoing) => outgoing,
                Err(event) => {
                    self.asked = None;
                    self.event(event)?;
                    continue;
                }
            };
            let uid = outgoing.descriptor_of;
            let pod = uid.as_deref().map(|uid| (uid.to_owned(), self.proxies.pod(uid)));
            let namespace = match pod {
                // No descriptor goes along.
                None => None,
                Some((uid, Some((_, Some(namespace), generation)))) => {
                    self.asked = Some((uid, generation));
                    Some(namespace)
                }
                // The pod has gone since this was queued.
                Some((_, _)) => {
                    self.machine.abandon_request();
                    continue;
                }
            };
            let descriptor = namespace.as_ref().map(Namespace::as_fd);
            let sending = self.socket.send(&outgoing.bytes, descriptor);
            let late = || io::Error::new(io::ErrorKind::TimedOut, "it does not read what it is sent");
            tokio::time::timeout(ANSWER_DEADLINE, sending)
                .await
                .map_err(|_| late())??;
        }
        Ok(())
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Add(uid) => {
                let Some((info, Some(_), generation)) = self.proxies.pod(&uid) else {
                    return;
                };
                if let Err(error) = self.machine.add(&uid, info) {
                    self.refused(&uid, generation, &error);
                }
            }
            Command::Remove(uid, done) => {
                if self.machine.remove(&uid) {
                    self.removals.entry(uid).or_default().push(done);
                } else {
                    let _ = done.send(());
                }
            }
        }
    }

    fn record(&mut self, record: io::Result<(Vec<u8>, Vec<std::os::fd::OwnedFd>)>) -> Result<(), End> {
        let (record, _) = record?;
        let event = self.machine.received(&record)?;
        self.event(event)
    }

    fn event(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Ready => {}
            Event::Added { uid, result } | Event::Kept { uid, result } => {
                let asked = self.asked.take().filter(|(asked, _)| *asked == uid);
                let generation = asked.map(|(_, generation)| generation);
                let generation = generation.or_else(|| self.proxies.pod(&uid).map(|(_, _, now)| now));
                if let Some(generation) = generation {
                    self.proxies.answered(self.id, &uid, generation, result);
                }
            }
            Event::Removed { uid, result } => {
                if let Err(reason) = result {
                    tracing::warn!(uid, "the node proxy could not let go of a pod: {reason}");
                }
                for done in self.removals.remove(&uid).into_iter().flatten() {
                    let _ = done.send(());
                }
            }
            Event::SnapshotTaken { result } => result.map_err(End::Snapshot)?,
        }
        Ok(())
    }

    fn refused(&self, uid: &str, generation: u64, error: &FrameError) {
        self.proxies
            .answered(self.id, uid, generation, Err(error.to_string()));
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
