//! An API server by the text of a kubeconfig. The text is somebody else's, such as that of a Secret: it makes this process
//! run no program, read no file and go through no proxy, and what it says is not repeated in errors.

use data_encoding::BASE64;
use http::Uri;
use objects::strict::{self, Field, Limits};
use tls::server_auth::{Client, RootSource};
use zeroize::Zeroizing;

use crate::config::{ApiServer, ConfigError};
use crate::token::Token;

/// The longest text, in bytes: certificates of a few authorities have room in it.
pub const MAX_KUBECONFIG_BYTES: usize = 256 * 1024;
/// How many values it may hold.
const MAX_VALUES: usize = 5_000;

/// A kubeconfig that is not taken. Its author is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KubeconfigError {
    /// It is too long.
    #[error(
        "it is {0} bytes long; at most {MAX_KUBECONFIG_BYTES} are read: leave all but one cluster and user out"
    )]
    TooLong(usize),
    /// It is no YAML, or of another shape.
    #[error("{place} cannot be read; write it as `kubectl config view --raw --minify --flatten` does")]
    Malformed {
        /// The line and the field, as far as they are known.
        place: String,
    },
    /// Something is not there.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A field that is not taken.
    #[error("{field} is not taken: {reason}")]
    NotTaken {
        /// The field.
        field: &'static str,
        /// Why not, and what to write.
        reason: &'static str,
    },
    /// The address of the server is not taken.
    #[error("clusters.cluster.server is no URL of an API server; write https://HOST:PORT")]
    Server,
    /// What was to be proven in the clear.
    #[error(
        "clusters.cluster.server begins with http: whoever is on the way could answer and take the token; write https"
    )]
    Clear,
    /// The certificates cannot be used.
    #[error(
        "clusters.cluster.certificate-authority-data cannot be used: it must be PEM certificates in base64"
    )]
    Authority,
    /// The token cannot be sent.
    #[error("users.user.token cannot be sent: it is empty, or not of printable characters")]
    Token,
}

/// The fields that are known and not taken.
const NOT_TAKEN: [(&str, &str); 12] = [
    ("exec", PROGRAM),
    ("auth-provider", PROGRAM),
    ("tokenFile", FILE),
    ("client-certificate", FILE),
    ("client-key", FILE),
    ("certificate-authority", FILE),
    ("proxy-url", "no proxy is gone through"),
    (
        "tls-server-name",
        "the server must have a certificate for the host of its URL",
    ),
    (
        "insecure-skip-tls-verify",
        "whoever answered would be believed; give certificate-authority-data",
    ),
    ("username", PASSWORD),
    ("password", PASSWORD),
    ("as", "nobody else is spoken for"),
];
const PROGRAM: &str = "no program is run for it; give the token of a service account";
const FILE: &str =
    "it names a file, and none is read; write what is in it here (the field with -data, or token)";
const PASSWORD: &str = "API servers take none; give the token of a service account";

impl ApiServer {
    /// The API server and the user of a kubeconfig's current context.
    ///
    /// Taken are `server` (https; http for a loopback address alone), `certificate-authority-data` (without: the
    /// system's roots) and `token`.
    ///
    /// # Errors
    /// When it is none, or asks for more than that.
    pub fn from_kubeconfig(text: &str) -> Result<ApiServer, KubeconfigError> {
        if text.len() > MAX_KUBECONFIG_BYTES {
            return Err(KubeconfigError::TooLong(text.len()));
        }
        let limits = Limits {
            bytes: MAX_KUBECONFIG_BYTES,
            values: MAX_VALUES,
        };
        // The reader's own words may hold what it read.
        let read = strict::read_one_within("kubeconfig", text, limits, |root| Some(read(root)));
        read.unwrap_or_else(|errors| {
            let first = errors.0.first();
            let line = first.and_then(|error| error.line).unwrap_or(1);
            let field = first.map_or("", |error| error.field.as_str());
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".[]-".contains(&byte);
            let field = if field.len() < 80 && field.bytes().all(is_plain) {
                field
            } else {
                ""
            };
            Err(KubeconfigError::Malformed {
                place: format!("line {line} {field}").trim_end().to_owned(),
            })
        })
    }
}

fn read(root: &Field<'_>) -> Result<ApiServer, KubeconfigError> {
    let nothing = || KubeconfigError::Missing("mapping of fields");
    let mut fields = root.fields().ok_or_else(nothing)?;
    let current = fields.get("current-context");
    let (contexts, clusters, users) = (
        fields.get("contexts"),
        fields.get("clusters"),
        fields.get("users"),
    );
    let name = current
        .as_ref()
        .and_then(Field::text)
        .ok_or(KubeconfigError::Missing("current-context"))?;
    let context = named(contexts, name, "context").ok_or(KubeconfigError::Missing("context of that name"))?;
    let mut context = context.fields().ok_or_else(nothing)?;
    let (cluster, user) = (context.get("cluster"), context.get("user"));
    let cluster = cluster
        .as_ref()
        .and_then(Field::text)
        .and_then(|name| named(clusters, name, "cluster"))
        .ok_or(KubeconfigError::Missing("cluster of that context"))?;
    let (url, roots) = read_cluster(&cluster)?;
    let token = match user.as_ref().and_then(Field::text) {
        None | Some("") => Token::none(),
        Some(name) => {
            let user = named(users, name, "user").ok_or(KubeconfigError::Missing("user of that context"))?;
            read_user(&user)?
        }
    };
    let server = ApiServer::at(url, None, None).map_err(|_: ConfigError| KubeconfigError::Server)?;
    if server
        .url
        .authority()
        .is_some_and(|whole| whole.as_str().contains('@'))
    {
        return Err(KubeconfigError::Server);
    }
    if server.url.scheme_str() == Some("http") && !is_loopback(&server.url) {
        return Err(KubeconfigError::Clear);
    }
    Ok(ApiServer {
        roots,
        token,
        ..server
    })
}

/// What an item of a list has under `inner`, by the item's name.
fn named<'a>(list: Option<Field<'a>>, name: &str, inner: &'static str) -> Option<Field<'a>> {
    list?.items().into_iter().find_map(|item| {
        let mut fields = item.fields()?;
        let is_it = fields.get("name")?.text()? == name;
        let inner = fields.get(inner);
        inner.filter(|_| is_it)
    })
}

fn read_cluster<'a>(cluster: &Field<'a>) -> Result<(&'a str, RootSource), KubeconfigError> {
    let (mut server, mut roots) = (None, RootSource::System);
    for (name, field) in cluster.entries() {
        match name {
            "server" => server = field.text(),
            "certificate-authority-data" => roots = authority(&field)?,
            "insecure-skip-tls-verify" if field.boolean() == Some(false) => {}
            "disable-compression" | "extensions" => {}
            other => return Err(not_taken(other, &field)),
        }
    }
    Ok((
        server.ok_or(KubeconfigError::Missing("clusters.cluster.server"))?,
        roots,
    ))
}

fn authority(field: &Field<'_>) -> Result<RootSource, KubeconfigError> {
    let text = decoded(field).ok_or(KubeconfigError::Authority)?;
    let roots = RootSource::Pem(text.to_string());
    match Client::load(&roots) {
        Ok(_) => Ok(roots),
        Err(_) => Err(KubeconfigError::Authority),
    }
}

fn decoded(field: &Field<'_>) -> Option<Zeroizing<String>> {
    let bytes = BASE64.decode(field.text()?.trim().as_bytes()).ok()?;
    String::from_utf8(bytes).ok().map(Zeroizing::new)
}

fn read_user(user: &Field<'_>) -> Result<Token, KubeconfigError> {
    let mut token = Token::none();
    for (name, field) in user.entries() {
        match name {
            "token" => {
                let inline = field.text().and_then(Token::inline);
                token = inline.ok_or(KubeconfigError::Token)?;
            }
            "extensions" => {}
            other => return Err(not_taken(other, &field)),
        }
    }
    Ok(token)
}

fn not_taken(name: &str, field: &Field<'_>) -> KubeconfigError {
    let known = NOT_TAKEN.iter().find(|(known, _)| *known == name);
    match known {
        Some((field, reason)) => KubeconfigError::NotTaken { field, reason },
        None => KubeconfigError::Malformed {
            place: format!("a field in line {} that is not known here", field.line()),
        },
    }
}

fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address: Option<std::net::IpAddr> = host.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
