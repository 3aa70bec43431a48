//! Compiles the protocol texts with a compiler written in Rust, so that nobody installs protoc.

use std::error::Error;

const TEXTS: [&str; 7] = [
    "workload",
    "authorization",
    "ca",
    "zds",
    "discovery",
    "origin",
    "trust",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=text");
    let files = TEXTS.map(|name| format!("text/{name}.proto"));
    let descriptors = protox::compile(files, ["text"])?;
    let grpc = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        .bytes(".istio.workload.Workload.addresses")
        .bytes(".istio.workload.NetworkAddress.address")
        .bytes(".istio.security.Address.address")
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
