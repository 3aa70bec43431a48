use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use sys::Namespace;
use tempfile::TempDir;

use crate::guard::Guard;
use crate::metrics;
use crate::node::Node;
use crate::pod::Pod;
use crate::program::{Output, binary, run, ztctl};

/// A command may take this long: longer than the longest wait of its own.
const LIMIT: Duration = Duration::from_secs(120);

/// A lab of its own name, taken down with the value, also when the test panics or its process is killed.
pub struct Lab {
    name: String,
    files: TempDir,
    guard: Guard,
}

impl Lab {
    /// Two nodes and these objects; panics unless it comes up.
    pub fn up(manifests: &str) -> Lab {
        Lab::up_with(&[], manifests)
    }

    /// As [`Lab::up`], with further arguments of `ztctl lab up`.
    pub fn up_with(args: &[&str], manifests: &str) -> Lab {
        let lab = Lab::reserve();
        let output = lab.try_up(args, manifests);
        assert_eq!(
            output.code, 0,
            "`lab up` failed: {}{}",
            output.stdout, output.stderr
        );
        lab
    }

    /// Only a name, and the promise to clean up whatever comes up under it.
    pub fn reserve() -> Lab {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        let name = format!(
            "{PREFIX}{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let guard = Guard::new(&name);
        Lab {
            name,
            files: TempDir::new().expect("a temporary directory"),
            guard,
        }
    }

    /// `ztctl lab up` with these arguments and objects.
    pub fn try_up(&self, args: &[&str], manifests: &str) -> Output {
        let file = self.file("lab.yaml", manifests);
        let mut all = vec!["up"];
        all.extend(args);
        all.push(&file);
        self.ztctl(&all)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes a file that lives as long as the lab, and gives its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.files.path().join(name);
        fs::write(&path, text).expect("writing a file");
        path.to_str().expect("a path of text").to_owned()
    }

    /// `ztctl lab ARGS --name NAME`; `--name` stands right behind the subcommand.
    pub fn ztctl(&self, args: &[&str]) -> Output {
        run(self.command(args), None, LIMIT)
    }

    /// As [`Lab::ztctl`], with a text as standard input.
    pub fn ztctl_with_input(&self, args: &[&str], input: &str) -> Output {
        run(self.command(args), Some(input), LIMIT)
    }

    /// The command that [`Lab::ztctl`] runs.
    pub fn command(&self, args: &[&str]) -> Command {
        let (subcommand, rest) = args.split_first().expect("a subcommand");
        let mut command = Command::new(binary("ztctl"));
        command.args(["lab", subcommand, "--name", &self.name]).args(rest);
        command
    }

    /// Applies objects; panics unless that succeeds.
    #[track_caller]
    pub fn apply(&self, yaml: &str) {
        let output = self.try_apply(yaml);
        assert_eq!(
            output.code, 0,
            "`lab apply` failed: {}{}\n{yaml}",
            output.stdout, output.stderr
        );
    }

    /// Applies objects from standard input.
    pub fn try_apply(&self, yaml: &str) -> Output {
        self.ztctl_with_input(&["apply", "-f", "-"], yaml)
    }

    /// `ztctl lab delete ARGS`; panics unless that succeeds.
    #[track_caller]
    pub fn delete(&self, args: &[&str]) {
        let mut all = vec!["delete"];
        all.extend(args);
        self.ztctl(&all).expect_code(0);
    }

    /// `ztctl lab label ARGS`; panics unless that succeeds.
    #[track_caller]
    pub fn label(&self, args: &[&str]) {
        let mut all = vec!["label"];
        all.extend(args);
        self.ztctl(&all).expect_code(0);
    }

    /// Ends a process of the mesh; returns when it is back. Panics unless that succeeds.
    #[track_caller]
    pub fn restart(&self, what: &str, kill: bool) {
        let mut all = vec!["restart", what];
        if kill {
            all.push("--kill");
        }
        self.ztctl(&all).expect_code(0);
    }

    /// The log of `ztunnel/NODE`, `node-agent/NODE`, `control-plane`, `NAMESPACE/POD`.
    #[track_caller]
    pub fn logs(&self, what: &str) -> String {
        self.ztctl(&["logs", what]).expect_code(0).stdout
    }

    /// `ztctl lab get ARGS -o json`.
    #[track_caller]
    pub fn get(&self, args: &[&str]) -> Value {
        let mut all = vec!["get"];
        all.extend(args);
        all.extend(["-o", "json"]);
        let output = self.ztctl(&all).expect_code(0);
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
    }

    /// `ztctl lab status -o json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        let output = self.ztctl(&["status", "-o", "json"]).expect_code(0);
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
    }

    /// A pod by `NAMESPACE/NAME`.
    #[track_caller]
    pub fn pod(&self, namespace_and_name: &str) -> Pod {
        let status = self.status();
        let pods = status["pods"].as_array().expect("a list of pods");
        let is_it =
            |pod: &&Value| format!("{}/{}", text(pod, "namespace"), text(pod, "name")) == namespace_and_name;
        let pod = pods
            .iter()
            .rfind(is_it)
            .unwrap_or_else(|| panic!("no pod {namespace_and_name} in {:#}", status["pods"]));
        Pod {
            lab: self.name.clone(),
            namespace: text(pod, "namespace").to_owned(),
            name: text(pod, "name").to_owned(),
            uid: text(pod, "uid").to_owned(),
            ip: *addresses(pod)
                .first()
                .unwrap_or_else(|| panic!("no address: {pod}")),
            node: text(pod, "node").to_owned(),
            network: open(text(pod, "network_namespace")),
        }
    }

    /// A node by its name.
    #[track_caller]
    pub fn node(&self, name: &str) -> Node {
        let status = self.status();
        let nodes = status["nodes"].as_array().expect("a list of nodes");
        let node = nodes
            .iter()
            .find(|node| text(node, "name") == name)
            .unwrap_or_else(|| panic!("no node {name} in {:#}", status["nodes"]));
        Node {
            name: name.to_owned(),
            addresses: addresses(node),
            network: open(text(node, "network_namespace")),
        }
    }

    /// The wire between the nodes: a capture on its interface `node-a` sees all that leaves and enters that node.
    #[track_caller]
    pub fn fabric(&self) -> Node {
        let network = open(text(&self.status(), "fabric_namespace"));
        Node {
            name: "fabric".to_owned(),
            addresses: vec![IpAddr::from([172, 31, 0, 1])],
            network,
        }
    }

    /// The control plane's place.
    #[track_caller]
    pub fn control_plane(&self) -> Node {
        let network = open(text(&self.status()["control_plane"], "network_namespace"));
        Node {
            name: "control-plane".to_owned(),
            addresses: vec![IpAddr::from([172, 31, 0, 2])],
            network,
        }
    }

    /// The address of a service, as the API tells it.
    #[track_caller]
    pub fn service_address(&self, namespace: &str, name: &str) -> IpAddr {
        let services = self.get(&["services", "-n", namespace]);
        let items = services["items"].as_array().expect("a list of services");
        let service = items.iter().find(|service| service["metadata"]["name"] == name);
        let address = service.and_then(|service| service["spec"]["clusterIP"].as_str()?.parse().ok());
        address.unwrap_or_else(|| panic!("no address of {namespace}/{name} in {services:#}"))
    }

    /// The sum of a metric's samples with these labels, at a node's proxy.
    #[track_caller]
    pub fn metric(&self, node: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
        metrics::sum(&self.node(node).metrics(), name, labels)
    }

    /// Memory of a node's proxy that is in RAM, in bytes.
    #[track_caller]
    pub fn resident(&self, node: &str) -> u64 {
        let status = self.status();
        let nodes = status["nodes"].as_array().expect("a list of nodes");
        let node = nodes.iter().find(|known| known["name"] == node);
        let pid = node.and_then(|node| node["ztunnel"]["pid"].as_u64());
        let pid = pid.unwrap_or_else(|| panic!("no such proxy in {status:#}"));
        let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running proxy");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.expect("its memory") << 10
    }

    /// The last lines of the logs of everything that is the mesh, for a failed test.
    fn last_words(&self) -> String {
        let logs = Path::new(ROOT).join(&self.name).join("logs");
        let Ok(entries) = fs::read_dir(logs) else {
            return "no logs".to_owned();
        };
        let mut words = String::new();
        for path in entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_file())
        {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(40)..].join("\n");
            words += &format!("--- {}\n{last}\n", path.display());
        }
        words
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the lab {} when the test failed:\n{}",
                self.name,
                self.last_words()
            );
        }
        let down = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            ztctl(&["lab", "down", "--name", &self.name], LIMIT)
        }));
        self.guard.release();
        match down {
            Ok(Output { code: 0, .. }) => {}
            Ok(output) if !std::thread::panicking() => panic!("`lab down` failed: {output:?}"),
            down => eprintln!("`lab down` failed: {down:?}"),
        }
    }
}

/// Where labs live.
pub(crate) const ROOT: &str = "/run/ztunnel-lab";
const PREFIX: &str = "e2e-";

/// Takes down the labs of test processes that are no more.
fn sweep() {
    for entry in fs::read_dir(ROOT).into_iter().flatten().flatten() {
        // A directory, or a file NAME.log or NAME.lock beside it.
        let path = entry.path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            eprintln!("taking down {name}, left by a test that was killed");
            let _ = ztctl(&["lab", "down", "--name", &name], LIMIT);
        }
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("no text `{field}` in {value:#}"))
}

fn addresses(value: &Value) -> Vec<IpAddr> {
    let list = value["addresses"].as_array().into_iter().flatten();
    list.filter_map(|address| address.as_str()?.parse().ok())
        .collect()
}

#[track_caller]
fn open(path: &str) -> Namespace {
    Namespace::open(path).unwrap_or_else(|error| panic!("{error}"))
}
