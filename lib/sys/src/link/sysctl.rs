//! Settings of a network namespace, below `/proc/sys/net`.

use std::io;
use std::path::Path;

use super::LinkError;
use crate::Namespace;

const ROOT: &str = "/proc/sys/net";

/// Writes a setting below `/proc/sys/net` of the namespace. `key` is written with dots or slashes, with or without the
/// leading `net.`: `ipv4.ip_forward`, or with slashes where an interface's name contains a dot.
pub fn sysctl(namespace: &Namespace, key: &str, value: &str) -> Result<(), LinkError> {
    sysctl_in(Path::new(ROOT), namespace, key, value)
}

/// As [`sysctl`], through another mount of `/proc/sys/net`: in a container `/proc/sys` itself is read-only.
pub fn sysctl_in(root: &Path, namespace: &Namespace, key: &str, value: &str) -> Result<(), LinkError> {
    let path = root.join(sysctl_path(key)?);
    // The directory shows the namespace of the task that opens something in it, wherever it is mounted.
    let written = namespace.enter(|| std::fs::write(&path, value))?;
    written.map_err(|source| LinkError::Refused {
        action: format!("set {} to {value}", path.display()),
        source,
    })
}

/// Reads a setting below `/proc/sys/net` of the namespace, without the trailing newline.
pub fn read_sysctl(namespace: &Namespace, key: &str) -> Result<String, LinkError> {
    let path = format!("{ROOT}/{}", sysctl_path(key)?);
    let read = namespace.enter(|| std::fs::read_to_string(&path))?;
    read.map(|text| text.trim_end().to_owned())
        .map_err(|source| LinkError::Refused {
            action: format!("read {path}"),
            source,
        })
}

/// Below the directory.
fn sysctl_path(key: &str) -> Result<String, LinkError> {
    let path = if key.contains('/') {
        key.to_owned()
    } else {
        key.replace('.', "/")
    };
    let path = path.trim_start_matches('/');
    let path = path.strip_prefix("net/").unwrap_or(path);
    if path.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(LinkError::Refused {
            action: format!("use the setting {key:?}"),
            source: io::Error::new(io::ErrorKind::InvalidInput, "it is no name of a setting"),
        });
    }
    Ok(path.to_owned())
}
