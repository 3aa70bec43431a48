//! The objects of a Kubernetes cluster, by the user's own kubectl, as the control plane reads them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use clap::Args;
use objects::{Kind, Object};
use serde_json::{Map, Value};
use tokio::process::Command;

use super::{Failure, mesh};
use crate::install::find;

/// What decides about connections, or bears on what does.
const KINDS: [Kind; 12] = [
    Kind::Namespace,
    Kind::Node,
    Kind::Service,
    Kind::Pod,
    Kind::EndpointSlice,
    Kind::PeerAuthentication,
    Kind::AuthorizationPolicy,
    Kind::NetworkPolicy,
    Kind::Gateway,
    Kind::GatewayClass,
    Kind::ServiceEntry,
    Kind::WorkloadEntry,
];

/// Which cluster is meant.
#[derive(Args)]
pub(crate) struct Cluster {
    /// Ask about the cluster that kubectl reaches, as it is now
    #[arg(long, conflicts_with_all = ["filename", "name"])]
    pub(super) kubernetes: bool,
    /// The kubeconfig file, as kubectl takes it
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    kubeconfig: Option<PathBuf>,
    /// The context in it
    #[arg(long, value_name = "NAME", requires = "kubernetes")]
    context: Option<String>,
}

impl Cluster {
    /// The objects; says on standard error which of them cannot be read. The settings of the mesh are those in the
    /// namespace of the control plane.
    pub(super) async fn objects(&self, namespace: &str) -> Result<Vec<Arc<Object>>, Failure> {
        let kubectl = find("kubectl");
        let kubectl =
            kubectl.ok_or_else(|| Failure::Unknown("there is no kubectl on the PATH".to_owned()))?;
        let known = self.run(&kubectl, &["api-resources", "-o", "name"]).await?;
        let known = String::from_utf8_lossy(&known);
        let is_known = |kind: &Kind| known.lines().any(|name| name.trim() == resource(*kind));
        let (there, missing): (Vec<Kind>, Vec<Kind>) = KINDS.into_iter().partition(is_known);
        for kind in [Kind::PeerAuthentication, Kind::AuthorizationPolicy] {
            if missing.contains(&kind) {
                eprintln!("the cluster does not know the kind {kind}, so there is none");
            }
        }
        let resources: Vec<String> = there.into_iter().map(resource).collect();
        let get = ["get", &resources.join(","), "--all-namespaces", "-o", "json"];
        let mut items = items(&self.run(&kubectl, &get).await?)?;
        let get = [
            "get",
            "configmaps",
            mesh::CONFIG_MAP,
            "--namespace",
            namespace,
            "--ignore-not-found",
            "-o",
            "json",
        ];
        let settings = self.run(&kubectl, &get).await?;
        if !settings.trim_ascii().is_empty() {
            items.push(parsed(&settings)?);
        }
        Ok(items.into_iter().filter_map(object).collect())
    }

    async fn run(&self, kubectl: &Path, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
        let mut all: Vec<OsString> = Vec::new();
        if let Some(file) = &self.kubeconfig {
            all.extend(["--kubeconfig".into(), file.into()]);
        }
        if let Some(context) = &self.context {
            all.extend(["--context".into(), context.into()]);
        }
        all.extend(arguments.iter().map(OsString::from));
        let output = Command::new(kubectl)
            .args(all)
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|error| Failure::Unknown(format!("kubectl cannot be run: {error}")))?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            let what = arguments[0];
            return Err(Failure::Unknown(format!(
                "kubectl {what} failed: {}",
                complaint.trim()
            )));
        }
        Ok(output.stdout)
    }
}

/// What kubectl calls a kind.
fn resource(kind: Kind) -> String {
    match kind.group() {
        "" => kind.plural().to_owned(),
        group => format!("{}.{group}", kind.plural()),
    }
}

fn items(list: &[u8]) -> Result<Vec<Value>, Failure> {
    match parsed(list)?.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => Ok(items),
        _ => Err(Failure::Unknown("kubectl gave no list of objects".to_owned())),
    }
}

fn parsed(json: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(json)
        .map_err(|error| Failure::Unknown(format!("what kubectl gave is no JSON: {error}")))
}

fn object(value: Value) -> Option<Arc<Object>> {
    let Value::Object(value) = value else { return None };
    let text = |value: &Map<String, Value>, field: &str| {
        value
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let version = text(&value, "apiVersion");
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let name = text(&value, "kind");
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == name && kind.group() == group)?;
    let (key, object) = kube_source::object_of(kind, &version, value)?;
    object
        .map_err(|problem| eprintln!("{key}: not taken into account, as it cannot be read: {problem}"))
        .ok()
}
