//! Envoy's external-processing protocol: one gRPC stream per HTTP exchange.
//!
//! [`stream`] polls the gateway's messages and hands each to [`messages`], whose two halves
//! ([`request_half`], [`response_half`]) translate them into calls on an
//! [`Exchange`](crate::exchange::Exchange) and its answers into replies; [`reply_messages`] and
//! [`header_mutation`] say how an answer looks on the [`wire`], and [`grpc_encoder`] puts replies
//! into the stream. Nothing here decides anything.

mod body_mode;
mod conversation;
mod gateway_metadata;
mod grpc_encoder;
mod header_mutation;
mod messages;
mod reply_messages;
mod request_half;
mod response_half;
mod service;
mod stream;
pub mod wire;

pub use reply_messages::MAX_BODY_REPLY;
pub use service::{ExternalProcessorServer, SERVICE_NAME};
pub use stream::ExchangeStream;
