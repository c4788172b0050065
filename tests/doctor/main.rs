//! `epp doctor` over real sockets: faults planted in real workers, engines' events, a running `epp`
//! and Envoy, each with the finding that it must give; and set-ups that are well, which must give none.

#[path = "../support/mod.rs"]
mod support;

mod envoy;
mod events;
mod faults;
mod run;
mod running;
mod workers;
