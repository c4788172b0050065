//! `token-producer`: names the tokenizer back-end. There is one here, the estimate of four bytes
//! of text per token, and the request parsers apply it while they read a body; so this type
//! reads its parameters and does nothing.

use super::{Build, Capabilities, PluginType, parameters};

/// The alias is the type's name up to llm-d-router v0.8.
pub(super) const TYPE: PluginType =
    PluginType { name: "token-producer", aliases: &["tokenizer"], build };

fn build(build: Build<'_, '_>) -> Capabilities {
    let mut p = build.parameters;
    for backend in ["vllm", "udsTokenizerConfig"] {
        if p.node(backend).is_some() {
            p.error(
                backend,
                "this tokenizer back-end does not exist in this version; leave it out for the \
                 estimate of four bytes of text per token",
            );
        }
    }
    parameters::without_effect(&mut p, "modelName", "the estimate needs no model");
    let mut estimate = p.nested("estimate");
    for media in ["image", "video"] {
        let why = "media items are estimated with the reference's default sizes";
        parameters::without_effect(&mut estimate, media, why);
    }
    estimate.finish();
    p.finish();
    Capabilities::default()
}
