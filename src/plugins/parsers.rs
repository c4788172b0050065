//! The request parsers as plugin types, without parameters. What they do is the business of the
//! API room; here each is a name that a configuration can list.

use std::sync::Arc;

use super::{About, Build, Capabilities, Parameters, Part, PluginType, Stability, parameters};
use crate::api::ParserKind;

pub(super) const OPENAI: PluginType = PluginType {
    name: "openai-parser",
    aliases: &[],
    about: parser_about(
        "GIE v1.5, llm-d v0.8",
        "reads the OpenAI API: chat, completions, embeddings, responses, conversations, images",
    ),
    build: |b| parser(b, ParserKind::OpenAi),
};

pub(super) const ANTHROPIC: PluginType = PluginType {
    name: "anthropic-parser",
    aliases: &[],
    about: parser_about("llm-d v0.9", "reads the Anthropic API: messages"),
    build: |b| parser(b, ParserKind::Anthropic),
};

pub(super) const VLLM_HTTP: PluginType = PluginType {
    name: "vllmhttp-parser",
    aliases: &[],
    about: parser_about("llm-d v0.9", "reads vLLM's inference/v1/generate, with token ids"),
    build: |b| parser(b, ParserKind::VllmHttp),
};

pub(super) const SGLANG_HTTP: PluginType = PluginType {
    name: "sglanghttp-parser",
    aliases: &[],
    about: parser_about("llm-d v0.11", "reads SGLang's generate, with token ids; names no model"),
    build: |b| parser(b, ParserKind::SglangHttp),
};

pub(super) const VLLM_GRPC: PluginType = PluginType {
    name: "vllmgrpc-parser",
    aliases: &[],
    about: parser_about(
        "llm-d v0.8",
        "reads vLLM's gRPC messages, Generate and Embed; names no model",
    ),
    build: |b| parser(b, ParserKind::VllmGrpc),
};

pub(super) const VERTEX_AI: PluginType = PluginType {
    name: "vertexai-parser",
    aliases: &[],
    about: parser_about(
        "llm-d v0.9",
        "reads Vertex AI's gRPC messages around the JSON of a chat or of responses; its model is never rewritten",
    ),
    build: |b| parser(b, ParserKind::VertexAi),
};

pub(super) const PASSTHROUGH: PluginType = PluginType {
    name: "passthrough-parser",
    aliases: &[],
    about: parser_about(
        "GIE v1.5, llm-d v0.8",
        "takes every path that no parser before it reads, and reads nothing",
    ),
    build: |b| parser(b, ParserKind::Passthrough),
};

const fn parser_about(since: &'static str, summary: &'static str) -> About {
    About {
        parts: &[Part::Parser],
        stability: Stability::Beta,
        since,
        summary,
        formula: "",
        parameters: Parameters::Ignored,
    }
}

fn parser(build: Build<'_, '_>, kind: ParserKind) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default().with(Arc::new(kind))
}
