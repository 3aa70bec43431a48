//! Where other node proxies give profiles: how to get one here.
//!
//! Samplers inside a process take a stack in a signal handler. With the unwinder of the C runtime, or one that reads
//! unwind tables when it is first used, that takes locks or memory which the interrupted thread may hold, and the
//! process stands still. With frame pointers it is safe, but a build without them gives stacks without callers.

use super::super::{Body, text};
use hyper::{Response, StatusCode};

const CPU: &str = "\
this build takes no CPU profiles of itself; from the node, take one with:
  perf record -F 99 -g --call-graph dwarf -p PID -- sleep 10
(/debug/resources has the processor time of each thread; PID is in /healthz/ready; release builds keep the line tables that perf report needs)
";

const HEAP: &str = "\
this build takes no heap profiles: it uses the system's allocator, which keeps none; for what memory is used for, see
/debug/resources (what each pod holds), ztunnel_buffered_bytes, ztunnel_promised_window_bytes and
istio_tcp_sockets_open in the metrics, and
  perf trace -p PID -e 'syscalls:sys_enter_mmap,syscalls:sys_enter_brk' --call-graph dwarf
";

/// The answer to `path`, if it is one of a profile.
pub(super) fn answer(path: &str) -> Option<Response<Body>> {
    let words = match path {
        "/debug/pprof/profile" => CPU,
        "/debug/pprof/heap" | "/debug/pprof/heap/profiling" => HEAP,
        _ => return None,
    };
    Some(text(StatusCode::NOT_IMPLEMENTED, words.into()))
}
