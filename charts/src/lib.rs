//! The Helm chart that installs the mesh into a cluster, as files and embedded in programs.
//!
//! `ztunnel-mesh/` is the chart. [`write_to`] gives it to a `helm`; [`definitions`] are the custom resource definitions in it,
//! and [`schema`] holds objects against them. `values/` are sets of values, `rendered/` what the chart gives for them
//! (`scripts/charts --write`): with the feature `rendered`, tests of the programs hold their command lines, settings and
//! permissions against that.
//!
//! What this crate deliberately is not: it renders nothing, and speaks to no cluster.

#[cfg(feature = "rendered")]
pub mod permissions;
pub mod schema;

use std::path::Path;

use include_dir::{Dir, DirEntry, include_dir};
use serde_json::Value;

static CHART: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/ztunnel-mesh");

/// The name of the chart, and of the directory that [`write_to`] makes.
pub const NAME: &str = "ztunnel-mesh";

/// Writes the chart as the directory `ztunnel-mesh` into `directory`; files that are there are written anew.
///
/// # Errors
/// When a directory or file cannot be written.
pub fn write_to(directory: &Path) -> std::io::Result<()> {
    let chart = directory.join(NAME);
    std::fs::create_dir_all(&chart)?;
    CHART.extract(chart)
}

/// The files of the chart, by path within it.
pub fn files() -> Vec<(&'static str, &'static [u8])> {
    let mut found = Vec::new();
    let mut directories = vec![&CHART];
    while let Some(directory) = directories.pop() {
        for entry in directory.entries() {
            match entry {
                DirEntry::Dir(inner) => directories.push(inner),
                DirEntry::File(file) => {
                    found.push((file.path().to_str().unwrap_or_default(), file.contents()));
                }
            }
        }
    }
    found.sort_unstable();
    found
}

/// The definitions of PeerAuthentication, AuthorizationPolicy, ServiceEntry, WorkloadEntry and WorkloadGroup, as
/// `CustomResourceDefinition` objects.
///
/// # Errors
/// When the text in the chart is no YAML, which a test of this crate rules out.
pub fn definitions() -> Result<Vec<Value>, NotYaml> {
    let texts = files()
        .into_iter()
        .filter(|(path, _)| path.starts_with("files/crds/"));
    let mut definitions = Vec::new();
    for (_, text) in texts {
        definitions.extend(parse(&String::from_utf8_lossy(text))?);
    }
    Ok(definitions)
}

/// The objects in a text of YAML documents.
///
/// # Errors
/// Where the text is no YAML.
pub fn parse(text: &str) -> Result<Vec<Value>, NotYaml> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(text)?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}

/// A text is no YAML.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotYaml(#[from] serde_saphyr::Error);

/// The objects that the chart gives for a set of values: `defaults`, `everything`, `ztunnel-only`,
/// `control-plane-and-agent`, `edges`. Without the custom resource definitions.
///
/// # Errors
/// When there is no such set.
#[cfg(feature = "rendered")]
pub fn rendered(values: &str) -> Result<Vec<Value>, NoSuchValues> {
    static RENDERED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/rendered");
    let none = || NoSuchValues(values.to_owned());
    let file = RENDERED.get_file(format!("{values}.yaml")).ok_or_else(none)?;
    parse(file.contents_utf8().ok_or_else(none)?).map_err(|_| none())
}

/// There is no rendering for a set of values.
#[cfg(feature = "rendered")]
#[derive(Debug, thiserror::Error)]
#[error("charts/rendered has no {0}.yaml that could be read")]
pub struct NoSuchValues(String);
