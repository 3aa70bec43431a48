//! Labs without the mesh's programs, brought up and looked at as a user would: names, Services, both kinds of paths
//! between pods, several labs at once, a killed supervisor, and the host's own network, which stays as it was.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: app, image: x, ports: [{name: http, containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node-a, containers: [{name: app, image: x, command: [sleep, "3600"]}]}
"#;

/// A lab that is taken down at the end of its test, however that ends.
struct Lab {
    name: String,
    _manifest: tempfile::NamedTempFile,
}

impl Lab {
    fn up(name: &str, arguments: &[&str]) -> Lab {
        let name = format!("{name}-{}", std::process::id());
        let mut manifest = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        manifest.write_all(MANIFEST.as_bytes()).unwrap();
        let lab = Lab {
            name,
            _manifest: manifest,
        };
        lab.up_again(arguments);
        lab
    }

    fn up_again(&self, arguments: &[&str]) {
        let path = self._manifest.path().to_str().unwrap();
        let all = [&["--without-mesh"], arguments, &[path]].concat();
        good(&self.run("up", &all));
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Output {
        ztctl(&[&["lab", command, "--name", &self.name], arguments].concat())
    }

    fn status(&self) -> Value {
        serde_json::from_str(&good(&self.run("status", &["-o", "json"]))).unwrap()
    }

    fn exec(&self, pod: &str, command: &[&str]) -> Output {
        self.run("exec", &[&[pod, "--"], command].concat())
    }

    /// The first pod that fits.
    fn pod(&self, fits: impl Fn(&Value) -> bool) -> Value {
        let status = self.status();
        let found = status["pods"]
            .as_array()
            .unwrap()
            .iter()
            .find(|pod| fits(pod))
            .cloned();
        found.unwrap_or_else(|| panic!("no such pod in {status:#}"))
    }

    fn ask(&self, from: &str, url: &str) -> Value {
        serde_json::from_str(&good(&self.exec(from, &["ztctl", "app", "get", url]))).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let down = self.run("down", &[]);
        if !std::thread::panicking() {
            good(&down);
        }
    }
}

fn ztctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ztctl"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The standard output of a command that must have ended well.
fn good(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn needs_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    !root
}

fn on(node: &'static str) -> impl Fn(&Value) -> bool {
    move |pod| pod["node"] == node && pod["name"].as_str().is_some_and(|name| name.starts_with("web-"))
}

#[test]
fn pods_reach_services_and_each_other() {
    if needs_root() {
        return;
    }
    let lab = Lab::up("reach", &[]);
    let client = lab.pod(|pod| pod["name"] == "client");
    let address = client["addresses"][0].as_str().unwrap();

    // The Service's name and address, until both endpoints have answered.
    let mut nodes = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let answer = lab.ask("client", "http://web.default.svc.cluster.local/");
        assert!(
            answer["peer"]
                .as_str()
                .unwrap()
                .starts_with(&format!("{address}:")),
            "{answer}"
        );
        nodes.insert(answer["node"].as_str().unwrap().to_owned());
        if nodes.len() == 2 {
            break;
        }
    }
    assert_eq!(nodes.into_iter().collect::<Vec<_>>(), ["node-a", "node-b"]);

    // Straight to a pod, on the same node and on the other.
    for node in ["node-a", "node-b"] {
        let pod = lab.pod(on(node));
        let answer = lab.ask(
            "client",
            &format!("http://{}:8080/x", pod["addresses"][0].as_str().unwrap()),
        );
        assert_eq!(
            (&answer["pod"], &answer["path"]),
            (&pod["name"], &Value::from("/x"))
        );
    }

    // A pod that calls its own Service reaches itself too.
    let own = lab.pod(on("node-a"));
    let name = own["name"].as_str().unwrap();
    let flood = good(&lab.exec(name, &["ztctl", "app", "flood", "web:80", "--for", "500ms"]));
    let flood: Value = serde_json::from_str(&flood).unwrap();
    assert!(flood["answered"].as_u64().unwrap() > 8, "{flood}");
    assert_eq!(flood["answered"], flood["attempts"]);

    let bytes = [
        "ztctl",
        "app",
        "stream",
        "web:80",
        "--bytes",
        "20MiB",
        "--connections",
        "8",
    ];
    good(&lab.exec("client", &bytes));

    for (url, why) in [
        ("http://nobody/", "connection refused"),
        ("http://unknown/", "name not found"),
        ("http://192.0.2.1/", "unreachable"),
    ] {
        let output = lab.exec("client", &["ztctl", "app", "get", url]);
        assert_eq!(output.status.code(), Some(1), "{url}");
        assert!(text(&output.stderr).contains(why), "{url}: {output:?}");
    }
    assert_eq!(lab.exec("client", &["sh", "-c", "exit 7"]).status.code(), Some(7));
}

#[test]
fn both_families_are_served() {
    if needs_root() {
        return;
    }
    let lab = Lab::up("dual", &["--ipv6", "--nodes", "3"]);
    for node in ["node-a", "node-b", "node-c"] {
        let pod = lab.status()["pods"]
            .as_array()
            .unwrap()
            .iter()
            .find(|pod| on(node)(pod))
            .cloned();
        // Two pods on three nodes: one has none.
        let Some(pod) = pod else { continue };
        for address in pod["addresses"].as_array().unwrap() {
            let address: std::net::IpAddr = address.as_str().unwrap().parse().unwrap();
            let answer = lab.ask(
                "client",
                &format!("http://{}/", std::net::SocketAddr::new(address, 8080)),
            );
            assert_eq!(answer["pod"], pod["name"]);
        }
    }
}

#[test]
fn labs_share_nothing_and_leave_the_host_alone() {
    if needs_root() {
        return;
    }
    let host = || -> Vec<String> {
        let commands: [&[&str]; 5] = [
            &["ip", "-o", "link"],
            &["ip", "-o", "address"],
            &["ip", "route", "show", "table", "all"],
            &["ip", "rule"],
            &["iptables-save"],
        ];
        // Counters and times differ from call to call.
        let stable = |line: &&str| !line.starts_with('#') && !line.starts_with(':');
        commands
            .iter()
            .map(|command| {
                let output = Command::new(command[0]).args(&command[1..]).output().unwrap();
                text(&output.stdout)
                    .lines()
                    .filter(stable)
                    .collect::<Vec<_>>()
                    .join("\n")
            })
            .collect()
    };
    let before = host();
    let one = Lab::up("one", &[]);
    let two = Lab::up("two", &[]);
    assert_eq!(host(), before);

    // The same addresses in both, and each answers for itself.
    let (first, second) = (one.pod(on("node-b")), two.pod(on("node-b")));
    let url = format!("http://{}:8080/", second["addresses"][0].as_str().unwrap());
    assert_eq!(two.ask("client", &url)["pod"], second["name"]);
    assert_ne!(first["network_namespace"], second["network_namespace"]);

    // What is up is not brought up again, and the end of one is nothing to the other.
    let again = one.run("up", &["--without-mesh"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("is up already"), "{again:?}");
    good(&one.run("down", &[]));
    assert_eq!(two.ask("client", &url)["pod"], second["name"]);
    drop(two);
    drop(one);
    assert_eq!(host(), before);
}

#[test]
fn a_killed_lab_is_cleaned_up_by_the_next_up_or_down() {
    if needs_root() {
        return;
    }
    let lab = Lab::up("killed", &[]);
    let kill = |status: &Value| -> Vec<i32> {
        let pid = |value: &Value| i32::try_from(value.as_u64().unwrap()).unwrap();
        let supervisor = nix::unistd::Pid::from_raw(pid(&status["supervisor_pid"]));
        nix::sys::signal::kill(supervisor, nix::sys::signal::SIGKILL).unwrap();
        let stat = format!("/proc/{supervisor}/stat");
        let gone = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        assert!((0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            gone()
        }));
        let pods = status["pods"].as_array().unwrap().iter();
        pods.flat_map(|pod| pod["containers"].as_array().unwrap())
            .map(|container| pid(&container["pid"]))
            .collect()
    };
    let alive = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/environ"))
            .is_ok_and(|environment| environment.contains("POD_NAME="))
    };
    let left = kill(&lab.status());
    assert!(
        left.iter().all(alive),
        "the pods' processes outlive the supervisor"
    );
    assert_eq!(lab.run("status", &[]).status.code(), Some(2));
    lab.up_again(&[]);
    assert!(!left.iter().any(alive), "up has ended what was left");
    lab.ask("client", "http://web/");

    let directory = lab.status()["directory"].as_str().unwrap().to_owned();
    let left = kill(&lab.status());
    good(&lab.run("down", &[]));
    assert!(!left.iter().any(alive), "down has ended what was left");
    assert!(!std::path::Path::new(&directory).exists());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&directory), "{mounts}");
    assert!(text(&lab.run("down", &[]).stderr).contains("there is no lab"));
}

#[test]
fn changes_take_effect_before_the_command_returns_and_bad_ones_change_nothing() {
    if needs_root() {
        return;
    }
    let lab = Lab::up("change", &[]);
    let apply = |manifest: &str| {
        let mut file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        file.write_all(manifest.as_bytes()).unwrap();
        lab.run("apply", &["-f", file.path().to_str().unwrap()])
    };
    let objects = || good(&lab.run("get", &["pods", "-A", "-o", "json"]));

    let before = objects();
    let good_and_bad = "apiVersion: v1\nkind: Namespace\nmetadata: {name: new}\n---\napiVersion: v1\nkind: Pod\n\
        metadata: {name: bad}\nspec:\n  containers:\n  - name: a\n    image: x\n    command: [/no/such/program]\n";
    let refused = apply(good_and_bad);
    assert_eq!(refused.status.code(), Some(2));
    let words = text(&refused.stderr);
    assert!(
        words.contains(".yaml:12: Pod default/bad: spec.containers[0].command[0]"),
        "{words}"
    );
    assert_eq!(objects(), before);
    assert_eq!(lab.run("get", &["namespace/new"]).status.code(), Some(1));

    // Replaced pods are ready, and the old ones gone, when apply returns.
    let names = || -> Vec<String> {
        let list: Value = serde_json::from_str(&good(&lab.run("get", &["pods", "-o", "json"]))).unwrap();
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
            .filter(|name| name != "client")
            .collect()
    };
    let old = names();
    good(&apply(
        &MANIFEST.replace("image: x, ports", "image: other, ports"),
    ));
    let new = names();
    assert_eq!(new.len(), 2);
    assert!(new.iter().all(|name| !old.contains(name)), "{old:?} {new:?}");
    lab.ask("client", "http://web/");

    good(&lab.run("delete", &["deployment/web"]));
    assert!(names().is_empty());
    let output = lab.exec("client", &["ztctl", "app", "get", "http://web/"]);
    assert!(text(&output.stderr).contains("connection refused"), "{output:?}");

    // A process that dies is started again.
    let pid = |pod: &Value| pod["containers"][0]["pid"].as_i64();
    let first = pid(&lab.pod(|pod| pod["name"] == "client")).unwrap();
    let raw = nix::unistd::Pid::from_raw(i32::try_from(first).unwrap());
    nix::sys::signal::kill(raw, nix::sys::signal::SIGKILL).unwrap();
    let again = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        pid(&lab.pod(|pod| pod["name"] == "client")).is_some_and(|now| now != first)
    });
    assert!(again);

    // A wire that is cut, and joined again.
    good(&apply(MANIFEST));
    let far = format!(
        "http://{}:8080/",
        lab.pod(on("node-b"))["addresses"][0].as_str().unwrap()
    );
    lab.ask("client", &far);
    good(&lab.run("fault", &["node-b", "--partition"]));
    assert_eq!(
        lab.exec("client", &["ztctl", "app", "get", "--timeout", "300ms", &far])
            .status
            .code(),
        Some(1)
    );
    good(&lab.run("fault", &["node-b", "--clear"]));
    lab.ask("client", &far);
}

#[test]
fn wires_are_as_slow_as_they_are_told_to_be() {
    if needs_root() {
        return;
    }
    const MANY: u64 = 2 * 1024 * 1024;
    let lab = Lab::up("slow", &["--ipv6"]);
    let addresses = lab.pod(on("node-b"))["addresses"].clone();
    let v4 = format!("{}:8080", addresses[0].as_str().unwrap());
    let v6 = format!("[{}]:8080", addresses[1].as_str().unwrap());
    let url = format!("http://{v4}/");
    // How many seconds it takes to have so many bytes echoed, every one of them the right one.
    let stream = |to: &str, bytes: u64| -> f64 {
        let bytes = bytes.to_string();
        let command = ["ztctl", "app", "stream", to, "--bytes", &bytes];
        let report: Value = serde_json::from_str(&good(&lab.exec("client", &command))).unwrap();
        assert_eq!(report["verified"].to_string(), bytes);
        report["seconds"].as_f64().unwrap()
    };
    let fault = |arguments: &[&str]| {
        good(&lab.run("fault", &[&["node-b"], arguments].concat()));
    };
    let cut = || {
        let command = ["ztctl", "app", "get", "--timeout", "400ms", &url];
        lab.exec("client", &command).status.code() == Some(1)
    };
    // The interfaces of the namespace between the nodes.
    let fabric = lab.status()["fabric_namespace"].as_str().unwrap().to_owned();
    let links = || {
        let output = Command::new("nsenter")
            .args([&format!("--net={fabric}"), "ip", "-o", "link"])
            .output()
            .unwrap();
        let second = |line: &str| line.split(": ").nth(1).unwrap().to_owned();
        let mut names: Vec<String> = good(&output).lines().map(second).collect();
        names.sort();
        names
    };
    let before = links();

    // Connecting takes one round trip and the echo another, each of them the delay there and back.
    fault(&["--delay", "50ms"]);
    let seconds = stream(&v4, 1);
    assert!((0.2..20.0).contains(&seconds), "{seconds}");
    lab.ask("client", &url);
    // Other faults come and go on the slow wire.
    fault(&["--loss", "100%"]);
    assert!(cut());
    fault(&["--loss", "0%"]);
    lab.ask("client", &url);
    fault(&["--partition"]);
    assert!(cut());

    // 2 MiB are 1.68 s at this rate, and the delay is no more.
    fault(&["--clear", "--rate", "10mbit"]);
    let slow = stream(&v4, MANY);
    assert!((1.67..60.0).contains(&slow), "{slow}");
    // A change on the go, to both at once.
    fault(&["--delay", "20ms", "--rate", "100mbit"]);
    let seconds = stream(&v4, MANY);
    assert!(seconds > 0.16 + 0.08, "{seconds}");

    fault(&["--clear"]);
    assert_eq!(links(), before, "nothing is left of the slow wire");
    let quick = stream(&v4, MANY);
    assert!(quick < slow / 2.0, "{quick} against {slow}");

    // The control plane's wire too; and a lab with slow wires goes down like any other.
    good(&lab.run("fault", &["control-plane", "--delay", "5ms"]));
    fault(&["--delay", "5ms", "--rate", "1gbit"]);
    assert!(links().len() > before.len());
    stream(&v6, MANY);
    for wrong in [["--delay", "2h"], ["--rate", "10mbps"], ["--rate", "0mbit"]] {
        let refused = lab.run("fault", &[&["node-b"], &wrong[..]].concat());
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    }
    good(&lab.run("down", &[]));
    assert!(!std::path::Path::new(&fabric).exists());
}
