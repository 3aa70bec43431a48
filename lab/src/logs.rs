use std::fs;
use std::path::{Path, PathBuf};

use crate::error::LabError;
use crate::layout::Layout;

/// Lines of a log that an error message quotes.
const QUOTED_LINES: usize = 8;
/// Bytes of a log that are looked at for that.
const QUOTED_BYTES: usize = 8 * 1024;

/// The last lines of a log, set off from the sentence before; empty when there are none.
pub(crate) fn tail(path: &Path) -> String {
    let Ok(bytes) = fs::read(path) else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(QUOTED_BYTES)..]).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return String::new();
    }
    let last = lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n  | ");
    format!("\n  the end of {}:\n  | {last}", path.display())
}

/// The files of what a user calls `ztunnel/NODE`, `node-agent/NODE`, `control-plane`, `supervisor`, `POD` or
/// `NAMESPACE/POD`; a pod has one for each container.
pub fn log_files(layout: &Layout, what: &str, namespace: &str) -> Result<Vec<PathBuf>, LabError> {
    let parts: Vec<&str> = what.split('/').collect();
    let named = match parts.as_slice() {
        ["control-plane"] => Some(layout.log("control-plane")),
        ["supervisor"] => Some(layout.supervisor_log()),
        [kind @ ("ztunnel" | "node-agent"), node] => Some(layout.log(&format!("{kind}-{node}"))),
        _ => None,
    };
    let missing = || {
        if !layout.root().exists() {
            return LabError::NotUp(layout.name().to_owned());
        }
        LabError::Usage(format!(
            "there is no log of `{what}`: name a pod (-n NAMESPACE), ztunnel/NODE, node-agent/NODE, control-plane or \
             supervisor"
        ))
    };
    if let Some(path) = named {
        return if path.exists() {
            Ok(vec![path])
        } else {
            Err(missing())
        };
    }
    let (namespace, pod) = match parts.as_slice() {
        [pod] => (namespace, *pod),
        ["pod" | "pods" | "po", pod] => (namespace, *pod),
        [namespace, pod] => (*namespace, *pod),
        _ => return Err(missing()),
    };
    let prefix = format!("{namespace}_{pod}_");
    let entries =
        fs::read_dir(layout.logs().join("pods")).map_err(|_| LabError::NotUp(layout.name().to_owned()))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with(&prefix))
        })
        .map(|entry| entry.path())
        .collect();
    files.sort();
    if files.is_empty() {
        Err(missing())
    } else {
        Ok(files)
    }
}
