use super::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The sources that give connections their codes.
const SOURCES: [&str; 3] = ["src", "../lib/mesh/src", "../lib/tls/src"];

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn sources(directory: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("tests.rs") {
            found.push(std::fs::read_to_string(&path).unwrap());
        }
    }
}

fn is_code(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The words in quotes of `text` that look like codes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2).filter(|word| is_code(word))
}

/// The text from `begin` to where its first bracket closes.
fn bracketed(begin: &str, open: char, close: char) -> &str {
    let mut depth = 0;
    for (index, character) in begin.char_indices() {
        if character == open {
            depth += 1;
        } else if character == close {
            depth -= 1;
            if depth == 0 {
                return &begin[..index];
            }
        }
    }
    panic!("{open} without {close} in {begin:.80}");
}

/// Every code that the program can give: what functions named `code` return, and what is counted by name.
fn codes() -> BTreeSet<String> {
    let mut texts = Vec::new();
    for source in SOURCES {
        sources(&here(source), &mut texts);
    }
    let mut codes = BTreeSet::new();
    for text in &texts {
        for (marker, open, close) in [
            ("fn code(", '{', '}'),
            (".refused(", '(', ')'),
            (".closed_early(", '(', ')'),
            (".handshake_failed(", '(', ')'),
        ] {
            for (position, _) in text.match_indices(marker) {
                codes.extend(quoted(bracketed(&text[position..], open, close)).map(str::to_owned));
            }
        }
    }
    assert!(codes.len() > 50, "{codes:?}");
    codes
}

/// Every code that the page explains.
fn explained() -> BTreeSet<String> {
    let page = std::fs::read_to_string(here("../docs/reasons.md")).unwrap();
    let mut found = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cell = row.split('|').nth(1).unwrap();
        found.extend(cell.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    let passing = page
        .lines()
        .find(|line| line.starts_with("`allowed_by_policy`"))
        .unwrap();
    found.extend(
        passing
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| is_code(word))
            .map(str::to_owned),
    );
    found
}

#[test]
fn every_code_is_explained_and_no_other() {
    let (codes, explained) = (codes(), explained());
    let families: Vec<&str> = explained
        .iter()
        .filter_map(|code| code.strip_suffix('*'))
        .collect();
    let in_family = |code: &str| families.iter().any(|family| code.starts_with(family));
    let missing: Vec<&String> = codes
        .iter()
        .filter(|code| !explained.contains(*code) && !in_family(code))
        .collect();
    assert!(missing.is_empty(), "docs/reasons.md lacks {missing:?}");
    let stale: Vec<&String> = explained
        .iter()
        .filter(|code| !code.ends_with('*') && !codes.contains(*code))
        .collect();
    assert!(
        stale.is_empty(),
        "docs/reasons.md explains {stale:?}, which nothing gives"
    );
    for family in families {
        assert!(codes.iter().any(|code| code.starts_with(family)), "{family}*");
    }
}

fn connect(port: u16, kind: io::ErrorKind) -> Failure {
    Failure::Connect {
        to: SocketAddr::new(IpAddr::from([10, 0, 0, 1]), port),
        error: kind.into(),
    }
}

#[test]
fn flags_are_those_of_existing_dashboards() {
    let peer = "10.0.0.1:15008".parse().unwrap();
    let tls = |error| Failure::Tls { peer, error };
    for (failure, flags) in [
        (
            connect(8080, io::ErrorKind::ConnectionRefused),
            ResponseFlags::Connect,
        ),
        (connect(8080, io::ErrorKind::TimedOut), ResponseFlags::Connect),
        (
            connect(15008, io::ErrorKind::TimedOut),
            ResponseFlags::NetworkPolicy,
        ),
        (
            connect(15008, io::ErrorKind::ConnectionRefused),
            ResponseFlags::Connect,
        ),
        (Failure::PeerStatus { peer, status: 503 }, ResponseFlags::Connect),
        (Failure::PeerStatus { peer, status: 401 }, ResponseFlags::Connect),
        (tls(HandshakeError::UntrustedIssuer), ResponseFlags::TlsFailure),
        (
            Failure::Tunnel {
                peer,
                error: "gone".into(),
            },
            ResponseFlags::H2HandshakeFailure,
        ),
        (
            Failure::Shared(Arc::new(tls(HandshakeError::NotTls))),
            ResponseFlags::TlsFailure,
        ),
        (
            Failure::Certificate(CertificateError::NotHeld(mesh::Identity::new("td", "ns", "sa"))),
            ResponseFlags::IdentityError,
        ),
        (
            Failure::Closed(CloseReason::Policy("no".into())),
            ResponseFlags::Denied,
        ),
        (Failure::Closed(CloseReason::Stopping), ResponseFlags::Connect),
        (Failure::Reset("r".into()), ResponseFlags::Connect),
    ] {
        assert_eq!(failure.flags(), flags, "{failure}");
    }
    let hint = connect(15008, io::ErrorKind::TimedOut).to_string();
    assert!(hint.contains("NetworkPolicy"), "{hint}");
}
