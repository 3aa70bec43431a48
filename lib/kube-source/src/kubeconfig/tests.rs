use std::time::SystemTime;

use super::*;

const SECRET: &str = "eyJ-not-to-be-seen";

/// As `istioctl create-remote-secret` writes it, with these fields of the cluster and of the user.
fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\npreferences: {{}}\ncurrent-context: west\n\
         contexts:\n- context: {{cluster: west, user: west}}\n  name: west\n\
         clusters:\n- cluster: {{{cluster}}}\n  name: west\n\
         users:\n- name: west\n  user: {{{user}}}\n"
    )
}

fn authority_data() -> String {
    let root = ca::KeyAndCertificate::generate_root(SystemTime::now(), ca::ROOT_LIFE).unwrap();
    BASE64.encode(root.certificate.as_bytes())
}

#[tokio::test]
async fn the_server_and_the_user_of_the_current_context_are_taken() {
    let cluster = format!(
        "server: 'https://192.0.2.1:6443', certificate-authority-data: {}",
        authority_data()
    );
    let text = kubeconfig(&cluster, &format!("token: {SECRET}"));
    let server = ApiServer::from_kubeconfig(&text).unwrap();
    assert_eq!(server.url, "https://192.0.2.1:6443");
    assert!(matches!(server.roots, RootSource::Pem(_)));
    let header = server.token.header().await.unwrap().unwrap();
    assert_eq!(header, format!("Bearer {SECRET}"));
    assert!(header.is_sensitive() && !format!("{server:?}").contains(SECRET));

    // Others that are there beside do not matter.
    let more = text.replace(
        "contexts:",
        "contexts:\n- {name: other, context: {cluster: o, user: o}}",
    );
    let more = more.replace("users:", "users:\n- {name: other, user: {exec: {command: rm}}}");
    assert!(ApiServer::from_kubeconfig(&more).is_ok());
    // JSON is YAML; the system's roots and nobody's token.
    let json = serde_json::json!({
        "current-context": "a",
        "contexts": [{ "name": "a", "context": { "cluster": "a" } }],
        "clusters": [{ "name": "a", "cluster": { "server": "https://a.example/b", "insecure-skip-tls-verify": false } }],
    });
    let server = ApiServer::from_kubeconfig(&json.to_string()).unwrap();
    assert_eq!(server.roots, RootSource::System);
    assert_eq!(server.token.header().await.unwrap(), None);
    for near in [
        "http://127.0.0.1:8001",
        "http://[::1]:8001",
        "http://localhost:8001",
    ] {
        let text = kubeconfig(&format!("server: '{near}'"), "");
        assert!(ApiServer::from_kubeconfig(&text).is_ok(), "{near}");
    }
}

#[test]
fn nothing_makes_this_process_run_read_or_trust_anything() {
    let good = "server: 'https://192.0.2.1'";
    let token = format!("token: {SECRET}");
    let of_user = [
        "exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/sh, args: [-c, id]}",
        "auth-provider: {name: gcp, config: {cmd-path: /bin/sh}}",
        "tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token",
        "client-certificate: /etc/passwd",
        "client-key: /etc/shadow",
        "username: admin",
        "password: admin",
        "as: system:admin",
        "as-groups: ['system:masters']",
        "token: ''",
        "token: \"a\\nb\"",
        "token: 7",
        "token: [a]",
    ];
    for user in of_user {
        refused(&kubeconfig(good, &format!("{user}, extensions: []")), user);
        refused(&kubeconfig(good, &format!("{token}, {user}")), user);
    }
    let of_cluster = [
        "certificate-authority: /etc/passwd",
        "proxy-url: 'http://evil.example:3128'",
        "insecure-skip-tls-verify: true",
        "tls-server-name: other.example",
        "certificate-authority-data: bm9uZQ==",
        "certificate-authority-data: '%%%'",
        "certificate-authority-data: ''",
        "unheard-of: 1",
    ];
    for cluster in of_cluster {
        refused(&kubeconfig(&format!("{good}, {cluster}"), &token), cluster);
    }
    for url in [
        "http://192.0.2.1",
        "http://127.0.0.1.example",
        "ftp://a",
        "unix:///a",
        "https://user:w0rd@a",
        "https://a?b",
        "",
    ] {
        refused(&kubeconfig(&format!("server: '{url}'"), &token), url);
    }
}

#[test]
fn what_is_no_kubeconfig_is_refused_in_bounded_time_and_space() {
    let whole = kubeconfig("server: 'https://192.0.2.1'", &format!("token: {SECRET}"));
    for (from, to) in [
        ("current-context: west", ""),
        ("current-context: west", "current-context: east"),
        (
            "- context: {cluster: west, user: west}",
            "- context: {cluster: east, user: west}",
        ),
        (
            "- context: {cluster: west, user: west}",
            "- context: {cluster: west, user: east}",
        ),
        ("server:", "sever:"),
        ("clusters:", "custers:"),
        ("users:", "users: {a: b}\nothers:"),
    ] {
        let changed = whole.replace(from, to);
        assert_ne!(whole, changed);
        refused(&changed, from);
    }
    for text in ["", "[]", "a: b", "\u{0}", "--- a\n--- b\n", "{", SECRET] {
        refused(text, text);
    }
    let long = "a".repeat(10 * 1024 * 1024);
    assert_eq!(
        ApiServer::from_kubeconfig(&long).unwrap_err(),
        KubeconfigError::TooLong(long.len())
    );
    // Aliases that multiply.
    let mut bomb = "a: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let of = (0..9)
            .map(|_| format!("*a{}", n - 1))
            .collect::<Vec<_>>()
            .join(", ");
        bomb.push_str(&format!("b{n}: &a{n} [{of}]\n"));
    }
    refused(&bomb, "aliases");
    refused(&format!("a: {}", "[".repeat(100_000)), "deep");
}

fn refused(text: &str, what: &str) {
    let error = ApiServer::from_kubeconfig(text).expect_err(what).to_string();
    for hidden in [SECRET, "/bin/sh", "w0rd", "evil"] {
        assert!(!error.contains(hidden), "{what}: {error}");
    }
    assert!(error.len() < 300, "{error}");
}
