//! Whom the proxy serves, and where it hears of the mesh besides discovery.

use super::error::{ConfigError, invalid};
use super::variables::Variables;
use std::path::PathBuf;

/// Whom the proxy serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// Every pod that the node agent hands over.
    Shared,
    /// One workload, in the network namespace that the proxy itself runs in.
    Dedicated(WorkloadInfo),
}

/// The workload of a dedicated proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadInfo {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Service account.
    pub service_account: String,
}

/// Workloads, services and policies that do not come from discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalSource {
    /// A file, followed while it changes.
    File(PathBuf),
    /// The text itself.
    Inline(String),
}

pub(super) fn proxy_mode(variables: &Variables) -> Result<ProxyMode, ConfigError> {
    const INFO: &str = "PROXY_WORKLOAD_INFO";
    const PURPOSE: &str =
        "PROXY_MODE=dedicated serves one workload; name it as NAMESPACE/NAME/SERVICE-ACCOUNT";
    let info = variables.optional(INFO);
    let dedicated = variables.choice("PROXY_MODE", false, &[("shared", false), ("dedicated", true)])?;
    if !dedicated {
        return Ok(ProxyMode::Shared);
    }
    let info = info.ok_or(ConfigError::Missing {
        variable: INFO,
        purpose: PURPOSE,
    })?;
    let parts: Vec<&str> = info.split('/').collect();
    match parts[..] {
        [namespace, name, service_account] if parts.iter().all(|part| !part.is_empty()) => {
            Ok(ProxyMode::Dedicated(WorkloadInfo {
                namespace: namespace.into(),
                name: name.into(),
                service_account: service_account.into(),
            }))
        }
        _ => Err(invalid(INFO, &info, "NAMESPACE/NAME/SERVICE-ACCOUNT")),
    }
}

pub(super) fn local_source(variables: &Variables) -> Result<Option<LocalSource>, ConfigError> {
    let path = variables.optional("LOCAL_XDS_PATH");
    let inline = variables.optional("LOCAL_XDS");
    match (path, inline) {
        (Some(_), Some(_)) => Err(ConfigError::Exclusive {
            one: "LOCAL_XDS_PATH",
            other: "LOCAL_XDS",
            remedy: "set the file or the text, not both",
        }),
        (Some(path), None) => Ok(Some(LocalSource::File(path.into()))),
        (None, Some(text)) => Ok(Some(LocalSource::Inline(text))),
        (None, None) => Ok(None),
    }
}
