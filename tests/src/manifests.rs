//! Manifests that many tests use, as texts; `join` makes one file of several.

/// One file of several documents.
pub fn join<T: AsRef<str>>(documents: impl IntoIterator<Item = T>) -> String {
    let documents: Vec<String> = documents
        .into_iter()
        .map(|document| document.as_ref().trim().to_owned())
        .collect();
    documents.join("\n---\n") + "\n"
}

/// A namespace, in the mesh or not.
pub fn namespace(name: &str, in_mesh: bool) -> String {
    let labels = if in_mesh {
        "\n  labels: {istio.io/dataplane-mode: ambient}"
    } else {
        ""
    };
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}{labels}\n")
}

/// A pod on a node with `app: NAME` as its label, whose only process sleeps: the test opens the sockets.
pub fn sleeper(namespace: &str, name: &str, service_account: &str, node: &str) -> String {
    pod(
        namespace,
        name,
        service_account,
        node,
        name,
        "command: [sleep, infinity]",
    )
}

/// A pod that runs the test application.
pub fn server(namespace: &str, name: &str, service_account: &str, node: &str) -> String {
    pod(
        namespace,
        name,
        service_account,
        node,
        name,
        "ports: [{name: http, containerPort: 8080}]",
    )
}

/// A pod with this label `app` and this line of its only container.
pub fn pod(
    namespace: &str,
    name: &str,
    service_account: &str,
    node: &str,
    app: &str,
    container: &str,
) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  labels: {{app: {app}}}\n\
         spec:\n  serviceAccountName: {service_account}\n  nodeName: {node}\n  terminationGracePeriodSeconds: 1\n  \
         containers:\n  - name: main\n    image: test\n    {container}\n"
    )
}

/// A service of the pods with this label `app`; `target` is a number or a port's name.
pub fn service(namespace: &str, name: &str, app: &str, port: u16, target: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  \
         selector: {{app: {app}}}\n  ports:\n  - name: main\n    port: {port}\n    targetPort: {target}\n"
    )
}

/// `PeerAuthentication` of a whole namespace: STRICT or PERMISSIVE.
pub fn peer_authentication(namespace: &str, name: &str, mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: {name}\n  \
         namespace: {namespace}\nspec:\n  mtls:\n    mode: {mode}\n"
    )
}
