//! Who calls whom, as people type it.

mod meant;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// `NAMESPACE/POD`: this pod, as it speaks: with its identity when it is in the mesh, in plaintext otherwise.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name; a Deployment's name stands for its pod.
        name: String,
    },
    /// `sa:NAMESPACE/NAME[@IP]`: any pod of this service account, over mTLS. It need not exist.
    Account {
        /// The account's namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Where the connection comes from. Without it, the caller is in no address block.
        address: Option<IpAddr>,
    },
    /// `plaintext:IP`: somebody without an identity at this address.
    Plaintext(IpAddr),
}

/// Who is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// `NAMESPACE/POD:PORT`: this port of this pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name; a Deployment's name stands for its pod.
        name: String,
        /// The pod's port.
        port: u16,
    },
    /// `service:NAMESPACE/NAME:PORT`: this port of this Service, whichever pod answers.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The Service's port.
        port: u16,
    },
}

/// Why a text names no caller or target. Blames whoever typed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuestionError {
    /// No form of a caller.
    #[error(
        "{0:?} is no caller: write NAMESPACE/POD, sa:NAMESPACE/NAME, sa:NAMESPACE/NAME@IP or plaintext:IP{hint}",
        hint = meant::hint(meant::caller(.0))
    )]
    Caller(String),
    /// No form of a target.
    #[error(
        "{0:?} is no target: write NAMESPACE/POD:PORT or service:NAMESPACE/NAME:PORT{hint}",
        hint = meant::hint(meant::target(.0))
    )]
    Target(String),
    /// The address cannot be read.
    #[error("{text:?}: {address:?} is no IP address, such as 10.0.0.1 or 2001:db8::1")]
    Address {
        /// The whole text.
        text: String,
        /// What should be an address.
        address: String,
    },
    /// The port cannot be read.
    #[error("{text:?}: {port:?} is no port: write a number between 1 and 65535")]
    Port {
        /// The whole text.
        text: String,
        /// What should be a port.
        port: String,
    },
    /// The namespace or name can belong to no object.
    #[error("{text:?}: {name:?} is no name: 1 to 253 lower-case letters, digits, '-' and '.'")]
    Name {
        /// The whole text.
        text: String,
        /// What should be a name.
        name: String,
    },
}

impl FromStr for Caller {
    type Err = QuestionError;

    fn from_str(text: &str) -> Result<Caller, QuestionError> {
        if let Some(address) = text.strip_prefix("plaintext:") {
            return Ok(Caller::Plaintext(ip(text, address)?));
        }
        let unknown = || QuestionError::Caller(text.to_owned());
        if let Some(account) = text.strip_prefix("sa:") {
            let (account, address) = match account.split_once('@') {
                Some((account, address)) => (account, Some(ip(text, address)?)),
                None => (account, None),
            };
            let (namespace, name) = names(text, account).ok_or_else(unknown)??;
            return Ok(Caller::Account {
                namespace,
                name,
                address,
            });
        }
        let (namespace, name) = names(text, text).ok_or_else(unknown)??;
        Ok(Caller::Pod { namespace, name })
    }
}

impl FromStr for Target {
    type Err = QuestionError;

    fn from_str(text: &str) -> Result<Target, QuestionError> {
        let unknown = || QuestionError::Target(text.to_owned());
        let (is_service, place) = match text.strip_prefix("service:") {
            Some(place) => (true, place),
            None => (false, text),
        };
        let (place, port) = place.rsplit_once(':').ok_or_else(unknown)?;
        let (namespace, name) = names(text, place).ok_or_else(unknown)??;
        let canonical = |number: &u16| *number > 0 && number.to_string() == port;
        let port = port.parse().ok().filter(canonical);
        let port = port.ok_or_else(|| QuestionError::Port {
            text: text.to_owned(),
            port: text.rsplit(':').next().unwrap_or_default().to_owned(),
        })?;
        Ok(if is_service {
            Target::Service {
                namespace,
                name,
                port,
            }
        } else {
            Target::Pod {
                namespace,
                name,
                port,
            }
        })
    }
}

/// As it is typed.
impl fmt::Display for Caller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Pod { namespace, name } => write!(out, "{namespace}/{name}"),
            Caller::Account {
                namespace,
                name,
                address,
            } => {
                write!(out, "sa:{namespace}/{name}")?;
                address.map_or(Ok(()), |address| write!(out, "@{address}"))
            }
            Caller::Plaintext(address) => write!(out, "plaintext:{address}"),
        }
    }
}

/// As it is typed.
impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Pod {
                namespace,
                name,
                port,
            } => write!(out, "{namespace}/{name}:{port}"),
            Target::Service {
                namespace,
                name,
                port,
            } => write!(out, "service:{namespace}/{name}:{port}"),
        }
    }
}

/// `NAMESPACE/NAME`; `None` when it has another form.
fn names(text: &str, place: &str) -> Option<Result<(String, String), QuestionError>> {
    let (namespace, name) = place.split_once('/')?;
    if name.contains(['/', ':', '@']) || namespace.contains([':', '@']) {
        return None;
    }
    let wrong = [namespace, name].into_iter().find(|part| !is_name(part));
    Some(match wrong {
        Some(part) => Err(QuestionError::Name {
            text: text.to_owned(),
            name: part.to_owned(),
        }),
        None => Ok((namespace.to_owned(), name.to_owned())),
    })
}

/// A DNS-1123 name, as every object has.
fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let label = |part: &str| {
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn ip(text: &str, address: &str) -> Result<IpAddr, QuestionError> {
    let wrong = || QuestionError::Address {
        text: text.to_owned(),
        address: address.to_owned(),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    // Nobody connects from there.
    if address.is_unspecified() {
        return Err(wrong());
    }
    Ok(address.to_canonical())
}

#[cfg(test)]
mod tests;
