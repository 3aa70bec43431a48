use std::process::Command;
use std::sync::atomic::AtomicUsize;

use telemetry::MetricsSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn acceptor() -> Acceptor {
    Acceptor {
        stop: CancellationToken::new(),
        open: TaskTracker::new(),
        reserve: Reserve::new().unwrap(),
        metrics: Metrics::new(MetricsSettings::default()),
    }
}

/// Sends back one byte.
async fn answer(mut stream: TcpStream) {
    if let Ok(byte) = stream.read_u8().await {
        let _ = stream.write_u8(byte).await;
    }
}

#[tokio::test]
async fn what_waits_in_the_queue_is_served_before_the_listener_closes() {
    let acceptor = acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Nobody accepts yet, so all of these wait.
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(TcpStream::connect(address).await.unwrap());
    }
    acceptor.stop.cancel();
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    acceptor.serve(listener, Reporter::Source, move |stream| {
        let count = count.clone();
        async move {
            answer(stream).await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    acceptor.open.close();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_u8(number as u8).await.unwrap();
        let back = timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap();
        assert_eq!(usize::from(back), number);
    }
    timeout(PATIENCE, acceptor.open.wait()).await.unwrap();
    assert_eq!(served.load(Ordering::SeqCst), 50);
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

/// Runs the test below in a process of its own, since the limit is the process'.
#[test]
fn without_descriptors_callers_are_refused_at_once_and_served_again_later() {
    let test = std::env::current_exe().unwrap();
    let output = Command::new(test)
        .args([
            "--exact",
            "--ignored",
            "--nocapture",
            "acceptor::tests::in_a_process_with_few_descriptors",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "lowers a limit of its process: run by the test above"]
fn in_a_process_with_few_descriptors() {
    // The callers live outside the limit: a socket made before it is lowered goes on working.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let acceptor = acceptor();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sockets: Vec<_> = (0..40)
            .map(|_| tokio::net::TcpSocket::new_v4().unwrap())
            .collect();
        let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        // Room for ten of the forty. What reads the directory has one itself.
        sys::descriptors::set_limit(used + 9).unwrap();
        acceptor.serve(listener, Reporter::Source, answer);

        let mut open = Vec::new();
        for socket in sockets {
            // A refused caller may see the reset already while it connects.
            if let Ok(stream) = timeout(PATIENCE, socket.connect(address)).await.unwrap() {
                open.push(stream);
            }
            tokio::task::yield_now().await;
        }
        let mut served = 0;
        let mut refused = 0;
        for mut stream in open {
            // Every one of them gets an answer or a reset; none waits.
            let asked = async {
                stream.write_u8(7).await?;
                stream.read_u8().await
            };
            match timeout(PATIENCE, asked).await.expect("nobody waits in vain") {
                Ok(_) => served += 1,
                Err(_) => refused += 1,
            }
        }
        assert!(served >= 8, "{served} served, {refused} refused");
        assert!(refused >= 1, "{served} served, {refused} refused");
        assert!(acceptor.metrics.encode().contains(NO_DESCRIPTORS));

        // All of these are closed, so there is room again.
        let before = sys::descriptors::limit().unwrap();
        let start = std::time::Instant::now();
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let asked = async {
                stream.write_u8(7).await?;
                stream.read_u8().await
            };
            if timeout(PATIENCE, asked).await.unwrap().is_ok() {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "never served again");
        }
        assert_eq!(sys::descriptors::limit().unwrap(), before);
        assert!(
            acceptor.reserve.inner.kept.lock().unwrap().is_some(),
            "the reserve is back"
        );
    });
}
