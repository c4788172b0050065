//! Requests that wait, over real ext_proc streams: overload by tenants and priorities, clients and
//! endpoints that go away, a pool that fills late, the end of the process.

#[path = "../support/mod.rs"]
mod support;

mod priorities;
mod queueing;
mod rig;
