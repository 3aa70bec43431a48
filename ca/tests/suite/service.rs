//! Who gets which certificate.

use std::time::{Duration, SystemTime};

use ca::{Caller, GrpcIssuer, TokenSubject};
use grpc_channel::{Channel, Token, describe};
use mesh::Identity;
use proto::auth::IstioCertificateRequest;
use proto::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use tls::{IssueError, Issuer, KeyAndRequest};
use tonic::Code;

use crate::support::{Rig, node_proxy, workload};

const HOUR: Duration = Duration::from_secs(3600);

fn id(account: &str) -> Identity {
    Identity::new("cluster.local", "demo", account)
}

fn channel(rig: &Rig, caller: &Caller, change: impl FnOnce(&mut TokenSubject)) -> Channel {
    rig.config(Token::Inline(rig.token(caller, change)), &rig.root_file())
        .channel()
        .unwrap()
}

#[tokio::test]
async fn a_node_proxy_gets_certificates_for_pods_on_its_node() {
    let rig = Rig::start().await;
    let issuer = GrpcIssuer::for_node(channel(&rig, &node_proxy("a"), |_| ()));
    let certificate = issuer.issue(&id("client"), HOUR).await.unwrap();
    assert_eq!(certificate.identity(), &id("client"));
    assert!(certificate.is_valid_at(SystemTime::now()));
    assert!(certificate.not_after() <= SystemTime::now() + HOUR);
    assert_eq!(certificate.roots_pem(), [rig.authority.root_pem()]);
    // A key of its own each time.
    let again = issuer
        .issue(&id("client"), Duration::from_secs(10))
        .await
        .unwrap();
    assert_ne!(again.serial(), certificate.serial());
    assert!(again.not_after() <= SystemTime::now() + Duration::from_secs(10));
}

#[tokio::test]
async fn nobody_gets_a_life_that_a_rotation_of_the_root_would_have_to_wait_for() {
    let rig = Rig::start().await;
    let issuer = GrpcIssuer::for_node(channel(&rig, &node_proxy("a"), |_| ()));
    let longest = ca::ServiceConfig::default().max_ttl;
    assert_eq!(longest, 24 * HOUR);
    let certificate = issuer.issue(&id("client"), 60 * 24 * HOUR).await.unwrap();
    let ends = SystemTime::now() + longest;
    assert!(certificate.not_after() <= ends && certificate.not_after() + HOUR > ends);
}

#[tokio::test]
async fn impersonation_has_limits() {
    let rig = Rig::start().await;
    let ask = async |caller: &Caller, identity: &Identity| {
        let issuer = GrpcIssuer::for_node(channel(&rig, caller, |_| ()));
        match issuer.issue(identity, HOUR).await {
            Err(IssueError::Denied { reason, .. }) => reason,
            other => panic!(
                "{identity} for {caller} should be denied, not {:?}",
                other.map(|_| ())
            ),
        }
    };
    let proxy = node_proxy("a");
    assert!(
        ask(&proxy, &id("server")).await.contains("node-a"),
        "a pod of another node"
    );
    assert!(
        ask(&proxy, &Identity::new("other.domain", "demo", "client"))
            .await
            .contains("trust domain")
    );
    assert!(
        ask(&workload(), &id("client")).await.contains("not a node proxy"),
        "even for itself"
    );
    let unknown = Caller {
        pod_name: "ztunnel-x".to_owned(),
        ..proxy.clone()
    };
    assert!(ask(&unknown, &id("client")).await.contains("not known"));
    let replaced = Caller {
        pod_uid: "uid-old".to_owned(),
        ..proxy.clone()
    };
    assert!(ask(&replaced, &id("client")).await.contains("uid"));
    // A token that claims the other node is held against the pod it is bound to.
    let moved = Caller {
        node: "node-b".to_owned(),
        ..proxy
    };
    assert!(ask(&moved, &id("server")).await.contains("another node"));
}

#[tokio::test]
async fn without_impersonation_the_name_is_the_callers_own() {
    let rig = Rig::start().await;
    let issuer = GrpcIssuer::for_self(channel(&rig, &workload(), |_| ()));
    assert_eq!(
        issuer.issue(&id("client"), HOUR).await.unwrap().identity(),
        &id("client")
    );
    // Whatever is in the request: the answer names the caller, and is then not what was wanted.
    let outcome = issuer.issue(&id("server"), HOUR).await.map(|_| ());
    assert!(matches!(outcome, Err(IssueError::BadAnswer(_))), "{outcome:?}");
}

#[tokio::test]
async fn bad_tokens_are_told_what_is_wrong_and_nothing_else() {
    let rig = Rig::start().await;
    let proxy = node_proxy("a");
    let ask = async |channel: Channel| match GrpcIssuer::for_node(channel).issue(&id("client"), HOUR).await {
        Err(IssueError::Unauthenticated(reason)) => reason,
        other => panic!("should be unauthenticated, not {:?}", other.map(|_| ())),
    };
    let expired = rig
        .signer
        .sign(
            &TokenSubject {
                issuer: "https://lab".to_owned(),
                audience: "istio-ca".to_owned(),
                caller: proxy.clone(),
                service_account_uid: String::new(),
                node_uid: String::new(),
                ttl: Duration::from_secs(60),
            },
            SystemTime::now() - HOUR,
        )
        .unwrap();
    let said = ask(rig
        .config(Token::Inline(expired), &rig.root_file())
        .channel()
        .unwrap())
    .await;
    assert!(said.contains("expired"), "{said}");
    let said = ask(channel(&rig, &proxy, |subject| {
        subject.audience = "kubernetes".to_owned()
    }))
    .await;
    assert!(said.contains("audience"), "{said}");
    let said = ask(channel(&rig, &proxy, |subject| {
        subject.issuer = "https://evil".to_owned()
    }))
    .await;
    assert!(said.contains("issuer") && !said.contains("evil"), "{said}");
    let said = ask(rig.config(Token::None, &rig.root_file()).channel().unwrap()).await;
    assert!(said.contains("no bearer token"), "{said}");
}

#[tokio::test]
async fn the_token_file_is_read_for_every_call() {
    let rig = Rig::start().await;
    let file = rig.directory.path().join("istio-token");
    let channel = rig
        .config(Token::File(file.clone()), &rig.root_file())
        .channel()
        .unwrap();
    let issuer = GrpcIssuer::for_node(channel);
    let said = issuer.issue(&id("client"), HOUR).await.unwrap_err().to_string();
    assert!(said.contains(&file.display().to_string()), "{said}");
    std::fs::write(&file, format!("{}\n", rig.token(&node_proxy("a"), |_| ()))).unwrap();
    issuer.issue(&id("client"), HOUR).await.unwrap();
    std::fs::write(&file, rig.token(&node_proxy("b"), |_| ())).unwrap();
    assert!(matches!(
        issuer.issue(&id("client"), HOUR).await,
        Err(IssueError::Denied { .. })
    ));
    issuer.issue(&id("server"), HOUR).await.unwrap();
}

#[tokio::test]
async fn the_server_must_prove_its_name_and_the_roots_may_come_later() {
    let rig = Rig::start().await;
    let token = || Token::Inline(rig.token(&node_proxy("a"), |_| ()));
    let roots = rig.directory.path().join("late-root.pem");
    let issuer = GrpcIssuer::for_node(rig.config(token(), &roots).channel().unwrap());
    let error = issuer.issue(&id("client"), HOUR).await.unwrap_err();
    assert!(matches!(error, IssueError::Unavailable(_)), "{error:?}");
    assert!(error.to_string().contains("late-root.pem"), "{error}");
    assert!(error.to_string().contains("mount the file"), "{error}");
    std::fs::write(&roots, rig.authority.root_pem()).unwrap();
    issuer.issue(&id("client"), HOUR).await.unwrap();

    let mut other_name = rig.config(token(), &rig.root_file());
    other_name.alternative_name = Some("other.svc".to_owned());
    let error = GrpcIssuer::for_node(other_name.channel().unwrap())
        .issue(&id("client"), HOUR)
        .await;
    let words = error.unwrap_err().to_string();
    assert!(
        words.contains("cannot trust") && words.contains("other.svc"),
        "{words}"
    );
}

#[tokio::test]
async fn bad_requests_are_refused_by_name() {
    let rig = Rig::start().await;
    let mut client = IstioCertificateServiceClient::new(channel(&rig, &workload(), |_| ()));
    let csr = KeyAndRequest::generate(&id("client")).unwrap().request_pem;
    let request = |csr: &str, seconds| IstioCertificateRequest {
        csr: csr.to_owned(),
        validity_duration: seconds,
        metadata: None,
    };
    let mut ask = async |request: IstioCertificateRequest| client.create_certificate(request).await;
    let status = ask(request("rubbish", 60)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(describe(&status).contains("signing request"));
    let status = ask(request(&csr, 91 * 24 * 3600)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = ask(request(&"x".repeat(100_000), 60)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    // A name that is no text must not mean "no name".
    let fields = [(
        "ImpersonatedIdentity".to_owned(),
        prost_types::Value { kind: None },
    )];
    let metadata = Some(prost_types::Struct {
        fields: fields.into(),
    });
    let status = ask(IstioCertificateRequest {
        metadata,
        ..request(&csr, 60)
    })
    .await
    .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    // No life asked for, or an impossible one: the default.
    for seconds in [0, -5] {
        let answer = ask(request(&csr, seconds)).await.unwrap().into_inner();
        assert_eq!(answer.cert_chain.len(), 2);
    }
}

/// What a request asks for beside its key.
fn greedy_request() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "admin");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params.subject_alt_names = vec![
        rcgen::SanType::URI(
            "spiffe://cluster.local/ns/kube-system/sa/admin"
                .try_into()
                .unwrap(),
        ),
        rcgen::SanType::URI("spiffe://other.domain/ns/demo/sa/client".try_into().unwrap()),
        rcgen::SanType::DnsName("istiod.istio-system.svc".try_into().unwrap()),
        rcgen::SanType::IpAddress([10, 0, 0, 1].into()),
    ];
    params.serialize_request(&key).unwrap().pem().unwrap()
}

#[tokio::test]
async fn what_a_request_asks_for_is_not_what_it_gets() {
    let rig = Rig::start().await;
    let mut client = IstioCertificateServiceClient::new(channel(&rig, &workload(), |_| ()));
    let request = IstioCertificateRequest {
        csr: greedy_request(),
        validity_duration: 60,
        metadata: None,
    };
    let chain = client
        .create_certificate(request)
        .await
        .unwrap()
        .into_inner()
        .cert_chain;
    let der = pem::parse(&chain[0]).unwrap().into_contents();
    let (_, leaf) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert_eq!(leaf.subject().iter().count(), 0);
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    let own = x509_parser::extensions::GeneralName::URI("spiffe://cluster.local/ns/demo/sa/client");
    assert_eq!(names.value.general_names, [own]);
    assert!(!leaf.is_ca());
    assert_eq!(
        leaf.key_usage().unwrap().unwrap().value.flags,
        1,
        "digitalSignature alone"
    );
}

#[tokio::test]
async fn weak_keys_and_huge_requests_are_refused_and_others_served() {
    let rig = Rig::start().await;
    let mut client = IstioCertificateServiceClient::new(channel(&rig, &workload(), |_| ()));
    let request = |csr: String| IstioCertificateRequest {
        csr,
        validity_duration: 60,
        metadata: None,
    };
    for algorithm in [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ED25519] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::default();
        let csr = params.serialize_request(&key).unwrap().pem().unwrap();
        let status = client.create_certificate(request(csr)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(describe(&status).contains("P-256"), "{status}");
    }
    let status = client
        .create_certificate(request("x".repeat(10 << 20)))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    let issuer = GrpcIssuer::for_self(channel(&rig, &workload(), |_| ()));
    issuer.issue(&id("client"), HOUR).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_one_caller_is_refused_and_others_are_served() {
    // One more every ten minutes: however slow the machine is, the last one comes too early.
    let rig = Rig::with(|service| service.with_limit_per_caller(20, 1.0 / 600.0)).await;
    let issuer = GrpcIssuer::for_self(channel(&rig, &workload(), |_| ()));
    for _ in 0..20 {
        issuer.issue(&id("client"), HOUR).await.unwrap();
    }
    let refused = issuer.issue(&id("client"), HOUR).await.map(|_| ()).unwrap_err();
    assert!(
        matches!(&refused, IssueError::Unavailable(words) if words.contains("too many requests of this caller")),
        "{refused:?}"
    );
    let other = GrpcIssuer::for_node(channel(&rig, &node_proxy("b"), |_| ()));
    other.issue(&id("server"), HOUR).await.unwrap();
}
