//! A mesh of pods, services and policies to compile, and changes of one object of it.

use std::fmt::Write;
use std::sync::Arc;

use compile::{Compiler, Output, Settings};
use objects::{Object, ObjectKey};

/// Pods of one namespace.
const PODS_OF_A_NAMESPACE: u32 = 50;

type Put = (ObjectKey, Option<Arc<Object>>);

/// A compiled mesh and two versions of one pod and of one policy.
pub struct Manifests {
    compiler: Compiler,
    pod: [Put; 2],
    policy: [Put; 2],
}

impl Manifests {
    /// This many pods, a namespace for each fifty, in each a service, a STRICT `PeerAuthentication` and this many
    /// `AuthorizationPolicy`s with selectors.
    pub fn new(pods: u32, policies_of_a_namespace: u32) -> Self {
        let namespaces = (0..pods.div_ceil(PODS_OF_A_NAMESPACE)).map(|namespace| {
            let first = namespace * PODS_OF_A_NAMESPACE;
            let pods = (first..pods.min(first + PODS_OF_A_NAMESPACE)).map(|number| pod(number, "a"));
            let policies =
                (0..policies_of_a_namespace).map(|number| authorization_policy(namespace, number, "one"));
            let text: String = pods
                .chain(policies)
                .chain([namespace_objects(namespace)])
                .collect();
            puts(&text)
        });
        let mut compiler = Compiler::new(Settings::default());
        compiler.apply(namespaces.flatten());
        let one = |text: String| puts(&text).into_iter().next().expect("one object");
        Self {
            compiler,
            pod: ["b", "a"].map(|version| one(pod(0, version))),
            policy: ["another", "one"].map(|account| one(authorization_policy(0, 0, account))),
        }
    }

    /// One pod, and this many policies in its namespace, each with a selector of its own.
    pub fn of_different_selectors(policies: u32) -> Self {
        let mut compiler = Compiler::new(Settings::default());
        compiler.apply(puts(&(pod(0, "a") + &namespace_objects(0))));
        compiler.apply((0..policies).flat_map(|number| puts(&selecting(number, number))));
        let one = |text: String| puts(&text).into_iter().next().expect("one object");
        Self {
            compiler,
            pod: ["b", "a"].map(|version| one(pod(0, version))),
            policy: [1, 0].map(|part| one(selecting(0, part))),
        }
    }

    /// Changes the label of a pod, there and back.
    pub fn change_pod(&mut self, turn: usize) -> Output {
        self.compiler.apply([self.pod[turn % 2].clone()])
    }

    /// Changes whom a policy allows, there and back.
    pub fn change_policy(&mut self, turn: usize) -> Output {
        self.compiler.apply([self.policy[turn % 2].clone()])
    }
}

fn puts(text: &str) -> Vec<Put> {
    let objects = objects::parse("bench.yaml", text).unwrap_or_else(|errors| panic!("{errors}"));
    objects
        .into_iter()
        .map(|object| (object.key(), Some(Arc::new(object))))
        .collect()
}

fn pod(number: u32, version: &str) -> String {
    let (namespace, high, low) = (number / PODS_OF_A_NAMESPACE, number / 250, number % 250);
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata:\n  namespace: ns-{namespace}\n  name: pod-{number}\n  \
         labels: {{app: web, version: {version}, part: part-{part}}}\n  \
         annotations: {{ambient.istio.io/redirection: enabled}}\nspec:\n  nodeName: node-{node}\n  \
         serviceAccountName: web\n  containers: [{{name: a}}]\nstatus:\n  phase: Running\n  \
         podIP: 10.{high}.1.{host}\n  conditions: [{{type: Ready, status: \"True\"}}]\n",
        part = number % 10,
        node = number % 20,
        host = low + 1,
    )
}

fn namespace_objects(namespace: u32) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: ns-{namespace}, name: web}}\nspec:\n  \
         selector: {{app: web}}\n  ports: [{{name: http, port: 80, targetPort: 8080}}]\n\
         ---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{namespace: ns-{namespace}, \
         name: default}}\nspec: {{mtls: {{mode: STRICT}}}}\n"
    );
    text
}

/// A policy of the first namespace that selects pods of one part.
fn selecting(number: u32, part: u32) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{namespace: ns-0, name: \
         selecting-{number}}}\nspec:\n  selector: {{matchLabels: {{app: web, part: part-{part}}}}}\n  action: ALLOW\n  \
         rules: [{{to: [{{operation: {{ports: [\"80\"]}}}}]}}]\n"
    )
}

fn authorization_policy(namespace: u32, number: u32, account: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{namespace: ns-{namespace}, \
         name: policy-{number}}}\nspec:\n  selector: {{matchLabels: {{part: part-{part}}}}}\n  action: ALLOW\n  \
         rules: [{{from: [{{source: {{principals: [cluster.local/ns/ns-{namespace}/sa/{account}]}}}}]}}]\n",
        part = number % 10,
    )
}
