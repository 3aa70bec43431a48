//! Envoy as a peer: its process, and the pieces of its configuration.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::authority::Credentials;
use crate::failure::{Doing, Failure, Outcome};
use crate::namespace::Namespace;
use crate::page::get;
use crate::wait::eventually_ok;

const ADMIN_PORT: u16 = 19000;

/// An Envoy in a namespace. It is killed with the value.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    log: PathBuf,
}

/// The binary: `ENVOY`, else what `scripts/envoy` has installed; none when it is not there.
pub fn envoy_path() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ENVOY") {
        return Some(path.into());
    }
    let own = std::env::current_exe().ok()?;
    let targets = own.ancestors().filter(|directory| directory.is_dir());
    targets
        .flat_map(|directory| std::fs::read_dir(directory).into_iter().flatten().flatten())
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // One that is being installed has another ending.
            name.starts_with("envoy-1.") && !name.ends_with(".new")
        })
        .find_map(|entry| {
            let pythons = std::fs::read_dir(entry.path().join("lib")).ok()?;
            pythons
                .flatten()
                .map(|python| python.path().join("site-packages/envoy/_bin/envoy"))
                .find(|binary| binary.is_file())
        })
}

impl Envoy {
    /// Starts one with this configuration (YAML) and waits until it serves.
    pub async fn start(
        place: &Namespace,
        directory: &Path,
        name: &str,
        configuration: &str,
    ) -> Outcome<Envoy> {
        let binary = envoy_path().doing("Envoy is not there: run scripts/envoy")?;
        let file = directory.join(format!("{name}.yaml"));
        std::fs::write(&file, with_admin(configuration))?;
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut command = Namespace::command(&binary);
        command
            .arg("-c")
            .arg(&file)
            .args([
                "--use-dynamic-base-id",
                "--concurrency",
                "1",
                "--log-level",
                "warning",
            ])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let mut envoy = Envoy {
            child: place.start(command)?,
            log,
        };
        let ready = eventually_ok("Envoy is ready", Duration::from_secs(20), async || {
            if let Some(status) = envoy.child.try_wait()? {
                return Err(Failure::new(format!("it ended with {status}")));
            }
            match get(place, ADMIN_PORT, "/ready").await? {
                (200, _) => Ok(()),
                (status, state) => Err(Failure::new(format!("/ready answers {status} {state}"))),
            }
        });
        let ready = ready.await;
        ready.map_err(|failure| Failure::new(format!("{failure}: {}", envoy.log())))?;
        Ok(envoy)
    }

    /// What it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn with_admin(configuration: &str) -> String {
    format!(
        "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {ADMIN_PORT}}}}}}}\n\
         bootstrap_extensions:\n\
         - name: envoy.bootstrap.internal_listener\n  \
           typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener}}\n\
         {configuration}"
    )
}

/// A listener that ends tunnels on port 15008 and hands what is in them to a cluster.
pub fn tunnel_listener(shown: &Credentials, root: &str, cluster: &str) -> String {
    let tls = tls_context(shown, root, r#"{prefix: "spiffe://cluster.local/"}"#);
    format!(
        r#"
  - name: tunnels
    address: {{socket_address: {{address: 0.0.0.0, port_value: 15008}}}}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          {tls}
      filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: tunnels
          codec_type: HTTP2
          http2_protocol_options: {{allow_connect: true}}
          upgrade_configs: [{{upgrade_type: CONNECT}}]
          stream_idle_timeout: 0s
          access_log:
          - name: log
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
              log_format: {{text_format_source: {{inline_string: "tunnel %REQ(:AUTHORITY)% %DOWNSTREAM_PEER_URI_SAN% %RESPONSE_CODE%\n"}}}}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{connect_matcher: {{}}}}
                route:
                  cluster: {cluster}
                  timeout: 0s
                  upgrade_configs: [{{upgrade_type: CONNECT, connect_config: {{}}}}]
          http_filters:
          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}"#
    )
}

/// An internal listener that reads HTTP, marks each request with `via-envoy`, and sends it to a cluster.
pub fn http_listener(name: &str, cluster: &str) -> String {
    format!(
        r#"
  - name: {name}
    internal_listener: {{}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          stream_idle_timeout: 0s
          route_config:
            request_headers_to_add: [{{header: {{key: via-envoy, value: "yes"}}}}]
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: {cluster}, timeout: 0s}}}}]
          http_filters:
          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}"#
    )
}

/// A listener that puts each connection into a tunnel with this authority. On a port of every address, or internal.
pub fn tunneling_listener(name: &str, port: Option<u16>, authority: SocketAddr, cluster: &str) -> String {
    let place = match port {
        Some(port) => format!("address: {{socket_address: {{address: 0.0.0.0, port_value: {port}}}}}"),
        None => "internal_listener: {}".to_owned(),
    };
    format!(
        r#"
  - name: {name}
    {place}
    filter_chains:
    - filters:
      - name: tunneling
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: tunneling
          cluster: {cluster}
          tunneling_config:
            hostname: "{authority}"
            headers_to_add:
            - header: {{key: baggage, value: "k8s.namespace.name=envoy"}}
            - header: {{key: x-istio-source, value: waypoint}}"#
    )
}

/// A cluster of one address that ends tunnels under an identity.
pub fn tunnel_cluster(name: &str, to: SocketAddr, identity: &str, shown: &Credentials, root: &str) -> String {
    let tls = tls_context(shown, root, &format!("{{exact: {identity:?}}}"));
    let (ip, port) = (to.ip(), to.port());
    format!(
        r#"
  - name: {name}
    connect_timeout: 5s
    load_assignment:
      cluster_name: {name}
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: "{ip}", port_value: {port}}}}}}}}}]}}]
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{allow_connect: true}}}}
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        {tls}"#
    )
}

/// A cluster of one plain address.
pub fn plain_cluster(name: &str, to: SocketAddr) -> String {
    let (ip, port) = (to.ip(), to.port());
    format!(
        r#"
  - name: {name}
    connect_timeout: 5s
    load_assignment:
      cluster_name: {name}
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: "{ip}", port_value: {port}}}}}}}}}]}}]"#
    )
}

/// A cluster that is an internal listener.
pub fn internal_cluster(name: &str, listener: &str) -> String {
    format!(
        r#"
  - name: {name}
    connect_timeout: 5s
    load_assignment:
      cluster_name: {name}
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{envoy_internal_address: {{server_listener_name: {listener}}}}}}}}}]}}]"#
    )
}

/// The whole of it.
pub fn configuration(listeners: &[String], clusters: &[String]) -> String {
    format!(
        "static_resources:\n  listeners:{}\n  clusters:{}\n",
        listeners.concat(),
        clusters.concat()
    )
}

/// One line of YAML, since it is put at different depths.
fn tls_context(shown: &Credentials, root: &str, matcher: &str) -> String {
    format!(
        "common_tls_context: {{alpn_protocols: [h2], \
         tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}, \
         tls_certificates: [{{certificate_chain: {{inline_string: {:?}}}, private_key: {{inline_string: {:?}}}}}], \
         validation_context: {{trusted_ca: {{inline_string: {root:?}}}, \
         match_typed_subject_alt_names: [{{san_type: URI, matcher: {matcher}}}]}}}}",
        shown.leaf_pem, shown.key_pem
    )
}
