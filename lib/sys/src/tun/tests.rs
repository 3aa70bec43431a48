use std::{net::IpAddr, time::Duration};

use super::*;
use crate::{
    link::Netlink,
    socket::{ConnectOptions, ListenOptions, connect, listen},
    test_support::needs_root,
};

async fn pump(from: &Tun, to: &Tun) {
    let mut buffer = [0; 2048];
    loop {
        let length = from.recv(&mut buffer).await.unwrap();
        to.send(&buffer[..length]).await.unwrap();
    }
}

#[tokio::test]
async fn carries_what_this_process_passes_on() {
    if needs_root() {
        return;
    }
    for layer in [Layer::Packets, Layer::Frames] {
        let near = Namespace::create().unwrap();
        let far = Namespace::create().unwrap();
        let near_end = Tun::create(&near, "link0", layer).unwrap();
        let far_end = Tun::create(&far, "link0", layer).unwrap();
        for (namespace, address) in [(&near, "10.2.0.1"), (&far, "10.2.0.2")] {
            let link = Netlink::in_namespace(namespace).unwrap();
            link.address("link0", address.parse::<IpAddr>().unwrap(), 24)
                .await
                .unwrap();
            link.up("link0").await.unwrap();
        }
        let listener = listen(&far, "10.2.0.2:80".parse().unwrap(), &ListenOptions::default()).unwrap();
        let short = ConnectOptions {
            timeout: Some(Duration::from_millis(200)),
            ..ConnectOptions::default()
        };
        let to = "10.2.0.2:80".parse().unwrap();
        let cut = connect(&near, &short, to).await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::TimedOut, "nobody passes anything on");

        let long = ConnectOptions {
            timeout: Some(Duration::from_secs(10)),
            ..ConnectOptions::default()
        };
        tokio::select! {
            () = pump(&near_end, &far_end) => unreachable!("it goes on for ever"),
            () = pump(&far_end, &near_end) => unreachable!("it goes on for ever"),
            (connected, _accepted) = async { tokio::join!(connect(&near, &long, to), listener.accept()) } => {
                connected.unwrap();
            }
        }
        drop(near_end);
        let link = Netlink::in_namespace(&near).unwrap();
        assert!(
            link.index("link0").await.unwrap_err().is_missing(),
            "gone with its near end"
        );
    }
}

#[tokio::test]
async fn impossible_names_are_refused() {
    let here = Namespace::current().unwrap();
    for name in ["", "sixteen-letters-", "a/b", "tap%d"] {
        let error = Tun::create(&here, name, Layer::Frames).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
    }
}
