//! Any bytes as a response: what is reported and what is counted does not depend on where it is
//! cut, and neither does a renamed model.
#![no_main]

use bytes::Bytes;
use epp::api::{Api, ModelRenamer, ResponseReader, VertexMethod};
use libfuzzer_sys::fuzz_target;

const APIS: [Api; 9] = [
    Api::Chat,
    Api::Responses,
    Api::Messages,
    Api::VllmGenerate,
    Api::SglangGenerate,
    Api::VllmGrpcGenerate,
    Api::VllmGrpcEmbed,
    Api::Vertex(VertexMethod::ChatCompletions),
    Api::Passthrough,
];

fuzz_target!(|input: (u8, bool, Vec<u8>, &[u8])| {
    let (which, sse, cuts, body) = input;
    let api = APIS[usize::from(which) % APIS.len()];
    // Each number is the length of a piece; the rest is the last one.
    let mut pieces = Vec::new();
    let mut rest = body;
    for cut in cuts {
        let (piece, after) = rest.split_at(usize::from(cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);

    let read = |pieces: &[&[u8]]| {
        let mut reader = ResponseReader::new(api, sse).counting();
        pieces.iter().for_each(|piece| reader.chunk(piece));
        reader.finish();
        (reader.usage(), reader.counted())
    };
    assert_eq!(read(&pieces), read(&[body]));

    let rename = |pieces: &[&[u8]]| {
        let mut renamer = ModelRenamer::new("m", "n\"");
        let mut out = Vec::new();
        for (i, piece) in pieces.iter().enumerate() {
            let end = i + 1 == pieces.len();
            out.extend_from_slice(&renamer.rename(Bytes::copy_from_slice(piece), end));
        }
        out
    };
    // Which form is replaced is decided piece by piece, so only one form may stand in the stream.
    if !body.windows(9).any(|window| window == b"\"model\": ") {
        assert_eq!(rename(&pieces), rename(&[body]));
    }
});
