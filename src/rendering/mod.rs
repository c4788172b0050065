//! Has engines turn prompts into token ids, over HTTP.

mod cache;
mod client;

pub use client::RenderClient;
