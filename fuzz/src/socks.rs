//! What a SOCKS client says.

use ztunnel::socks5::message::{Destination, Malformed, Request, Step, methods, request};

/// No message is longer: four bytes, a name of 255 with its length, a port.
const LONGEST: usize = 4 + 1 + 255 + 2;

/// The two messages of a client, one after the other.
pub(crate) fn client(input: &[u8]) -> bool {
    let Some((true, used)) = read(input, methods) else {
        return false;
    };
    let Some((Request::Connect(destination), _)) = read(&input[used..], request) else {
        return false;
    };
    match destination {
        Destination::Address(address) => assert!(address.port() != 0),
        Destination::Name(name, port) => {
            // A dot at its end says that it is whole.
            let labels = name.strip_suffix('.').unwrap_or(&name);
            assert!(port != 0 && !labels.is_empty() && labels.len() <= 253);
            assert_eq!(name, name.to_ascii_lowercase());
            assert!(labels.split('.').all(|label| (1..=63).contains(&label.len())));
        }
    }
    true
}

/// Reads a message as it comes off a connection: no more than is asked for. Returns how much was used too.
fn read<T: PartialEq + std::fmt::Debug>(
    input: &[u8],
    parse: impl Fn(&[u8]) -> Result<Step<T>, Malformed>,
) -> Option<(T, usize)> {
    let mut had = 0;
    loop {
        match parse(&input[..had]) {
            Err(_) => return None,
            Ok(Step::More(more)) => {
                assert!(more > 0 && had + more <= LONGEST);
                if had + more > input.len() {
                    return None;
                }
                had += more;
            }
            Ok(Step::Done(message)) => {
                // What follows changes nothing.
                let again = parse(input);
                assert_eq!(again.as_ref(), Ok(&Step::Done(message)));
                let Ok(Step::Done(message)) = again else {
                    return None;
                };
                return Some((message, had));
            }
        }
    }
}
