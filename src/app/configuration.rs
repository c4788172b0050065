//! Reading the `EndpointPickerConfig` that the flags name.

use xxhash_rust::xxh64::xxh64;

use super::refused;
use crate::cli::{ConfigSource, Exit, MAX_CONFIG_BYTES};
use crate::files;
use crate::inspect::{ConfigView, DebugStates, ShownConfig};
use crate::loader::Pipeline;

/// A document as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// What messages call it: its file, or the flag.
    pub name: String,
    /// `None`: the built-in configuration.
    pub text: Option<String>,
}

/// Reads the document.
///
/// # Errors
/// A file that cannot be read, exit status 2.
pub(super) fn read(source: &ConfigSource) -> Result<Read, Exit> {
    Ok(match source {
        ConfigSource::BuiltIn => Read { name: "built-in configuration".to_owned(), text: None },
        ConfigSource::Text(text) => {
            Read { name: "--config-text".to_owned(), text: Some(text.clone()) }
        }
        ConfigSource::File(file) => {
            let name = file.display().to_string();
            let text = files::read_text(file, MAX_CONFIG_BYTES)
                .map_err(|e| refused(2, format_args!("{name}: {e}: --config-file")))?;
            Read { name, text: Some(text) }
        }
    })
}

impl Read {
    /// What people are shown of it when it is in force.
    ///
    /// # Errors
    /// The document cannot be written, which is a mistake of ours.
    pub(super) fn shown(&self, pipeline: &Pipeline) -> Result<ShownConfig, Exit> {
        let effective = pipeline.effective.to_yaml().map_err(|e| refused(1, e))?;
        let given = self.text.as_deref();
        Ok(ShownConfig {
            view: ConfigView::new(&self.name, given, &effective),
            hash: format!("{:016x}", xxh64(given.unwrap_or(&effective).as_bytes(), 0)),
            plugins: DebugStates::clone(&pipeline.hooks.debug_states),
            plugin_types: pipeline.hooks.plugin_types.clone(),
            needs_restart: Vec::new(),
        })
    }
}
