//! The messages under `proto/vllm` and `proto/google`, as the build generates them.

// What is read of one API only is generated for all.
#[allow(dead_code, unreachable_pub, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/api/mod.rs"));
}

pub(super) use generated::google::api::HttpBody;
pub(super) use generated::google::cloud::aiplatform::v1beta1 as vertex;
pub(super) use generated::vllm::grpc::engine as vllm;
