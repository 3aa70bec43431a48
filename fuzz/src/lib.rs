//! Everything that reads what a peer sent, as functions of bytes that must neither panic nor hang, whatever the bytes.
//!
//! Each [`Target`] also checks what must hold of whatever was accepted: that it can be written and read again, that
//! bounds are kept, that what is not understood is not let pass. The corpus of each lies in `fuzz/corpus/NAME`; the
//! tests replay it, and mutate it for a bounded number of rounds. `docs/fuzzing.md` says how to search further with
//! coverage.
//!
//! What it deliberately is not: a copy of any parser. Targets call what the programs call.

mod authority;
mod certificates;
mod discovery;
mod headers;
mod identities;
mod manifests;
mod names;
mod node;
mod pods;
mod policies;
mod socks;
mod tunnels;

/// One parser, or one protocol engine.
pub struct Target {
    /// Name of the target and of its corpus directory.
    pub name: &'static str,
    /// Feeds it. Returns whether the bytes were accepted, so that a corpus can be seen to reach the inside.
    pub run: fn(&[u8]) -> bool,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    target("spiffe_id", identities::spiffe_id),
    target("certificate_request", certificates::request),
    target("certificate_chain", certificates::chain),
    target("revocation_list", certificates::revocation_list),
    target("tls_server", certificates::server),
    target("tls_client", certificates::client),
    target("http2_server", tunnels::server),
    target("http2_client", tunnels::client),
    target("authority", headers::authority),
    target("baggage", headers::baggage),
    target("forwarded", headers::forwarded_for),
    target("traceparent", headers::traceparent),
    target("socks5", socks::client),
    target("zds_proxy", pods::proxy),
    target("zds_agent", pods::agent),
    target("xds_response", discovery::response),
    target("xds_address", discovery::address),
    target("xds_policy", discovery::policy),
    target("policy_rules", policies::rules),
    target("dns_query", names::query),
    target("dns_answer", names::answer),
    target("dns_framing", names::framing),
    target("resolv_conf", names::resolv_conf),
    target("discovery_stream", control_plane::fuzzing::discovery_stream),
    target("trust_bundle", ztunnel::fuzzing::trust_bundle),
    target("state_file", ztunnel::fuzzing::state_file),
    target("local_state", ztunnel::fuzzing::local_state),
    target("service_account_token", authority::token),
    target("unverified_token", control_plane::fuzzing::unverified_token),
    target("token_review", control_plane::fuzzing::token_review),
    target("certificate_service", authority::service_request),
    target("authority_secret", control_plane::fuzzing::authority_secret),
    target("replica_report", authority::replica_report),
    target("plugged_authority", authority::plugged),
    target("manifest", manifests::manifest),
    target("policy_tests", manifests::policy_tests),
    target("kubernetes_objects", manifests::kubernetes_objects),
    target("socket_diagnosis", node::socket_diagnosis),
    target("connection_tracking", node::connection_tracking),
    target("process_of_pod", node::process),
    target("log_filter", node::log_filter),
];

const fn target(name: &'static str, run: fn(&[u8]) -> bool) -> Target {
    Target { name, run }
}

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
