//! The manifests of examples/guide: each is accepted and does what the file `findings.txt` beside them says, or is
//! refused with what of it nobody enforces.

use std::path::PathBuf;
use std::sync::Arc;

use compile::Compiler;
use objects::{Kind, parse, parse_leniently};

use super::listed;
use crate::{Code, Input, Settings, Severity, lint};

fn guide() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/guide")
}

/// Name and text of every manifest, the mesh that they are about left out.
fn manifests() -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = std::fs::read_dir(guide())
        .expect("the examples")
        .filter_map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name()?.to_str()?.to_owned();
            let wanted = name.ends_with(".yaml") && name != "bookshop.yaml";
            wanted.then(|| (name, std::fs::read_to_string(&path).expect("text")))
        })
        .collect();
    found.sort();
    assert!(found.len() > 12);
    found
}

fn bookshop() -> String {
    std::fs::read_to_string(guide().join("bookshop.yaml")).expect("text")
}

fn findings(name: &str, text: &str, settings: &Settings) -> Vec<crate::Finding> {
    let mut input = Input::default();
    input.add(parse_leniently("bookshop.yaml", &bookshop()));
    input.add(parse_leniently(name, text));
    lint(&input, settings)
}

/// `UPDATE_FINDINGS=1` writes the file anew; what changed in it is to be read.
#[test]
fn each_is_answered_with_what_is_and_is_not_enforced() {
    let mut all = String::from(
        "What `ztctl policy lint -f bookshop.yaml -f FILE` says, where no network plugin enforces NetworkPolicy. A test holds it.\n",
    );
    for (name, text) in manifests() {
        let found = findings(&name, &text, &Settings::default());
        all += &format!("\n## {name}\n");
        all += &if found.is_empty() {
            "nothing\n".to_owned()
        } else {
            listed(&found)
        };
    }
    let path = guide().join("findings.txt");
    if std::env::var_os("UPDATE_FINDINGS").is_some() {
        std::fs::write(&path, &all).expect("written");
    }
    let expected = std::fs::read_to_string(&path).expect("examples/guide/findings.txt");
    assert_eq!(all, expected);
}

#[test]
fn each_is_compiled_or_refused_by_name() {
    for (name, text) in manifests() {
        let objects = match parse(&name, &text) {
            Ok(objects) => objects,
            Err(errors) => {
                assert_eq!(name, "catalog-cilium.yaml");
                let errors = errors.to_string();
                assert!(
                    errors.contains("nothing of it would be enforced: only Cilium enforces it")
                        && errors.contains("write callers and ports into an AuthorizationPolicy"),
                    "{errors}"
                );
                continue;
            }
        };
        let mut compiler = Compiler::new(compile::Settings::default());
        let mesh = parse("bookshop.yaml", &bookshop()).unwrap_or_else(|errors| panic!("{errors}"));
        let kinds: Vec<Kind> = objects.iter().map(objects::Object::kind).collect();
        let changes = mesh.into_iter().chain(objects);
        compiler.apply(changes.map(|object| (object.key(), Some(Arc::new(object)))));
        let sent: Vec<&str> = compiler.policies().keys().map(String::as_str).collect();
        let expected: &[&str] = match name.as_str() {
            "catalog-http-without-target.yaml" => &["bookshop/catalog-requests"],
            "mended.yaml" => &[
                "bookshop/catalog-callers",
                "istio-system/istio_converted_static_strict",
            ],
            _ if kinds.contains(&Kind::PeerAuthentication) => &["istio-system/istio_converted_static_strict"],
            // NetworkPolicies and what is attached to waypoints are not for node proxies.
            _ => &[],
        };
        assert_eq!(sent, expected, "{name}");
    }
}

#[test]
fn where_no_waypoints_run_what_counts_on_them_closes() {
    let text = std::fs::read_to_string(guide().join("waypoint.yaml")).expect("text");
    let settings = Settings {
        waypoints_run: false,
        ..Settings::default()
    };
    let found = findings("waypoint.yaml", &text, &settings);
    let said: Vec<_> = found
        .iter()
        .map(|finding| (finding.code, finding.severity))
        .collect();
    let expected = [
        (Code::TargetWithoutWaypoint, Severity::Error),
        (Code::WaypointNotUsable, Severity::Error),
    ];
    assert_eq!(said, expected, "{}", listed(&found));
}

#[test]
fn the_mended_one_has_nothing_but_hints() {
    let (name, text) = manifests()
        .into_iter()
        .find(|(name, _)| name == "mended.yaml")
        .expect("mended.yaml");
    let settings = Settings {
        network_policy_enforced: true,
        ..Settings::default()
    };
    let found = findings(&name, &text, &settings);
    assert!(found.is_empty(), "{}", listed(&found));
}

#[test]
fn all_of_them_together_name_the_outage_of_the_guide() {
    let settings = Settings {
        network_policy_enforced: true,
        ..Settings::default()
    };
    let of = |names: &[&str]| -> Vec<Code> {
        let texts = manifests();
        let text: Vec<String> = names
            .iter()
            .map(|name| {
                texts
                    .iter()
                    .find(|(file, _)| file == name)
                    .expect("a file")
                    .1
                    .clone()
            })
            .collect();
        let found = findings("both", &text.join("\n---\n"), &settings);
        found
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .map(|finding| finding.code)
            .collect()
    };
    // Without DNS everything stops; the emergency policy mends that, and tunnels are still shut off.
    assert!(of(&["default-deny.yaml"]).contains(&Code::DnsEgressMissing));
    let emergency = of(&["default-deny.yaml", "emergency-dns.yaml"]);
    assert!(!emergency.contains(&Code::DnsEgressMissing) && emergency.contains(&Code::HboneBlocked));
    assert_eq!(of(&["default-deny.yaml", "mended.yaml"]), []);
}
