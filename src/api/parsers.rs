//! Which parser reads a request, by its path.

use bytes::Bytes;

use super::body::{Wanted, parse};
use super::chat::Chat;
use super::estimate::{EstimateRules, VideoHints};
use super::generate::{SglangGenerate, VllmGenerate};
use super::messages::Messages;
use super::openai::{Completions, Conversations, Embeddings, Images, Responses};
use super::request::{Api, ParsedRequest};
use super::vertex_method::VertexMethod;
use super::{surrogates, vertex, vllm_grpc};
use crate::error::{Code, RequestError};

/// The part of a path that an error repeats, bytes.
const MAX_PATH_IN_ERROR: usize = 256;
/// Larger bodies are refused: a prompt's places are 32-bit, and escaping makes some text longer.
const MAX_BODY: usize = 512 << 20;

/// A parser that a configuration can list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParserKind {
    OpenAi,
    Anthropic,
    VllmHttp,
    SglangHttp,
    VllmGrpc,
    VertexAi,
    Passthrough,
}

impl ParserKind {
    /// The path suffixes it reads; none: whatever no other parser reads.
    const fn claims(self) -> &'static [&'static str] {
        match self {
            ParserKind::OpenAi => &[
                "chat/completions",
                "completions",
                "embeddings",
                "responses",
                "conversations",
                "chat/completions/render",
                "completions/render",
                "images/generations",
            ],
            ParserKind::Anthropic => &["messages", "messages/count_tokens"],
            ParserKind::VllmHttp => &["inference/v1/generate"],
            ParserKind::SglangHttp => &["generate"],
            ParserKind::VllmGrpc => {
                &["vllm.grpc.engine.VllmEngine/Generate", "vllm.grpc.engine.VllmEngine/Embed"]
            }
            ParserKind::VertexAi => &[
                "PredictionService/ChatCompletions",
                "PredictionService/StreamRawPredict",
                "PredictionService/RawPredict",
            ],
            ParserKind::Passthrough => &[],
        }
    }

    /// True where `path` is a method that is called over gRPC.
    pub(super) fn is_grpc_method(path: &str) -> bool {
        let methods = [ParserKind::VllmGrpc, ParserKind::VertexAi];
        methods.iter().flat_map(|kind| kind.claims()).any(|claim| path.ends_with(claim))
    }
}

/// The parsers of a configuration, in order.
#[derive(Clone, Debug)]
pub struct Parsers {
    claiming: Vec<ParserKind>,
    has_fallback: bool,
    rules: EstimateRules,
}

impl Parsers {
    /// The fall-back ends the list: parsers after it are left out, as in the reference.
    pub fn new(kinds: Vec<ParserKind>) -> Self {
        let claiming: Vec<_> =
            kinds.iter().copied().take_while(|k| !k.claims().is_empty()).collect();
        let has_fallback = claiming.len() < kinds.len();
        Self { claiming, has_fallback, rules: EstimateRules::default() }
    }

    /// Counts media items by `rules`, not by the reference's defaults.
    pub fn with_estimate(self, rules: EstimateRules) -> Self {
        Self { rules, ..self }
    }

    /// Reads a request. `path` is its `:path`, whose query does not count. Without `want_prompt`
    /// the prompt stays empty. `video` is what the request's headers say of its videos.
    ///
    /// # Errors
    ///
    /// `BadRequest` with the reference's text where no parser takes the path or the body is not
    /// what the API requires; `PayloadTooLarge` beyond 512 MiB.
    pub fn parse(
        &self,
        path: &str,
        body: Bytes,
        want_prompt: bool,
        video: &VideoHints,
    ) -> Result<ParsedRequest, RequestError> {
        let api = self.api(path.split('?').next().unwrap_or_default())?;
        if body.len() > MAX_BODY {
            return Err(RequestError::new(Code::PayloadTooLarge, "request body is too large"));
        }
        let wanted = Wanted { prompt: want_prompt, rules: &self.rules, video };
        read(api, &body, wanted).or_else(|error| match surrogates::replace_lone(&body) {
            // Read again as Go reads it; places in the copy are places in the body.
            Some(patched) => read(api, &patched.into(), wanted),
            None => Err(error),
        })
    }

    /// The parser with the longest claim that `path` ends with says what the request is; of equal
    /// claims the first. A claim may begin inside a path segment, and one slash may follow it,
    /// which not every parser takes.
    fn api(&self, path: &str) -> Result<Api, RequestError> {
        let trimmed = path.trim();
        let end = trimmed.strip_suffix('/').unwrap_or(trimmed);
        let claimed = self
            .claiming
            .iter()
            .flat_map(|kind| kind.claims().iter().map(move |claim| (*kind, *claim)))
            .filter(|(_, claim)| end.ends_with(claim))
            .rev()
            .max_by_key(|(_, claim)| claim.len());
        match claimed {
            Some((ParserKind::OpenAi, _)) => Ok(openai_api(end)),
            Some((ParserKind::Anthropic, _)) if trimmed.ends_with("/messages") => Ok(Api::Messages),
            Some((ParserKind::Anthropic, _)) if trimmed.ends_with("/messages/count_tokens") => {
                Ok(Api::CountTokens)
            }
            Some((ParserKind::Anthropic, _)) => Err(refused("unsupported API endpoint", path)),
            Some((ParserKind::VllmHttp, claim)) if trimmed.ends_with(claim) => {
                Ok(Api::VllmGenerate)
            }
            Some((ParserKind::VllmHttp, _)) => Err(refused("unsupported path", path)),
            Some((ParserKind::SglangHttp, _)) if matches!(end, "/generate" | "generate") => {
                Ok(Api::SglangGenerate)
            }
            Some((ParserKind::SglangHttp, _)) => Err(refused("unsupported path", path)),
            Some((ParserKind::VllmGrpc, _)) => Ok(match trimmed {
                "/vllm.grpc.engine.VllmEngine/Generate" => Api::VllmGrpcGenerate,
                "/vllm.grpc.engine.VllmEngine/Embed" => Api::VllmGrpcEmbed,
                // With something before it, as in the reference.
                _ => Api::Unread,
            }),
            Some((ParserKind::VertexAi, claim)) => Ok(match claim {
                // One slash after it is another method.
                _ if !trimmed.ends_with(claim) => Api::Unread,
                "PredictionService/ChatCompletions" => Api::Vertex(VertexMethod::ChatCompletions),
                "PredictionService/RawPredict" => Api::Vertex(VertexMethod::RawPredict),
                _ => Api::Vertex(VertexMethod::StreamRawPredict),
            }),
            Some((ParserKind::Passthrough, _)) => Ok(Api::Passthrough),
            None if self.has_fallback => Ok(Api::Passthrough),
            None => Err(refused("no parser registered matching path suffix for", path)),
        }
    }
}

/// The OpenAI API of a path, by its end; anything else is taken for completions.
fn openai_api(path: &str) -> Api {
    let suffixes = [
        ("conversations", Api::Conversations),
        ("responses", Api::Responses),
        ("chat/completions", Api::Chat),
        ("chat/completions/render", Api::Chat),
        ("embeddings", Api::Embeddings),
        ("images/generations", Api::Images),
    ];
    let found = suffixes.into_iter().find(|(suffix, _)| path.ends_with(suffix));
    found.map_or(Api::Completions, |(_, api)| api)
}

/// A path is the one thing of a request that an error repeats: cut, and on one line.
fn refused(text: &str, path: &str) -> RequestError {
    let mut message = format!("{text}: ");
    let end = message.len() + MAX_PATH_IN_ERROR;
    for c in path.chars().map(|c| if c.is_control() { '?' } else { c }) {
        if message.len() + c.len_utf8() > end {
            break;
        }
        message.push(c);
    }
    RequestError::bad_request(message)
}

fn read(api: Api, body: &Bytes, wanted: Wanted<'_>) -> Result<ParsedRequest, RequestError> {
    match api {
        Api::Completions => parse::<Completions<'_>>(api, body, wanted),
        Api::Chat => parse::<Chat<'_>>(api, body, wanted),
        Api::Responses => parse::<Responses<'_>>(api, body, wanted),
        Api::Conversations => parse::<Conversations<'_>>(api, body, wanted),
        Api::Embeddings => parse::<Embeddings<'_>>(api, body, wanted),
        Api::Images => parse::<Images<'_>>(api, body, wanted),
        Api::Messages => parse::<Messages<'_>>(api, body, wanted),
        Api::VllmGenerate => parse::<VllmGenerate<'_>>(api, body, wanted),
        Api::SglangGenerate => parse::<SglangGenerate<'_>>(api, body, wanted),
        Api::VllmGrpcGenerate => vllm_grpc::generate(body, wanted),
        Api::VllmGrpcEmbed => vllm_grpc::embed(body, wanted),
        Api::Vertex(method) => vertex::read(method, body, wanted),
        Api::CountTokens | Api::Unread => {
            Ok(ParsedRequest { api, skip_response: true, ..ParsedRequest::unseen() })
        }
        Api::Passthrough => Ok(ParsedRequest::unseen()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ParserKind; 7] = [
        ParserKind::OpenAi,
        ParserKind::Anthropic,
        ParserKind::VllmHttp,
        ParserKind::SglangHttp,
        ParserKind::VllmGrpc,
        ParserKind::VertexAi,
        ParserKind::Passthrough,
    ];

    #[test]
    fn the_path_says_what_a_request_is() {
        let parsers = Parsers::new(ALL.to_vec());
        for (path, expected) in [
            ("/v1/chat/completions", Ok(Api::Chat)),
            ("/v1/chat/completions/", Ok(Api::Chat)),
            (" /v1/chat/completions ", Ok(Api::Chat)),
            ("/v1/chat/completions/render", Ok(Api::Chat)),
            ("/v1/projects/p/endpoints/e/chat/completions", Ok(Api::Chat)),
            ("/v1/completions", Ok(Api::Completions)),
            ("/v1/completions/render", Ok(Api::Completions)),
            // A claim may begin inside a segment, or be all there is.
            ("/xcompletions", Ok(Api::Completions)),
            ("/xembeddings", Ok(Api::Embeddings)),
            ("/xchat/completions", Ok(Api::Chat)),
            ("chat/completions", Ok(Api::Chat)),
            ("/v1/embeddings", Ok(Api::Embeddings)),
            ("/v1/responses", Ok(Api::Responses)),
            ("/v1/conversations", Ok(Api::Conversations)),
            ("/v1/images/generations", Ok(Api::Images)),
            ("/v1/messages", Ok(Api::Messages)),
            ("/v1/messages/count_tokens", Ok(Api::CountTokens)),
            ("/xmessages", Err("unsupported API endpoint: /xmessages")),
            ("/v1/messages/", Err("unsupported API endpoint: /v1/messages/")),
            ("/inference/v1/generate", Ok(Api::VllmGenerate)),
            ("/xinference/v1/generate", Ok(Api::VllmGenerate)),
            ("/inference/v1/generate/", Err("unsupported path: /inference/v1/generate/")),
            ("/generate", Ok(Api::SglangGenerate)),
            ("/regenerate", Err("unsupported path: /regenerate")),
            ("/prefix/generate", Err("unsupported path: /prefix/generate")),
            ("/vllm.grpc.engine.VllmEngine/Generate", Ok(Api::VllmGrpcGenerate)),
            ("/vllm.grpc.engine.VllmEngine/Embed", Ok(Api::VllmGrpcEmbed)),
            ("/x/vllm.grpc.engine.VllmEngine/Embed", Ok(Api::Unread)),
            ("/vllm.grpc.engine.VllmEngine/Embed/", Ok(Api::Unread)),
            ("/vllm.grpc.engine.VllmEngine/Abort", Ok(Api::Passthrough)),
            (
                "/google.cloud.aiplatform.v1beta1.PredictionService/ChatCompletions",
                Ok(Api::Vertex(VertexMethod::ChatCompletions)),
            ),
            ("/PredictionService/RawPredict", Ok(Api::Vertex(VertexMethod::RawPredict))),
            (
                "/PredictionService/StreamRawPredict",
                Ok(Api::Vertex(VertexMethod::StreamRawPredict)),
            ),
            ("/PredictionService/StreamRawPredict/", Ok(Api::Unread)),
            ("/PredictionService/Predict", Ok(Api::Passthrough)),
            ("/v1/models", Ok(Api::Passthrough)),
            ("/v1/CHAT/completions/x", Ok(Api::Passthrough)),
            ("/", Ok(Api::Passthrough)),
            ("", Ok(Api::Passthrough)),
        ] {
            let api = parsers.api(path).map_err(|e| e.message.into_owned());
            assert_eq!(api, expected.map_err(str::to_owned), "{path}");
        }
    }

    #[test]
    fn the_path_is_cleaned_before_it_is_matched() {
        let parsers = Parsers::new(vec![ParserKind::OpenAi]);
        let body = Bytes::from_static(br#"{"model":"m","prompt":"p"}"#);
        for path in ["/v1/completions?a=/x", " /v1/completions/ "] {
            let parsed =
                parsers.parse(path, body.clone(), true, &VideoHints::default()).expect(path);
            assert_eq!(parsed.api, Api::Completions, "{path}");
        }
    }

    #[test]
    fn the_order_of_parsers_matters_where_a_fallback_ends_it() {
        let api = |kinds: &[ParserKind], path| {
            Parsers::new(kinds.to_vec()).api(path).map_err(|e| e.message.into_owned())
        };
        let chat = "/v1/chat/completions";
        use ParserKind::{OpenAi, Passthrough, SglangHttp};
        assert_eq!(api(&[OpenAi, Passthrough], chat), Ok(Api::Chat));
        assert_eq!(api(&[Passthrough, OpenAi], chat), Ok(Api::Passthrough));
        assert_eq!(api(&[OpenAi, Passthrough], "/x"), Ok(Api::Passthrough));
        let none = "no parser registered matching path suffix for: ";
        for path in ["/x", "/x/", "/", " "] {
            assert_eq!(api(&[OpenAi], path), Err(format!("{none}{path}")));
        }
        assert_eq!(api(&[], chat), Err(format!("{none}{chat}")));
        assert_eq!(api(&[SglangHttp], chat), Err(format!("{none}{chat}")));
    }

    #[test]
    fn an_error_repeats_a_path_cut_and_on_one_line() {
        let path = format!("/a\nb\u{7f}{}", "ü".repeat(500));
        let error = Parsers::new(Vec::new())
            .parse(&path, Bytes::new(), true, &VideoHints::default())
            .unwrap_err();
        let text = error.message.strip_prefix("no parser registered matching path suffix for: ");
        let text = text.expect("the reference's text");
        assert!(text.starts_with("/a?b?ü") && text.len() <= 256, "{text}");
        assert!(text.chars().all(|c| !c.is_control()));
    }

    #[test]
    fn raw_requests_need_no_json() {
        let parsers = Parsers::new(ALL.to_vec());
        for (path, body, skips) in [
            ("/v1/messages/count_tokens", "", true),
            ("/v1/messages/count_tokens", "not JSON", true),
            ("/anything", "not JSON", false),
            ("/anything", r#"{"model":"m"}"#, false),
        ] {
            let body = Bytes::from_static(body.as_bytes());
            let parsed =
                parsers.parse(path, body.clone(), true, &VideoHints::default()).expect(path);
            assert_eq!(parsed.skip_response, skips);
            assert!(!parsed.model_required && parsed.model.is_none() && parsed.prompt.is_empty());
            assert_eq!(parsed.with_model(&body, "other", 0), Ok(body));
        }
    }
}
