//! Compiles the messages under `proto/`. `protox` reads them, so no `protoc` has to be installed.

use std::error::Error;
use std::path::PathBuf;

#[path = "build/version.rs"]
mod version;

const FOLDER: &str = "proto";

/// The messages of each room, as one file of nested modules. Two files, so that each room holds
/// only its own.
const ENVOY: &[&str] = &["envoy/service/ext_proc/v3/external_processor.proto"];
const API: &[&str] = &[
    "google/cloud/aiplatform/v1beta1/prediction_service.proto",
    "vllm/grpc/engine/vllm_engine.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={FOLDER}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build/version.rs");
    version::emit();
    compile("envoy", ENVOY)?;
    compile("api", API)
}

/// Generates what `files` need into the folder `name` of the build's output, with a `mod.rs` that
/// includes it.
fn compile(name: &str, files: &[&str]) -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join(name);
    std::fs::create_dir_all(&out)?;
    prost_build::Config::new()
        .out_dir(out)
        .include_file("mod.rs")
        // Slices of the received message, not copies.
        .bytes(["."])
        .btree_map(["."])
        // Alike on the wire, so one type serves for headers and for bodies.
        .extern_path(
            ".envoy.service.ext_proc.v3.BodyResponse",
            "crate::ext_proc::wire::CommonReply",
        )
        .compile_fds(protox::compile(files, [FOLDER])?)?;
    Ok(())
}
