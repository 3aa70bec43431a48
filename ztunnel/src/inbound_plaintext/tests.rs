use super::*;
use crate::pods::PodId;
use bytes::Bytes;
use mesh::Identity;
use proto::workload::Workload as WorkloadMessage;
use sys::Namespace;

#[test]
fn only_what_is_for_the_pod_is_taken() {
    // Whatever namespace this runs in has loopback addresses at most in common with the cases.
    let pod = Pod {
        buffers: hbone::budget::Budget::new(1 << 20).account(),
        id: PodId::from("1"),
        name: "cart-1".into(),
        identity: Identity::new("cluster.local", "shop", "cart"),
        network: Namespace::current().unwrap(),
    };
    let message = WorkloadMessage {
        uid: "Kubernetes//Pod/shop/cart-1".into(),
        name: "cart-1".into(),
        namespace: "shop".into(),
        service_account: "cart".into(),
        addresses: vec![Bytes::from_static(&[192, 0, 2, 5])],
        ..WorkloadMessage::default()
    };
    let workload = Workload::from_proto(message).unwrap();
    let refused = |ip: &str| refuse_other_address(&pod, &workload, ip.parse().unwrap()).is_err();
    assert!(!refused("192.0.2.5"));
    assert!(refused("192.0.2.6"), "somebody else");
    assert!(
        refused("127.0.0.1"),
        "what listens on loopback only is nobody else's business"
    );
    assert!(refused("::1"));
    for own in pod.network.addresses().unwrap() {
        assert_eq!(refused(&own.to_string()), own.is_loopback(), "{own}");
    }
}
