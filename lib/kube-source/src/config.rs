//! Where the API is.

use std::path::{Path, PathBuf};

use http::Uri;
use tls::server_auth::RootSource;

use crate::http_client;
use crate::token::Token;

/// Where a pod finds what it needs to speak to its API server.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// An API server, and how to speak to it. The files named here are read again whenever they are needed, so that
/// they may be renewed at any time.
#[derive(Clone, Debug)]
pub struct ApiServer {
    pub(crate) url: Uri,
    pub(crate) roots: RootSource,
    pub(crate) token: Token,
}

/// The API server cannot be told from what was given. The caller is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The environment of a pod is not there.
    #[error("{0} is not set, so this is no pod of a cluster: name the API server's URL")]
    NotInCluster(&'static str),
    /// The URL is none of an API server.
    #[error("{url:?} is no URL of an API server: {problem}; write http://HOST:PORT or https://HOST:PORT")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl ApiServer {
    /// The API server of the cluster that this process is a pod of: the address from `KUBERNETES_SERVICE_HOST` and
    /// `KUBERNETES_SERVICE_PORT`, roots and token from the mounted service account.
    ///
    /// # Errors
    /// When the variables are not set, or hold no address.
    pub fn in_cluster() -> Result<ApiServer, ConfigError> {
        let variable = |name: &'static str| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty());
            value.ok_or(ConfigError::NotInCluster(name))
        };
        let host = variable("KUBERNETES_SERVICE_HOST")?;
        let port = variable("KUBERNETES_SERVICE_PORT")?;
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host
        };
        ApiServer::at(
            &format!("https://{host}:{port}"),
            Some(&Path::new(ACCOUNT).join("ca.crt")),
            Some(&Path::new(ACCOUNT).join("token")),
        )
    }

    /// The API server at a URL. `roots` is a PEM file with the certificates that its own is held against (none: those
    /// of the operating system), `token` a file with a bearer token (none: no token is sent).
    ///
    /// # Errors
    /// When the URL is no URL with a host and the scheme `http` or `https`.
    pub fn at(url: &str, roots: Option<&Path>, token: Option<&Path>) -> Result<ApiServer, ConfigError> {
        let failed = |problem: String| ConfigError::Url {
            url: url.to_owned(),
            problem,
        };
        let parsed: Uri = url
            .parse()
            .map_err(|error: http::uri::InvalidUri| failed(error.to_string()))?;
        if !matches!(parsed.scheme_str(), Some("http" | "https")) {
            return Err(failed("its scheme is neither http nor https".to_owned()));
        }
        if parsed.host().is_none_or(str::is_empty) {
            return Err(failed("it names no host".to_owned()));
        }
        if parsed.query().is_some() {
            return Err(failed("it has a query".to_owned()));
        }
        Ok(ApiServer {
            url: parsed,
            roots: roots.map_or(RootSource::System, |path| RootSource::Path(path.to_owned())),
            token: token.map_or(Token::none(), |path: &Path| Token::file(PathBuf::from(path))),
        })
    }

    /// A client of this server, for what is neither watching objects nor writing what becomes of them. It dials with
    /// its first request and must be made and used within one Tokio runtime.
    pub fn client(&self) -> kube::Client {
        http_client::client(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_of_servers_are_taken() {
        for good in [
            "http://127.0.0.1:8080",
            "https://[fd00::1]:6443",
            "https://example.com/cluster/one",
        ] {
            assert!(ApiServer::at(good, None, None).is_ok(), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1:8080",
            "ftp://a",
            "/path",
            "http://a?x=y",
            "unix:///a",
        ] {
            let error = ApiServer::at(bad, None, None).unwrap_err();
            assert!(matches!(error, ConfigError::Url { .. }), "{bad}: {error}");
        }
    }
}
