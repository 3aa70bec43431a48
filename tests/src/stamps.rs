//! Connections that carry nothing but the moment at which each message was sent, so that a test can tell what was still
//! let through after some moment: a server, connections that are held open, and a flood of new ones.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::place::Place;
use crate::pod::Pod;

/// What follows from a change is there when the command has returned; a socket's end still has to cross a wire.
pub const AT_ONCE: Duration = Duration::from_secs(1);

/// Who wrote a message: somebody outside of the mesh, or inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// By the name of its namespace, `outside`.
    Outside,
    /// Any other.
    Inside,
}

/// A message says when it was sent, on the test's own clock, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// When.
    pub at: Duration,
    /// By whom.
    pub from: Sender,
}

impl Stamp {
    const LENGTH: usize = 9;

    fn encode(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..8].copy_from_slice(&(self.at.as_nanos() as u64).to_be_bytes());
        bytes[8] = u8::from(self.from == Sender::Inside);
        bytes
    }

    fn decode(bytes: [u8; Self::LENGTH]) -> Stamp {
        let at = Duration::from_nanos(u64::from_be_bytes(bytes[..8].try_into().unwrap()));
        let from = if bytes[8] == 1 {
            Sender::Inside
        } else {
            Sender::Outside
        };
        Stamp { at, from }
    }
}

/// Sends the present moment over a connection and waits for it to come back.
pub fn exchange_stamp(mut stream: &TcpStream, from: Sender, clock: Instant) -> io::Result<()> {
    let message = Stamp {
        at: clock.elapsed(),
        from,
    }
    .encode();
    stream.write_all(&message)?;
    let mut answer = [0; Stamp::LENGTH];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer, message, "another answer than was sent");
    Ok(())
}

/// One connection from a chosen local port, from outside of the mesh, with one message. It ends with a reset, so that
/// the port is free at once.
pub fn exchange_from(from: &Pod, port: u16, to: SocketAddr, clock: Instant) -> io::Result<()> {
    let connecting = || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.set_linger(Some(Duration::ZERO))?;
        Ok(TcpStream::from(socket))
    };
    exchange_stamp(&from.inside(connecting)?, Sender::Outside, clock)
}

/// A server inside a pod that echoes stamps and remembers them. Ends with the value.
pub struct Application {
    seen: Arc<Seen>,
    accepting: Vec<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    ended: AtomicBool,
    open: AtomicUsize,
    from_outside: AtomicU64,
    from_inside: AtomicU64,
    callers: Mutex<Vec<SocketAddr>>,
}

impl Application {
    /// Listens on these ports.
    pub fn start(pod: &Pod, ports: &[u16]) -> Application {
        let seen = Arc::new(Seen::default());
        let accept = |port: &u16| {
            let (listener, seen) = (pod.listen(*port), seen.clone());
            listener.set_nonblocking(true).unwrap();
            thread::spawn(move || seen.accept(&listener))
        };
        let accepting = ports.iter().map(accept).collect();
        Application { seen, accepting }
    }

    /// Connections that it has accepted.
    pub fn accepted(&self) -> usize {
        self.seen.callers.lock().unwrap().len()
    }

    /// Connections whose end it has not seen.
    pub fn open(&self) -> usize {
        self.seen.open.load(Ordering::Acquire)
    }

    /// When the newest message of such senders was sent.
    pub fn newest_message(&self, of: impl Fn(&Stamp) -> bool) -> Duration {
        let newest = [
            (Sender::Outside, &self.seen.from_outside),
            (Sender::Inside, &self.seen.from_inside),
        ];
        let newest = newest.map(|(from, at)| Stamp {
            at: Duration::from_nanos(at.load(Ordering::Acquire)),
            from,
        });
        newest
            .iter()
            .filter(|stamp| of(stamp))
            .map(|stamp| stamp.at)
            .max()
            .unwrap_or_default()
    }

    /// How many connections came through the proxy while `f` ran: their client's end is a socket in the pod itself.
    pub fn proxied(&self, pod: &Pod, f: impl FnOnce()) -> usize {
        let before = self.seen.callers.lock().unwrap().len();
        f();
        let callers = self.seen.callers.lock().unwrap()[before..].to_vec();
        let sockets = sys::diag::sockets(&pod.network).unwrap();
        let local = |caller: &&SocketAddr| sockets.iter().any(|socket| socket.local == **caller);
        callers.iter().filter(local).count()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.seen.ended.store(true, Ordering::Release);
        for accepting in self.accepting.drain(..) {
            let _ = accepting.join();
        }
    }
}

impl Seen {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        while !self.ended.load(Ordering::Acquire) {
            let Ok((stream, caller)) = listener.accept() else {
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            self.open.fetch_add(1, Ordering::AcqRel);
            self.callers.lock().unwrap().push(caller);
            let own = self.clone();
            let serve = move || {
                // However it ends, it has ended.
                let _ = own.echo(stream);
                own.open.fetch_sub(1, Ordering::AcqRel);
            };
            thread::Builder::new().stack_size(64 * 1024).spawn(serve).unwrap();
        }
    }

    fn echo(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        loop {
            let mut bytes = [0; Stamp::LENGTH];
            stream.read_exact(&mut bytes)?;
            let stamp = Stamp::decode(bytes);
            let newest = match stamp.from {
                Sender::Outside => &self.from_outside,
                Sender::Inside => &self.from_inside,
            };
            newest.fetch_max(stamp.at.as_nanos() as u64, Ordering::AcqRel);
            stream.write_all(&bytes)?;
        }
    }
}

/// A connection that is kept open.
pub struct Held {
    name: String,
    stream: TcpStream,
    local: SocketAddr,
    from: Sender,
    clock: Instant,
}

impl Held {
    /// Opens one and uses it once.
    #[track_caller]
    pub fn open(name: &str, from: &Pod, to: SocketAddr, clock: Instant) -> Held {
        Held::try_open(name, from, to, clock)
            .unwrap_or_else(|error| panic!("the connection {name} of {} to {to}: {error}", from.name))
    }

    /// Opens one and uses it once, where that may be refused.
    pub fn try_open(name: &str, from: &Pod, to: SocketAddr, clock: Instant) -> io::Result<Held> {
        let name = format!("the connection {name} of {} to {to}", from.name);
        let stream = from.connect(to)?;
        let from = if from.namespace == "outside" {
            Sender::Outside
        } else {
            Sender::Inside
        };
        let mut held = Held {
            name,
            local: stream.local_addr()?,
            stream,
            from,
            clock,
        };
        held.exchange()?;
        Ok(held)
    }

    /// One from every caller to every port.
    #[track_caller]
    pub fn open_all(name: &str, callers: &[Pod], to: &Pod, ports: &[u16], clock: Instant) -> Vec<Held> {
        let pairs = callers
            .iter()
            .flat_map(|caller| ports.iter().map(move |port| (caller, *port)));
        pairs
            .map(|(caller, port)| Held::open(name, caller, to.at(port), clock))
            .collect()
    }

    /// The port at its client's end.
    pub fn local_port(&self) -> u16 {
        self.local.port()
    }

    /// Sends a message and waits for it to come back.
    pub fn exchange(&mut self) -> io::Result<()> {
        exchange_stamp(&self.stream, self.from, self.clock)
    }

    /// It has been closed or reset, or is at this moment.
    #[track_caller]
    pub fn expect_end(&mut self) {
        self.stream.set_read_timeout(Some(AT_ONCE)).unwrap();
        match self.stream.read(&mut [0; 1]) {
            Ok(0) => {}
            Ok(_) => panic!("{self} carries bytes that nobody sent"),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("{self} is still open")
            }
            Err(_) => {}
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Plaintext connections without end: every caller to every target, again and again, with one message each.
pub struct Flood {
    ended: Arc<AtomicBool>,
    streams: Vec<Arc<Stream>>,
    threads: Vec<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Stream {
    tried: AtomicU64,
    /// When those that were served had begun.
    served: Mutex<Vec<Duration>>,
}

impl Flood {
    /// Begins.
    pub fn start(callers: &[Pod], targets: &[SocketAddr], clock: Instant) -> Flood {
        let mut flood = Flood {
            ended: Arc::default(),
            streams: Vec::new(),
            threads: Vec::new(),
        };
        for (caller, target) in callers
            .iter()
            .flat_map(|caller| targets.iter().map(move |target| (caller, *target)))
        {
            let (caller, ended, stream) = (caller.clone(), flood.ended.clone(), Arc::new(Stream::default()));
            flood.streams.push(stream.clone());
            flood.threads.push(thread::spawn(move || {
                while !ended.load(Ordering::Acquire) {
                    let begun = clock.elapsed();
                    let outcome = caller
                        .connect_within(target, Duration::from_secs(2))
                        .and_then(|connection| exchange_stamp(&connection, Sender::Outside, clock));
                    stream.tried.fetch_add(1, Ordering::AcqRel);
                    if outcome.is_ok() {
                        stream.served.lock().unwrap().push(begun);
                    }
                    // Enough at a time that none of the two nodes runs out of ports.
                    thread::sleep(Duration::from_millis(2));
                }
            }));
        }
        flood
    }

    /// Whether every caller was served so often at every target.
    pub fn all_have_been_served(&self, times: usize) -> bool {
        self.streams
            .iter()
            .all(|stream| stream.served.lock().unwrap().len() >= times)
    }

    /// How many connections it has tried.
    pub fn tried(&self) -> u64 {
        self.streams
            .iter()
            .map(|stream| stream.tried.load(Ordering::Acquire))
            .sum()
    }

    /// How many connections were served of those that were begun after a moment of the clock.
    pub fn served_of_those_begun_after(&self, moment: Duration) -> usize {
        let after = |stream: &Arc<Stream>| {
            stream
                .served
                .lock()
                .unwrap()
                .iter()
                .filter(|begun| **begun > moment)
                .count()
        };
        self.streams.iter().map(after).sum()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
