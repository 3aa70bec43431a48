use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::LabError;

/// Every lab has one directory below this one.
const ROOT: &str = "/run/ztunnel-lab";

/// The longest name of a lab. Socket paths are kept below 100 bytes (a foreign ztunnel's limit).
const NAME_MAX: usize = 30;

/// Where a lab keeps its state, logs and sockets.
#[derive(Clone, Debug)]
pub struct Layout {
    name: String,
    root: PathBuf,
}

impl Layout {
    /// The layout of the lab `name`, which must be a short DNS label.
    pub fn new(name: &str) -> Result<Layout, LabError> {
        if !is_label(name) || name.len() > NAME_MAX {
            return Err(LabError::Usage(format!(
                "`{name}` cannot be the name of a lab: use at most {NAME_MAX} lower-case letters, digits and `-`"
            )));
        }
        Ok(Layout {
            name: name.to_owned(),
            root: Path::new(ROOT).join(name),
        })
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The lab's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// One YAML file per object, status included.
    pub fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    /// Namespaces that are not pods: nodes, the control plane, the wire between them.
    pub fn namespaces(&self) -> PathBuf {
        self.root.join("netns")
    }

    /// Pods' namespaces, each a file named by the pod's uid.
    pub fn pod_namespaces(&self) -> PathBuf {
        self.namespaces().join("pods")
    }

    /// The namespace of a node.
    pub fn node_namespace(&self, node: &str) -> PathBuf {
        self.namespaces().join(node)
    }

    /// The namespace that holds the bridge between nodes and control plane. The port towards a node is a link of that
    /// node's name: a packet capture there sees all that leaves and enters the node.
    pub fn fabric_namespace(&self) -> PathBuf {
        self.namespaces().join("fabric")
    }

    /// The control plane's namespace.
    pub fn control_plane_namespace(&self) -> PathBuf {
        self.namespaces().join("control-plane")
    }

    /// Logs of the lab's own processes and of pods.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The log of one process of the mesh, such as `ztunnel-node-a`, or of the supervisor.
    pub fn log(&self, what: &str) -> PathBuf {
        self.logs().join(format!("{what}.log"))
    }

    /// What the supervisor itself writes. It stands beside the lab's directory, since it is there before it.
    pub fn supervisor_log(&self) -> PathBuf {
        Path::new(ROOT).join(format!("{}.log", self.name))
    }

    /// Where the logs of a lab that could not come up stay.
    pub(crate) fn kept_logs(&self) -> PathBuf {
        Path::new(ROOT).join(format!("{}.logs", self.name))
    }

    /// The log of a pod's container.
    pub fn container_log(&self, namespace: &str, pod: &str, container: &str) -> PathBuf {
        self.logs()
            .join("pods")
            .join(format!("{namespace}_{pod}_{container}.log"))
    }

    /// The bundled CA's files.
    pub fn ca(&self) -> PathBuf {
        self.root.join("ca")
    }

    /// The node proxies' tokens and the public key that checks them.
    pub fn tokens(&self) -> PathBuf {
        self.root.join("tokens")
    }

    /// The token of one node's proxy.
    pub fn token(&self, node: &str) -> PathBuf {
        self.tokens().join(format!("ztunnel-{node}"))
    }

    /// Where a node's proxy keeps what it was last told of the mesh.
    pub fn proxy_state(&self, node: &str) -> PathBuf {
        self.root.join("proxy-state").join(node)
    }

    /// The public key file that the control plane checks tokens with.
    pub fn token_keys(&self) -> PathBuf {
        self.tokens().join("keys.pem")
    }

    /// The certificates that the node proxies hold the control plane against.
    pub(crate) fn mesh_roots(&self) -> PathBuf {
        self.ca().join("root-cert.pem")
    }

    /// The private key that tokens are signed with.
    pub(crate) fn token_signing_key(&self) -> PathBuf {
        self.tokens().join("signing-key.pem")
    }

    /// The token by which one of the mesh's programs calls the Kubernetes API.
    pub(crate) fn kube_token(&self, account: &str) -> PathBuf {
        self.tokens().join(format!("kube-{account}"))
    }

    /// The certificates of the lab's Kubernetes API.
    pub(crate) fn kube_api(&self) -> PathBuf {
        self.root.join("kube-api")
    }

    /// How kubectl calls the lab's Kubernetes API, where there is one.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// The namespace in which the mesh's programs find the Kubernetes API.
    pub(crate) fn kube_api_namespace(&self) -> PathBuf {
        self.namespaces().join("kube-api")
    }

    /// Files bound over `/etc/resolv.conf` and `/etc/hosts`.
    pub fn etc(&self) -> PathBuf {
        self.root.join("etc")
    }

    /// Unix sockets.
    pub fn sockets(&self) -> PathBuf {
        self.root.join("sockets")
    }

    /// The supervisor's own socket.
    pub fn supervisor_socket(&self) -> PathBuf {
        self.sockets().join("lab.sock")
    }

    /// The control plane's debug socket.
    pub fn control_plane_socket(&self) -> PathBuf {
        self.sockets().join("control-plane.sock")
    }

    /// Where the node agent listens for the node's proxy.
    pub fn zds_socket(&self, node: &str) -> PathBuf {
        self.sockets().join(format!("zds-{node}.sock"))
    }

    /// The node agent's status socket.
    pub fn agent_socket(&self, node: &str) -> PathBuf {
        self.sockets().join(format!("agent-{node}.sock"))
    }

    /// One file per process that the lab started, with its start time.
    pub fn pids(&self) -> PathBuf {
        self.root.join("pids")
    }

    /// Held locked by the supervisor as long as it lives.
    pub(crate) fn lock(&self) -> PathBuf {
        Path::new(ROOT).join(format!("{}.lock", self.name))
    }

    /// Makes the directories of a new lab.
    pub(crate) fn create(&self) -> Result<(), LabError> {
        let open = [
            self.root.clone(),
            self.objects(),
            self.namespaces(),
            self.pod_namespaces(),
            self.logs(),
            self.logs().join("pods"),
            self.etc(),
            self.pids(),
        ];
        for (mode, directories) in [
            (0o755, &open[..]),
            (
                0o700,
                &[self.ca(), self.kube_api(), self.tokens(), self.sockets()][..],
            ),
        ] {
            for directory in directories {
                make_directory(directory, mode)?;
            }
        }
        Ok(())
    }

    /// Makes the directory that all labs share.
    pub(crate) fn create_root() -> Result<(), LabError> {
        make_directory(Path::new(ROOT), 0o755)
    }

    /// The names of all labs that have left anything on this machine.
    pub fn names() -> Vec<String> {
        let Ok(entries) = fs::read_dir(ROOT) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| is_label(name))
            .collect();
        names.sort();
        names
    }
}

/// A DNS label (RFC 1123): lower-case letters, digits and inner hyphens.
pub(crate) fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    !bytes.is_empty()
        && bytes.len() <= 63
        && bytes.iter().all(inner)
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

fn make_directory(path: &Path, mode: u32) -> Result<(), LabError> {
    let doing = || format!("making the directory {}", path.display());
    fs::create_dir_all(path).map_err(LabError::system(doing()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(LabError::system(doing()))
}
