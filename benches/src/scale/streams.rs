//! The node proxies' streams: real TLS connections, each with the token of its node's proxy.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ca::{Caller, TokenSigner, TokenSubject};
use futures_util::StreamExt;
use grpc_channel::{ChannelConfig, Token};
use http_body_util::BodyExt;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Value as Field};
use proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use proto::security::AUTHORIZATION_TYPE_URL;
use proto::workload::{ADDRESS_TYPE_URL, Address, address};
use serde_json::json;
use tls::server_auth::RootSource;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::EncodeBody;
use tonic::codegen::Service;

use super::Outcome;
use super::mesh::{self, Size};
use super::plane::{SERVER_NAME, TOKEN_ISSUER};
use super::process::{commands, tell};
use super::skim::{Response, Skim, Writer};

const PATH: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// Which streams there are to be.
#[derive(Clone, Debug, clap::Args)]
pub struct StreamOptions {
    /// The mesh
    #[command(flatten)]
    pub size: Size,
    /// Where keys are
    #[arg(long)]
    pub directory: PathBuf,
    /// Where the control plane is
    #[arg(long)]
    pub address: String,
    /// How many streams
    #[arg(long)]
    pub streams: u32,
    /// How many of them read everything
    #[arg(long)]
    pub checked: u32,
}

/// Holds the streams, and tells how far they are.
pub async fn hold_streams(options: StreamOptions) -> Outcome<()> {
    let mut commands = commands();
    let shared = Arc::new(Shared::new(&options));
    let signer = Arc::new(TokenSigner::load_or_create(
        &options.directory.join("token-key.pem"),
    )?);
    let begun = Instant::now();
    for number in 0..options.streams {
        let stream = Stream::new(&options, number, &signer, shared.clone())?;
        tokio::spawn(async move {
            if let Err(error) = stream.run().await {
                eprintln!("stream {number}: {error}");
                std::process::exit(1);
            }
        });
    }
    while let Some(command) = commands.recv().await {
        let answer = match command.as_str() {
            "complete" => {
                shared.wait(|counts| counts.complete).await?;
                json!({ "seconds": begun.elapsed().as_secs_f64(), "bytes": shared.take_bytes() })
            }
            "mark" => {
                shared.take_bytes();
                shared.counts.send_modify(|counts| {
                    counts.mark += 1;
                    counts.reached = 0;
                });
                json!({})
            }
            "reached" => {
                shared.wait(|counts| counts.reached).await?;
                json!({ "bytes": shared.take_bytes() })
            }
            "digests" => json!({ "digests": *shared.digests.lock().unwrap_or_else(PoisonError::into_inner) }),
            _ => return Err(format!("an unknown command: {command}").into()),
        };
        tell(&answer)?;
    }
    Ok(())
}

/// What the streams have in common.
struct Shared {
    streams: u32,
    counts: watch::Sender<Counts>,
    bytes: AtomicU64,
    digests: Mutex<BTreeMap<u32, u64>>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    /// Streams that know every address.
    complete: u32,
    /// Counts the marks.
    mark: u64,
    /// Streams that were told something since the mark.
    reached: u32,
}

impl Shared {
    fn new(options: &StreamOptions) -> Shared {
        Shared {
            streams: options.streams,
            counts: watch::Sender::new(Counts::default()),
            bytes: AtomicU64::new(0),
            digests: Mutex::default(),
        }
    }

    async fn wait(&self, count: impl Fn(&Counts) -> u32) -> Outcome<()> {
        let mut counts = self.counts.subscribe();
        counts.wait_for(|counts| count(counts) >= self.streams).await?;
        Ok(())
    }

    fn take_bytes(&self) -> u64 {
        self.bytes.swap(0, Ordering::Relaxed)
    }
}

/// One stream.
struct Stream {
    number: u32,
    node: Node,
    channel: grpc_channel::Channel,
    skim: Skim,
    addresses: u64,
    shared: Arc<Shared>,
    seen: u64,
    mark: u64,
    is_complete: bool,
    /// Of each workload what it adds to the digest.
    workloads: HashMap<String, u64>,
    sum: u64,
}

impl Stream {
    fn new(
        options: &StreamOptions,
        number: u32,
        signer: &TokenSigner,
        shared: Arc<Shared>,
    ) -> Outcome<Stream> {
        let node = number % options.size.nodes;
        let (pod, uid) = mesh::proxy(node);
        let subject = TokenSubject {
            issuer: TOKEN_ISSUER.to_owned(),
            audience: "istio-ca".to_owned(),
            caller: Caller {
                namespace: "istio-system".to_owned(),
                service_account: "ztunnel".to_owned(),
                pod_name: pod.clone(),
                pod_uid: uid,
                node: format!("node-{node}"),
            },
            service_account_uid: String::new(),
            node_uid: String::new(),
            ttl: Duration::from_secs(24 * 3600),
        };
        let root = options.directory.join("ca/root-cert.pem");
        let mut config = ChannelConfig::new(format!("https://{}", options.address), RootSource::Path(root));
        config.alternative_name = Some(SERVER_NAME.to_owned());
        config.token = Token::Inline(signer.sign(&subject, SystemTime::now())?);
        Ok(Stream {
            number,
            node: node_message(&pod, node),
            channel: config.channel()?,
            skim: Skim::new(number < options.checked),
            addresses: options.size.addresses(),
            shared,
            seen: 0,
            mark: 0,
            is_complete: false,
            workloads: HashMap::new(),
            sum: 0,
        })
    }

    async fn run(mut self) -> Outcome<()> {
        let (requests, outgoing) = mpsc::channel(16);
        for type_url in [ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL] {
            let request = DeltaDiscoveryRequest {
                node: Some(self.node.clone()),
                type_url: type_url.to_owned(),
                ..DeltaDiscoveryRequest::default()
            };
            requests.send(request).await?;
        }
        let outgoing = ReceiverStream::new(outgoing).map(Ok);
        let request = http::Request::post(PATH)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(EncodeBody::new_client(Writer, outgoing, None, None)))?;
        poll_fn(|context| Service::poll_ready(&mut self.channel, context)).await?;
        let answer = self.channel.call(request).await?;
        if let Some(status) = Status::from_header_map(answer.headers()) {
            return Err(status.message().into());
        }
        let mut body = std::pin::pin!(answer.into_body());
        while let Some(frame) = body.frame().await {
            let frame = match frame?.into_data() {
                Ok(piece) => piece,
                Err(frame) => {
                    let status = frame.trailers_ref().and_then(Status::from_header_map);
                    return Err(format!("the control plane ended it: {status:?}").into());
                }
            };
            for response in self.skim.take(&frame)? {
                let acknowledgement = DeltaDiscoveryRequest {
                    type_url: response.type_url.clone(),
                    response_nonce: response.nonce.clone(),
                    ..DeltaDiscoveryRequest::default()
                };
                self.take_in(&response)?;
                requests.send(acknowledgement).await?;
            }
        }
        Err("the control plane ended it".into())
    }

    fn take_in(&mut self, response: &Response) -> Outcome<()> {
        self.shared.bytes.fetch_add(response.bytes, Ordering::Relaxed);
        if response.type_url != ADDRESS_TYPE_URL {
            return Ok(());
        }
        self.seen += response.resources;
        if let Some(whole) = &response.whole {
            self.check(whole)?;
        }
        let was_complete = std::mem::replace(&mut self.is_complete, self.seen >= self.addresses);
        let (mark, completes) = (&mut self.mark, self.is_complete && !was_complete);
        self.shared.counts.send_if_modified(|counts| {
            let reaches = was_complete && *mark != counts.mark;
            *mark = counts.mark;
            counts.reached += u32::from(reaches);
            counts.complete += u32::from(completes);
            reaches || completes
        });
        Ok(())
    }

    /// Reads everything, as a node proxy would.
    fn check(&mut self, response: &DeltaDiscoveryResponse) -> Outcome<()> {
        for resource in &response.resources {
            let body = resource.resource.as_ref().ok_or("a resource without a body")?;
            let address = Address::decode(body.value.as_slice())?;
            if let Some(address::Type::Workload(workload)) = address.r#type
                && workload.namespace != "istio-system"
            {
                let digest = mesh::digest(&workload.uid, &workload.canonical_revision);
                let before = self.workloads.insert(workload.uid, digest).unwrap_or_default();
                self.sum = self.sum.wrapping_sub(before).wrapping_add(digest);
            }
        }
        for name in &response.removed_resources {
            let before = self.workloads.remove(name).unwrap_or_default();
            self.sum = self.sum.wrapping_sub(before);
        }
        let mut digests = self.shared.digests.lock().unwrap_or_else(PoisonError::into_inner);
        digests.insert(self.number, self.sum);
        Ok(())
    }
}

fn node_message(pod: &str, node: u32) -> Node {
    let value = |text: &str| Field {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let fields = BTreeMap::from([
        ("NAME".to_owned(), value(pod)),
        ("NAMESPACE".to_owned(), value("istio-system")),
        ("NODE_NAME".to_owned(), value(&format!("node-{node}"))),
    ]);
    Node {
        id: format!("ztunnel~10.9.0.1~{pod}.istio-system~istio-system.svc.cluster.local"),
        metadata: Some(Struct { fields }),
        ..Node::default()
    }
}
