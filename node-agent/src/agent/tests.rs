use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::future::BoxFuture;
use object_store::{Directory, StatusWrite, WriteError};
use objects::{Kind, ObjectKey, REDIRECTION_ANNOTATION};
use sys::{Namespace, link::Netlink};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
};

use super::*;
use crate::{
    PinnedNamespaces,
    firewall::Found,
    test_support::{FakeProxy, eventually, needs_root, traces},
};

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: demo}\n";

/// A node with objects and pinned namespaces, and an agent that can be stopped and started.
struct Node {
    directory: tempfile::TempDir,
    store: Directory,
    pins: BTreeMap<String, Namespace>,
    agent: Option<tokio::task::JoinHandle<Result<(), AgentError>>>,
    terminate: Option<oneshot::Sender<()>>,
    /// Whether the agent may write.
    permitted: Arc<AtomicBool>,
}

/// A store that is written to with permission.
struct Permitted {
    store: Directory,
    permitted: Arc<AtomicBool>,
}

impl ObjectWriter for Permitted {
    fn patch_annotation(
        &self,
        key: &ObjectKey,
        uid: &str,
        annotation: &str,
        value: Option<&str>,
    ) -> BoxFuture<'static, Result<u64, WriteError>> {
        if self.permitted.load(Ordering::Relaxed) {
            return self.store.patch_annotation(key, uid, annotation, value);
        }
        let (key, problem) = (key.clone(), "Unauthorized".to_owned());
        Box::pin(async move { Err(WriteError::Remote { key, problem }) })
    }

    fn write_status(
        &self,
        _: &ObjectKey,
        _: &str,
        _: StatusWrite,
    ) -> BoxFuture<'static, Result<u64, WriteError>> {
        unreachable!("the agent writes no status")
    }
}

impl Node {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Directory::open(directory.path().join("objects")).unwrap();
        std::fs::create_dir(directory.path().join("namespaces")).unwrap();
        store
            .put(objects::parse("test", NAMESPACE).unwrap().remove(0))
            .unwrap();
        Self {
            directory,
            store,
            pins: BTreeMap::new(),
            agent: None,
            terminate: None,
            permitted: Arc::new(AtomicBool::new(true)),
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn start(&mut self) {
        let settings = Settings {
            node: "node-a".into(),
            zds_socket: self.path("zds"),
            excluded_namespaces: Vec::new(),
            status_socket: self.path("status"),
            health_listen: None,
            network_settings: "/proc/sys/net".into(),
            grace: Duration::from_millis(1200),
            check_interval: Duration::from_millis(100),
        };
        let finder = Arc::new(PinnedNamespaces::new(self.path("namespaces")).unwrap());
        let store = Arc::new(self.store.clone());
        let (terminate, terminated) = oneshot::channel();
        self.terminate = Some(terminate);
        let writer = Arc::new(Permitted {
            store: self.store.clone(),
            permitted: self.permitted.clone(),
        });
        let stop = async move {
            let _ = terminated.await;
        };
        self.agent = Some(tokio::spawn(run(settings, store, writer, finder, stop)));
    }

    /// Starts with the namespace in the mesh, beside a proxy that takes every pod; returns when all are enrolled.
    async fn enrolled(&mut self) -> FakeProxy {
        let revision = self.label_namespace(Some("ambient"));
        self.start();
        let proxy = FakeProxy::connect(&self.path("zds")).await;
        self.until_settled(revision).await;
        proxy
    }

    /// As SIGTERM does it.
    async fn terminate(&mut self) {
        self.terminate.take().unwrap().send(()).unwrap();
        self.agent.take().unwrap().await.unwrap().unwrap();
    }

    /// Without any chance to clean up.
    async fn stop(&mut self) {
        let agent = self.agent.take().unwrap();
        agent.abort();
        assert!(agent.await.unwrap_err().is_cancelled());
    }

    /// A pod in the demo namespace, with its network.
    async fn pod(&mut self, name: &str, ip: &str) -> String {
        let uid = self.pod_without_network(name, ip);
        self.pin(&uid, ip).await;
        uid
    }

    /// Gives a pod a new network namespace.
    async fn pin(&mut self, uid: &str, ip: &str) {
        let namespace = Namespace::create().unwrap();
        let link = Netlink::in_namespace(&namespace).unwrap();
        link.address("lo", ip.parse::<IpAddr>().unwrap(), 32)
            .await
            .unwrap();
        let path = self.path("namespaces").join(uid);
        Namespace::unpin(&path).unwrap();
        namespace.pin(path).unwrap();
        self.pins.insert(uid.to_owned(), namespace);
    }

    fn pod_without_network(&self, name: &str, ip: &str) -> String {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: demo}}\n\
             spec: {{nodeName: node-a, containers: [{{name: app, image: app}}]}}\n\
             status: {{phase: Running, podIPs: [{{ip: {ip}}}]}}\n"
        );
        let (stored, _) = self
            .store
            .put(objects::parse("test", &text).unwrap().remove(0))
            .unwrap();
        stored.metadata.uid.clone()
    }

    fn label_namespace(&self, mode: Option<&str>) -> u64 {
        let key = ObjectKey::new(Kind::Namespace, "", "demo");
        let labels = BTreeMap::from([("istio.io/dataplane-mode".to_owned(), mode.map(str::to_owned))]);
        let old = self.store.get(&key).unwrap().unwrap();
        self.store.put(old.with_labels(&labels).unwrap()).unwrap().1
    }

    fn label_pod(&self, pod: &str, mode: &str) {
        let key = ObjectKey::new(Kind::Pod, "demo", pod);
        let labels = BTreeMap::from([("istio.io/dataplane-mode".to_owned(), Some(mode.to_owned()))]);
        let old = self.store.get(&key).unwrap().unwrap();
        self.store.put(old.with_labels(&labels).unwrap()).unwrap();
    }

    fn annotation(&self, pod: &str) -> Option<String> {
        let key = ObjectKey::new(Kind::Pod, "demo", pod);
        self.store
            .get(&key)
            .unwrap()?
            .metadata
            .annotations
            .get(REDIRECTION_ANNOTATION)
            .cloned()
    }

    async fn until_annotated(&self, pod: &str, value: Option<&str>) {
        eventually("the annotation", async || {
            self.annotation(pod).as_deref() == value
        })
        .await;
    }

    /// Waits until everything up to a revision is done, as the lab does.
    async fn until_settled(&self, revision: u64) -> serde_json::Value {
        let settled = async || {
            let Some(status) = get(&self.path("status"), "/status").await else {
                return false;
            };
            status["revision"].as_u64() >= Some(revision)
                && status["pods"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|pod| pod["settled"] == true)
        };
        eventually("settled", settled).await;
        get(&self.path("status"), "/status").await.unwrap()
    }

    async fn status_of(&self, pod: &str) -> serde_json::Value {
        let status = get(&self.path("status"), "/status").await.unwrap();
        let pods = status["pods"].as_array().unwrap();
        pods.iter()
            .find(|status| status["name"] == pod)
            .cloned()
            .unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(agent) = &self.agent {
            agent.abort();
        }
        for uid in self.pins.keys() {
            let _ = Namespace::unpin(self.path("namespaces").join(uid));
        }
    }
}

/// A GET as a client writes it; the body if it was answered with 200.
async fn get(socket: &Path, path: &str) -> Option<serde_json::Value> {
    let mut stream = tokio::net::UnixStream::connect(socket).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200")
        .then(|| serde_json::from_str(body).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_enrol_and_unenrol_without_a_trace() {
    if needs_root() {
        return;
    }
    let mut node = Node::new();
    let uid = node.pod("web", "10.9.0.5").await;
    let before = traces(&node.pins[&uid]).await;
    node.start();
    let status = node.until_settled(0).await;
    assert_eq!(status["pods"][0]["state"], "direct");
    assert_eq!(status["pods"][0]["wanted"], false);
    assert_eq!(
        traces(&node.pins[&uid]).await,
        before,
        "looking leaves nothing behind"
    );

    // Without a proxy the pod stays pending, captured and refused.
    node.label_namespace(Some("ambient"));
    node.until_annotated("web", Some("pending")).await;
    assert!(traces(&node.pins[&uid]).await.contains("--to-ports 15001"));
    eventually("the reason is told", async || {
        node.status_of("web").await["error"] == "no node proxy is connected"
    })
    .await;
    let pending = node.status_of("web").await;
    assert_eq!(
        (&pending["state"], &pending["settled"]),
        (&"pending".into(), &false.into())
    );

    let proxy = FakeProxy::connect(&node.path("zds")).await;
    node.until_annotated("web", Some("enabled")).await;
    let given = proxy.heard(|heard| heard.namespaces[&uid].id());
    assert_eq!(given, node.pins[&uid].id());
    eventually("enrolled", async || {
        node.status_of("web").await["state"] == "enrolled"
    })
    .await;
    assert_eq!(node.status_of("web").await["settled"], true);

    let revision = node.label_namespace(None);
    node.until_annotated("web", None).await;
    eventually("direct for new connections", async || {
        !traces(&node.pins[&uid]).await.contains("REDIRECT")
    })
    .await;
    eventually("draining", async || {
        node.status_of("web").await["state"] == "draining"
    })
    .await;
    let draining = traces(&node.pins[&uid]).await;
    assert!(
        draining.contains("CONNMARK"),
        "open connections still need it: {draining}"
    );
    proxy.until_heard(&format!("del {uid}")).await;
    let status = node.until_settled(revision).await;
    assert_eq!(status["pods"][0]["state"], "direct");
    assert_eq!(traces(&node.pins[&uid]).await, before);
    assert_eq!(
        proxy.log(),
        [format!("add {uid}"), "snapshot".into(), format!("del {uid}")]
    );
    assert!(get(&node.path("status"), "/other").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_mind_while_draining_enrols_again() {
    if needs_root() {
        return;
    }
    let mut node = Node::new();
    let uid = node.pod("web", "10.9.0.5").await;
    let proxy = node.enrolled().await;
    let enrolled = traces(&node.pins[&uid]).await;

    // Before the proxy is told, and after.
    for told in [false, true] {
        node.label_namespace(Some("none"));
        node.until_annotated("web", None).await;
        if told {
            proxy.until_heard(&format!("del {uid}")).await;
        }
        let revision = node.label_namespace(Some("ambient"));
        let status = node.until_settled(revision).await;
        assert_eq!(status["pods"][0]["state"], "enrolled");
        assert_eq!(node.annotation("web").as_deref(), Some("enabled"));
        assert_eq!(traces(&node.pins[&uid]).await, enrolled);
        let adds = proxy.log().iter().filter(|line| line.starts_with("add")).count();
        assert_eq!(adds, if told { 2 } else { 1 });
    }
    // Nothing of the earlier departure comes late.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(traces(&node.pins[&uid]).await, enrolled);
    assert_eq!(proxy.log().last().unwrap(), &format!("add {uid}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_agent_goes_on_where_it_was() {
    if needs_root() {
        return;
    }
    let mut node = Node::new();
    let stays = node.pod("stays", "10.9.0.5").await;
    let lost = node.pod("lost", "10.9.0.6").await;
    let leaves = node.pod("leaves", "10.9.0.7").await;
    let before = traces(&node.pins[&leaves]).await;
    let proxy = node.enrolled().await;
    let enrolled = traces(&node.pins[&stays]).await;
    node.stop().await;
    drop(proxy);

    // While it is away: rules are damaged, a namespace cannot be found, and a pod opts out.
    crate::test_support::run_in(
        &node.pins[&stays],
        "iptables",
        &["-t", "nat", "-F", "ISTIO_PRERT"],
    )
    .await;
    Namespace::unpin(node.path("namespaces").join(&lost)).unwrap();
    let key = ObjectKey::new(Kind::Pod, "demo", "leaves");
    let labels = BTreeMap::from([("istio.io/dataplane-mode".to_owned(), Some("none".to_owned()))]);
    let pod = node.store.get(&key).unwrap().unwrap();
    let (_, revision) = node.store.put(pod.with_labels(&labels).unwrap()).unwrap();

    node.start();
    let proxy = FakeProxy::connect(&node.path("zds")).await;
    proxy.until_heard("snapshot").await;
    let mut snapshot = proxy.log();
    snapshot.truncate(4);
    snapshot.sort();
    let mut expected = vec![
        format!("add {stays}"),
        format!("keep {lost}"),
        "snapshot".into(),
        format!("add {leaves}"),
    ];
    expected.sort();
    assert_eq!(snapshot, expected);
    eventually("rules are repaired", async || {
        traces(&node.pins[&stays]).await == enrolled
    })
    .await;
    node.until_annotated("leaves", None).await;
    proxy.until_heard(&format!("del {leaves}")).await;
    eventually("nothing is left", async || {
        traces(&node.pins[&leaves]).await == before
    })
    .await;
    eventually("the loss is told", async || {
        node.status_of("lost").await["error"]
            .as_str()
            .is_some_and(|error| error.contains("no network namespace"))
    })
    .await;
    assert_eq!(
        node.annotation("lost").as_deref(),
        Some("enabled"),
        "still refused by the kernel, not direct"
    );

    // It is found again: the proxy gets the namespace that it was to keep.
    node.pins[&lost].pin(node.path("namespaces").join(&lost)).unwrap();
    proxy.until_heard(&format!("add {lost}")).await;
    node.until_settled(revision).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_while_draining_cleans_up_later() {
    if needs_root() {
        return;
    }
    let mut node = Node::new();
    let uid = node.pod("web", "10.9.0.5").await;
    let before = traces(&node.pins[&uid]).await;
    let proxy = node.enrolled().await;
    let revision = node.label_namespace(None);
    node.until_annotated("web", None).await;
    node.stop().await;
    drop(proxy);
    assert_ne!(traces(&node.pins[&uid]).await, before);

    node.start();
    let status = node.until_settled(revision).await;
    assert_eq!(status["pods"][0]["state"], "direct");
    assert_eq!(traces(&node.pins[&uid]).await, before);
}

/// Helm removes roles and accounts before the agents have ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_agent_lets_go_of_leaving_pods_without_permission_too() {
    if needs_root() {
        return;
    }
    let mut node = Node::new();
    let uid = node.pod("web", "10.9.0.5").await;
    let _proxy = node.enrolled().await;
    node.permitted.store(false, Ordering::Relaxed);
    node.label_namespace(None);
    eventually("it may not write", async || {
        let error = node.status_of("web").await["error"].to_string();
        error.contains("Unauthorized")
    })
    .await;
    let firewall = Preflight::run(Path::new("/proc/sys/net"), None)
        .await
        .ready()
        .unwrap();
    // As long as it does not end, peers must not tunnel to a pod that takes no tunnels.
    let found = firewall.inspect(&node.pins[&uid]).await.unwrap();
    assert_eq!(found, Found::Redirection);
    node.terminate().await;
    let found = firewall.inspect(&node.pins[&uid]).await.unwrap();
    assert_ne!(found, Found::Redirection);
    assert_eq!(node.annotation("web").as_deref(), Some("enabled"));
}

/// What uninstalling does: labels go, and at once agent and proxy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_agent_leaves_no_leaving_pod_captured() {
    if needs_root() {
        return;
    }
    let mut node = Node::new();
    let mut uids = Vec::new();
    for pod in 0..12 {
        uids.push(
            node.pod(&format!("web-{pod}"), &format!("10.9.0.{}", pod + 5))
                .await,
        );
    }
    let stays = node.pod("stays", "10.9.1.5").await;
    node.label_pod("stays", "ambient");
    let _proxy = node.enrolled().await;
    let enrolled = traces(&node.pins[&stays]).await;

    let revision = node.label_namespace(None);
    eventually("the agent has read it", async || {
        let status = get(&node.path("status"), "/status").await;
        status.is_some_and(|status| status["revision"].as_u64() >= Some(revision))
    })
    .await;
    node.terminate().await;
    let firewall = Preflight::run(Path::new("/proc/sys/net"), None)
        .await
        .ready()
        .unwrap();
    for uid in &uids {
        assert_ne!(
            firewall.inspect(&node.pins[uid]).await.unwrap(),
            Found::Redirection
        );
    }
    assert_eq!(traces(&node.pins[&stays]).await, enrolled);
    // Nothing to wait for, nothing waited for.
    node.start();
    let _proxy = FakeProxy::connect(&node.path("zds")).await;
    node.until_settled(revision).await;
    let before = tokio::time::Instant::now();
    node.terminate().await;
    assert!(before.elapsed() < crate::LONGEST_FAREWELL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broken_pod_is_its_own_problem() {
    if needs_root() {
        return;
    }
    let mut node = Node::new();
    let refused = node.pod("refused", "10.9.0.4").await;
    node.pod("web", "10.9.0.5").await;
    node.pod_without_network("broken", "10.9.0.6");
    let mixed_up = node.pod("mixed-up", "10.9.0.7").await;
    // Somebody else's namespace under its uid.
    let link = Netlink::in_namespace(&node.pins[&mixed_up]).unwrap();
    link.address("lo", "10.9.0.8".parse::<IpAddr>().unwrap(), 32)
        .await
        .unwrap();
    crate::test_support::run_in(
        &node.pins[&mixed_up],
        "ip",
        &["addr", "del", "10.9.0.7/32", "dev", "lo"],
    )
    .await;
    let before = traces(&node.pins[&mixed_up]).await;
    node.label_namespace(Some("ambient"));
    node.start();
    let proxy = FakeProxy::refusing(&node.path("zds"), &[&refused]).await;
    node.until_annotated("web", Some("enabled")).await;
    for (pod, reason) in [
        ("broken", "no network namespace"),
        ("mixed-up", "holds none of the pod's addresses"),
        ("refused", "the node proxy does not take the pod: no listener"),
    ] {
        eventually(pod, async || {
            node.status_of(pod).await["error"]
                .as_str()
                .is_some_and(|error| error.contains(reason))
        })
        .await;
        assert_eq!(node.status_of(pod).await["settled"], false);
    }
    assert_eq!(node.annotation("refused").as_deref(), Some("pending"));
    assert_eq!(node.annotation("mixed-up"), None);
    assert_eq!(traces(&node.pins[&mixed_up]).await, before);

    // What was refused is asked again.
    proxy.heard(|heard| heard.refuse.clear());
    node.until_annotated("refused", Some("enabled")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_and_deleted_pods_are_let_go_at_once() {
    if needs_root() {
        return;
    }
    let mut node = Node::new();
    let deleted = node.pod("deleted", "10.9.0.5").await;
    let ended = node.pod("ended", "10.9.0.6").await;
    let proxy = node.enrolled().await;

    let (_, revision) = node
        .store
        .delete(&ObjectKey::new(Kind::Pod, "demo", "deleted"))
        .unwrap();
    proxy.until_heard(&format!("del {deleted}")).await;
    let status = node.until_settled(revision).await;
    eventually("forgotten", async || node.status_of("deleted").await.is_null()).await;
    assert!(!status["pods"].as_array().unwrap().is_empty());

    let key = ObjectKey::new(Kind::Pod, "demo", "ended");
    let patch = serde_json::json!({"phase": "Succeeded"});
    let revision = node.store.patch_status(&key, &ended, patch).await.unwrap();
    proxy.until_heard(&format!("del {ended}")).await;
    node.until_settled(revision).await;
    assert_eq!(node.annotation("ended"), None);
    assert_eq!(node.status_of("ended").await["state"], "gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_made_anew_is_enrolled_again() {
    if needs_root() {
        return;
    }
    let mut node = Node::new();
    let uid = node.pod("web", "10.9.0.5").await;
    let proxy = node.enrolled().await;
    let enrolled = traces(&node.pins[&uid]).await;
    node.pin(&uid, "10.9.0.5").await;
    let given = async || proxy.heard(|heard| heard.namespaces[&uid].id()) == node.pins[&uid].id();
    eventually("the new namespace is given", given).await;
    assert_eq!(traces(&node.pins[&uid]).await, enrolled);
}
