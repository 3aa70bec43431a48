//! A mesh that is more than one response: told by several, to a client that reads no more than tonic and grpc-go do unless
//! told otherwise, and to the node proxy's own.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::{Batch, ObjectSource, SourceError, StoreChange};
use prost::Message;
use tokio::sync::watch;
use xds_client::Update;

use super::*;

/// More than 4 MiB of workloads, by long names.
const PODS: usize = 4000;
const LONG: usize = 240;
const LIMIT: usize = 1024 * 1024;

/// Objects that never change.
struct Fixed(Vec<Arc<Object>>);

impl ObjectSource for Fixed {
    fn watch(&self) -> BoxStream<'static, Result<Batch, SourceError>> {
        let batch = Batch {
            revision: 7,
            changes: self.0.iter().cloned().map(StoreChange::Put).collect(),
            initial: true,
        };
        stream::iter([Ok(batch)]).chain(stream::pending()).boxed()
    }
}

/// A control plane with a large mesh and a policy.
async fn large(settings: &[&str]) -> World {
    let mut world = World::start().await;
    world.stop().await;
    let proxy = ObjectKey::new(objects::Kind::Pod, "istio-system", "zt-a");
    let proxy = world.objects.get(&proxy).unwrap().unwrap();
    let pods = (0..PODS).map(|number| {
        let name = format!("{}-{number:06}", "x".repeat(LONG));
        let ip = format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255);
        pod("demo", &name, "web", "node-b", &ip)
    });
    let others = pods.chain([policy("allow")]);
    let others = others.map(|object| Arc::new(Object::from_value(object).unwrap()));
    let all = others.chain([proxy]).collect();
    world.source = Some(Arc::new(Fixed(all)));
    world.more = settings.iter().map(|text| (*text).to_owned()).collect();
    world.boot().await;
    world
}

fn limit() -> String {
    format!("--max-response-bytes={LIMIT}")
}

#[tokio::test]
async fn a_client_of_default_limits_is_told_of_a_large_mesh_by_several_responses() {
    let world = large(&[&limit()]).await;
    let mut client = world.connect().await;
    client.subscribe().await;
    let (mut responses, mut told) = (Vec::new(), BTreeSet::new());
    while responses.last() != Some(&POLICIES.to_owned()) {
        let response = client.next().await;
        assert!(
            response.encoded_len() <= LIMIT + LIMIT / 16,
            "{}",
            response.encoded_len()
        );
        assert_eq!(response.system_version_info, "7", "all are of one state");
        assert!(response.removed_resources.is_empty());
        for resource in response
            .resources
            .iter()
            .filter(|_| response.type_url == ADDRESSES)
        {
            assert!(told.insert(resource.name.clone()), "{} came twice", resource.name);
        }
        responses.push(response.type_url);
    }
    assert_eq!(told.len(), PODS + 1);
    // Ready with one response of each type, it has the whole mesh.
    assert!(responses.len() > 5, "{responses:?}");
    assert!(
        responses[..responses.len() - 1]
            .iter()
            .all(|kind| kind == ADDRESSES)
    );
    let sync = world.proxy(|proxy| proxy["acknowledged"] == 7).await;
    assert_eq!(sync["proxies"][0]["rejected"], json!([]));

    // Come back after two of them, it is told of the rest. Now the policies come first: it may be deciding already.
    let mut client = world.connect().await;
    client.subscribe().await;
    let nonces = [client.next().await.nonce, client.next().await.nonce];
    assert_ne!(nonces[0], nonces[1]);
    let mut held = client.held.clone();
    let before = held[ADDRESSES].len();
    assert!(before > 0 && before < PODS);
    let mut client = world.connect().await;
    client.held = std::mem::take(&mut held);
    client.subscribe().await;
    assert_eq!(client.next().await.type_url, POLICIES);
    let mut again = 0;
    while client.held[ADDRESSES].len() < PODS + 1 {
        let response = client.next().await;
        assert_eq!(response.type_url, ADDRESSES);
        again += response.resources.len();
    }
    assert_eq!(again, PODS + 1 - before);
}

#[tokio::test]
async fn a_client_of_default_limits_does_not_read_what_node_proxies_do() {
    let world = large(&[]).await;
    let mut client = world.connect().await;
    client.subscribe().await;
    assert_eq!(client.next().await.type_url, POLICIES);
    let status = client.receive().await.expect_err("more than 4 MiB");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    // Nobody else is harmed.
    assert_eq!(world.ask("/healthz").await["status"], "ok");
}

/// Remembers what came, as (type, count).
struct Remembering(mpsc::UnboundedSender<(String, usize)>);

impl xds_client::Handler for Remembering {
    async fn apply(&mut self, update: Update) -> Vec<xds_client::Rejection> {
        let _ = self.0.send((update.type_url, update.resources.len()));
        Vec::new()
    }
}

#[tokio::test]
async fn the_node_proxys_client_is_synced_only_with_all_of_a_large_mesh() {
    let world = large(&[&limit()]).await;
    let root = RootSource::Path(world.folder.path().join("ca/root-cert.pem"));
    let mut channel = ChannelConfig::new(format!("https://{}", world.address), root);
    channel.alternative_name = Some("control-plane.test".to_owned());
    channel.token = Token::Inline(world.token(world.caller()));
    let config = node_proxy_on(channel);
    let (updates, mut told) = mpsc::unbounded_channel();
    let (status, mut synced) = watch::channel(xds_client::Status::default());
    let client = tokio::spawn(async move { xds_client::run(config, Remembering(updates), status).await });
    let both = synced.wait_for(|status| status.synced.len() == 2);
    drop(tokio::time::timeout(PATIENCE, both).await.unwrap().unwrap());
    let mut held = BTreeMap::<String, usize>::new();
    while let Ok((kind, count)) = told.try_recv() {
        *held.entry(kind).or_default() += count;
    }
    assert_eq!(
        held,
        BTreeMap::from([(ADDRESSES.to_owned(), PODS + 1), (POLICIES.to_owned(), 1)])
    );
    client.abort();
}
