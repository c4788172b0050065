//! Where endpoints come from: a file, a list on the command line, or Kubernetes.

mod endpoints_file;
mod file;
mod host_names;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
mod list;
mod listed_endpoint;

pub use endpoints_file::{MAX_FILE_BYTES, parse_endpoints};
pub use file::{FileDiscovery, read_endpoints};
pub use list::{ListDiscovery, parse_endpoint_list};
pub use listed_endpoint::{Host, ListedEndpoint};
