//! Reading the `EndpointPickerConfig` that the flags name.

use super::refused;
use crate::cli::{ConfigSource, Exit, MAX_CONFIG_BYTES, Options};
use crate::endpoints::PoolIds;
use crate::files;
use crate::inspect::ConfigView;
use crate::loader::{self, Pipeline};

/// Loads the configuration; warnings are logged.
///
/// # Errors
/// Every mistake with its place, exit status 2.
pub(super) fn load(options: &Options, ids: &PoolIds) -> Result<(Pipeline, ConfigView), Exit> {
    let (name, text) = match &options.config {
        ConfigSource::BuiltIn => ("built-in configuration".to_owned(), None),
        ConfigSource::Text(text) => ("--config-text".to_owned(), Some(text.clone())),
        ConfigSource::File(file) => {
            let name = file.display().to_string();
            let text = files::read_text(file, MAX_CONFIG_BYTES)
                .map_err(|e| refused(2, format_args!("{name}: {e}: --config-file")))?;
            (name, Some(text))
        }
    };
    let (pipeline, diagnostics) = loader::load(&name, text.as_deref(), &options.load, ids);
    let Some(pipeline) = pipeline else {
        return Err(Exit { text: diagnostics.to_string(), code: 2 });
    };
    for line in diagnostics.to_string().lines() {
        tracing::warn!("{line}");
    }
    tracing::info!(file = name, summary = pipeline.summary, "Configuration loaded");
    let effective = pipeline.effective.to_yaml().map_err(|e| refused(1, e))?;
    let view = ConfigView::new(&name, text.as_deref(), &effective);
    Ok((pipeline, view))
}
