use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::failure::{Doing, Failure, Outcome};

/// How long a connection may take to open.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// A network namespace that lives as long as this value (or a clone).
#[derive(Clone, Debug)]
pub struct Namespace {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    // Programs are started from one thread that lives as long as the namespace: they inherit the namespace from it, and
    // the kernel's death signal follows the thread that started them.
    starter: Mutex<Sender<Start>>,
}

type Start = (Command, Sender<io::Result<Child>>);

impl Namespace {
    /// Makes one.
    pub fn new() -> Outcome<Namespace> {
        let (starter, commands) = channel();
        let (opened, ready) = channel();
        thread::Builder::new()
            .name("namespace".into())
            .spawn(move || live(&opened, &commands))?;
        let file = ready
            .recv()?
            .doing("making a network namespace; this needs root")?;
        Ok(Namespace {
            inner: Arc::new(Inner {
                file,
                starter: Mutex::new(starter),
            }),
        })
    }

    /// The namespace as a file, to be passed on.
    pub fn file(&self) -> &File {
        &self.inner.file
    }

    /// Runs `work` on a thread inside; sockets it opens stay inside.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                setns(&self.inner.file, CloneFlags::CLONE_NEWNET)?;
                work()
            });
            worker
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the work inside a namespace panicked")))
        })
    }

    /// A command for [`Namespace::start`], killed when the namespace's thread ends, and so when this process ends, however
    /// it does. `setpriv` (util-linux) asks the kernel for that and becomes the program.
    pub fn command(program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    }

    /// Starts a program inside.
    pub fn start(&self, program: Command) -> Outcome<Child> {
        let name = format!("starting {:?}", program.get_args().nth(3).unwrap_or_default());
        let (answer, started) = channel();
        self.inner
            .starter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .send((program, answer))
            .map_err(|_| Failure::new("the namespace's thread is gone"))?;
        started.recv()?.doing(name)
    }

    /// Opens a TCP connection from inside.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.connect_from(None, to).await
    }

    /// As [`Namespace::connect`], from this local address.
    pub async fn connect_from(&self, from: Option<SocketAddr>, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.inside(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            socket.set_tcp_nodelay(true)?;
            if let Some(from) = from {
                socket.bind(&from.into())?;
            }
            Ok(socket)
        })?;
        let connecting = TcpSocket::from_std_stream(socket.into()).connect(to);
        timeout(CONNECT_DEADLINE, connecting).await?
    }

    /// Listens on a TCP address inside.
    pub fn listen(&self, at: SocketAddr) -> io::Result<TcpListener> {
        let listener = self.inside(|| {
            let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&at.into())?;
            socket.listen(1024)?;
            Ok(socket)
        })?;
        TcpListener::from_std(listener.into())
    }

    /// Binds a UDP address inside.
    pub fn bind_udp(&self, at: SocketAddr) -> io::Result<UdpSocket> {
        let socket = self.inside(|| std::net::UdpSocket::bind(at))?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    }

    /// Writes a setting below /proc/sys.
    pub fn setting(&self, name: &str, value: &str) -> io::Result<()> {
        self.inside(|| std::fs::write(format!("/proc/sys/{name}"), value))
    }
}

/// The life of a namespace's thread: it makes the namespace, then starts programs until nobody can ask any more.
fn live(opened: &Sender<io::Result<File>>, commands: &Receiver<Start>) {
    let made = unshare(CloneFlags::CLONE_NEWNET)
        .map_err(io::Error::from)
        .and_then(|()| File::open("/proc/thread-self/ns/net"));
    let good = made.is_ok();
    if opened.send(made).is_err() || !good {
        return;
    }
    while let Ok((mut command, answer)) = commands.recv() {
        if let Err(unheard) = answer.send(command.spawn())
            && let Ok(mut child) = unheard.0
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
