//! What the kernel and the files of a node say.

/// A datagram of socket diagnosis.
pub(crate) fn socket_diagnosis(input: &[u8]) -> bool {
    sys::diag::fuzzing::answers(input)
}

/// A datagram of connection tracking, in answer to question 1.
pub(crate) fn connection_tracking(input: &[u8]) -> bool {
    sys::conntrack::fuzzing::original_destination(input, 1)
}

/// The control groups and the status of a process: its pod may have named both as it liked.
pub(crate) fn process(input: &[u8]) -> bool {
    node_agent::finder::fuzzing::process(input)
}

/// The query that changes what is logged.
pub(crate) fn log_filter(input: &[u8]) -> bool {
    let filter = ztunnel::fuzzing::log_filter(input);
    filter.is_some_and(|filter| filter.parse::<tracing_subscriber::EnvFilter>().is_ok())
}
