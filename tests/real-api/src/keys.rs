use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;
use time::{Duration, OffsetDateTime};

/// The token of the cluster's administrator. It opens nothing but a server on loopback that lives as long as a test.
pub(crate) const ADMIN: &str = "administrator";

/// What a cluster's installer makes: the server's certificate and its root, the key that signs tokens.
pub(crate) struct Keys {
    folder: PathBuf,
}

impl Keys {
    pub(crate) fn make(folder: &Path) -> Keys {
        let keys = Keys {
            folder: folder.to_owned(),
        };
        let now = OffsetDateTime::now_utc();
        let (begin, end) = (now - Duration::hours(1), now + Duration::days(1));

        let root_key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::default();
        root.distinguished_name.push(DnType::CommonName, "test cluster");
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (root.not_before, root.not_after) = (begin, end);
        let certificate = root.self_signed(&root_key).unwrap();
        keys.write("root.pem", &certificate.pem());
        let issuer = Issuer::new(root, root_key);

        let key = KeyPair::generate().unwrap();
        let mut server = CertificateParams::default();
        server
            .distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        server.subject_alt_names = vec![
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::DnsName("localhost".try_into().unwrap()),
            SanType::DnsName("kubernetes.default.svc".try_into().unwrap()),
        ];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (server.not_before, server.not_after) = (begin, end);
        keys.write("server.pem", &server.signed_by(&key, &issuer).unwrap().pem());
        keys.write("server-key.pem", &key.serialize_pem());

        let tokens = KeyPair::generate().unwrap();
        keys.write("tokens-key.pem", &tokens.serialize_pem());
        keys.write("tokens.pem", &tokens.public_key_pem());
        keys.write(
            "administrators.csv",
            &format!("{ADMIN},admin,admin,system:masters\n"),
        );
        keys
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A kubeconfig file of this name.
    pub(crate) fn kubeconfig(&self, name: &str, url: &str, token: &str) -> PathBuf {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": url, "certificate-authority": self.path("root.pem") } }],
            "users": [{ "name": "user", "user": { "token": token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "user" } }],
        });
        self.write(name, &config.to_string())
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}
