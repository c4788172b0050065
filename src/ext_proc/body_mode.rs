use super::wire::{BodySendMode, ProtocolConfiguration};

/// How the gateway sends one direction's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyMode {
    /// We own the body: it is sent back piece by piece.
    FullDuplex,
    /// One message with all of it, after the headers were answered; one reply.
    Buffered,
    /// Each message is answered for itself, with no say in the headers any more (`STREAMED`), or
    /// there are no messages (`NONE`).
    PassThrough,
}

impl BodyMode {
    fn of(mode: i32) -> Self {
        match BodySendMode::try_from(mode) {
            Ok(BodySendMode::Buffered | BodySendMode::BufferedPartial) => Self::Buffered,
            Ok(BodySendMode::Streamed | BodySendMode::None) => Self::PassThrough,
            _ => Self::FullDuplex,
        }
    }
}

/// Both directions' modes, and whether the gateway said them or we assume them.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyModes {
    pub request: BodyMode,
    pub response: BodyMode,
    pub known: bool,
}

impl BodyModes {
    /// What the gateway says.
    pub(super) fn said(config: &ProtocolConfiguration) -> Self {
        Self {
            request: BodyMode::of(config.request_body_mode),
            response: BodyMode::of(config.response_body_mode),
            known: true,
        }
    }

    /// What a gateway that says nothing is taken for.
    pub(super) fn assumed() -> Self {
        Self { request: BodyMode::FullDuplex, response: BodyMode::FullDuplex, known: false }
    }
}
