//! What workers tell us about themselves.

pub mod config;
