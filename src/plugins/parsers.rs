//! The request parsers as plugin types, without parameters. What they do is the business of the
//! API room; here each is a name that a configuration can list.

use std::sync::Arc;

use super::{Build, Capabilities, PluginType, parameters};
use crate::api::ParserKind;

pub(super) const OPENAI: PluginType =
    PluginType { name: "openai-parser", aliases: &[], build: |b| parser(b, ParserKind::OpenAi) };

pub(super) const ANTHROPIC: PluginType = PluginType {
    name: "anthropic-parser",
    aliases: &[],
    build: |b| parser(b, ParserKind::Anthropic),
};

pub(super) const VLLM_HTTP: PluginType = PluginType {
    name: "vllmhttp-parser",
    aliases: &[],
    build: |b| parser(b, ParserKind::VllmHttp),
};

pub(super) const SGLANG_HTTP: PluginType = PluginType {
    name: "sglanghttp-parser",
    aliases: &[],
    build: |b| parser(b, ParserKind::SglangHttp),
};

pub(super) const VLLM_GRPC: PluginType = PluginType {
    name: "vllmgrpc-parser",
    aliases: &[],
    build: |b| parser(b, ParserKind::VllmGrpc),
};

pub(super) const VERTEX_AI: PluginType = PluginType {
    name: "vertexai-parser",
    aliases: &[],
    build: |b| parser(b, ParserKind::VertexAi),
};

pub(super) const PASSTHROUGH: PluginType = PluginType {
    name: "passthrough-parser",
    aliases: &[],
    build: |b| parser(b, ParserKind::Passthrough),
};

fn parser(build: Build<'_, '_>, kind: ParserKind) -> Capabilities {
    parameters::none(build.parameters);
    Capabilities::default().with(Arc::new(kind))
}
