//! What people type wrongly: every mistake is named with its place, the exit code says whose it is, and nothing that
//! runs notices.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::manifests::{join, namespace, peer_authentication, pod, server, sleeper};
use tests::{Lab, Output, Place, Pod, ask, leftovers, require_root, ztctl};

/// A mistake, in a document of its own; the line it is in ends with this comment.
const HERE: &str = "# HERE";

/// A document with one mistake, and what must be said about it.
struct Mistake {
    document: &'static str,
    says: &'static [&'static str],
}

const MISTAKES: &[Mistake] = &[
    // Not YAML.
    Mistake {
        document: "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n labels: {} # HERE\n",
        says: &[],
    },
    Mistake {
        document: "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  name: b # HERE\n",
        says: &["name"],
    },
    // Not a kind or a version that there is.
    Mistake {
        document: "apiVersion: v1\nkind: Gadget # HERE\nmetadata: {name: a}\n",
        says: &["Gadget", "kind"],
    },
    Mistake {
        document: "apiVersion: v7 # HERE\nkind: Pod\nmetadata: {name: a, namespace: mesh}\n",
        says: &["apiVersion", "v7"],
    },
    // Not a field, not of this type, not a name.
    Mistake {
        document: "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: mesh}\nspec:\n  nodeNmae: node-a # HERE\n  \
                   containers: [{name: main, image: x}]\n",
        says: &["spec.nodeNmae", "Pod mesh/a"],
    },
    Mistake {
        document: "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: mesh}\nspec:\n  containers:\n  - name: \
                   main\n    image: x\n    ports:\n    - containerPort: eighty # HERE\n",
        says: &["spec.containers[0].ports[0].containerPort"],
    },
    Mistake {
        document: "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  namespace: mesh\n  name: Bad_Name # HERE\n",
        says: &["metadata.name", "Bad_Name"],
    },
    Mistake {
        document: "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: mesh}\nspec:\n  selector: {app: a}\n  \
                   ports:\n  - port: 0 # HERE\n",
        says: &["spec.ports[0].port"],
    },
    // Policies that cannot be.
    Mistake {
        document: "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: \
                   mesh}\nspec:\n  action: DENY\n  rules:\n  - to:\n    - operation:\n        ports: [\"70000\"] # \
                   HERE\n",
        says: &["spec.rules[0].to[0].operation.ports[0]", "70000"],
    },
    Mistake {
        document: "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: \
                   mesh}\nspec:\n  action: DENY\n  rules:\n  - from:\n    - source:\n        ipBlocks: [10.0.0.300] \
                   # HERE\n",
        says: &["spec.rules[0].from[0].source.ipBlocks[0]", "10.0.0.300"],
    },
    Mistake {
        document: "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: \
                   mesh}\nspec:\n  action: DENY\n  rules:\n  - from:\n    - source:\n        ipBlocks: [10.0.0.0/33] \
                   # HERE\n",
        says: &["spec.rules[0].from[0].source.ipBlocks[0]", "10.0.0.0/33"],
    },
    Mistake {
        document: "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: \
                   mesh}\nspec:\n  action: FORBID # HERE\n",
        says: &["spec.action", "FORBID"],
    },
    Mistake {
        document: "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a, namespace: \
                   mesh}\nspec:\n  mtls:\n    mode: STRIKT # HERE\n",
        says: &["spec.mtls.mode", "STRIKT", "STRICT"],
    },
    // What cannot be run here.
    Mistake {
        document: "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: mesh}\nspec:\n  containers:\n  - name: \
                   main\n    image: x\n    command: [/no/such/program] # HERE\n",
        says: &["spec.containers[0].command[0]", "/no/such/program"],
    },
    Mistake {
        document: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: mesh}\nspec:\n  selector: \
                   {matchLabels: {app: a}}\n  template:\n    metadata: {labels: {app: a}}\n    spec:\n      \
                   containers:\n      - name: main\n        image: x\n        command: [no-such-program] # HERE\n",
        says: &["spec.template.spec.containers[0].command[0]", "no-such-program"],
    },
    Mistake {
        document: "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: mesh}\nspec:\n  containers:\n  - name: \
                   main\n    image: x\n    workingDir: /no/such/directory # HERE\n",
        says: &["spec.containers[0].workingDir", "/no/such/directory"],
    },
    Mistake {
        document: "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: mesh}\nspec:\n  nodeName: node-z # HERE\n  \
                   containers: [{name: main, image: x}]\n",
        says: &["spec.nodeName", "node-z", "node-a, node-b"],
    },
    Mistake {
        document: "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  namespace: ghost # HERE\nspec:\n  containers: \
                   [{name: main, image: x}]\n",
        says: &["metadata.namespace", "ghost"],
    },
    // One name, two pods.
    Mistake {
        document: "apiVersion: v1 # HERE\nkind: Pod\nmetadata: {name: fresh, namespace: mesh}\nspec:\n  containers: \
                   [{name: main, image: x, command: [sleep, infinity]}]\n",
        says: &["Pod mesh/fresh", "twice"],
    },
];

#[test]
fn one_bad_object_keeps_the_whole_set_from_being_applied() {
    if !require_root() {
        return;
    }
    let lab = Lab::up(&objects());
    let watch = Watch::begin(&lab);
    // Had any of these been applied, the outsider would be shut out, or the pod and the namespace would be there.
    let good = join([
        peer_authentication("mesh", "default", "STRICT"),
        namespace("extra", true),
        sleeper("mesh", "fresh", "fresh", "node-a"),
    ]);
    for (number, mistake) in MISTAKES.iter().enumerate() {
        let text = format!("{good}---\n{}", mistake.document);
        let file = lab.file(&format!("mistake-{number}.yaml"), &text);
        let output = lab.ztctl(&["apply", "-f", &file]);
        names_the_place(&output, &file, &text, mistake);
        watch.unchanged(&lab);
    }
    // The set without a mistake is what was asked for.
    lab.apply(&good);
    assert!(ask(&lab.pod("outside/caller"), lab.pod("mesh/server").at(7001)).is_err());
}

#[test]
fn a_lab_does_not_come_up_from_bad_manifests() {
    if !require_root() {
        return;
    }
    let lab = Lab::reserve();
    for (number, mistake) in MISTAKES.iter().enumerate() {
        let text = format!(
            "{}---\n{}",
            join([objects(), sleeper("mesh", "fresh", "x", "node-a")]),
            mistake.document
        );
        let file = lab.file(&format!("mistake-{number}.yaml"), &text);
        let begun = Instant::now();
        let output = lab.ztctl(&["up", &file]);
        names_the_place(&output, &file, &text, mistake);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(
            leftovers(lab.name()),
            Vec::<String>::new(),
            "{}",
            mistake.document
        );
    }
}

#[test]
fn every_mistake_is_named_at_once() {
    if !require_root() {
        return;
    }
    let lab = Lab::up(&objects());
    let (first, second) = (&MISTAKES[4], &MISTAKES[8]);
    let text = format!("{}---\n{}", first.document, second.document);
    let file = lab.file("two.yaml", &text);
    let output = lab.ztctl(&["apply", "-f", &file]).expect_code(2);
    let lines: Vec<usize> = text
        .lines()
        .zip(1..)
        .filter(|(line, _)| line.ends_with(HERE))
        .map(|(_, number)| number)
        .collect();
    assert_eq!(lines.len(), 2);
    for (mistake, line) in [first, second].into_iter().zip(lines) {
        assert!(
            output.stderr.contains(&format!("{file}:{line}:")),
            "{}",
            output.stderr
        );
        assert!(
            mistake.says.iter().all(|word| output.stderr.contains(word)),
            "{}",
            output.stderr
        );
    }
    // One name in two files is a mistake as well, and the second file is named.
    let pod = sleeper("mesh", "twice", "x", "node-a");
    let files = ["one.yaml", "other.yaml"].map(|name| lab.file(name, &pod));
    let output = lab
        .ztctl(&["apply", "-f", &files[0], "-f", &files[1]])
        .expect_code(2);
    assert!(
        output.stderr.contains("mesh/twice") && output.stderr.contains(&files[1]),
        "{}",
        output.stderr
    );
    assert_eq!(lab.ztctl(&["get", "pod", "twice", "-n", "mesh"]).code, 1);
}

#[test]
fn what_is_not_text_or_not_there_is_refused() {
    if !require_root() {
        return;
    }
    let lab = Lab::up(&objects());
    let watch = Watch::begin(&lab);
    let nested = "[".repeat(100_000);
    let bomb = {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let inner = format!("*a{}, ", level - 1).repeat(10);
            text += &format!("a{level}: &a{level} [{inner}]\n");
        }
        text
    };
    for (name, text) in [
        ("nested", nested.as_str()),
        ("bomb", &bomb),
        ("scalar", "just words"),
        ("list", "- 1\n- 2\n"),
    ] {
        let begun = Instant::now();
        let output = lab.try_apply(text);
        assert_eq!(output.code, 2, "{name}: {output:?}");
        assert!(
            output.stderr.len() < 20_000,
            "{name}: {} bytes of explanation",
            output.stderr.len()
        );
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{name}: {:?}",
            begun.elapsed()
        );
    }
    let garbage = lab.file("garbage.yaml", "");
    std::fs::write(&garbage, [0xff, 0xfe, 0x00, 0x80]).unwrap();
    for file in [garbage.as_str(), "/no/such/file.yaml"] {
        let output = lab.ztctl(&["apply", "-f", file]).expect_code(2);
        assert!(output.stderr.contains(file), "{}", output.stderr);
    }
    watch.unchanged(&lab);
}

#[test]
fn an_unknown_mode_counts_as_none_and_is_warned_about() {
    if !require_root() {
        return;
    }
    const MODE: &str = "istio.io/dataplane-mode";
    let labelled = |name: &str, namespace: &str, mode: &str| {
        let text = sleeper(namespace, name, name, "node-a");
        text.replace(
            &format!("{{app: {name}}}"),
            &format!("{{app: {name}, {MODE}: {mode}}}"),
        )
    };
    let odd = namespace("odd", true).replace("ambient", "telepathy");
    let lab = Lab::reserve();
    let objects = join([
        objects(),
        odd,
        peer_authentication("mesh", "default", "STRICT"),
        // capture.md §6.1, by the modes of namespace and pod.
        sleeper("odd", "plain", "x", "node-a"),
        labelled("asks", "odd", "ambient"),
        labelled("odd-too", "odd", "telepathy"),
        labelled("ignored", "mesh", "telepathy"),
        labelled("opted-out", "mesh", "none"),
    ]);
    let output = lab.try_up(&[], &objects).expect_code(0);
    let warnings: Vec<&str> = output
        .stderr
        .lines()
        .filter(|line| line.contains("warning"))
        .collect();
    assert_eq!(warnings.len(), 3, "{}", output.stderr);
    for object in ["Namespace odd", "Pod odd/odd-too", "Pod mesh/ignored"] {
        let named = |line: &&str| line.contains(object) && line.contains(MODE) && line.contains("telepathy");
        assert!(warnings.iter().any(named), "{object}: {warnings:?}");
    }
    // STRICT tells who is in the mesh: only those are let in.
    let _responder = tests::Responder::start(&lab.pod("mesh/server"), 7001);
    let in_mesh = |name: &str| ask(&lab.pod(name), lab.pod("mesh/server").at(7001)).is_ok();
    for (name, expected) in [
        ("odd/plain", false),
        ("odd/asks", true),
        ("odd/odd-too", false),
        ("mesh/ignored", true),
        ("mesh/opted-out", false),
        ("mesh/client", true),
    ] {
        assert_eq!(in_mesh(name), expected, "{name}");
    }
    // The same by `label`.
    let output = lab
        .ztctl(&["label", "namespace/outside", &format!("{MODE}=telepathy")])
        .expect_code(0);
    assert!(
        output.stderr.contains("warning") && output.stderr.contains("telepathy"),
        "{}",
        output.stderr
    );
    assert!(!in_mesh("outside/caller"));
    let output = lab
        .ztctl(&["label", "namespace/outside", &format!("{MODE}=ambient")])
        .expect_code(0);
    assert!(!output.stderr.contains("warning"), "{}", output.stderr);
    assert!(in_mesh("outside/caller"));
}

#[test]
fn what_has_no_effect_is_said() {
    if !require_root() {
        return;
    }
    let permissive = peer_authentication("mesh", "permissive", "PERMISSIVE");
    let service = tests::manifests::service("mesh", "server", "server", 80, "8080");
    let lab = Lab::reserve();
    lab.try_up(&[], &join([objects(), permissive, service]))
        .expect_code(0);
    let apply = |text: &str| {
        lab.ztctl_with_input(&["apply", "-f", "-"], text)
            .expect_code(0)
            .stderr
    };
    let warned = |stderr: &str, parts: &[&str]| {
        let is_it =
            |line: &str| line.starts_with("warning: ") && parts.iter().all(|part| line.contains(part));
        assert!(stderr.lines().any(is_it), "{parts:?} are not in {stderr}");
    };
    let _responder = tests::Responder::start(&lab.pod("mesh/server"), 7001);
    let plaintext = || ask(&lab.pod("outside/caller"), lab.pod("mesh/server").at(7001)).is_ok();

    // Another one of the same level is older, so this one does not decide.
    let strict = peer_authentication("mesh", "strict", "STRICT");
    let said = apply(&strict);
    warned(
        &said,
        &[
            "PeerAuthentication mesh/strict",
            "Conflicted",
            "older policy permissive",
        ],
    );
    assert!(plaintext());
    // The other way round, once STRICT decides. Nothing is said of what is in force.
    let said = lab
        .ztctl(&["delete", "-n", "mesh", "peerauthentication/permissive"])
        .expect_code(0)
        .stderr;
    assert!(!said.contains("warning") && !plaintext(), "{said}");
    let said = apply(&strict);
    assert!(!said.contains("warning"), "{said}");
    let said = apply(&peer_authentication("mesh", "younger", "PERMISSIVE"));
    warned(
        &said,
        &[
            "PeerAuthentication mesh/younger",
            "Conflicted",
            "older policy strict",
        ],
    );
    assert!(!plaintext());

    // A waypoint that is not there closes a Service that a policy is attached to.
    let attached = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: attached, namespace: \
                    mesh}\nspec:\n  targetRefs: [{kind: Service, group: '', name: server}]\n  action: DENY\n  rules: [{from: \
                    [{source: {namespaces: [evil]}}]}]\n";
    let said = apply(attached);
    warned(
        &said,
        &[
            "AuthorizationPolicy mesh/attached",
            "AncestorNotBound",
            "no proxy enforces",
        ],
    );
    let closed = [
        "Service mesh/server",
        "WaypointIsNotReady",
        "connections are refused",
    ];
    let said = lab
        .ztctl(&[
            "label",
            "-n",
            "mesh",
            "service/server",
            "istio.io/use-waypoint=gone",
        ])
        .expect_code(0)
        .stderr;
    warned(&said, &closed);
    lab.ztctl(&["label", "-n", "mesh", "service/server", "istio.io/use-waypoint-"])
        .expect_code(0);
    // The same by the label of its namespace, which is no condition of the namespace.
    let said = lab
        .ztctl(&["label", "namespace/mesh", "istio.io/use-waypoint=gone"])
        .expect_code(0)
        .stderr;
    warned(&said, &closed);

    let said = apply(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: fence, namespace: mesh}\nspec: \
         {podSelector: {}}\n",
    );
    warned(
        &said,
        &["NetworkPolicy mesh/fence", "nothing in a lab enforces it"],
    );
}

#[test]
fn a_lab_that_is_up_is_not_brought_up_again() {
    if !require_root() {
        return;
    }
    let lab = Lab::up(&objects());
    let watch = Watch::begin(&lab);
    let output = lab.try_up(
        &[],
        &join([objects(), peer_authentication("mesh", "default", "STRICT")]),
    );
    assert_eq!(output.code, 2, "{output:?}");
    assert!(
        output.stderr.contains("already") && output.stderr.contains(lab.name()),
        "{}",
        output.stderr
    );
    watch.unchanged(&lab);
}

#[test]
fn commands_without_their_lab_say_so() {
    if !require_root() {
        return;
    }
    let lab = Lab::reserve();
    let file = lab.file("good.yaml", &objects());
    for args in [
        &["apply", "-f", &file][..],
        &["delete", "pod/client", "-n", "mesh"],
        &["label", "namespace/mesh", "a=b"],
        &["get", "pods"],
        &["exec", "client", "--", "true"],
        &["logs", "control-plane"],
        &["status"],
        &["restart", "control-plane"],
        &["fault", "node-a", "--partition"],
    ] {
        let output = lab.ztctl(args);
        assert_eq!(output.code, 2, "{args:?}: {output:?}");
        assert!(output.stderr.contains(lab.name()), "{args:?}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{args:?}");
    }
    // There is nothing to end, and nothing wrong with that.
    let output = lab.ztctl(&["down"]).expect_code(0);
    assert!(output.stderr.contains(lab.name()), "{}", output.stderr);
    assert_eq!(leftovers(lab.name()), Vec::<String>::new());
}

#[test]
fn wrong_arguments_are_refused_before_anything_is_made() {
    if !require_root() {
        return;
    }
    let lab = Lab::reserve();
    let file = lab.file("good.yaml", &objects());
    for (args, says) in [
        (&["up", "--nodes", "0", &file][..], "--nodes"),
        (&["up", "--nodes", "27", &file], "26"),
        (&["up", "--nodes", "many", &file], "many"),
        (&["up", "--capture", "ebpf", &file], "later"),
        (&["up", "--capture", "pigeon", &file], "pigeon"),
        (&["up", "/no/such/file.yaml"], "/no/such/file.yaml"),
        (&["up", "--node-proxy", "node-z=/bin/true", &file], "node-z"),
        (
            &["up", "--node-proxy", "node-a=/no/such/ztunnel", &file],
            "/no/such/ztunnel",
        ),
        (&["up", "--node-proxy", "node-a", &file], "node-a"),
        (&["up", "--node-proxy-env", "node-a=NOVALUE", &file], "NOVALUE"),
        (&["up", "--timeout", "soon", &file], "soon"),
        (&["up", "--no-such-flag", &file], "--no-such-flag"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let output = lab.ztctl(args);
        assert_eq!(output.code, 2, "{args:?}: {output:?}");
        assert!(output.stderr.contains(says), "{args:?}: {}", output.stderr);
        assert_eq!(leftovers(lab.name()), Vec::<String>::new(), "{args:?}");
    }
    for name in [
        "Big",
        "under_score",
        "-dash",
        "",
        "../escape",
        "a/b",
        &"long".repeat(20),
    ] {
        let output = ztctl(
            &["lab", "up", &format!("--name={name}"), &file],
            Duration::from_secs(20),
        );
        assert_eq!(output.code, 2, "{name}: {output:?}");
    }
}

#[test]
fn exit_codes_say_whose_the_mistake_is() {
    if !require_root() {
        return;
    }
    let lab = Lab::up(&objects());
    let watch = Watch::begin(&lab);
    for (args, code, says) in [
        // A question, and the answer is no.
        (&["get", "pod", "nobody", "-n", "mesh"][..], 1, "nobody"),
        // Used wrongly.
        (&["delete", "pod/nobody", "-n", "mesh"], 2, "nobody"),
        (&["delete", "pod/client", "pod/nobody", "-n", "mesh"], 2, "nobody"),
        (&["label", "namespace/nowhere", "a=b"], 2, "nowhere"),
        (&["get", "gadgets"], 2, "gadgets"),
        (&["exec", "-n", "mesh", "nobody", "--", "true"], 2, "nobody"),
        (&["exec", "-n", "mesh", "client"], 2, "COMMAND"),
        (&["logs", "nobody"], 2, "nobody"),
        (&["logs", "ztunnel/node-z"], 2, "node-z"),
        (&["restart", "ztunnel/node-z"], 2, "node-z"),
        (&["restart", "everything"], 2, "everything"),
        (&["fault", "node-z", "--partition"], 2, "node-z"),
        (&["fault", "node-a"], 2, "--partition"),
        (&["fault", "node-a", "--loss", "200%"], 2, "200%"),
        (&["delete", "client"], 2, "client"),
        (&["label", "namespace/mesh", "novalue"], 2, "novalue"),
        (&["label", "namespace/mesh", "spaces in=value"], 2, "spaces in"),
        (&["apply"], 2, "--filename"),
    ] {
        let output = lab.ztctl(args);
        assert_eq!(output.code, code, "{args:?}: {output:?}");
        assert!(output.stderr.contains(says), "{args:?}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{args:?}: errors do not go to stdout");
        watch.unchanged(&lab);
    }
    // A command's own code, and its own streams.
    let client = lab.pod("mesh/client");
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -9 $$", 137),
    ] {
        assert_eq!(client.run(&["sh", "-c", script]).code, code, "{script}");
    }
    assert_ne!(client.run(&["no-such-program"]).code, 0);
    let output = client.run(&["sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
    let output = lab.ztctl_with_input(&["exec", "-n", "mesh", "client", "--", "cat"], "through\n");
    assert_eq!((output.code, output.stdout.as_str()), (0, "through\n"));
    watch.unchanged(&lab);
}

#[test]
fn what_does_not_come_in_time_is_named() {
    if !require_root() {
        return;
    }
    let lab = Lab::up(&objects());
    // A program that is there and cannot be started. (One that starts and dies may be seen while it lives.)
    let script = lab.file("script", "#!/no/such/interpreter\n");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let dying = pod(
        "mesh",
        "dying",
        "x",
        "node-a",
        "dying",
        &format!("command: [{script}]"),
    );
    let begun = Instant::now();
    let output = lab.ztctl_with_input(&["apply", "--timeout", "3s", "-f", "-"], &dying);
    assert_eq!(output.code, 3, "{output:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(
        output.stderr.contains("mesh/dying"),
        "who is late: {}",
        output.stderr
    );
    assert!(output.stderr.contains(&script), "why: {}", output.stderr);
    // The others go on, and it can be taken away.
    let _responder = tests::Responder::start(&lab.pod("mesh/server"), 7001);
    ask(&lab.pod("mesh/client"), lab.pod("mesh/server").at(7001)).unwrap();
    lab.delete(&["pod/dying", "-n", "mesh"]);

    // A lab that cannot come up says who is late, and leaves nothing.
    let other = Lab::reserve();
    let output = other.try_up(&["--timeout", "4s"], &join([objects(), dying]));
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stderr.contains("mesh/dying"), "{}", output.stderr);
    other.ztctl(&["down"]).expect_code(0);
    assert_eq!(leftovers(other.name()), Vec::<String>::new());
}

fn objects() -> String {
    join([
        namespace("mesh", true),
        namespace("outside", false),
        sleeper("mesh", "client", "client", "node-a"),
        sleeper("mesh", "server", "server", "node-b"),
        server("mesh", "web", "web", "node-b"),
        sleeper("outside", "caller", "default", "node-a"),
    ])
}

/// Exit code 2, and an error that names file, line and field.
fn names_the_place(output: &Output, file: &str, text: &str, mistake: &Mistake) {
    let line = text
        .lines()
        .position(|line| line.ends_with(HERE))
        .expect("a marked line")
        + 1;
    assert_eq!(output.code, 2, "{}\n{output:?}", mistake.document);
    let place = format!("{file}:{line}:");
    let said = output.stderr.lines().find(|said| said.contains(&place));
    let said = said.unwrap_or_else(|| panic!("no {place} in {}\n{}", output.stderr, mistake.document));
    for word in mistake.says {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    assert_eq!(output.stdout, "", "errors do not go to stdout");
}

/// What must not change: the objects, the processes, an open connection, and who is served.
struct Watch {
    objects: Vec<Value>,
    processes: Value,
    connection: (TcpStream, TcpStream),
    callers: [Pod; 2],
    server: Pod,
    _responder: tests::Responder,
}

impl Watch {
    fn begin(lab: &Lab) -> Watch {
        let server = lab.pod("mesh/server");
        let callers = [lab.pod("mesh/client"), lab.pod("outside/caller")];
        let listener = server.listen(7002);
        let near = callers[0].connect(server.at(7002)).unwrap();
        let far = listener.accept().unwrap().0;
        Watch {
            objects: all_objects(lab),
            processes: processes(lab),
            connection: (near, far),
            callers,
            _responder: tests::Responder::start(&server, 7001),
            server,
        }
    }

    #[track_caller]
    fn unchanged(&self, lab: &Lab) {
        assert_eq!(all_objects(lab), self.objects);
        assert_eq!(processes(lab), self.processes);
        let (mut near, mut far) = (&self.connection.0, &self.connection.1);
        let mut byte = [0];
        near.write_all(b"x").expect("the connection from before");
        far.read_exact(&mut byte).expect("the connection from before");
        for caller in &self.callers {
            let reply =
                ask(caller, self.server.at(7001)).unwrap_or_else(|error| panic!("{}: {error}", caller.name));
            assert_eq!(reply.caller, caller.ip);
        }
    }
}

/// Every object as its author and the mesh wrote it: without its status, which the lab keeps true by itself.
fn all_objects(lab: &Lab) -> Vec<Value> {
    let kinds = [
        "ns",
        "sa",
        "po",
        "deploy",
        "svc",
        "no",
        "endpointslices",
        "pa",
        "ap",
    ];
    let mut all = Vec::new();
    for kind in kinds {
        let mut list = lab.get(&[kind, "-A"]);
        for item in list["items"].as_array_mut().unwrap() {
            item.as_object_mut().unwrap().remove("status");
            item["metadata"]
                .as_object_mut()
                .unwrap()
                .remove("resourceVersion");
            all.push(item.take());
        }
    }
    assert!(all.len() > 6, "{all:?}");
    all
}

/// The ids of everything that runs.
fn processes(lab: &Lab) -> Value {
    let status = lab.status();
    let mut ids = vec![
        status["supervisor_pid"].clone(),
        status["control_plane"]["pid"].clone(),
    ];
    for node in status["nodes"].as_array().unwrap() {
        ids.extend([node["ztunnel"]["pid"].clone(), node["node_agent"]["pid"].clone()]);
    }
    for pod in status["pods"].as_array().unwrap() {
        let containers = pod["containers"].as_array().unwrap();
        ids.extend(containers.iter().map(|container| container["pid"].clone()));
    }
    Value::Array(ids)
}
