use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::place::Place;
use crate::pod::Pod;

const QUESTION: &str = "who are you?";

/// A server inside a pod that answers [`ask`] with the pod's name and the caller's address. Ends with the value.
pub struct Responder {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    accepted: AtomicUsize,
    answered: AtomicUsize,
}

impl Responder {
    /// Listens on every address of the pod.
    pub fn start(pod: &Pod, port: u16) -> Responder {
        let listener = pod.listen(port);
        listener.set_nonblocking(true).expect("a socket option");
        let shared = Arc::new(Shared::default());
        let (name, own) = (pod.name.clone(), shared.clone());
        let accepting = std::thread::spawn(move || {
            while !own.ended.load(Ordering::Acquire) {
                match listener.accept() {
                    Ok((stream, caller)) => {
                        own.accepted.fetch_add(1, Ordering::AcqRel);
                        let (name, own) = (name.clone(), own.clone());
                        // Whoever goes away without an answer has chosen to.
                        std::thread::spawn(move || answer(stream, caller, &name, &own.answered));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Responder {
            shared,
            accepting: Some(accepting),
        }
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// How many questions it has answered.
    pub fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::Acquire)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn answer(stream: TcpStream, caller: SocketAddr, name: &str, answered: &AtomicUsize) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut line = String::new();
    BufReader::new(&stream).take(1024).read_line(&mut line)?;
    if line.trim() == QUESTION {
        writeln!(&stream, "{name} {}", caller.ip())?;
        answered.fetch_add(1, Ordering::AcqRel);
    }
    Ok(())
}

/// What a [`Responder`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The pod that answers.
    pub by: String,
    /// The address that it sees the caller under.
    pub caller: IpAddr,
}

/// Asks a [`Responder`]. An end without an answer is an error too (`UnexpectedEof`).
pub fn ask(from: &impl Place, address: impl Into<SocketAddr>) -> io::Result<Reply> {
    ask_within(from, address, Duration::from_secs(10))
}

/// As [`ask`], where connecting and the answer may each take so long.
pub fn ask_within(from: &impl Place, address: impl Into<SocketAddr>, limit: Duration) -> io::Result<Reply> {
    let mut stream = from.connect_within(address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    writeln!(stream, "{QUESTION}")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let reply = text.split_once(' ').and_then(|(by, rest)| {
        Some(Reply {
            by: by.to_owned(),
            caller: rest.trim().parse().ok()?,
        })
    });
    match reply {
        Some(reply) => Ok(reply),
        None if text.is_empty() => Err(ErrorKind::UnexpectedEof.into()),
        None => Err(io::Error::new(ErrorKind::InvalidData, text)),
    }
}
