//! Compiles `proto/kv.proto` with a pure-Rust compiler, so that nothing has to be installed.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/kv.proto");
    let descriptors = protox::compile(["proto/kv.proto"], ["proto"])?;
    let path = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("kv.descriptors");
    std::fs::write(&path, descriptors.encode_to_vec())?;
    tonic_build::configure()
        .file_descriptor_set_path(&path)
        .skip_protoc_run()
        .bytes(["."]) // Keys and values are not copied out of the buffer that they arrived in.
        .compile_protos(&["proto/kv.proto"], &["proto"])?;
    Ok(())
}
