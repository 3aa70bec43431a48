//! Counting a pod's queries.

use crate::context::Context;
use crate::pods::Pod;
use dns::{Observer, QueryInfo};
use std::sync::Arc;
use std::time::Duration;
use telemetry::{DnsLabels, Label};

/// Counts under the pod's canonical service.
pub(super) struct Count {
    pub(super) context: Arc<Context>,
    pub(super) pod: Arc<Pod>,
}

impl Count {
    fn labels(&self, query: QueryInfo) -> DnsLabels {
        let identity = &self.pod.identity;
        let snapshot = self.context.state.snapshot();
        let own = snapshot.local_workload(
            &self.context.config.node_name,
            identity.namespace(),
            &self.pod.name,
            identity.service_account(),
        );
        DnsLabels {
            request_query_type: Label::from(query.query_type),
            request_protocol: Label::from(query.transport.as_str()),
            source_canonical_service: own.map(|own| &own.canonical_name).into(),
            source_canonical_revision: own.map(|own| &own.canonical_revision).into(),
        }
    }
}

impl Observer for Count {
    fn request(&self, query: QueryInfo) {
        self.context.metrics.dns_request(&self.labels(query));
    }

    fn upstream_request(&self, query: QueryInfo) {
        self.context.metrics.dns_upstream_request(&self.labels(query));
    }

    fn upstream_failure(&self, query: QueryInfo) {
        self.context.metrics.dns_upstream_failure(&self.labels(query));
    }

    fn upstream_answered(&self, query: QueryInfo, after: Duration) {
        self.context
            .metrics
            .dns_upstream_answered(&self.labels(query), after);
    }

    /// To the client it is the same as a server that does not answer.
    fn overloaded(&self, query: QueryInfo) {
        self.upstream_failure(query);
    }
}
