use super::wire::{BodySendMode, HeaderSendMode, ProcessingMode, ProtocolConfiguration};

/// How the gateway sends one direction's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyMode {
    /// We own the body: it is sent back piece by piece.
    FullDuplex,
    /// One message with all of it, after the headers were answered; one reply.
    Buffered,
    /// Each message is answered for itself, with no say in the headers any more.
    Streamed,
    /// It is not sent.
    Unsent,
}

impl BodyMode {
    fn of(mode: i32) -> Self {
        match BodySendMode::try_from(mode) {
            Ok(BodySendMode::Buffered | BodySendMode::BufferedPartial) => Self::Buffered,
            Ok(BodySendMode::Streamed) => Self::Streamed,
            Ok(BodySendMode::None) => Self::Unsent,
            _ => Self::FullDuplex,
        }
    }

    /// The headers leave before the body is seen, if it is.
    pub(super) fn passes_by(self) -> bool {
        matches!(self, Self::Streamed | Self::Unsent)
    }
}

/// Both directions' modes, and whether the gateway said them or we assume them.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyModes {
    pub request: BodyMode,
    pub response: BodyMode,
    pub known: bool,
    /// The request's as the gateway has it.
    request_as_said: i32,
}

impl BodyModes {
    /// What the gateway says.
    pub(super) fn said(config: &ProtocolConfiguration) -> Self {
        Self {
            request: BodyMode::of(config.request_body_mode),
            response: BodyMode::of(config.response_body_mode),
            known: true,
            request_as_said: config.request_body_mode,
        }
    }

    /// What a gateway that says nothing is taken for.
    pub(super) fn assumed() -> Self {
        Self {
            request: BodyMode::FullDuplex,
            response: BodyMode::FullDuplex,
            known: false,
            request_as_said: 0,
        }
    }

    /// What to reply to a response's headers so that its body is not sent; `None` where a gateway
    /// would not do it. In full duplex it may have sent the first piece already, which is why
    /// Envoy lets nobody out of it (1.40, `ext_proc.cc`).
    ///
    /// Whoever lets it be turned off may still not do it, and what comes then is answered.
    pub(super) fn without_response_body(self) -> Option<ProcessingMode> {
        let can = matches!(self.response, BodyMode::Streamed | BodyMode::Buffered);
        (self.known && can).then(|| ProcessingMode {
            // The override takes the place of all that was configured for bodies.
            request_body_mode: self.request_as_said,
            response_body_mode: BodySendMode::None.into(),
            request_trailer_mode: HeaderSendMode::Default.into(),
            // Trailers end what is not seen, where an endpoint sends some.
            response_trailer_mode: HeaderSendMode::Send.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_turned_off_where_a_gateway_can_do_it() {
        use BodySendMode::*;
        let said = |request: BodySendMode, response: BodySendMode| {
            BodyModes::said(&ProtocolConfiguration {
                request_body_mode: request.into(),
                response_body_mode: response.into(),
            })
        };
        for (request, response, can) in [
            (FullDuplexStreamed, FullDuplexStreamed, false),
            (FullDuplexStreamed, None, false),
            (FullDuplexStreamed, Streamed, true),
            (Buffered, Streamed, true),
            (Buffered, Buffered, true),
            (BufferedPartial, BufferedPartial, true),
            (Buffered, None, false),
        ] {
            let mode = said(request, response).without_response_body();
            assert_eq!(mode.is_some(), can, "{request:?} {response:?}");
            if let Some(mode) = mode {
                assert_eq!(mode.request_body_mode, i32::from(request));
                assert_eq!(mode.response_body_mode, i32::from(None));
            }
        }
        assert!(BodyModes::assumed().without_response_body().is_none());
    }
}
