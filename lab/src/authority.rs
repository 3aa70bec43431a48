//! Questions to the control plane about the roots of its CA, over its debug socket.

use std::path::Path;

use serde_json::Value;

use crate::error::LabError;
use crate::http;
use crate::layout::Layout;

/// What is asked or asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootQuestion {
    /// How the roots stand.
    Status,
    /// A new root.
    Rotate,
    /// That the new root is given up.
    Abort,
    /// That certificates are revoked, by their serial numbers.
    Revoke(Vec<String>),
    /// That all certificates are revoked that were issued to these.
    RevokeAll(Issued),
    /// Which certificates were issued and are valid; all, or those of these.
    Issued(Option<Issued>),
}

/// To whom certificates were issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issued {
    /// To whoever has this identity, a SPIFFE id.
    Identity(String),
    /// To whoever asked for them on this node.
    Node(String),
}

impl Issued {
    /// As it is written in a query, or, with a blank in between, as a request.
    pub fn written(&self, between: char) -> String {
        // Of anything else nothing would be left in a query.
        let plain = |name: &str| {
            let is_plain = |one: &char| one.is_ascii_alphanumeric() || ":/.-_".contains(*one);
            name.chars().filter(is_plain).collect::<String>()
        };
        match self {
            Self::Identity(identity) => format!("identity{between}{}", plain(identity)),
            Self::Node(node) => format!("node{between}{}", plain(node)),
        }
    }
}

/// Asks the lab's control plane; how the roots stand then.
///
/// # Errors
/// When there is no lab, the control plane does not answer, or it refuses: its own words.
pub async fn roots(layout: &Layout, question: RootQuestion) -> Result<Value, LabError> {
    if !layout.root().exists() {
        return Err(LabError::NotUp(layout.name().to_owned()));
    }
    roots_at(&layout.control_plane_socket(), question).await
}

/// Asks the control plane whose debug socket this is.
///
/// # Errors
/// When it does not answer, or refuses: its own words.
pub async fn roots_at(socket: &Path, question: RootQuestion) -> Result<Value, LabError> {
    let long;
    let (method, path) = match question {
        RootQuestion::Status => (hyper::Method::GET, "/debug/ca"),
        RootQuestion::Rotate => (hyper::Method::POST, "/debug/ca/rotate"),
        RootQuestion::Abort => (hyper::Method::POST, "/debug/ca/abort"),
        RootQuestion::Revoke(serials) => {
            // Of anything else nothing would be left in a query.
            let plain = |serial: &String| {
                serial
                    .chars()
                    .filter(char::is_ascii_alphanumeric)
                    .collect::<String>()
            };
            let serials: Vec<String> = serials.iter().map(plain).collect();
            long = format!("/debug/ca/revoke?serials={}", serials.join(","));
            (hyper::Method::POST, long.as_str())
        }
        RootQuestion::RevokeAll(issued) => {
            long = format!("/debug/ca/revoke?{}", issued.written('='));
            (hyper::Method::POST, long.as_str())
        }
        RootQuestion::Issued(None) => (hyper::Method::GET, "/debug/ca/issued"),
        RootQuestion::Issued(Some(issued)) => {
            long = format!("/debug/ca/issued?{}", issued.written('='));
            (hyper::Method::GET, long.as_str())
        }
    };
    let unknown = |error: String| LabError::System {
        doing: "asking the control plane about its roots".to_owned(),
        source: std::io::Error::other(error),
    };
    let (status, answer) = http::ask_json(socket, method, path).await.map_err(unknown)?;
    match status {
        200 | 202 => Ok(answer),
        409 => Err(LabError::Failed(
            answer["error"].as_str().unwrap_or("refused").to_owned(),
        )),
        _ => Err(unknown(format!(
            "{} answers {status}: {answer}",
            socket.display()
        ))),
    }
}
