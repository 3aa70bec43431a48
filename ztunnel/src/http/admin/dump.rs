//! `/config_dump`: everything known, under the names that `istioctl ztunnel-config` reads.

use super::{connections, policies, services, workloads};
use crate::context::Context;
use crate::identities::IdentityState;
use mesh::Identity;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tls::CertificateInfo;

/// Writes all of it, one resource after the other: the state of a large mesh is not held a second time as text.
pub(super) fn write(context: &Context, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &Dump(context))?;
    out.write_all(b"\n")
}

struct Dump<'c>(&'c Context);

impl Serialize for Dump<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let context = self.0;
        let snapshot = context.state.snapshot();
        let config = &context.config;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("version", &json!({ "version": env!("CARGO_PKG_VERSION") }))?;
        map.serialize_entry(
            "config",
            &json!({
                "localNode": config.node_name,
                "clusterId": config.cluster_id,
                "clusterDomain": config.cluster_domain,
                "network": config.network,
                "trustDomain": config.trust_domain,
                "xdsAddress": config.discovery.as_ref().map(|endpoint| &endpoint.address),
                "caAddress": config.authority.as_ref().map(|endpoint| &endpoint.address),
                "secretTtlSeconds": config.certificate_life.as_secs(),
                "selfTerminationDeadlineSeconds": config.drain_deadline.as_secs(),
                "poolMaxStreamsPerConn": config.pool_max_streams,
                "poolUnusedReleaseTimeoutSeconds": config.pool_idle.as_secs(),
                "numWorkerThreads": config.worker_threads,
                "logFilter": context.log.current(),
            }),
        )?;
        map.serialize_entry("revision", &snapshot.revision())?;
        map.serialize_entry(
            "workloads",
            &Each(|| snapshot.workloads().map(|one| workloads::describe(one))),
        )?;
        map.serialize_entry(
            "services",
            &Each(|| snapshot.services().map(|one| services::describe(one, &snapshot))),
        )?;
        map.serialize_entry(
            "policies",
            &Each(|| snapshot.policies().map(|one| policies::describe(one))),
        )?;
        map.serialize_entry(
            "rejectedPolicies",
            &Each(|| {
                snapshot
                    .rejected_policies()
                    .map(|one| json!({ "name": &*one.name, "reason": &*one.reason }))
            }),
        )?;
        map.serialize_entry(
            "certificates",
            &Each(|| {
                let identities = context.identities.list().into_iter();
                identities.map(|(identity, state)| certificate(&identity, &state))
            }),
        )?;
        map.serialize_entry("workloadState", &connections::by_pod(context))?;
        map.end()
    }
}

/// A list of which one element at a time is made.
struct Each<F>(F);

impl<F, I> Serialize for Each<F>
where
    F: Fn() -> I,
    I: Iterator<Item = Value>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

pub(super) fn certificate(identity: &Identity, state: &IdentityState) -> Value {
    let held = state.certificate.as_ref();
    let list = |certificates: Vec<CertificateInfo>| certificates.iter().map(one).collect::<Vec<_>>();
    json!({
        "identity": identity.to_string(),
        "state": match (held, &state.failure) {
            (Some(certificate), _) if certificate.not_after() <= SystemTime::now() => "Expired",
            (Some(_), _) if state.is_revoked => "Revoked",
            (Some(_), _) => "Available",
            (None, Some(_)) => "Unavailable",
            (None, None) => "Initializing",
        },
        "certChain": held.map(|certificate| list(certificate.chain_info())).unwrap_or_default(),
        "rootCerts": held.map(|certificate| list(certificate.roots_info())).unwrap_or_default(),
        "failure": state.failure,
    })
}

fn one(certificate: &CertificateInfo) -> Value {
    json!({
        "pem": certificate.pem,
        "serialNumber": certificate.serial,
        "validFrom": rfc3339(certificate.not_before),
        "expirationTime": rfc3339(certificate.not_after),
    })
}

/// None for a time that the format has no words for.
fn rfc3339(time: SystemTime) -> Option<String> {
    OffsetDateTime::from(time).format(&Rfc3339).ok()
}
