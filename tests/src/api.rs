use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::lab::Lab;

/// The most that is read of an answer.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;
/// How long a read or a write may take.
const PATIENCE: Duration = Duration::from_secs(30);
const MERGE: &str = "application/merge-patch+json";

/// A Kubernetes API, such as that of a lab, as kubectl would call it from this machine.
pub struct Api {
    address: SocketAddr,
    token: String,
    config: Arc<ClientConfig>,
}

impl Api {
    /// That of this lab, by its kubeconfig.
    #[track_caller]
    pub fn of(lab: &Lab) -> Api {
        let path = lab.ztctl(&["kubeconfig"]).expect_code(0).stdout;
        let text = std::fs::read_to_string(path.trim()).expect("the kubeconfig");
        let file: Value = serde_json::from_str(&text).expect("a kubeconfig in JSON");
        let url = file["clusters"][0]["cluster"]["server"]
            .as_str()
            .expect("a server");
        let address = url.strip_prefix("https://").expect("TLS");
        let token = file["users"][0]["user"]["token"].as_str().expect("a token");
        let roots = format!(
            "{}/kube-api/root-cert.pem",
            lab.status()["directory"].as_str().expect("a directory")
        );
        Api::at(address.parse().expect("an address"), token, roots.as_ref())
    }

    /// That at an address: with a token, and the root certificate in a PEM file.
    #[track_caller]
    pub fn at(address: SocketAddr, token: &str, root: &Path) -> Api {
        let mut store = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(root).expect("a root certificate");
        store.add(root).expect("a root certificate that can be used");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(store)
            .with_no_client_auth();
        Api {
            address,
            token: token.to_owned(),
            config: Arc::new(config),
        }
    }

    /// With another token, or none.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Api {
        token.clone_into(&mut self.token);
        self
    }

    /// One request; the status code and the JSON of the answer.
    pub fn request(&self, method: &str, path: &str, kind: &str, body: &str) -> io::Result<(u16, Value)> {
        let tcp = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let session = ClientConnection::new(self.config.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, tcp);
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: {kind}\r\n\
             Accept: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        )?;
        stream.flush()?;
        let mut bytes = Vec::new();
        match stream.take(ANSWER_MAX).read_to_end(&mut bytes) {
            // An end without a word of TLS: the length of the answer tells whether it is whole.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
        let text = String::from_utf8_lossy(&bytes);
        let broken = || io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP answer: {text:?}"));
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        // For a path of which it knows nothing, an API server says so in words.
        let is_text = head.to_ascii_lowercase().contains("content-type: text/plain");
        let value = match is_text {
            true => Value::String(body.to_owned()),
            false => serde_json::from_str(body).map_err(|_| broken())?,
        };
        Ok((status.ok_or_else(broken)?, value))
    }

    /// One object or list; nothing where there is none.
    #[track_caller]
    pub fn get(&self, path: &str) -> Option<Value> {
        let (status, value) = self.send("GET", path, "application/json", "");
        match status {
            200 => Some(value),
            404 => None,
            _ => panic!("GET {path}: {status} {value:#}"),
        }
    }

    /// Makes an object in the collection at this path.
    #[track_caller]
    pub fn create(&self, path: &str, object: &Value) -> Value {
        self.expect("POST", path, "application/json", object)
    }

    /// Changes an object by a merge patch.
    #[track_caller]
    pub fn patch(&self, path: &str, patch: &Value) -> Value {
        self.expect("PATCH", path, MERGE, patch)
    }

    /// Deletes an object.
    #[track_caller]
    pub fn delete(&self, path: &str) {
        self.expect(
            "DELETE",
            path,
            "application/json",
            &Value::Object(serde_json::Map::new()),
        );
    }

    /// One request, whatever the answer is.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, kind: &str, body: &str) -> (u16, Value) {
        self.request(method, path, kind, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    #[track_caller]
    fn expect(&self, method: &str, path: &str, kind: &str, body: &Value) -> Value {
        let (status, value) = self.send(method, path, kind, &body.to_string());
        assert!(
            matches!(status, 200..=202),
            "{method} {path} {body}: {status} {value:#}"
        );
        value
    }
}
