//! Our messages of the ext_proc API against `envoy-types`: what one writes, the other reads.

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::{
    BodySendMode, HeaderSendMode,
};
use envoy_types::pb::envoy::service::ext_proc::v3 as envoy;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use epp::ext_proc::wire;
use proptest::prelude::*;
use prost::Message;

fn header(key: &str, value: &str, raw_value: &[u8]) -> core::HeaderValue {
    core::HeaderValue { key: key.into(), value: value.into(), raw_value: raw_value.to_vec() }
}

proptest! {
    #[test]
    fn request_headers_are_read(
        list in prop::collection::vec(("[a-z:-]{0,12}", "\\PC{0,12}", prop::collection::vec(any::<u8>(), 0..12)), 0..6),
        end_of_stream: bool,
        response: bool,
        mode in 0..5i32,
    ) {
        let headers = envoy::HttpHeaders {
            headers: Some(core::HeaderMap {
                headers: list.iter().map(|(k, v, r)| header(k, v, r)).collect(),
            }),
            end_of_stream,
            ..Default::default()
        };
        let sent = envoy::ProcessingRequest {
            request: Some(if response {
                Request::ResponseHeaders(headers)
            } else {
                Request::RequestHeaders(headers)
            }),
            protocol_config: Some(envoy::ProtocolConfiguration {
                request_body_mode: mode,
                response_body_mode: 4 - mode,
                send_body_without_waiting_for_header_response: true,
            }),
            observability_mode: true,
            ..Default::default()
        };
        let read = wire::ProcessingRequest::decode(&*sent.encode_to_vec()).unwrap();
        let config = read.protocol_config.unwrap();
        prop_assert_eq!((config.request_body_mode, config.response_body_mode), (mode, 4 - mode));
        let got = match (read.request, response) {
            (Some(wire::Incoming::RequestHeaders(h)), false) => h,
            (Some(wire::Incoming::ResponseHeaders(h)), true) => h,
            (other, _) => panic!("read as {other:?}"),
        };
        prop_assert_eq!(got.end_of_stream, end_of_stream);
        let got: Vec<_> = got.headers.unwrap().headers.into_iter()
            .map(|h| (h.key, h.value, h.raw_value)).collect();
        let sent: Vec<_> = list.into_iter()
            .map(|(k, v, r)| (Bytes::from(k), Bytes::from(v), Bytes::from(r))).collect();
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn bodies_and_trailers_are_read(body in prop::collection::vec(any::<u8>(), 0..200), end: bool, which in 0..4u8) {
        let message = envoy::HttpBody { body: body.clone(), end_of_stream: end, ..Default::default() };
        let trailers = envoy::HttpTrailers {
            trailers: Some(core::HeaderMap { headers: vec![header("x-t", "1", b"")] }),
        };
        let sent = envoy::ProcessingRequest {
            request: Some(match which {
                0 => Request::RequestBody(message),
                1 => Request::ResponseBody(message),
                2 => Request::RequestTrailers(trailers),
                _ => Request::ResponseTrailers(trailers),
            }),
            ..Default::default()
        };
        let read = wire::ProcessingRequest::decode(&*sent.encode_to_vec()).unwrap();
        match (which, read.request.unwrap()) {
            (0, wire::Incoming::RequestBody(b)) | (1, wire::Incoming::ResponseBody(b)) => {
                prop_assert_eq!(&b.body[..], &body[..]);
                prop_assert_eq!(b.end_of_stream, end);
            }
            (2, wire::Incoming::RequestTrailers(_)) | (3, wire::Incoming::ResponseTrailers(_)) => {}
            (_, other) => panic!("read as {other:?}"),
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let ours = wire::ProcessingRequest::decode(&*bytes);
        // What envoy-types reads, we read; we may read more, since we skip what we do not know.
        if envoy::ProcessingRequest::decode(&*bytes).is_ok() {
            prop_assert!(ours.is_ok());
        }
    }
}

#[test]
fn every_reply_is_read_by_envoy() {
    let option = |key: &'static str, value: &'static str| wire::HeaderValueOption {
        header: Some(wire::HeaderValue {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::new(),
            raw_value: Bytes::from_static(value.as_bytes()),
        }),
        keep_empty_value: value.is_empty(),
    };
    let mutation = wire::HeaderMutation {
        set_headers: vec![option("a", "1"), option("b", "")],
        remove_headers: vec![Bytes::from_static(b"gone")],
    };
    let common = |body_mutation| wire::CommonReply {
        response: Some(wire::CommonResponse {
            header_mutation: Some(mutation.clone()),
            body_mutation,
            clear_route_cache: true,
        }),
    };
    let expected_mutation = envoy::HeaderMutation {
        set_headers: [("a", "1"), ("b", "")]
            .map(|(k, v)| core::HeaderValueOption {
                header: Some(header(k, "", v.as_bytes())),
                keep_empty_value: v.is_empty(),
                ..Default::default()
            })
            .into(),
        remove_headers: vec!["gone".into()],
    };
    let expected_common = |body_mutation| envoy::CommonResponse {
        header_mutation: Some(expected_mutation.clone()),
        body_mutation,
        clear_route_cache: true,
        ..Default::default()
    };
    let streamed = |body: &'static [u8]| wire::BodyMutation {
        mutation: Some(wire::Mutation::StreamedResponse(wire::StreamedBodyResponse {
            body: Bytes::from_static(body),
            end_of_stream: true,
        })),
    };
    let expected_streamed = |body: &[u8]| envoy::BodyMutation {
        mutation: Some(envoy::body_mutation::Mutation::StreamedResponse(
            envoy::StreamedBodyResponse {
                body: body.to_vec(),
                end_of_stream: true,
                ..Default::default()
            },
        )),
    };
    let whole =
        wire::BodyMutation { mutation: Some(wire::Mutation::Body(Bytes::from_static(b"all"))) };
    let expected_whole = envoy::BodyMutation {
        mutation: Some(envoy::body_mutation::Mutation::Body(b"all".to_vec())),
    };
    let cases = [
        (
            wire::Outgoing::RequestHeaders(common(None)),
            Response::RequestHeaders(envoy::HeadersResponse {
                response: Some(expected_common(None)),
            }),
        ),
        (
            wire::Outgoing::ResponseHeaders(common(None)),
            Response::ResponseHeaders(envoy::HeadersResponse {
                response: Some(expected_common(None)),
            }),
        ),
        (
            wire::Outgoing::RequestBody(common(Some(streamed(b"piece")))),
            Response::RequestBody(envoy::BodyResponse {
                response: Some(expected_common(Some(expected_streamed(b"piece")))),
            }),
        ),
        (
            wire::Outgoing::ResponseBody(common(Some(whole))),
            Response::ResponseBody(envoy::BodyResponse {
                response: Some(expected_common(Some(expected_whole))),
            }),
        ),
        (
            wire::Outgoing::RequestTrailers(wire::TrailersResponse {}),
            Response::RequestTrailers(envoy::TrailersResponse::default()),
        ),
        (
            wire::Outgoing::ResponseTrailers(wire::TrailersResponse {}),
            Response::ResponseTrailers(envoy::TrailersResponse::default()),
        ),
        (
            wire::Outgoing::ImmediateResponse(wire::ImmediateResponse {
                status: Some(wire::HttpStatus { code: 503 }),
                headers: Some(mutation.clone()),
                body: Bytes::from_static(b"why"),
            }),
            Response::ImmediateResponse(envoy::ImmediateResponse {
                status: Some(HttpStatus { code: 503 }),
                headers: Some(expected_mutation.clone()),
                body: b"why".to_vec(),
                ..Default::default()
            }),
        ),
    ];
    for (ours, theirs) in cases {
        let sent = wire::ProcessingResponse {
            response: Some(ours),
            dynamic_metadata: None,
            mode_override: Some(wire::ProcessingMode {
                request_body_mode: wire::BodySendMode::Buffered.into(),
                response_body_mode: wire::BodySendMode::Streamed.into(),
                request_trailer_mode: wire::HeaderSendMode::Skip.into(),
                response_trailer_mode: wire::HeaderSendMode::Send.into(),
            }),
        };
        let read = envoy::ProcessingResponse::decode(&*sent.encode_to_vec()).unwrap();
        assert_eq!(read.response, Some(theirs));
        let mode = ProcessingMode {
            request_body_mode: BodySendMode::Buffered.into(),
            response_body_mode: BodySendMode::Streamed.into(),
            request_trailer_mode: HeaderSendMode::Skip.into(),
            response_trailer_mode: HeaderSendMode::Send.into(),
            ..Default::default()
        };
        assert_eq!(read.mode_override, Some(mode));
    }
}
