//! The messages of `envoy.service.ext_proc.v3`, with bodies and headers as [`bytes::Bytes`].
//!
//! `envoy-types` has the same messages with `Vec<u8>` and `String`: every body would be copied
//! once on its way in and once into the reply, and every header would cost two allocations. Here
//! they are slices of the received frame. They are generated from the files under `proto/envoy`,
//! which declare only what an endpoint picker reads or writes; unknown fields are skipped. A test
//! holds every message against `envoy-types`.

// What holds an enumeration or is not passed on is generated too.
#[allow(dead_code, unreachable_pub, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/envoy/mod.rs"));
}

use generated::envoy;

pub use envoy::config::core::v3::{HeaderMap, HeaderValue, HeaderValueOption, Metadata};
pub use envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;
pub use envoy::extensions::filters::http::ext_proc::v3::processing_mode::{
    BodySendMode, HeaderSendMode,
};
pub use envoy::service::ext_proc::v3::{
    BodyMutation, CommonResponse, HeaderMutation, HttpBody, HttpHeaders, HttpTrailers,
    ImmediateResponse, ProcessingRequest, ProcessingResponse, ProtocolConfiguration,
    StreamedBodyResponse, TrailersResponse,
};
pub use envoy::r#type::v3::HttpStatus;

/// The answer to headers or to a piece of a body.
pub use envoy::service::ext_proc::v3::HeadersResponse as CommonReply;
/// How a body is to change.
pub use envoy::service::ext_proc::v3::body_mutation::Mutation;
/// One message of the gateway.
pub use envoy::service::ext_proc::v3::processing_request::Request as Incoming;
/// One message to the gateway.
pub use envoy::service::ext_proc::v3::processing_response::Response as Outgoing;
