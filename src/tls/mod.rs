//! What clients and listeners with TLS have in common: certificates and keys from files, and
//! trusting any.

mod any_certificate;
mod pem;

pub use any_certificate::AnyCertificate;
pub use pem::{PemError, PemProblem, certificates, private_key};
