//! `ztctl policy lint` as people and pipelines see it: exit codes, text and JSON.

use std::io::Write;
use std::process::{Command, Output, Stdio};

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/guide");

fn lint(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ztctl"));
    command.args(["policy", "lint"]).args(arguments);
    command.output().expect("ztctl runs")
}

fn file(name: &str) -> String {
    format!("{GUIDE}/{name}")
}

#[test]
fn exit_codes_say_how_bad_it_is() {
    let shop = file("bookshop.yaml");
    let of = |name: &str, more: &[&str]| {
        let name = file(name);
        let output = lint(&[&["-f", &shop, "-f", &name], more].concat());
        output.status.code()
    };
    assert_eq!(of("strict.yaml", &["--strict"]), Some(0));
    assert_eq!(of("catalog-cilium.yaml", &[]), Some(0));
    assert_eq!(of("catalog-cilium.yaml", &["--strict"]), Some(1));
    assert_eq!(of("default-deny.yaml", &[]), Some(1));
    assert_eq!(of("no-such-file.yaml", &[]), Some(2));
    assert_eq!(lint(&["--name", "no-such-lab-of-ours"]).status.code(), Some(2));
    assert_eq!(lint(&["--no-such-flag"]).status.code(), Some(2));
}

#[test]
fn text_and_json_tell_the_same() {
    let (shop, http) = (file("bookshop.yaml"), file("catalog-http.yaml"));
    let text = lint(&["-f", &shop, "-f", &http]);
    let text = String::from_utf8(text.stdout).expect("text");
    let head =
        "error target-without-waypoint: AuthorizationPolicy bookshop/catalog-requests spec.targetRefs[0] (";
    assert!(text.starts_with(head), "{text}");
    assert!(
        text.contains("\n  Fix: ") && text.ends_with("1 error, 0 warnings, 0 hints\n"),
        "{text}"
    );
    let json = lint(&["-f", &shop, "-f", &http, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((&json["errors"], &json["warnings"]), (&1.into(), &0.into()));
    let finding = &json["findings"][0];
    assert_eq!(finding["code"], "target-without-waypoint");
    assert_eq!(finding["severity"], "error");
    assert_eq!(finding["field"], "spec.targetRefs[0]");
    assert!(finding["line"].is_number() && finding["why"].is_string() && finding["fix"].is_string());
}

#[test]
fn standard_input_may_hold_what_is_wrong_and_what_nobody_reads() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ztctl"))
        .args(["policy", "lint", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ztctl runs");
    let text = "kind: What\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: c}\n---\n- a list\n";
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).expect("written");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("error invalid") && text.contains("info kind-not-read: Secret default/c"),
        "{text}"
    );
}
