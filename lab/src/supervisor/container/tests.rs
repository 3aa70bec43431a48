use std::path::Path;

use serde_json::json;

use super::*;
use crate::supervisor::runner::Ended;

const ZTCTL: &str = "/opt/z/ztctl";

fn pod(container: Value) -> Object {
    let mut value = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "namespace": "n" },
        "spec": { "serviceAccountName": "s", "nodeName": "node-a", "containers": [{ "name": "a", "image": "x" }] } });
    for (key, part) in container.as_object().into_iter().flatten() {
        value["spec"]["containers"][0][key] = part.clone();
    }
    Object::from_value(value).unwrap()
}

#[test]
fn a_container_without_command_is_the_test_application() {
    for (container, expected) in [
        (json!({}), "app serve --port 8080"),
        (json!({ "args": ["ignored"] }), "app serve --port 8080"),
        (
            json!({ "ports": [{ "containerPort": 80 }, { "containerPort": 53, "protocol": "UDP" }, { "containerPort": 81 }] }),
            "app serve --port 80 --port 81",
        ),
    ] {
        let object = pod(container);
        let (program, args) = command(&object.as_pod().unwrap().spec.containers[0], Path::new(ZTCTL));
        assert_eq!((program.as_str(), args.join(" ").as_str()), (ZTCTL, expected));
    }
    let object = pod(json!({ "command": ["sleep", "1"], "args": ["2"] }));
    let container = &object.as_pod().unwrap().spec.containers[0];
    assert_eq!(
        command(container, Path::new(ZTCTL)),
        ("sleep".to_owned(), vec!["1".to_owned(), "2".to_owned()])
    );
    assert!(ports_of_app(container).is_empty());
}

#[test]
fn variables_come_from_the_pod_and_expand() {
    let object = pod(json!({ "env": [
        { "name": "PLAIN", "value": "x" },
        { "name": "WHERE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
        { "name": "JOINED", "value": "$(PLAIN)-$(WHERE)-$(MISSING)-$$(PLAIN)" },
        { "name": "POD_NAME", "value": "mine" },
    ] }));
    let pod = object.as_pod().unwrap();
    let addresses = ["10.244.1.2".parse().unwrap()];
    let env = environment(
        &object,
        pod,
        &pod.spec.containers[0],
        &addresses,
        Path::new(ZTCTL),
    );
    let value = |name: &str| {
        env.iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(value("JOINED"), Some("x-node-a-$(MISSING)-$(PLAIN)"));
    assert_eq!(value("POD_NAME"), Some("mine"));
    assert_eq!(value("POD_IP"), Some("10.244.1.2"));
    assert_eq!(value("SERVICE_ACCOUNT"), Some("s"));
    assert!(value("PATH").unwrap().starts_with("/opt/z:"));
    assert_eq!(env.iter().filter(|(key, _)| key == "POD_NAME").count(), 1);
    assert_eq!(
        expand_all(&["$(PLAIN)$".to_owned(), "$(".to_owned(), "$".to_owned()], &env),
        ["x$", "$(", "$"]
    );
}

#[test]
fn programs_are_found_as_the_pod_would_find_them() {
    assert!(find("sh", Path::new(ZTCTL)).is_some());
    assert!(find("/bin/sh", Path::new(ZTCTL)).is_some());
    assert!(find("no-such-program-here", Path::new(ZTCTL)).is_none());
    assert!(find("/etc/passwd", Path::new(ZTCTL)).is_none(), "not executable");
    assert!(find("/etc", Path::new(ZTCTL)).is_none(), "a directory");
}

#[test]
fn states_are_named_as_kubectl_names_them() {
    let run = |state| Run { state, restarts: 1 };
    let ended = |code| Ended {
        code,
        text: String::new(),
    };
    for (state, word) in [
        (RunState::Waiting { last: None }, "ContainerCreating"),
        (RunState::Waiting { last: Some(ended(1)) }, "CrashLoopBackOff"),
        (
            RunState::Waiting {
                last: Some(ended(127)),
            },
            "RunContainerError",
        ),
        (RunState::Ended(ended(0)), "Completed"),
        (RunState::Ended(ended(2)), "Error"),
        (
            RunState::Running {
                pid: 2,
                start_time: 1,
            },
            "Running",
        ),
    ] {
        assert_eq!(state_word(&run(state)), word);
    }
}

#[test]
fn files_of_a_pod() {
    assert_eq!(
        resolv_conf("n"),
        "nameserver 169.254.20.10\nsearch n.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    );
    assert!(hosts("p", &["10.244.1.2".parse().unwrap()]).ends_with("10.244.1.2 p\n"));
}
