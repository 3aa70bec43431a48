//! Revoked certificates: whoever shows one loses its tunnels and gets no new one, at either end.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use tests::manifests::{join, namespace, sleeper};
use tests::{
    Credentials, HBONE_PORT, HboneClient, Lab, Place, Pod, Signer, echo, echo_once, eventually,
    eventually_some, require_root, serve_echo, ztctl,
};

/// A changed list is taken up after two to four seconds.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_revoked_peer_loses_its_tunnels_at_either_end_and_gets_no_new_one() {
    if !require_root() {
        return;
    }
    let lab = Lab::reserve();
    // Empty files are no lists: node-a begins with a warning, node-b, where one is required, closed.
    let (at_a, at_b) = (lab.file("crl-a.pem", ""), lab.file("crl-b.pem", ""));
    let settings = [
        format!("node-a=CRL_PATH={at_a}"),
        format!("node-b=CRL_PATH={at_b}"),
        "node-b=ZTUNNEL_CRL_REQUIRED=true".to_owned(),
    ];
    let args: Vec<&str> = settings
        .iter()
        .flat_map(|setting| ["--node-proxy-env", setting])
        .collect();
    let output = lab.try_up(
        &args,
        &join([
            namespace("mesh", true),
            sleeper("mesh", "server", "server", "node-b"),
            sleeper("mesh", "client", "client", "node-a"),
            sleeper("mesh", "bystander", "bystander", "node-a"),
        ]),
    );
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    let signer = Signer::of_lab(&lab);
    let [server, client, bystander] =
        ["mesh/server", "mesh/client", "mesh/bystander"].map(|name| lab.pod(name));
    let address = serve_echo(&server, 7001);
    let reaches = |from: &Pod| echo_once(from, address, b"are you there?").is_ok();
    let rejections = |node: &str, reporter: &str| {
        let labels = [("reporter", reporter)];
        lab.metric(node, "istio_crl_policy_rejections_total", &labels)
    };

    assert!(
        !reaches(&client),
        "without the list that it requires, node-b accepts somebody"
    );
    lab.file("crl-b.pem", &signer.revocation_list(&[]));
    eventually("with a list node-b accepts", SOON, || reaches(&client));

    let mut open = client.connect(address).unwrap();
    let mut other = bystander.connect(address).unwrap();
    for stream in [&mut open, &mut other] {
        echo(stream, b"before").unwrap();
    }
    let of_client = serial(&lab, "node-a", "client");
    lab.file("crl-b.pem", &signer.revocation_list(&[&of_client]));
    eventually("the open connection ends", SOON, || {
        echo(&mut open, b"still?").is_err()
    });
    assert!(rejections("node-b", "destination") >= 1.0);
    let before = rejections("node-b", "destination");
    assert!(!reaches(&client), "a revoked client is let in again");
    eventually("the refusal is counted", SOON, || {
        rejections("node-b", "destination") > before
    });
    echo(&mut other, b"a bystander").expect("only the revoked one's connections end");
    assert!(reaches(&bystander));
    let log = lab.logs("ztunnel/node-b");
    assert!(log.contains("peer_revoked"), "{log}");
    assert!(log.contains("cert_revoked"), "{log}");

    // Taken from the list, it is let in again; then the server is revoked, where the clients are.
    lab.file("crl-b.pem", &signer.revocation_list(&[]));
    eventually("it is let in again", SOON, || reaches(&client));
    let mut open = client.connect(address).unwrap();
    echo(&mut open, b"before").unwrap();
    let of_server = serial(&lab, "node-b", "server");
    lab.file("crl-a.pem", &signer.revocation_list(&[&of_server]));
    eventually("the open connection ends", SOON, || {
        echo(&mut open, b"still?").is_err()
    });
    assert!(rejections("node-a", "source") >= 1.0);
    assert!(!reaches(&bystander), "a revoked server is reached");
    eventually("the failure has its flag", SOON, || {
        let labels = [("response_flags", "CERT_REVOKED"), ("reporter", "source")];
        lab.metric("node-a", "istio_tcp_connections_failed_total", &labels) >= 1.0
    });
}

/// By the CA itself: what it revokes every node proxy holds against, without any file. The rightful holder gets another
/// one; whoever has the old one gets in nowhere.
#[test]
fn what_the_ca_revokes_is_refused_everywhere_and_its_holder_goes_on_with_another() {
    if !require_root() {
        return;
    }
    let lab = Lab::reserve();
    let keys = Path::new(&lab.file("marker", "")).with_file_name("keys");
    let setting = format!("node-a=ZTUNNEL_PERSIST_KEYS={}", keys.display());
    let output = lab.try_up(
        &["--node-proxy-env", &setting],
        &join([
            namespace("mesh", true),
            namespace("outside", false),
            sleeper("mesh", "server", "server", "node-b"),
            sleeper("mesh", "client", "client", "node-a"),
            sleeper("mesh", "bystander", "bystander", "node-a"),
            sleeper("outside", "thief", "thief", "node-a"),
        ]),
    );
    output.expect_code(0);
    let [server, client, bystander, thief] =
        ["mesh/server", "mesh/client", "mesh/bystander", "outside/thief"].map(|name| lab.pod(name));
    let address = serve_echo(&server, 7001);
    let mut open = client.connect(address).unwrap();
    let mut other = bystander.connect(address).unwrap();
    for stream in [&mut open, &mut other] {
        echo(stream, b"before").unwrap();
    }
    let stolen = eventually_some("the key is on disk", SOON, || {
        let kept = keys.join("cluster.local_mesh_client.pem");
        kept.exists().then(|| Credentials::kept_in(&kept))
    });
    let name = "spiffe://cluster.local/ns/mesh/sa/server";
    let intrude = || HboneClient::open(&thief, server.at(HBONE_PORT), Some(&stolen), name).map(drop);
    intrude().expect("as long as it is not revoked, the thief passes for the client");
    let wrong = ztctl(&["ca", "revoke", "--name", lab.name(), "1234"], SOON);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.stderr.contains("serial number"), "{wrong:?}");

    let of_client = serial(&lab, "node-a", "client");
    ztctl(&["ca", "revoke", "--name", lab.name(), &of_client], SOON).expect_code(0);
    eventually("the open connection ends", SOON, || {
        echo(&mut open, b"still?").is_err()
    });
    assert!(intrude().is_err(), "a revoked certificate is let in again");
    eventually("the client has another certificate", SOON, || {
        serial(&lab, "node-a", "client") != of_client
    });
    eventually("and calls again", SOON, || {
        echo_once(&client, address, b"again").is_ok()
    });
    let error = intrude().expect_err("the old one is let in again");
    assert!(error.to_string().contains("CertificateRevoked"), "{error}");
    echo(&mut other, b"a bystander").expect("only the revoked one's connections end");
    eventually("the refusal has its reason", SOON, || {
        let log = lab.logs("ztunnel/node-b");
        log.contains("peer_revoked") && log.contains("cert_revoked")
    });
    let log = lab.logs("ztunnel/node-a");
    assert!(log.contains("the certificate is revoked"), "{log}");
    let revoked = |node| lab.metric(node, "ztunnel_own_certificates_revoked_total", &[]);
    assert_eq!((revoked("node-a"), revoked("node-b")), (1.0, 0.0));
    let table = ztctl(&["ca", "status", "--name", lab.name()], SOON)
        .expect_code(0)
        .stdout;
    assert!(table.contains("1 certificates are revoked"), "{table}");

    // All that the identity has: the CA knows which.
    let identity = "spiffe://cluster.local/ns/mesh/sa/client";
    let second = serial(&lab, "node-a", "client");
    let named = ["--name", lab.name(), "--identity", identity];
    let issued = ztctl(&[&["ca", "issued"], &named[..]].concat(), SOON)
        .expect_code(0)
        .stdout;
    assert!(
        issued.contains(&of_client) && issued.contains(&second),
        "{issued}"
    );
    assert!(
        issued.contains("node-a") && !issued.contains("sa/bystander"),
        "{issued}"
    );
    let table = ztctl(&[&["ca", "revoke"], &named[..]].concat(), SOON)
        .expect_code(0)
        .stdout;
    assert!(
        table.contains(&format!("identity {identity}: 1 certificates from before"))
            && !table.contains("not known"),
        "{table}"
    );
    eventually("it has a third certificate, and calls again", SOON, || {
        serial(&lab, "node-a", "client") != second && echo_once(&client, address, b"again").is_ok()
    });
    echo(&mut other, b"a bystander").expect("another identity's connection stays");
}

/// The serial number of the newest certificate of this account, as its node's proxy logs it.
fn serial(lab: &Lab, node: &str, account: &str) -> String {
    let identity = format!("spiffe://cluster.local/ns/mesh/sa/{account}");
    eventually_some("the certificate is logged", SOON, || {
        let log = lab.logs(&format!("ztunnel/{node}"));
        let line = log
            .lines()
            .rfind(|line| line.contains("certificate received") && line.contains(&identity))?;
        let (_, rest) = line.split_once("serial")?;
        let digits = rest.trim_start_matches(|found: char| !found.is_ascii_hexdigit());
        let end = digits
            .find(|found: char| !found.is_ascii_hexdigit())
            .unwrap_or(digits.len());
        Some(digits[..end].to_owned())
    })
}
