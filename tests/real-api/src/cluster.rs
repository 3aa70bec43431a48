use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Api, Output, eventually, run};

use crate::audit::{self, Request};
use crate::chart::{self, Installed};
use crate::daemon::Daemon;
use crate::http;
use crate::keys::ADMIN;
use crate::server::{Programs, Server};
use crate::stand_ins;

/// The namespace that the chart is installed into.
pub const MESH: &str = "istio-system";

/// How long a server may take to be ready.
const START: Duration = Duration::from_secs(120);
/// The longest that a command of kubectl may take.
const COMMAND: Duration = Duration::from_secs(60);
const MERGE: &str = "application/merge-patch+json";

/// One at a time: a server is large.
static ONE: Mutex<()> = Mutex::new(());

/// An API server and its etcd, which end with this.
pub struct Cluster {
    server: Server,
    controllers: Option<Daemon>,
    api_server: Option<Daemon>,
    etcd: Option<Daemon>,
    api: Api,
    folder: TempDir,
    _one: MutexGuard<'static, ()>,
}

impl Cluster {
    /// A new one, with the namespace of the mesh in it and, where the server is too old for a kind, a stand-in for that.
    #[track_caller]
    pub fn start(programs: &Programs) -> Cluster {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let server = Server::prepare(programs.clone(), folder.path());
        let api = Api::at(
            (Ipv4Addr::LOCALHOST, server.port()).into(),
            ADMIN,
            &server.keys().path("root.pem"),
        );
        let mut cluster = Cluster {
            controllers: None,
            api_server: None,
            etcd: None,
            api,
            server,
            folder,
            _one: one,
        };
        cluster.start_etcd();
        cluster.start_api_server();
        cluster.controllers = cluster.server.start_controllers(&cluster.kubeconfig(ADMIN));
        for definition in stand_ins::definitions(programs.version()) {
            cluster.define(&definition);
        }
        cluster.put(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": MESH } }));
        cluster
    }

    /// As the administrator, or anybody [`with_token`](Api::with_token).
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Major and minor version of the server.
    pub fn version(&self) -> (u32, u32) {
        self.server.version()
    }

    /// Where the server is.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The certificate that the server's own is held against, as a file.
    pub fn root(&self) -> PathBuf {
        self.server.keys().path("root.pem")
    }

    /// Where files of a test may be.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A kubeconfig with this token.
    pub fn kubeconfig(&self, token: &str) -> PathBuf {
        let name = format!("kubeconfig-{:016x}", digest(token));
        self.server.keys().kubeconfig(&name, &self.url(), token)
    }

    /// Runs kubectl as the administrator, with this text as its input.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig(ADMIN))
            .arg("--cache-dir")
            .arg(self.folder.path().join("kubectl-cache"))
            .args(arguments);
        run(command, Some(input), COMMAND)
    }

    /// Installs what the chart renders with these values: everything that the server has a kind for.
    #[track_caller]
    pub fn install(&self, values: &str) -> Installed {
        chart::install(self, values)
    }

    /// The nodes `node-a` and `node-b`, with a pod each of the mesh's accounts, as [`install`](Cluster::install) makes them.
    #[track_caller]
    pub fn nodes(&self) {
        chart::nodes(self);
    }

    /// Makes an object, or changes one that is there to be so; with its status, where it has one.
    #[track_caller]
    pub fn put(&self, object: &Value) -> Value {
        let collection = self
            .collection(object)
            .unwrap_or_else(|| panic!("the server has no such kind: {object}"));
        let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap());
        let (code, answer) = self
            .api
            .send("POST", &collection, "application/json", &object.to_string());
        let stored = match code {
            201 => answer,
            409 => self.api.patch(&path, object),
            _ => panic!("{collection} {object}: {code} {answer:#}"),
        };
        match object.get("status") {
            None => stored,
            Some(status) => {
                let patch = json!({ "status": status }).to_string();
                let (code, answer) = self.api.send("PATCH", &format!("{path}/status"), MERGE, &patch);
                assert_eq!(code, 200, "{path}/status {patch}: {answer:#}");
                answer
            }
        }
    }

    /// Where objects of this kind are, in the namespace of this one; none: the server has no such kind.
    #[track_caller]
    pub fn collection(&self, object: &Value) -> Option<String> {
        let version = object["apiVersion"].as_str().expect("apiVersion");
        let base = match version.contains('/') {
            true => format!("/apis/{version}"),
            false => format!("/api/{version}"),
        };
        let kinds = self.api.get(&base)?;
        let kind = kinds["resources"].as_array()?.iter().find(|resource| {
            resource["kind"] == object["kind"]
                && !resource["name"].as_str().is_some_and(|name| name.contains('/'))
        })?;
        let plural = kind["name"].as_str()?;
        Some(match object["metadata"]["namespace"].as_str() {
            Some(namespace) if kind["namespaced"] == true => {
                format!("{base}/namespaces/{namespace}/{plural}")
            }
            _ => format!("{base}/{plural}"),
        })
    }

    /// Defines a kind, and waits until the server has it.
    #[track_caller]
    pub fn define(&self, definition: &Value) {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        self.api.create(path, definition);
        let name = definition["metadata"]["name"].as_str().unwrap();
        eventually("the definition is established", START, || {
            let stored = self.api.get(&format!("{path}/{name}")).unwrap_or_default();
            let conditions = stored["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let is = |kind: &str| {
                conditions
                    .iter()
                    .any(|one| one["type"] == kind && one["status"] == "True")
            };
            is("Established") && is("NamesAccepted")
        });
        let spec = &definition["spec"];
        for version in spec["versions"].as_array().unwrap() {
            let path = format!(
                "/apis/{}/{}",
                spec["group"].as_str().unwrap(),
                version["name"].as_str().unwrap()
            );
            eventually("the kind is served", START, || {
                let found = self.api.get(&path).unwrap_or_default();
                let resources = found["resources"].as_array().cloned().unwrap_or_default();
                resources
                    .iter()
                    .any(|resource| resource["name"] == spec["names"]["plural"])
            });
        }
    }

    /// A token of a service account, as its kubelet asks for it: bound to a pod, for an audience or the server itself.
    #[track_caller]
    pub fn token(&self, namespace: &str, account: &str, pod: Option<&str>, audience: Option<&str>) -> String {
        let mut spec =
            json!({ "audiences": audience.into_iter().collect::<Vec<_>>(), "expirationSeconds": 3600 });
        if let Some(pod) = pod {
            let found = self
                .api
                .get(&format!("/api/v1/namespaces/{namespace}/pods/{pod}"));
            let uid = found.expect("the pod")["metadata"]["uid"].clone();
            spec["boundObjectRef"] = json!({ "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid });
        }
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let request =
            json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec });
        let answer = self.api.create(&path, &request);
        answer["status"]["token"].as_str().expect("a token").to_owned()
    }

    /// What accounts of the mesh have asked for so far.
    pub fn requests(&self) -> Vec<Request> {
        let log = std::fs::read(self.folder.path().join("audit.log")).unwrap_or_default();
        audit::requests(&String::from_utf8_lossy(&log))
    }

    /// The API server is away, ended as by a drain or without a word.
    pub fn stop_api_server(&mut self, in_order: bool) {
        if let Some(daemon) = self.api_server.take() {
            match in_order {
                true => drop(daemon.stop()),
                false => daemon.kill(),
            }
        }
    }

    /// And is back.
    #[track_caller]
    pub fn start_api_server(&mut self) {
        self.api_server = Some(self.server.start_api_server());
        self.wait_ready();
    }

    /// etcd is away, and the API server is not.
    pub fn stop_etcd(&mut self) {
        if let Some(daemon) = self.etcd.take() {
            daemon.kill();
        }
    }

    /// And is back, with what it held.
    #[track_caller]
    pub fn start_etcd(&mut self) {
        self.etcd = Some(self.server.start_etcd());
        eventually("etcd is healthy", START, || {
            self.etcd_post("/v3/kv/range", &json!({ "key": "YQ==" }))
                .is_some()
        });
    }

    /// etcd forgets everything but the latest state.
    #[track_caller]
    pub fn compact(&self) {
        let found = self
            .etcd_post("/v3/kv/range", &json!({ "key": "YQ==" }))
            .expect("etcd");
        let revision = found["header"]["revision"]
            .as_str()
            .expect("a revision")
            .to_owned();
        let request = json!({ "revision": revision, "physical": true });
        self.etcd_post("/v3/kv/compaction", &request)
            .expect("etcd compacts");
    }

    /// Waits until the server says that it is ready.
    #[track_caller]
    pub fn wait_ready(&self) {
        let log =
            || std::fs::read_to_string(self.folder.path().join("kube-apiserver.log")).unwrap_or_default();
        let began = std::time::Instant::now();
        while !matches!(self.is_ready(), Ok(true)) {
            assert!(
                began.elapsed() < START,
                "the API server is never ready:\n{}",
                tail(&log())
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_ready(&self) -> std::io::Result<bool> {
        // `/readyz` answers in plain text; the namespace `default` is made when it is.
        let (code, _) = self
            .api
            .request("GET", "/api/v1/namespaces/default", "application/json", "")?;
        Ok(code == 200)
    }

    fn etcd_post(&self, path: &str, body: &Value) -> Option<Value> {
        let url = self.server.etcd_url();
        let (status, body) = http::ask(url.strip_prefix("http://")?, "POST", path, &body.to_string())?;
        (status == 200).then(|| serde_json::from_str(&body).ok())?
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Who asks before who is asked.
        self.controllers = None;
        self.api_server = None;
        self.etcd = None;
        if let (true, Some(keep)) = (std::thread::panicking(), std::env::var_os("KEEP_LOGS")) {
            let keep = PathBuf::from(keep);
            let _ = std::fs::create_dir_all(&keep);
            for entry in std::fs::read_dir(self.folder.path())
                .into_iter()
                .flatten()
                .flatten()
            {
                if entry
                    .path()
                    .extension()
                    .is_some_and(|extension| extension == "log")
                {
                    let _ = std::fs::copy(entry.path(), keep.join(entry.file_name()));
                }
            }
        }
    }
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(30).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn digest(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
