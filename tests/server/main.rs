//! The listeners over real sockets: gRPC with and without TLS, health, admin pages, the end.

mod admin;
mod client;
mod grpc;
mod streams;
mod tls;
