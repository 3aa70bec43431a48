//! The part of Istio's mesh configuration that concerns a node proxy: `PROXY_CONFIG`, and `defaultConfig` of the
//! file `./etc/istio/config/mesh`. What else stands there is other proxies' and is passed over.

use super::error::ConfigError;
use objects::strict::{self, Field};
use std::collections::BTreeMap;

/// Where Istio mounts the mesh configuration.
pub(super) const FILE: &str = "./etc/istio/config/mesh";

/// What is read of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MeshConfig {
    /// Where the control plane is.
    pub(super) discovery_address: Option<String>,
    /// Port of the admin pages.
    pub(super) admin_port: Option<u16>,
    /// Port of the metrics.
    pub(super) stats_port: Option<u16>,
    /// Worker threads; 0 for all cores.
    pub(super) concurrency: Option<u32>,
    /// Variables for the proxy.
    pub(super) metadata: BTreeMap<String, String>,
}

/// Reads both; what `proxy_config` says counts more than what the file says.
pub(super) fn read(file: Option<&str>, proxy_config: Option<&str>) -> Result<MeshConfig, ConfigError> {
    let mut config = MeshConfig::default();
    if let Some(text) = file {
        let mesh = parse(FILE, text, |root| {
            let mut fields = root.fields()?;
            Some(fields.get("defaultConfig").and_then(|field| proxy(&field)))
        })?;
        config = mesh.flatten().unwrap_or_default();
    }
    if let Some(text) = proxy_config {
        let own = parse("PROXY_CONFIG", text, proxy)?.unwrap_or_default();
        config.discovery_address = own.discovery_address.or(config.discovery_address);
        config.admin_port = own.admin_port.or(config.admin_port);
        config.stats_port = own.stats_port.or(config.stats_port);
        config.concurrency = own.concurrency.or(config.concurrency);
        config.metadata.extend(own.metadata);
    }
    Ok(config)
}

fn parse<T>(
    origin: &str,
    text: &str,
    read: impl FnOnce(&Field<'_>) -> Option<T>,
) -> Result<Option<T>, ConfigError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    strict::read_one(origin, text, read)
        .map(Some)
        .map_err(|errors| ConfigError::MeshConfig {
            origin: origin.to_owned(),
            problem: errors.to_string(),
        })
}

fn proxy(field: &Field<'_>) -> Option<MeshConfig> {
    let mut fields = field.fields()?;
    let text = |field: Field<'_>| field.text().map(str::to_owned);
    Some(MeshConfig {
        discovery_address: fields.get("discoveryAddress").and_then(text),
        admin_port: fields.get("proxyAdminPort").and_then(|port| port.port()),
        stats_port: fields.get("statsPort").and_then(|port| port.port()),
        concurrency: fields.get("concurrency").and_then(|field| field.integer(0, 1024)),
        metadata: fields
            .get("proxyMetadata")
            .map(|field| field.text_map(|_, _| Ok(())))
            .unwrap_or_default(),
    })
}
