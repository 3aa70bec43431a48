//! What the chart is made of.

#![allow(clippy::unwrap_used)] // Test code: a panic is a failed test.

use std::collections::BTreeSet;

use serde_json::Value;

#[path = "chart/admission.rs"]
mod admission;
#[path = "chart/definitions.rs"]
mod definitions;

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
