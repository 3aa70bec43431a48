//! What the chart is made of.

#![allow(clippy::unwrap_used)] // Test code: a panic is a failed test.

use std::collections::BTreeSet;

use serde_json::Value;

#[path = "chart/accounts.rs"]
mod accounts;
#[path = "chart/admission.rs"]
mod admission;
#[path = "chart/definitions.rs"]
mod definitions;
#[path = "chart/evaluation.rs"]
mod evaluation;
#[path = "chart/rendered.rs"]
mod rendered;

#[test]
fn what_is_written_is_what_is_here() {
    let directory = tempfile::tempdir().unwrap();
    charts::write_to(directory.path()).unwrap();
    // Again, over what is there.
    charts::write_to(directory.path()).unwrap();
    let files = charts::files();
    for wanted in [
        "Chart.yaml",
        "values.yaml",
        "values.schema.json",
        "templates/NOTES.txt",
    ] {
        assert!(files.iter().any(|(path, _)| *path == wanted), "{wanted}");
    }
    for (path, content) in files {
        let written = std::fs::read(directory.path().join(charts::NAME).join(path)).unwrap();
        assert!(written == content, "{path}");
    }
}

/// A value that is documented and not checked, or checked and not documented, is a mistake.
#[test]
fn values_and_their_schema_name_the_same() {
    let text = |name: &str| {
        let file = charts::files().into_iter().find(|(path, _)| *path == name);
        String::from_utf8(file.unwrap().1.to_vec()).unwrap()
    };
    let values = charts::parse(&text("values.yaml")).unwrap().remove(0);
    let schema: Value = serde_json::from_str(&text("values.schema.json")).unwrap();
    let (mut given, mut known) = (BTreeSet::new(), BTreeSet::new());
    paths(&values, &schema, String::new(), &mut given);
    schema_paths(&schema, String::new(), &mut known);
    known.remove(".global");
    assert_eq!(given, known);
}

fn paths(values: &Value, schema: &Value, path: String, found: &mut BTreeSet<String>) {
    // Below a value that is free to have any entries, there is nothing to compare.
    match (values.as_object(), schema["properties"].as_object()) {
        (Some(entries), Some(properties)) => {
            for (name, value) in entries {
                let schema = properties.get(name).unwrap_or(&Value::Null);
                paths(value, schema, format!("{path}.{name}"), found);
            }
        }
        _ => {
            found.insert(path);
        }
    }
}

fn schema_paths(schema: &Value, path: String, found: &mut BTreeSet<String>) {
    match schema["properties"].as_object() {
        Some(properties) => {
            for (name, schema) in properties {
                schema_paths(schema, format!("{path}.{name}"), found);
            }
        }
        None => {
            found.insert(path);
        }
    }
}

/// Whoever builds the images gets those that the chart asks for.
#[test]
fn there_is_an_image_for_every_container() {
    let dockerfile = include_str!("../../images/Dockerfile");
    let mut images = BTreeSet::new();
    for object in charts::rendered("defaults").unwrap() {
        let containers = object["spec"]["template"]["spec"]["containers"].as_array();
        for container in containers.into_iter().flatten() {
            let image = container["image"].as_str().unwrap();
            let name = image.rsplit('/').next().unwrap().split(':').next().unwrap();
            let stage = dockerfile.split(&format!(" AS {name}\n")).nth(1).expect(name);
            let stage = stage.split("\nFROM ").next().unwrap();
            assert!(
                stage.contains(&format!("ENTRYPOINT [\"/usr/local/bin/{name}\"]")),
                "{stage}"
            );
            // An image that starts as root is one whose container may be.
            let user = stage.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
            let runs_as_root = container["securityContext"]["runAsUser"] == 0;
            assert_eq!(user.starts_with("0:"), runs_as_root, "{name}");
            images.insert(name.to_owned());
        }
    }
    assert_eq!(images.len(), 3, "{images:?}");
}

/// The same sources give the same images, and nothing of the machine that builds gets into them.
#[test]
fn images_are_built_from_what_is_pinned() {
    let dockerfile = include_str!("../../images/Dockerfile");
    let is_version = |text: &str| text.split('.').filter(|part| part.parse::<u32>().is_ok()).count() == 3;
    let value = |name: &str| {
        let argument = format!("ARG {name}=");
        let found = dockerfile.lines().find_map(|line| line.strip_prefix(&argument));
        found.unwrap_or_else(|| panic!("no {name}")).to_owned()
    };
    for version in ["RUST_VERSION", "CYCLONEDX_VERSION"] {
        assert!(is_version(&value(version)), "{version}");
    }
    for base in ["BASE_BUILD", "BASE_RUN", "BASE_AGENT"] {
        let image = value(base);
        let (_, tag) = image.rsplit_once('/').unwrap().1.split_once(':').expect(base);
        assert!(!tag.is_empty() && tag != "latest", "{image}");
    }
    let mut stages = BTreeSet::from(["scratch"]);
    for line in dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")) {
        let (from, name) = line.split_once(" AS ").expect("every stage has a name");
        assert!(
            from.starts_with("${BASE_") || stages.contains(from),
            "{from} cannot be replaced by another base"
        );
        stages.insert(name);
    }
    // Nobody runs ztctl from its image as root; and what is in each program is told.
    let ztctl = dockerfile.split(" AS ztctl\n").nth(1).unwrap();
    assert!(ztctl.contains("\nUSER 65532:65532\n"), "{ztctl}");
    assert!(dockerfile.contains("for program in ztunnel node-agent control-plane ztctl; do"));
    assert!(dockerfile.contains("cargo build --release --locked "));
    // With a cache of an earlier build, cargo would otherwise take sources with older times for built already.
    assert!(dockerfile.contains("-type f -exec touch {} + \\\n && cargo build"));
    let ignored: Vec<&str> = include_str!("../../.dockerignore").lines().collect();
    for wanted in ["/target", "/.git"] {
        assert!(ignored.contains(&wanted), "{wanted}");
    }
}

/// What is given to containers is what they need and no more: the list is here twice, so that nobody widens it in passing.
#[test]
fn containers_have_exactly_these_privileges() {
    let mut seen = BTreeSet::new();
    for object in charts::rendered("defaults").unwrap() {
        let pod = &object["spec"]["template"]["spec"];
        for container in pod["containers"].as_array().into_iter().flatten() {
            let name = container["name"].as_str().unwrap();
            let context = &container["securityContext"];
            let added: Vec<&str> = context["capabilities"]["add"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|capability| capability.as_str().unwrap())
                .collect();
            let expected: &[&str] = match name {
                "control-plane" => &[],
                "ztunnel" => &["SYS_ADMIN", "NET_ADMIN"],
                "node-agent" => &["SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_PTRACE"],
                other => panic!("who is {other}?"),
            };
            assert_eq!(added, expected, "{name}");
            assert_eq!(
                context["capabilities"]["drop"],
                serde_json::json!(["ALL"]),
                "{name}"
            );
            assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
            assert_ne!(context["privileged"], true, "{name}");
            assert_eq!(
                pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
                "{name}"
            );
            assert!(pod["hostNetwork"].is_null() && pod["hostPID"].is_null(), "{name}");
            if expected.is_empty() {
                assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
                assert_eq!(context["allowPrivilegeEscalation"], false);
            }
            seen.insert(name.to_owned());
        }
    }
    assert_eq!(seen.len(), 3);
}

/// A panel about a metric that nobody exports stays empty for ever.
#[test]
fn the_dashboard_asks_for_metrics_that_are_documented() {
    let file = charts::files()
        .into_iter()
        .find(|(path, _)| *path == "files/dashboard.json");
    let dashboard: Value = serde_json::from_slice(file.unwrap().1).unwrap();
    let page = include_str!("../../docs/operations.md");
    let mut panels = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let metrics: Vec<_> = words
                .filter(|word| word.starts_with("istio_") || word.starts_with("ztunnel_"))
                .collect();
            for metric in &metrics {
                // `_closed_total` and the like are written without their beginning.
                let short = metric.trim_start_matches("istio_tcp_connections");
                assert!(
                    page.contains(metric) || page.contains(&format!("`{short}`")),
                    "{metric}"
                );
            }
            panels += usize::from(!metrics.is_empty());
        }
    }
    assert!(panels > 5, "{panels}");
}
