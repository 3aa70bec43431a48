//! What traffic is counted by.

use super::label::Label;

/// Which side of a connection this proxy is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The initiator's side.
    Source,
    /// The acceptor's side.
    Destination,
}

impl Reporter {
    pub(crate) const ALL: [Self; 2] = [Self::Source, Self::Destination];

    /// The value of the `reporter` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// How a connection was protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SecurityPolicy {
    /// Not by the mesh.
    #[default]
    Unknown,
    /// TLS carried the bytes and both ends were authenticated.
    MutualTls,
    /// The bytes never left the node, and both ends were authenticated by their namespaces.
    SameNode,
}

impl SecurityPolicy {
    /// The value of the `connection_security_policy` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::MutualTls => "mutual_tls",
            Self::SameNode => "same_node",
        }
    }
}

/// Why a connection failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ResponseFlags {
    /// It did not.
    #[default]
    None,
    /// A policy denied it, at the start or later.
    Denied,
    /// Anything else: no healthy endpoint, a refusal, a time-out, a broken connection.
    Connect,
    /// The TLS handshake failed.
    TlsFailure,
    /// HTTP/2 failed, in the handshake or in the stream.
    H2HandshakeFailure,
    /// The first connection to a peer failed as if a firewall blocked the HBONE port.
    NetworkPolicy,
    /// There is no certificate for the own identity.
    IdentityError,
    /// The peer's certificate is revoked.
    CertRevoked,
}

impl ResponseFlags {
    pub(crate) const ALL: [Self; 8] = [
        Self::None,
        Self::Denied,
        Self::Connect,
        Self::TlsFailure,
        Self::H2HandshakeFailure,
        Self::NetworkPolicy,
        Self::IdentityError,
        Self::CertRevoked,
    ];

    /// The value of the `response_flags` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Denied => "DENY",
            Self::Connect => "CONNECT",
            Self::TlsFailure => "TLS_FAILURE",
            Self::H2HandshakeFailure => "H2_HANDSHAKE_FAILURE",
            Self::NetworkPolicy => "NETWORK_POLICY",
            Self::IdentityError => "IDENTITY_ERROR",
            Self::CertRevoked => "CERT_REVOKED",
        }
    }
}

/// One end of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WorkloadLabels {
    /// The name of what owns the pod (a Deployment's, for one).
    pub workload: Label,
    /// The pod's namespace.
    pub namespace: Label,
    /// The authenticated identity, as a SPIFFE URI.
    pub principal: Label,
    /// The canonical service.
    pub canonical_service: Label,
    /// The canonical revision.
    pub canonical_revision: Label,
    /// The `app` label's value; dashboards expect the canonical service.
    pub app: Label,
    /// The `version` label's value; dashboards expect the canonical revision.
    pub version: Label,
    /// The cluster's id.
    pub cluster: Label,
    /// The region. Published only if the settings say so.
    pub region: Label,
    /// The zone. Published only if the settings say so.
    pub zone: Label,
}

impl WorkloadLabels {
    /// The same wherever it runs.
    pub(crate) fn without_locality(&self) -> Self {
        Self {
            region: Label::unknown(),
            zone: Label::unknown(),
            ..self.clone()
        }
    }

    /// The labels of an initiator.
    pub(crate) fn named_as_source(&self) -> [(&'static str, &str); 8] {
        [
            ("source_workload", self.workload.as_str()),
            ("source_canonical_service", self.canonical_service.as_str()),
            ("source_canonical_revision", self.canonical_revision.as_str()),
            ("source_workload_namespace", self.namespace.as_str()),
            ("source_principal", self.principal.as_str()),
            ("source_app", self.app.as_str()),
            ("source_version", self.version.as_str()),
            ("source_cluster", self.cluster.as_str()),
        ]
    }
}

/// Everything that traffic is counted by, but for how it ended. Built once for a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrafficLabels {
    /// Which side counts.
    pub reporter: Reporter,
    /// The initiator.
    pub source: WorkloadLabels,
    /// The acceptor.
    pub destination: WorkloadLabels,
    /// The host name of the service that was called.
    pub destination_service: Label,
    /// Its namespace.
    pub destination_service_namespace: Label,
    /// Its name.
    pub destination_service_name: Label,
    /// How the connection was protected.
    pub connection_security_policy: SecurityPolicy,
}

impl TrafficLabels {
    /// Labels of which only the side is known.
    pub fn new(reporter: Reporter) -> Self {
        Self {
            reporter,
            source: WorkloadLabels::default(),
            destination: WorkloadLabels::default(),
            destination_service: Label::unknown(),
            destination_service_namespace: Label::unknown(),
            destination_service_name: Label::unknown(),
            connection_security_policy: SecurityPolicy::Unknown,
        }
    }

    pub(crate) fn without_locality(&self) -> Self {
        Self {
            source: self.source.without_locality(),
            destination: self.destination.without_locality(),
            ..self.clone()
        }
    }

    pub(crate) fn overflow(&self) -> Self {
        let label = Label::overflow();
        let workload = WorkloadLabels {
            workload: label.clone(),
            namespace: label.clone(),
            principal: label.clone(),
            canonical_service: label.clone(),
            canonical_revision: label.clone(),
            app: label.clone(),
            version: label.clone(),
            cluster: label.clone(),
            region: label.clone(),
            zone: label.clone(),
        };
        Self {
            reporter: self.reporter,
            source: workload.clone(),
            destination: workload,
            destination_service: label.clone(),
            destination_service_namespace: label.clone(),
            destination_service_name: label,
            connection_security_policy: self.connection_security_policy,
        }
    }

    pub(crate) fn named(&self, flags: ResponseFlags, locality: bool) -> Vec<(&'static str, &str)> {
        let (source, destination) = (&self.source, &self.destination);
        let mut labels = vec![("reporter", self.reporter.as_str())];
        labels.extend(source.named_as_source());
        labels.extend([
            ("destination_service", self.destination_service.as_str()),
            (
                "destination_service_namespace",
                self.destination_service_namespace.as_str(),
            ),
            ("destination_service_name", self.destination_service_name.as_str()),
            ("destination_workload", destination.workload.as_str()),
            (
                "destination_canonical_service",
                destination.canonical_service.as_str(),
            ),
            (
                "destination_canonical_revision",
                destination.canonical_revision.as_str(),
            ),
            ("destination_workload_namespace", destination.namespace.as_str()),
            ("destination_principal", destination.principal.as_str()),
            ("destination_app", destination.app.as_str()),
            ("destination_version", destination.version.as_str()),
            ("destination_cluster", destination.cluster.as_str()),
            ("request_protocol", "tcp"),
            ("response_flags", flags.as_str()),
            (
                "connection_security_policy",
                self.connection_security_policy.as_str(),
            ),
        ]);
        if locality {
            labels.extend([
                ("source_region", source.region.as_str()),
                ("source_zone", source.zone.as_str()),
                ("destination_region", destination.region.as_str()),
                ("destination_zone", destination.zone.as_str()),
            ]);
        }
        labels
    }
}
