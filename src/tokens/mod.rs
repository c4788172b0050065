//! Prompts as the engine's token ids.
//!
//! What engines say they hold is named by token ids, so a prompt has to be turned into the very
//! ids the engine will make of it. [`TokenSource`] knows who is asked for them and with what;
//! asking is somebody else's ([`RenderPrompts`]).

mod prompt;
mod render;
mod source;
mod tokenized;

pub use prompt::{MediaSpan, PromptTokens};
pub use render::{Render, RenderError, RenderPrompts, check_base};
pub use source::{Patience, Renderer, TokenSource};
pub use tokenized::TokenizedPrompt;
