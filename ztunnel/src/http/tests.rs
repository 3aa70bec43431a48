use super::*;
use crate::config;
use crate::testing::log;
use std::io::Read;
use telemetry::{Metrics, MetricsSettings, Reporter, TrafficLabels};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// A proxy's shared state, without pods and control plane.
pub(crate) fn context() -> Arc<Context> {
    let variables = [("NODE_NAME".to_owned(), "node-<a>".to_owned())];
    let config = config::from_environment(variables, None).unwrap();
    let metrics = Metrics::new(MetricsSettings::default());
    Arc::new(crate::run::build(config, log(), metrics).unwrap())
}

/// Serves `pages` on a free loopback port.
pub(crate) async fn served(pages: Pages) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, pages));
    address
}

/// Sends `head` (its lines without the empty one) and gives what comes back: head, and body as it was before
/// chunking.
pub(crate) async fn exchange(to: SocketAddr, head: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream
        .write_all(format!("{head}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    let end = all
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head");
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let mut rest = &all[end + 4..];
    if !head.to_lowercase().contains("transfer-encoding: chunked") {
        return (head, rest.to_vec());
    }
    let mut body = Vec::new();
    loop {
        let line = rest
            .windows(2)
            .position(|window| window == b"\r\n")
            .expect("a chunk");
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return (head, body);
        }
        body.extend(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 4 + size..];
    }
}

#[tokio::test]
async fn readiness_names_what_is_waited_for() {
    let readiness = Readiness::default();
    let task = readiness.task("state");
    let at = served(Pages::Readiness(readiness.clone(), context())).await;
    let ask = "GET /healthz/ready HTTP/1.1\r\nHost: any.name";
    let (head, body) = exchange(at, ask).await;
    assert!(head.starts_with("HTTP/1.1 500"), "{head}");
    assert_eq!(body, b"not ready, waiting for: state\n");
    task.complete();
    assert!(exchange(at, ask).await.0.starts_with("HTTP/1.1 200"));
    assert!(
        exchange(at, "GET /metrics HTTP/1.1\r\nHost: a")
            .await
            .0
            .starts_with("HTTP/1.1 404")
    );
}

#[tokio::test]
async fn a_scrape_is_openmetrics_also_when_compressed() {
    let context = context();
    drop(context.metrics.opened(&TrafficLabels::new(Reporter::Source)));
    let at = served(Pages::Metrics(context)).await;
    for path in ["/metrics", "/stats/prometheus"] {
        let (head, body) = exchange(at, &format!("GET {path} HTTP/1.1\r\nHost: a")).await;
        assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
        let text = String::from_utf8(body).unwrap();
        assert!(text.contains("\nistio_tcp_connections_opened_total{reporter=\"source\","));
        assert!(text.ends_with("# EOF\n"));
    }
    let (head, body) = exchange(
        at,
        "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept-Encoding: deflate, gzip;q=0.5",
    )
    .await;
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&body[..])
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.starts_with("# HELP") && text.ends_with("# EOF\n"));
}

#[test]
fn gzip_is_used_only_where_it_is_wanted() {
    let accepts = |value: &'static str| {
        let mut headers = hyper::HeaderMap::new();
        headers.insert(hyper::header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        scrape::accepts_gzip(&headers)
    };
    assert!(accepts("gzip") && accepts("br, GZIP;q=0.1") && accepts("gzip ; q=1"));
    assert!(!accepts("gzip;q=0") && !accepts("gzip; q=0.000") && !accepts("identity") && !accepts("xgzip"));
    assert!(!scrape::accepts_gzip(&hyper::HeaderMap::new()));
}

/// A connection from `from`, which is an address of loopback.
async fn connect(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    socket.connect(to).await.unwrap()
}

const PROBE: &str = "GET /healthz/ready HTTP/1.1\r\nHost: a";

/// Far longer than kubelet gives a probe: this machine may be slow. A probe that is starved is not answered at all while
/// the connections are held, so what is asked is whether, and not when.
const PROBE_DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn who_says_nothing_keeps_no_probe_from_its_answer() {
    let at = served(Pages::Readiness(Readiness::default(), context())).await;
    // First all of one address, then of very many.
    for silent in [|_| [127, 0, 0, 2], |number: u8| [127, 0, 1, number]] {
        let mut open = Vec::new();
        for number in 0..=u8::MAX {
            open.push(connect(silent(number), at).await);
            if number % 50 == 0 {
                let (head, _) = tokio::time::timeout(PROBE_DEADLINE, exchange(at, PROBE))
                    .await
                    .unwrap();
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            }
        }
    }
}

/// Runs the test below in a process of its own, since the limit is the process'.
#[test]
fn without_descriptors_probes_are_answered() {
    let mut test = std::process::Command::new(std::env::current_exe().unwrap());
    let name = "http::tests::probes_in_a_process_without_descriptors";
    let output = test
        .args(["--exact", "--ignored", "--nocapture", name])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{errors}"
    );
}

#[tokio::test]
#[ignore = "lowers a limit of its process: run by the test above"]
async fn probes_in_a_process_without_descriptors() {
    let at = served(Pages::Readiness(Readiness::default(), context())).await;
    // The clients live outside the limit: a socket made before it is lowered goes on working.
    let sockets = || (0..20).map(|_| TcpSocket::new_v4().unwrap()).collect::<Vec<_>>();
    let (probes, silent) = (sockets(), sockets());
    assert!(exchange(at, PROBE).await.0.starts_with("HTTP/1.1 200"));
    sys::descriptors::set_limit(std::fs::read_dir("/proc/self/fd").unwrap().count() as u64).unwrap();
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    let mut open = Vec::new();
    for (probe, silent) in probes.into_iter().zip(silent) {
        open.push(silent.connect(at).await.unwrap());
        let answered = async {
            let mut stream = probe.connect(at).await.unwrap();
            stream
                .write_all(format!("{PROBE}\r\n\r\n").as_bytes())
                .await
                .unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let answer = tokio::time::timeout(PROBE_DEADLINE, answered)
            .await
            .expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
        // What clients have closed is taken away again.
        while let Ok(file) = std::fs::File::open("/dev/null") {
            taken.push(file);
        }
    }
}

/// Readers that take nothing hold up neither traffic nor other readers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_read_holds_nobody_up() {
    let context = context();
    let labels = |number: usize| {
        let mut labels = TrafficLabels::new(Reporter::Source);
        labels.source.workload = format!("workload-{number}").as_str().into();
        labels
    };
    // Enough that sockets' buffers do not take all of it.
    for number in 0..9_000 {
        drop(context.metrics.opened(&labels(number)));
    }
    let at = served(Pages::Metrics(context.clone())).await;
    let mut stuck = Vec::new();
    for number in 0..MAX_LARGE_ANSWERS - 1 {
        let mut stream = connect([127, 0, 0, number as u8 + 2], at).await;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        // The answer has begun, and is left there.
        stream.read_exact(&mut [0; 1]).await.unwrap();
        stuck.push(stream);
    }
    for number in 0..20_000 {
        drop(context.metrics.opened(&labels(number)));
    }
    let (_, body) = exchange(at, "GET /metrics HTTP/1.1\r\nHost: a").await;
    let text = String::from_utf8(body).unwrap();
    assert!(text.contains("source_workload=\"workload-1\"") && text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_request_head_has_a_bound() {
    let at = served(Pages::Readiness(Readiness::default(), context())).await;
    let long = "x".repeat(MAX_HEAD + 1);
    let mut stream = TcpStream::connect(at).await.unwrap();
    // The server may have closed before all of it is taken.
    let _ = stream
        .write_all(format!("GET /healthz/ready HTTP/1.1\r\nlong: {long}\r\n\r\n").as_bytes())
        .await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn an_answer_that_cannot_be_made_breaks_off() {
    let large = Arc::new(Semaphore::new(1));
    let body = pieces::body(large.clone(), |out| {
        std::io::Write::write_all(out, &vec![b'x'; 100 << 10])?;
        Err(io::Error::other("no more"))
    });
    let collected = body.await.collect().await;
    assert_eq!(collected.unwrap_err().to_string(), "no more");

    // Whoever goes in the middle ends the making.
    let (ended, has_ended) = std::sync::mpsc::channel();
    let body = pieces::body(large.clone(), move |out| {
        let written = loop {
            if let Err(error) = std::io::Write::write_all(out, &[b'x'; 64 << 10]) {
                break error;
            }
        };
        ended.send(written.kind()).unwrap();
        Err(written)
    });
    drop(body.await);
    assert_eq!(has_ended.recv().unwrap(), io::ErrorKind::BrokenPipe);
    let _again = large.acquire().await.unwrap();
}
