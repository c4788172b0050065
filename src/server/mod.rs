//! The listeners: ext_proc and health over gRPC, metrics and debug pages over HTTP, TLS for
//! both, and how all of it ends.

mod admin;
mod cached;
mod certificate;
mod connection;
mod counted;
mod decisions_page;
mod dispatch;
mod drain;
mod grpc;
mod health;
mod http1;
mod incoming;
mod notice;
mod page;
mod shutdown;
mod state_pages;
mod tls;
mod token;
mod turn;

pub use admin::{Admin, MetricsAuth};
pub use certificate::{CertificateError, KeyPairFollower, ServingKey};
pub use connection::{Connection, OpenConnections};
pub use counted::{Counted, OpenCalls};
pub use dispatch::Dispatch;
pub use drain::Drain;
pub use grpc::{GrpcServices, serve_grpc, serve_grpc_in_two_turns};
pub use health::{HealthService, Readiness};
pub use incoming::{Incoming, ListenerOptions, bind};
pub use shutdown::{Shutdown, Stage};
pub use tls::{TlsPolicy, server_config};
pub use token::{TokenAuth, TokenError};
