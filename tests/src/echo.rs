use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use crate::place::Place;
use crate::pod::Pod;

/// Echoes everything on every connection to this port of the pod, until the test's process ends.
pub fn serve_echo(pod: &Pod, port: u16) -> SocketAddr {
    let listener = pod.listen(port);
    thread::spawn(move || {
        loop {
            // The listener lets accept give up now and then.
            let Ok((mut stream, _)) = listener.accept() else {
                continue;
            };
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    pod.at(port)
}

/// Sends a text to an echo and takes it back. Panics when something else comes back.
#[track_caller]
pub fn echo(stream: &mut TcpStream, text: &[u8]) -> io::Result<()> {
    stream.write_all(text)?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    assert_eq!(back, text, "an echo must give back what it was sent");
    Ok(())
}

/// As [`echo`], through a connection of its own.
#[track_caller]
pub fn echo_once(from: &impl Place, to: SocketAddr, text: &[u8]) -> io::Result<()> {
    echo(&mut from.connect(to)?, text)
}
