//! What is accepted, and every message for what is not.

use proptest::prelude::*;

use super::parse;
use crate::{EnvSource, FieldRef, Kind, MAX_ERRORS, MtlsMode, Object, Spec, TargetPort, Test, warnings};

mod refused;
mod stored;

fn good(text: &str) -> Vec<Object> {
    parse("m.yaml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn one(text: &str) -> Object {
    let objects = good(text);
    assert_eq!(objects.len(), 1);
    objects.into_iter().next().expect("one")
}

const DEMO: &str = r#"
apiVersion: v1
kind: Namespace
metadata:
  name: demo
  labels: {istio.io/dataplane-mode: ambient}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: demo}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: demo}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  strategy: {type: RollingUpdate}
  template:
    metadata: {labels: {app: web, version: v1}, creationTimestamp: null}
    spec:
      serviceAccountName: web
      securityContext: {runAsNonRoot: true}
      tolerations: [{operator: Exists}]
      volumes: [{name: tmp, emptyDir: {}}]
      containers:
      - name: web
        image: docker.io/library/nginx
        command: [python3, -m]
        args: ["http.server", "8080"]
        resources: {requests: {cpu: 100m}}
        readinessProbe: {httpGet: {path: /, port: http}}
        volumeMounts: [{name: tmp, mountPath: /tmp}]
        env:
        - {name: A, value: "1"}
        - name: POD
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: SECRET
          valueFrom: {secretKeyRef: {name: s, key: k}}
        ports:
        - {name: http, containerPort: 8080}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: http}
  - {name: dns, port: 53, protocol: UDP}
---
apiVersion: v1
kind: Node
metadata: {name: node-a, labels: {topology.kubernetes.io/zone: z1}}
spec: {podCIDR: 10.1.0.0/24}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: demo, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints:
- addresses: [10.1.0.2]
  conditions: {ready: true}
  targetRef: {kind: Pod, namespace: demo, name: web-1, uid: u}
ports:
- {name: http, port: 8080}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: demo}
spec:
  selector: {matchLabels: {app: web}}
  mtls: {mode: STRICT}
  portLevelMtls:
    9090: {mode: PERMISSIVE}
---
apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata: {name: allow, namespace: demo}
spec:
  selector: {matchLabels: {app: web}}
  rules:
  - from:
    - source: {principals: ["cluster.local/ns/demo/sa/client"], notNamespaces: [evil]}
    - source: {ipBlocks: [10.0.0.0/8, "::1"]}
    to:
    - operation: {ports: ["8080"]}
    when:
    - {key: destination.port, notValues: ["9090"]}
"#;

#[test]
fn a_whole_application_is_read() {
    let objects = good(DEMO);
    let kinds: Vec<Kind> = objects.iter().map(Object::kind).collect();
    assert_eq!(kinds.len(), 8);
    let Spec::Deployment(deployment) = &objects[2].spec else {
        panic!()
    };
    let container = &deployment.template.spec.containers[0];
    assert_eq!(container.args, ["http.server", "8080"]);
    assert_eq!(container.env[1].source, EnvSource::Field(FieldRef::Name));
    assert_eq!(container.env[2].source, EnvSource::Other);
    assert_eq!(
        (
            deployment.replicas,
            deployment.template.spec.service_account_name.as_str()
        ),
        (2, "web")
    );
    assert!(objects[2].raw()["spec"]["template"]["spec"]["volumes"].is_array());
    let Spec::Service(service) = &objects[3].spec else {
        panic!()
    };
    assert_eq!(service.ports[0].target_port, TargetPort::Name("http".to_owned()));
    assert_eq!(service.ports[1].target_port, TargetPort::Number(53));
    let Spec::PeerAuthentication(policy) = &objects[6].spec else {
        panic!()
    };
    assert_eq!(
        (policy.mode, policy.port_modes[&9090]),
        (MtlsMode::Strict, MtlsMode::Permissive)
    );
    let Spec::AuthorizationPolicy(policy) = &objects[7].spec else {
        panic!()
    };
    assert_eq!(policy.rules[0].from[1].ip_blocks.any.len(), 2);
    assert!(matches!(&policy.rules[0].when[0].test, Test::DestinationPort(ports) if ports.none == [9090]));
    assert!(objects.iter().all(|object| warnings(object).is_empty()));
    for object in &objects {
        let again = one(&object.to_yaml());
        assert_eq!(&again, object, "{}", object.to_yaml());
    }
}

#[test]
fn lists_and_json_are_read() {
    let text = r#"{"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [
      {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}},
      {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b"}}]}"#;
    let names: Vec<String> = good(text).iter().map(|object| object.key().to_string()).collect();
    assert_eq!(names, ["Namespace a", "Namespace b"]);
    assert!(good("").is_empty() && good("---\n# nothing\n---\n").is_empty());
}

#[test]
fn what_the_guide_shows_is_read_and_warned_about() {
    let object = one(r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: backend-api-policy, namespace: production}
spec:
  targetRefs:
  - {kind: Service, group: '', name: backend-api}
  action: ALLOW
  rules:
  - from:
    - source: {principals: ['cluster.local/ns/production/sa/frontend']}
    to:
    - operation: {methods: ['GET', 'POST'], paths: ['/api/v1/*']}
"#);
    let found = warnings(&object);
    assert_eq!(found.len(), 1);
    assert!(found[0].message.contains("waypoint"), "{}", found[0]);
    let Spec::AuthorizationPolicy(policy) = &object.spec else {
        panic!()
    };
    assert_eq!(policy.http_attributes(), ["methods", "paths"]);
}

#[test]
fn what_targets_may_leave_out_or_write_out_is_read() {
    for target in [
        "{kind: Service, name: a}",
        "{kind: Service, group: '', name: a, namespace: ''}",
        "{kind: Service, group: core, name: a, namespace: demo}",
    ] {
        let object = one(&format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: demo}}\n\
             spec: {{targetRefs: [{target}], rules: [{{}}]}}\n"
        ));
        let Spec::AuthorizationPolicy(policy) = &object.spec else {
            panic!()
        };
        let [read] = &policy.target_refs[..] else {
            panic!("{policy:?}")
        };
        assert_eq!(
            (read.group.as_str(), read.kind.as_str(), read.name.as_str()),
            ("", "Service", "a"),
            "{target}"
        );
    }
}

#[test]
fn waypoints_are_read() {
    let text = |spec: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: w}}\nspec: {spec}\n"
        )
    };
    let object = one(&text(
        "{gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}",
    ));
    let Spec::Gateway(gateway) = &object.spec else {
        panic!()
    };
    assert!(gateway.is_waypoint());
    assert_eq!(
        (gateway.listeners[0].port, gateway.listeners[0].protocol.as_str()),
        (15008, "HBONE")
    );
    for (spec, problem) in [
        (
            "{listeners: [{name: a, port: 1, protocol: TCP}]}",
            "gatewayClassName is missing",
        ),
        ("{gatewayClassName: a, listeners: []}", "at least one listener"),
        (
            "{gatewayClassName: a, listeners: [{name: a, port: 0, protocol: TCP}]}",
            "between 1 and 65535",
        ),
        (
            "{gatewayClassName: a, listeners: [{name: a, port: 1, protocol: b}, {name: a, port: 2, protocol: b}]}",
            "already a listener",
        ),
    ] {
        let errors = parse("m.yaml", &text(spec)).expect_err(spec).to_string();
        assert!(errors.contains(problem), "{errors}");
    }
}

#[test]
fn http_attributes_are_warned_about() {
    let object = one(r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p}
spec:
  selector: {}
  action: DENY
  rules:
  - to: [{operation: {methods: [GET], ports: ["80"]}}]
    from: [{source: {requestPrincipals: ["*"]}}]
    when: [{key: "request.headers[x]", values: [a]}]
"#);
    let found: Vec<String> = warnings(&object).iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains("an empty selector means every workload"),
        "{found:?}"
    );
    assert!(
        found[1].contains("(found: methods, request.headers[x], requestPrincipals)"),
        "{found:?}"
    );
}

#[test]
fn all_errors_come_at_once_and_no_more_than_the_limit() {
    let bad = "apiVersion: v1\nkind: Namespace\nmetadata: {name: Bad, labels: {a: 1}}\n---\n".repeat(2);
    let errors = parse("m.yaml", &bad).expect_err("bad").0;
    assert_eq!(
        errors.iter().map(|error| error.line).collect::<Vec<_>>(),
        [Some(3), Some(3), Some(7), Some(7)]
    );
    let errors = parse("m.yaml", &bad.repeat(100)).expect_err("bad").0;
    assert_eq!(errors.len(), MAX_ERRORS + 1);
    assert_eq!(errors[MAX_ERRORS].problem, "and 300 further errors");
}

#[test]
fn kinds_are_known_by_kubectls_names() {
    let cases = [
        ("po", Kind::Pod),
        ("Pods", Kind::Pod),
        ("svc", Kind::Service),
        ("deploy", Kind::Deployment),
        ("deployments.apps", Kind::Deployment),
        ("deployments.v1.apps", Kind::Deployment),
        ("peerauthentications.security.istio.io", Kind::PeerAuthentication),
        (
            "peerauthentication.v1beta1.security.istio.io",
            Kind::PeerAuthentication,
        ),
        ("pa", Kind::PeerAuthentication),
        ("ap", Kind::AuthorizationPolicy),
        ("ns", Kind::Namespace),
        ("netpol", Kind::NetworkPolicy),
        ("networkpolicies.networking.k8s.io", Kind::NetworkPolicy),
        ("gtw", Kind::Gateway),
        ("gateways.v1.gateway.networking.k8s.io", Kind::Gateway),
        ("no", Kind::Node),
        ("endpointslices.discovery.k8s.io", Kind::EndpointSlice),
        ("pods.v1", Kind::Pod),
    ];
    for (word, kind) in cases {
        assert_eq!(word.parse(), Ok(kind), "{word}");
    }
    for word in ["", "pod.apps", "ingress", "pods.v2", "p"] {
        assert!(word.parse::<Kind>().is_err(), "{word}");
    }
}

/// Text that looks like a manifest, with anything in its gaps.
fn manifests() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        any::<String>(),
        "[-a-zA-Z0-9:{}\\[\\],\"'&*!|>%@#? \n]{0,30}",
        prop::sample::select(DEMO.lines().map(str::to_owned).collect::<Vec<_>>()),
    ];
    let mangled = (0..DEMO.lines().count(), word.clone()).prop_map(|(line, word)| {
        let lines = DEMO.lines().enumerate();
        lines.map(|(index, text)| if index == line { word.clone() } else { text.to_owned() } + "\n").collect()
    });
    prop_oneof![3 => mangled, 1 => prop::collection::vec(word, 0..20).prop_map(|lines| lines.join("\n"))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// No text makes the reader fail otherwise than by saying where; what it accepts reads back to the same. The seed
    /// of a failure is printed with it.
    #[test]
    fn any_text_is_read_or_refused(text in manifests()) {
        match parse("m.yaml", &text) {
            Ok(objects) => for object in objects {
                prop_assert_eq!(&one(&object.to_yaml()), &object);
                prop_assert_eq!(&Object::from_value(object.raw().clone()), &Ok(object.clone()));
                prop_assert_eq!(&object.merged_over(&object).key(), &object.key());
            },
            Err(errors) => {
                prop_assert!(!errors.0.is_empty());
                let lines = text.matches(['\n', '\r']).count() + 2;
                prop_assert!(errors.0.iter().all(|error| error.line.is_none_or(|line| (1..=lines).contains(&line))));
            }
        }
    }
}
