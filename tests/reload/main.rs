//! A configuration that is changed while requests are served: the real program, over real sockets.

mod harness;
mod load;
mod refusals;
#[path = "../support/mod.rs"]
mod support;
mod what_starts;
mod what_stays;
