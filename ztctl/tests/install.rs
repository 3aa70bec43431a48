//! `ztctl install` and `uninstall` with a helm and a kubectl that write down how they are called.

#![allow(clippy::unwrap_used)] // Test code: a panic is a failed test.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// A directory to be the whole PATH, with these programs: their names, and shell text after what writes their
/// arguments, one a line, to NAME.called beside them.
fn programs(list: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in list {
        let path = directory.path().join(name);
        let called = directory.path().join(format!("{name}.called"));
        let script = format!(
            "#!/bin/sh\nfor argument; do echo \"$argument\"; done >> {}\n{text}\n",
            called.display()
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    directory
}

fn ztctl(path: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_ztctl"))
        .env("PATH", path)
        .env("TMPDIR", path)
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn called(path: &Path, program: &str) -> Vec<String> {
    let text = std::fs::read_to_string(path.join(format!("{program}.called"))).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn helm_is_run_with_the_chart_and_what_was_asked_for() {
    // The chart is there while helm runs, and gone afterwards.
    let path = programs(&[(
        "helm",
        "/bin/test -f \"$4/Chart.yaml\" && /bin/test -f \"$4/values.schema.json\" && echo released",
    )]);
    let arguments = [
        "install",
        "--namespace=mesh",
        "--release=m",
        "--kubeconfig=/k",
        "--context=c",
        "-f",
        "a.yaml",
        "--values=b.yaml",
        "--set",
        "mesh.network=one",
        "--wait",
        "--",
        "--timeout=5m",
    ];
    // With a kubeconfig, the chart comes four arguments later.
    let (code, stdout, stderr) = ztctl(path.path(), &arguments);
    let seen = called(path.path(), "helm");
    let chart = seen[7].clone();
    assert!(chart.ends_with("/ztunnel-mesh"), "{seen:?}");
    assert_eq!(
        seen[..7],
        [
            "upgrade",
            "--install",
            "--kubeconfig",
            "/k",
            "--kube-context",
            "c",
            "m"
        ]
    );
    assert_eq!(
        seen[8..],
        [
            "--namespace",
            "mesh",
            "--create-namespace",
            "--values",
            "a.yaml",
            "--values",
            "b.yaml",
            "--set",
            "mesh.network=one",
            "--wait",
            "--timeout=5m"
        ]
    );
    assert_eq!(
        code,
        Some(1),
        "this helm looks for the chart elsewhere: {stdout} {stderr}"
    );

    std::fs::remove_file(path.path().join("helm.called")).unwrap();
    let (code, stdout, stderr) = ztctl(path.path(), &["install"]);
    assert_eq!((code, stdout.as_str()), (Some(0), "released\n"), "{stderr}");
    assert!(stderr.contains("helm upgrade --install ztunnel-mesh"), "{stderr}");
    let seen = called(path.path(), "helm");
    assert_eq!(seen[4..], ["--namespace", "istio-system", "--create-namespace"]);
    assert!(!Path::new(&seen[3]).exists(), "{} was left behind", seen[3]);
}

#[test]
fn without_helm_the_command_is_printed_and_the_chart_is_kept() {
    let path = programs(&[]);
    let (code, stdout, stderr) = ztctl(path.path(), &["install", "--set", "a=b c"]);
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("no helm on the PATH"), "{stderr}");
    let words: Vec<&str> = stdout.split_whitespace().collect();
    assert_eq!(words[..4], ["helm", "upgrade", "--install", "ztunnel-mesh"]);
    assert!(Path::new(words[4]).join("Chart.yaml").is_file(), "{stdout}");
    assert!(stdout.trim_end().ends_with("--set 'a=b c'"), "{stdout}");

    let (code, stdout, stderr) = ztctl(path.path(), &["uninstall"]);
    assert_eq!(code, Some(3), "{stderr}");
    assert_eq!(
        stdout,
        "helm uninstall ztunnel-mesh --namespace istio-system --wait\n"
    );
    // Whoever runs that elsewhere is not asked there whether pods are still in the mesh.
    assert!(stderr.contains("kubectl label pods -A -l"), "{stderr}");
}

#[test]
fn a_dry_run_prints_and_runs_nothing() {
    let path = programs(&[("helm", "exit 1"), ("kubectl", "exit 1")]);
    let directory = path.path().join("kept");
    let arguments = [
        "install",
        "--dry-run",
        "--chart-directory",
        directory.to_str().unwrap(),
    ];
    let (code, stdout, stderr) = ztctl(path.path(), &arguments);
    assert_eq!(code, Some(0), "{stderr}");
    let chart = directory.join("ztunnel-mesh");
    assert_eq!(
        stdout,
        format!(
            "helm upgrade --install ztunnel-mesh {} --namespace istio-system --create-namespace\n",
            chart.display()
        )
    );
    assert!(chart.join("Chart.yaml").is_file());
    let (code, stdout, _) = ztctl(path.path(), &["uninstall", "--dry-run", "-n", "mesh"]);
    assert_eq!(code, Some(0));
    assert_eq!(stdout, "helm uninstall ztunnel-mesh --namespace mesh --wait\n");
    assert_eq!(called(path.path(), "helm"), [""; 0]);
    assert_eq!(called(path.path(), "kubectl"), [""; 0]);
}

#[test]
fn what_helm_refuses_is_a_no() {
    let path = programs(&[("helm", "echo 'Error: values' >&2; exit 7")]);
    let (code, _, stderr) = ztctl(path.path(), &["install"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("Error: values"), "{stderr}");
    let (code, ..) = ztctl(path.path(), &["install", "--unknown"]);
    assert_eq!(code, Some(2));
}

#[test]
fn nobody_is_left_behind_in_a_mesh_that_goes() {
    // Somebody is still in it.
    let members = "case \"$2\" in namespaces) echo namespace/shop;; pods) echo pod/web;; esac";
    let path = programs(&[("helm", ""), ("kubectl", members)]);
    let (code, _, stderr) = ztctl(path.path(), &["uninstall"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("namespace/shop, pod/web"), "{stderr}");
    assert!(stderr.contains("istio.io/dataplane-mode-"), "{stderr}");
    assert_eq!(called(path.path(), "helm"), [""; 0]);
    let (code, ..) = ztctl(path.path(), &["uninstall", "--force"]);
    assert_eq!(code, Some(0));

    // Nobody is.
    let path = programs(&[("helm", ""), ("kubectl", "")]);
    let arguments = ["uninstall", "--kubeconfig=/k", "--context=c"];
    let (code, _, stderr) = ztctl(path.path(), &arguments);
    assert_eq!(code, Some(0), "{stderr}");
    let seen = called(path.path(), "helm");
    assert_eq!(
        seen[..6],
        [
            "uninstall",
            "--kubeconfig",
            "/k",
            "--kube-context",
            "c",
            "ztunnel-mesh"
        ]
    );
    let asked = called(path.path(), "kubectl").join(" ");
    assert!(asked.contains("--kubeconfig /k --context c"), "{asked}");

    // Somebody is on the way out: that is waited for, and then helm runs.
    let leaving = "case \"$*\" in *go-template=*) /bin/test -e \"$0.asked\" || { : > \"$0.asked\"; echo shop/web; };; esac";
    let path = programs(&[("helm", ""), ("kubectl", leaving)]);
    let (code, _, stderr) = ztctl(path.path(), &["uninstall"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stderr.contains("waiting for the node agents to take out of the mesh: shop/web"),
        "{stderr}"
    );
    let asked = called(path.path(), "kubectl");
    let looks = asked
        .iter()
        .filter(|argument| argument.contains("ambient.istio.io/redirection"));
    assert_eq!(looks.count(), 2, "{asked:?}");

    // It cannot be found out: kubectl fails, or there is none.
    for list in [
        &[("helm", ""), ("kubectl", "echo forbidden >&2; exit 1")][..],
        &[("helm", "")],
    ] {
        let path = programs(list);
        let (code, _, stderr) = ztctl(path.path(), &["uninstall"]);
        assert_eq!(code, Some(3), "{stderr}");
        assert!(stderr.contains("cannot find out"), "{stderr}");
        assert_eq!(called(path.path(), "helm"), [""; 0]);
    }
}
