//! What one client, one operator's mistake or one file may cost: the real program over real
//! sockets, each attack against the bound that docs/limits.md names.

mod raw;
#[path = "../support/mod.rs"]
mod support;

mod admin;
mod files;
mod requests;
mod resets;
mod silence;
