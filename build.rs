//! Compiles `proto/` with protox (pure Rust: no protoc on the machine) into
//! messages, services, canonical JSON and a descriptor set for reflection.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from("proto");
    let package = root.join("jembatan/v1");
    println!("cargo:rerun-if-changed={}", package.display());

    let mut files = Vec::new();
    for entry in fs::read_dir(&package)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            println!("cargo:rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    files.sort();

    let descriptors = protox::Compiler::new([&root])?
        .include_source_info(true)
        .include_imports(true)
        .open_files(&files)?
        .file_descriptor_set();
    let encoded = descriptors.encode_to_vec();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("jembatan.v1.descriptor.bin"), &encoded)?;

    let mut config = prost_build::Config::new();
    config
        .bytes(["."])
        .compile_well_known_types()
        // Our own, since its JSON must end in Z as the contract of protobuf says.
        .extern_path(".google.protobuf.Timestamp", "crate::wire::Timestamp");
    tonic_prost_build::configure()
        .codec_path("crate::wire::LeanCodec")
        .compile_fds_with_config(descriptors, config)?;
    pbjson_build::Builder::new()
        .register_descriptors(&encoded)?
        .build(&[".jembatan.v1"])?;
    Ok(())
}
