//! The part of ZMTP 3 that a subscriber and a dealer need, over TCP without encryption.
//!
//! Decision: a client of our own instead of a crate. Looked at: `zmq` 0.10 binds libzmq, C++ that
//! would have to be built for musl and brings threads of its own; `rzmq` 0.5 is young, has its own
//! runtime of actors and is MPL; `zeromq` 0.7 (pure Rust, tokio, kept by the ZeroMQ organisation) is
//! good, and the tests speak to it as to an independent peer, but it reserves whatever length a
//! peer states for a frame, puts no bound on the parts of a message, knows no keep-alive, and does
//! not tell which peer of a bound socket a message came from. Events come from pods that may be
//! hostile or half dead, so exactly these four matter here, and what is needed beside them is
//! small: a greeting, one command each way, frames.

mod connection;
mod frame;

pub use connection::{Connection, Role};
pub use frame::{Frame, take as take_frame};

/// Why a connection is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZmtpError {
    #[error("the peer does not speak ZMTP 3 without encryption")]
    NotZmtp,
    #[error("the peer is a ZeroMQ socket of a type that does not fit")]
    WrongSocket,
    #[error("a message is longer than is accepted")]
    TooLong,
    #[error("the peer closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Io(std::io::ErrorKind),
    #[error("the peer did not answer in time")]
    TimedOut,
}

impl From<std::io::Error> for ZmtpError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.kind())
    }
}
