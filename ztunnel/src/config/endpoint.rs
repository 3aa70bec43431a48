//! Where the control plane is.

use super::variables::Variables;

/// One part of the control plane.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `https://host:port`.
    pub address: String,
    /// `SYSTEM`, a path, or PEM text.
    pub roots: String,
    /// Name to verify instead of the host.
    pub alternative_name: Option<String>,
    /// More gRPC metadata.
    pub headers: Vec<(String, String)>,
}

/// The address without TLS is never accepted, so a missing scheme can only mean this one.
const SCHEME: &str = "https://";

/// The endpoint of `part` (`XDS` or `CA`). None: its address is set to the empty string, which turns it off.
/// `default` is used where the address is not set.
pub(super) fn endpoint(variables: &Variables, part: &str, default: &str) -> Option<Endpoint> {
    let roots = variables.text(
        &format!("{part}_ROOT_CA"),
        "./var/run/secrets/istio/root-cert.pem",
    );
    let alternative_name = variables.optional(&format!("ALT_{part}_HOSTNAME"));
    let headers = variables
        .with_prefix(&format!("{part}_HEADER_"))
        .into_iter()
        .map(|(name, value)| (name.to_lowercase(), value))
        .collect();
    let address = variables.raw(&format!("{part}_ADDRESS")).unwrap_or(default);
    if address.is_empty() {
        return None;
    }
    let address = if address.contains("://") {
        address.to_owned()
    } else {
        format!("{SCHEME}{address}")
    };
    Some(Endpoint {
        address,
        roots,
        alternative_name,
        headers,
    })
}

/// The control plane's address unless set: of `discovery_address` in the mesh configuration, else Istio's own.
pub(super) fn default_address(variables: &Variables, discovery_address: Option<&str>) -> String {
    let in_cluster = variables.raw("KUBERNETES_SERVICE_HOST").is_some();
    match discovery_address {
        Some(address) => address.to_owned(),
        None if in_cluster => "https://istiod.istio-system.svc:15012".to_owned(),
        None => "https://localhost:15012".to_owned(),
    }
}
