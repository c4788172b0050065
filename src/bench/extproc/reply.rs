//! A picker's replies, as far as the driver looks into them.

use super::wire::{Fields, Malformed, Value, bytes_field, varint_field};

/// The header a picker names the worker with.
pub(super) const DESTINATION: &[u8] = b"x-gateway-destination-endpoint";

/// One `ProcessingResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// `destination` is the value of [`DESTINATION`], if set.
    RequestHeaders {
        destination: Option<&'a [u8]>,
    },
    RequestBody(Piece),
    ResponseHeaders,
    ResponseBody(Piece),
    Trailers,
    /// The client is to get this HTTP status instead of an answer.
    Immediate {
        status: u64,
    },
    /// Nothing the driver waits for (an empty message, a kind of a later protocol version).
    Other,
}

/// A piece of body in full-duplex mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Streamed {
        len: usize,
        end: bool,
    },
    /// The reply carries no piece: the picker did not speak full-duplex.
    Missing,
}

/// Reads one reply.
///
/// # Errors
/// Where the message is no protobuf.
pub(super) fn read(message: &[u8]) -> Result<Reply<'_>, Malformed> {
    for field in Fields(message) {
        let (tag, Value::Bytes(inner)) = field? else { continue };
        return Ok(match tag {
            1 => Reply::RequestHeaders { destination: destination(inner)? },
            2 => Reply::ResponseHeaders,
            3 => Reply::RequestBody(piece(inner)?),
            4 => Reply::ResponseBody(piece(inner)?),
            5 | 6 => Reply::Trailers,
            7 => {
                let status = bytes_field(inner, 1)?.unwrap_or_default();
                Reply::Immediate { status: varint_field(status, 1)? }
            }
            // Dynamic metadata and the like stand beside the reply.
            _ => continue,
        });
    }
    Ok(Reply::Other)
}

/// HeadersResponse.response.header_mutation.set_headers[].header.
fn destination(headers_response: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let common = bytes_field(headers_response, 1)?.unwrap_or_default();
    let mutation = bytes_field(common, 2)?.unwrap_or_default();
    for field in Fields(mutation) {
        let (1, Value::Bytes(option)) = field? else { continue };
        let header = bytes_field(option, 1)?.unwrap_or_default();
        let key = bytes_field(header, 1)?.unwrap_or_default();
        if key.eq_ignore_ascii_case(DESTINATION) {
            let raw = bytes_field(header, 3)?.filter(|raw| !raw.is_empty());
            return match raw {
                Some(raw) => Ok(Some(raw)),
                None => bytes_field(header, 2),
            };
        }
    }
    Ok(None)
}

/// BodyResponse.response.body_mutation.streamed_response.
fn piece(body_response: &[u8]) -> Result<Piece, Malformed> {
    let common = bytes_field(body_response, 1)?.unwrap_or_default();
    let mutation = bytes_field(common, 3)?.unwrap_or_default();
    match bytes_field(mutation, 3)? {
        Some(streamed) => Ok(Piece::Streamed {
            len: bytes_field(streamed, 1)?.map_or(0, <[u8]>::len),
            end: varint_field(streamed, 2)? != 0,
        }),
        None => Ok(Piece::Missing),
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
    use envoy_types::pb::envoy::service::ext_proc::v3::body_mutation::Mutation;
    use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
    use envoy_types::pb::envoy::service::ext_proc::v3::{
        BodyMutation, BodyResponse, CommonResponse, HeaderMutation, HeadersResponse,
        ImmediateResponse, ProcessingResponse, StreamedBodyResponse,
    };
    use envoy_types::pb::envoy::r#type::v3::HttpStatus;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn encode(response: Response) -> Vec<u8> {
        ProcessingResponse { response: Some(response), ..Default::default() }.encode_to_vec()
    }

    fn header(key: &str, value: &str, raw: &str) -> HeaderValueOption {
        let header = HeaderValue {
            key: key.into(),
            value: value.into(),
            raw_value: raw.as_bytes().to_vec(),
        };
        HeaderValueOption { header: Some(header), ..Default::default() }
    }

    fn headers(set_headers: Vec<HeaderValueOption>) -> HeadersResponse {
        let mutation = HeaderMutation { set_headers, ..Default::default() };
        let common = CommonResponse { header_mutation: Some(mutation), ..Default::default() };
        HeadersResponse { response: Some(common) }
    }

    fn body(mutation: Option<Mutation>) -> BodyResponse {
        let common = CommonResponse {
            body_mutation: mutation.map(|m| BodyMutation { mutation: Some(m) }),
            ..Default::default()
        };
        BodyResponse { response: Some(common) }
    }

    fn streamed(len: usize, end_of_stream: bool) -> Option<Mutation> {
        Some(Mutation::StreamedResponse(StreamedBodyResponse {
            body: vec![b'x'; len],
            end_of_stream,
            ..Default::default()
        }))
    }

    #[test]
    fn every_kind_of_reply() {
        let dest = "x-gateway-destination-endpoint";
        let cases = [
            (
                Response::RequestHeaders(headers(vec![])),
                Reply::RequestHeaders { destination: None },
            ),
            (
                Response::RequestHeaders(headers(vec![
                    header("Content-Length", "", "12"),
                    header(dest, "", "10.0.0.1:8000"),
                ])),
                Reply::RequestHeaders { destination: Some(b"10.0.0.1:8000") },
            ),
            (
                Response::RequestHeaders(headers(vec![header(dest, "10.0.0.2:8000", "")])),
                Reply::RequestHeaders { destination: Some(b"10.0.0.2:8000") },
            ),
            (
                Response::RequestBody(body(streamed(0, true))),
                Reply::RequestBody(Piece::Streamed { len: 0, end: true }),
            ),
            (
                Response::ResponseBody(body(streamed(9, false))),
                Reply::ResponseBody(Piece::Streamed { len: 9, end: false }),
            ),
            (Response::RequestBody(body(None)), Reply::RequestBody(Piece::Missing)),
            (
                Response::ResponseBody(body(Some(Mutation::Body(b"whole".to_vec())))),
                Reply::ResponseBody(Piece::Missing),
            ),
            (Response::ResponseHeaders(headers(vec![])), Reply::ResponseHeaders),
            (
                Response::ImmediateResponse(ImmediateResponse {
                    status: Some(HttpStatus { code: 503 }),
                    ..Default::default()
                }),
                Reply::Immediate { status: 503 },
            ),
        ];
        for (response, want) in cases {
            assert_eq!(read(&encode(response.clone())), Ok(want), "{response:?}");
        }
        assert_eq!(read(b""), Ok(Reply::Other));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }

        #[test]
        fn a_cut_message_is_malformed_or_shorter(len in 1usize..300, end: bool, cut in 1usize..20) {
            let whole = encode(Response::RequestBody(body(streamed(len, end))));
            let cut = cut.min(whole.len() - 1);
            prop_assert_eq!(read(&whole[..whole.len() - cut]), Err(Malformed));
        }
    }
}
