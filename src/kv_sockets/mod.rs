//! The events of engines, heard over sockets.
//!
//! [`Subscription`] follows one publisher over a connection of ours, [`Listener`] those that connect
//! to us, both by [`zmtp`]. [`Sockets`] does so for a whole pool.

mod follower;
mod listener;
mod subscription;
#[cfg(test)]
mod tests;
pub mod zmtp;

pub use follower::Sockets;
pub use listener::{Listener, Resolve};
pub use subscription::{Bounds, Source, Subscription};
