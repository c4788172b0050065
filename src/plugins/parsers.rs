//! The request parsers as plugin types. What they do is the business of the API room; here each
//! is a name that a configuration can list.

use super::{Build, Roles};

/// The request formats that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParserKind {
    OpenAi,
    Anthropic,
    VllmHttp,
    SglangHttp,
    Passthrough,
}

pub(super) fn openai(b: Build<'_, '_>) -> Roles {
    parser(b, ParserKind::OpenAi)
}

pub(super) fn anthropic(b: Build<'_, '_>) -> Roles {
    parser(b, ParserKind::Anthropic)
}

pub(super) fn vllm_http(b: Build<'_, '_>) -> Roles {
    parser(b, ParserKind::VllmHttp)
}

pub(super) fn sglang_http(b: Build<'_, '_>) -> Roles {
    parser(b, ParserKind::SglangHttp)
}

pub(super) fn passthrough(b: Build<'_, '_>) -> Roles {
    parser(b, ParserKind::Passthrough)
}

/// Parsers take no parameters; the reference ignores what it is given.
fn parser(build: Build<'_, '_>, kind: ParserKind) -> Roles {
    if !build.parameters.is_absent() {
        build.parameters.diagnostics().warning(
            build.parameters.at(),
            build.parameters.path(),
            "a parser takes no parameters; these have no effect",
        );
    }
    build.parameters.ignore_rest();
    Roles { parser: Some(kind), ..Roles::default() }
}
