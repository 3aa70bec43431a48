//! Questions about policy on manifests, through the program: exit codes, output, and policy tests.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn example(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/policy-tests")
        .join(name);
    path.to_str().unwrap().to_owned()
}

fn policy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ztctl"))
        .arg("policy")
        .args(arguments)
        .output()
        .unwrap()
}

fn on_example(question: &[&str]) -> Output {
    let (policies, pods) = (example("policies"), example("pods.yaml"));
    policy(&[question, &["-f", &policies, "-f", &pods]].concat())
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn can_tells_by_exit_code_and_in_words() {
    for (from, to, code, says) in [
        (
            "production/frontend",
            "service:production/backend:80",
            0,
            "allowed by rule 0 of ALLOW policy production/allow-frontend",
        ),
        (
            "legacy/batch",
            "production/frontend:8080",
            1,
            "PeerAuthentication requires mTLS (production/strict)",
        ),
        (
            "sa:monitoring/prometheus",
            "production/backend-0:8080",
            1,
            "would be allowed if the source were cluster.local/ns/production/sa/frontend",
        ),
        (
            "production/frontend",
            "legacy/batch:80",
            0,
            "legacy/batch is not in the mesh",
        ),
    ] {
        let output = on_example(&["can", from, to]);
        assert_eq!(output.status.code(), Some(code), "{from} {to}: {output:?}");
        assert!(stdout(&output).contains(says), "{says} in {}", stdout(&output));
    }
}

#[test]
fn json_names_the_object_that_the_user_wrote() {
    let output = on_example(&["can", "legacy/batch", "production/frontend:8080", "-o", "json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (field, expected) in [
        ("verdict", "deny"),
        ("policy", "production/strict"),
        ("kind", "PeerAuthentication"),
        ("code", "mtls_required"),
        ("from", "legacy/batch"),
        ("to", "production/frontend:8080"),
    ] {
        assert_eq!(answer[field], expected, "{field} of {answer:#}");
    }
    let output = on_example(&["can", "production/frontend", "legacy/batch:80", "-o", "json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!([&answer["policy"], &answer["kind"]], [&Value::Null; 2]);
    let output = on_example(&[
        "explain",
        "sa:monitoring/prometheus",
        "production/backend-0:8080",
        "-o",
        "json",
    ]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        answer["endpoints"][0]["policies"].as_array().unwrap().len(),
        3,
        "{answer:#}"
    );
}

#[test]
fn explain_tells_what_failed() {
    let output = on_example(&["explain", "sa:monitoring/prometheus", "production/backend-0:8080"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    for line in [
        "  AuthorizationPolicy production/allow-monitoring, for this workload: ALLOW does not match",
        "      destination port: wanted 9090, is 8080",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} in\n{text}");
    }
}

#[test]
fn strict_report_tells_who_would_break() {
    let pods = example("pods.yaml");
    let output = policy(&["strict-report", "-f", &pods]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("production/backend-0 would refuse legacy/batch (ports 8080, 9090)"),
        "{output:?}"
    );
    assert_eq!(
        on_example(&["strict-report", "-n", "production"]).status.code(),
        Some(0),
        "it is STRICT already"
    );
    assert_eq!(
        policy(&["strict-report", "-n", "legacy", "-f", &pods])
            .status
            .code(),
        Some(3)
    );
}

#[test]
fn wrong_use_and_unanswerable_questions_are_told_apart() {
    for (question, code, says) in [
        (
            &["can", "frontend", "production/backend-0:80"][..],
            2,
            "is no caller",
        ),
        (
            &["can", "production/frontend", "production/backend-0"],
            2,
            "is no target",
        ),
        (
            &["can", "production/nobody", "production/backend-0:80"],
            3,
            "there is no pod production/nobody",
        ),
        (
            &["can", "production/frontend", "service:production/backend:81"],
            3,
            "it has no port 81",
        ),
    ] {
        let output = on_example(question);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(stderr(&output).contains(says), "{says} in {}", stderr(&output));
    }
    let files = TempDir::new().unwrap();
    let bad = files.path().join("bad.yaml");
    fs::write(
        &bad,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containerz: []}\n",
    )
    .unwrap();
    let output = policy(&["can", "a/b", "c/d:80", "-f", bad.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("bad.yaml:4: Pod a: spec.containerz: there is no such field"),
        "{output:?}"
    );
}

/// The ConfigMap `istio` of the root namespace counts in manifests as in a mesh.
#[test]
fn the_settings_of_the_mesh_are_read_where_they_are_given() {
    let files = TempDir::new().unwrap();
    let settings = files.path().join("settings.yaml");
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
                data: {mesh: 'trustDomain: shop.example'}\n";
    fs::write(&settings, text).unwrap();
    let question = [
        "can",
        "production/frontend",
        "service:production/backend:80",
        "-f",
        settings.to_str().unwrap(),
    ];
    // The policies name another trust domain.
    let output = on_example(&question);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = on_example(&[&question[..], &["--trust-domain", "cluster.local"]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let linted = on_example(&["lint", "-f", settings.to_str().unwrap()]);
    assert!(stdout(&linted).contains("wrong-trust-domain"), "{linted:?}");
    assert!(!stdout(&on_example(&["lint"])).contains("wrong-trust-domain"));
    fs::write(&settings, text.replace("shop.example", "SHOP")).unwrap();
    let output = on_example(&question);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        stderr(&output).contains("ConfigMap istio-system/istio"),
        "{output:?}"
    );
}

#[test]
fn kinds_that_nobody_reads_are_passed_over_and_foreign_policies_are_named() {
    let files = TempDir::new().unwrap();
    let more = files.path().join("more.yaml");
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {x: y}\n---\n\
                apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: b, namespace: production}\nspec: {}\n";
    fs::write(&more, text).unwrap();
    let output = on_example(&[
        "can",
        "production/frontend",
        "service:production/backend:80",
        "-f",
        more.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = stderr(&output);
    assert!(
        said.contains("CiliumNetworkPolicy production/b: not taken into account") && !said.contains("Secret"),
        "{said}"
    );
}

#[test]
fn the_example_of_policy_tests_passes() {
    let output = policy(&["test", &example("tests.yaml")]);
    assert_eq!(stdout(&output), "6 passed, 0 failed\n");
    assert_eq!(output.status.code(), Some(0));
}

/// Policy tests are kept beside the policies: a directory of manifests may hold them.
#[test]
fn a_directory_of_manifests_may_hold_policy_tests() {
    let (directory, tests) = (example(""), example("tests.yaml"));
    // Of the directory itself, the pods; no policy.
    for (question, code) in [
        (
            &["can", "production/frontend", "production/backend-0:8080"][..],
            0,
        ),
        (&["lint"], 0),
        (&["strict-report"], 1),
    ] {
        let output = policy(&[question, &["-f", &directory]].concat());
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let output = policy(&[question, &["-f", &tests]].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(
            stderr(&output).contains("run them by `ztctl policy test "),
            "{output:?}"
        );
    }
    let files = TempDir::new().unwrap();
    fs::copy(example("pods.yaml"), files.path().join("pods.yaml")).unwrap();
    let path = files.path().join("tests.yaml");
    let text = "manifests: [.]\ncases:\n\
                - {name: a, from: legacy/batch, to: 'production/frontend:8080', expect: allow}\n";
    fs::write(&path, text).unwrap();
    let output = policy(&["test", path.to_str().unwrap()]);
    assert_eq!(stdout(&output), "1 passed, 0 failed\n", "{output:?}");
}

#[test]
fn each_failed_case_has_a_line_and_a_bad_file_a_place() {
    let files = TempDir::new().unwrap();
    let path = files.path().join("tests.yaml");
    fs::copy(example("pods.yaml"), files.path().join("pods.yaml")).unwrap();
    let text = "manifests: [pods.yaml]\ncases:\n\
                - {name: wrong, from: legacy/batch, to: 'production/frontend:8080', expect: deny}\n\
                - {name: right, from: legacy/batch, to: 'production/frontend:8080', expect: allow}\n";
    fs::write(&path, text).unwrap();
    let name = path.to_str().unwrap();
    let output = policy(&["test", name, &example("tests.yaml")]);
    assert_eq!(
        stdout(&output),
        format!(
            "FAILED {name}:3: wrong: expected deny, is allowed: no ALLOW policy selects this workload, and no DENY \
             policy matched\n7 passed, 1 failed\n"
        )
    );
    assert_eq!(output.status.code(), Some(1));
    let output = policy(&["test", name, "-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&told["passed"], &told["failed"]), (&1.into(), &1.into()));
    let (wrong, right) = (&told["cases"][0], &told["cases"][1]);
    assert_eq!((&wrong["line"], &wrong["passed"]), (&3.into(), &false.into()));
    assert_eq!(wrong["answer"]["verdict"], "allow");
    assert!(
        wrong["failure"]
            .as_str()
            .unwrap()
            .starts_with("expected deny, is allowed")
    );
    assert_eq!(
        (&right["name"], &right["passed"]),
        (&"right".into(), &true.into())
    );
    assert!(right.get("failure").is_none());
    fs::write(
        &path,
        "manifests: [pods.yaml]\ncases:\n- {name: a, from: x, to: 'a/b:1', expect: allow}\n",
    )
    .unwrap();
    let output = policy(&["test", name]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains(&format!("{name}:3: cases[0].from: \"x\" is no caller")),
        "{output:?}"
    );
    assert_eq!(policy(&["test", "/nowhere.yaml"]).status.code(), Some(2));
}

/// Ten thousand cases, each with an object of its own, in a mesh of a hundred pods.
#[test]
fn ten_thousand_cases_with_objects_of_their_own() {
    let files = TempDir::new().unwrap();
    let mut pods = fs::read_to_string(example("pods.yaml")).unwrap();
    for number in 0..100 {
        write!(
            pods,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}, namespace: production}}\n\
             spec: {{containers: [{{name: a}}]}}\n"
        )
        .unwrap();
    }
    fs::write(files.path().join("pods.yaml"), pods).unwrap();
    let mut text = "manifests: [pods.yaml]\ncases:\n".to_owned();
    for number in 0..10_000 {
        let (kind, spec, expect) = match number % 3 {
            0 => (
                "AuthorizationPolicy",
                "{action: DENY, rules: [{to: [{operation: {ports: ['80']}}]}]}",
                "deny",
            ),
            1 => ("PeerAuthentication", "{mtls: {mode: STRICT}}", "deny"),
            _ => ("PeerAuthentication", "{mtls: {mode: PERMISSIVE}}", "allow"),
        };
        let pod = number % 100;
        write!(
            text,
            "- name: case {number}\n  objects:\n  - apiVersion: security.istio.io/v1\n    kind: {kind}\n    \
             metadata: {{name: own, namespace: production}}\n    spec: {spec}\n  from: legacy/batch\n  \
             to: production/p{pod}:80\n  expect: {expect}\n"
        )
        .unwrap();
    }
    let path = files.path().join("tests.yaml");
    fs::write(&path, text).unwrap();
    let begin = std::time::Instant::now();
    let output = policy(&["test", path.to_str().unwrap()]);
    println!("10000 cases in {:?}", begin.elapsed());
    assert_eq!(stdout(&output), "10000 passed, 0 failed\n", "{}", stderr(&output));
}

/// A case that passes on an address that nobody wrote says so.
#[test]
fn what_a_passed_case_rests_on_is_said() {
    let files = TempDir::new().unwrap();
    let policy_text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: near, namespace: production}\n\
                       spec: {rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}\n---\n\
                       apiVersion: v1\nkind: Pod\nmetadata: {name: new, namespace: legacy}\nspec: {containers: [{name: a}]}\n";
    fs::copy(example("pods.yaml"), files.path().join("pods.yaml")).unwrap();
    fs::write(files.path().join("near.yaml"), policy_text).unwrap();
    let path = files.path().join("tests.yaml");
    let text = "manifests: [pods.yaml, near.yaml]\ncases:\n\
                - {name: a, from: legacy/new, to: 'production/frontend:8080', expect: deny}\n\
                - {name: b, from: legacy/new, to: 'production/frontend:8081', expect: deny}\n";
    fs::write(&path, text).unwrap();
    let name = path.to_str().unwrap();
    let output = policy(&["test", name]);
    assert_eq!(
        (output.status.code(), stdout(&output)),
        (Some(0), "2 passed, 0 failed\n".to_owned())
    );
    let said = stderr(&output);
    assert!(
        said.contains(&format!("{name}:3: a: note: ")) && said.contains("give it status.podIP"),
        "{said}"
    );
    assert_eq!(said.matches("give it status.podIP").count(), 1, "{said}");
    let told: Value = serde_json::from_slice(&policy(&["test", name, "-o", "json"]).stdout).unwrap();
    assert!(
        told["cases"][1]["notes"].to_string().contains("status.podIP"),
        "{told:#}"
    );
}
