//! Compiles `proto/etcd.proto` with a pure-Rust compiler, so that nothing has to be installed.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/etcd.proto");
    let descriptors = protox::compile(["proto/etcd.proto"], ["proto"])?;
    let path = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("etcd.descriptors");
    std::fs::write(&path, descriptors.encode_to_vec())?;
    tonic_build::configure()
        .build_server(false)
        .file_descriptor_set_path(&path)
        .skip_protoc_run()
        .bytes(["."])
        .compile_protos(&["proto/etcd.proto"], &["proto"])?;
    Ok(())
}
