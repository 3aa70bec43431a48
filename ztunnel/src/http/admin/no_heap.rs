//! What stands in for profiles of the heap in a build with the C library's allocator: how else to find out.

use super::super::{Body, text};
use hyper::{Method, Response, StatusCode};

const NONE: &str = "\
this build takes no heap profiles: it uses the C library's allocator, which keeps none. Build ztunnel with
  cargo build --release -p ztunnel --features jemalloc
for them. What memory is used for is in /debug/resources (what each pod holds), and in the metrics ztunnel_buffered_bytes,
ztunnel_promised_window_bytes and istio_tcp_sockets_open; who asks the kernel for more tells
  perf trace -p PID -e 'syscalls:sys_enter_mmap,syscalls:sys_enter_brk' --call-graph dwarf
";

/// The answer to `path`, if it is one of these pages.
pub(super) async fn answer(_: &Method, path: &str, _: &str) -> Option<Response<Body>> {
    matches!(path, "/debug/pprof/heap" | "/debug/pprof/heap/profiling")
        .then(|| text(StatusCode::NOT_IMPLEMENTED, NONE.into()))
}
