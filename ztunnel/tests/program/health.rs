//! Probes: ready as a process and by pod, alive by progress.

use super::agent::{Agent, add, descriptor, is_served, snapshot_sent};
use super::running::{ADMIN, PROBES, Running, eventually, namespace};
use nix::sys::ptrace;
use nix::unistd::Pid;
use std::fs;
use std::sync::mpsc;
use sys::socket::{self, ListenOptions};

const WORKLOAD: &str = "
workloads:
- uid: Kubernetes//Pod/shop/web
  name: web
  namespace: shop
  serviceAccount: web
  node: node-a
  workloadIps: [10.9.0.1]
  protocol: HBONE
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_acknowledged_once_it_listens_and_says_what_else_it_waits_for() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::listen(directory.path());
    let proxy = Running::start_in(directory, &[]).await;
    let ready = proxy.get(PROBES, "/healthz/ready").await.unwrap();
    assert_eq!(ready.status, 500);
    assert!(
        ready.text().contains("pods from the node agent"),
        "{}",
        ready.text()
    );
    let of_pod = async || proxy.get(PROBES, "/healthz/ready?pod=shop/web").await.unwrap();
    assert_eq!(of_pod().await.status, 404);

    // Somebody else has one of the ports.
    let pod = namespace().await;
    let taken = "0.0.0.0:15008".parse().unwrap();
    let taken = socket::listen(&pod, taken, &ListenOptions::default()).unwrap();
    let link = agent.meet().await;
    let refusal = link.ask(add("web"), descriptor(&pod)).await.unwrap();
    assert!(refusal.contains("15008"), "{refusal}");
    assert_eq!(link.ask(snapshot_sent(), None).await.unwrap(), "");
    let ready = proxy.get(PROBES, "/healthz/ready").await.unwrap();
    assert_eq!(ready.status, 200, "one pod's trouble is not the node's");
    assert!(
        ready.text().contains("1 of 1 pods are not ready"),
        "{}",
        ready.text()
    );
    let page = of_pod().await;
    assert_eq!(page.status, 500);
    assert!(
        page.text().contains("listeners: cannot listen on port 15008"),
        "{}",
        page.text()
    );
    assert_eq!(
        proxy.metric("workload_manager_pending_proxy_count").await,
        Some(1)
    );
    assert_eq!(proxy.metric("workload_manager_active_proxy_count").await, Some(0));
    assert!(!is_served(&pod).await);

    // It is tried again without the agent.
    drop(taken);
    eventually("the pod is served", || is_served(&pod)).await;
    assert_eq!(
        proxy.metric("workload_manager_pending_proxy_count").await,
        Some(0)
    );
    assert_eq!(proxy.metric("workload_manager_active_proxy_count").await, Some(1));
    let page = of_pod().await;
    assert_eq!(page.status, 500);
    for missing in [
        "its workload",
        "the certificate of spiffe://cluster.local/ns/shop/sa/web",
    ] {
        assert!(page.text().contains(missing), "{}", page.text());
    }

    fs::write(proxy.path("mesh.yaml"), WORKLOAD).unwrap();
    eventually("the workload is known", || async {
        !of_pod().await.text().contains("its workload")
    })
    .await;
    let pods = proxy.get(ADMIN, "/pods").await.unwrap();
    let text = pods.text();
    for part in [
        "shop/web",
        "\"listeners\": true",
        "\"workload\": true",
        "\"certificate\": false",
        "CA_ADDRESS is empty",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_runs_no_task_is_not_alive_and_is_again_once_it_does() {
    let Some(proxy) = Running::start(&[("ENABLE_PROXY", "false")]).await else {
        return;
    };
    let live = async || proxy.get(PROBES, "/healthz/live").await.unwrap();
    assert_eq!(live().await.status, 200);

    let frozen = Frozen::except("health", proxy.child.pid);
    eventually("the stall shows", || async { live().await.status == 500 }).await;
    let page = live().await.text();
    assert_eq!(page, "no progress with: the runtime's tasks\n");
    drop(frozen);
    eventually("it is alive again", || async { live().await.status == 200 }).await;
}

/// Threads of a process that stand still.
struct Frozen {
    let_go: mpsc::Sender<()>,
}

impl Frozen {
    /// All threads but the one of this name.
    fn except(name: &str, process: u32) -> Self {
        let (let_go, wait) = mpsc::channel::<()>();
        let (stopped, all_stopped) = mpsc::channel();
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{process}/task")).unwrap() {
            let path = entry.unwrap().path();
            if fs::read_to_string(path.join("comm")).unwrap().trim() != name {
                let number = path.file_name().unwrap().to_str().unwrap();
                threads.push(Pid::from_raw(number.parse().unwrap()));
            }
        }
        // Who traces is a thread, not a process; when it ends, the traced go on.
        std::thread::spawn(move || {
            for thread in &threads {
                ptrace::seize(*thread, ptrace::Options::empty()).unwrap();
                ptrace::interrupt(*thread).unwrap();
            }
            stopped.send(threads.len()).unwrap();
            // An error means that the test is over.
            let _ = wait.recv();
        });
        assert!(all_stopped.recv().unwrap() >= 3);
        Self { let_go }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // The thread may have failed.
        let _ = self.let_go.send(());
    }
}
