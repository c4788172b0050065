//! Why discovery could not start.

/// Why discovery could not start. What goes wrong later is logged and tried again.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    #[error("endpoint selector '{selector}': {message}")]
    Selector { selector: String, message: String },
}
