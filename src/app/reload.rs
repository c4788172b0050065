//! Putting a changed configuration to work while requests are served.
//!
//! A configuration is one thing from end to end: exchanges take the one in force at their start
//! and keep it, so that whoever saw a request leave sees its answer. What replaces it is made and
//! started beside it, and refused without a trace if there is anything wrong with it. Plugins that
//! both have in common, made in the same way, are the very same ones: nothing that they know is
//! lost.

use std::sync::Arc;

use parking_lot::Mutex;

use super::at_work::{AtWork, Fixed, begin};
use super::configuration::{Read, read};
use crate::cli::{ConfigSource, Exit};
use crate::exchange::CurrentContext;
use crate::loader::{self, LoadOptions};

/// Why the configuration is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody asked for it: they are answered, whatever comes of it.
    Asked,
    /// The file may have changed.
    Noticed,
}

/// Replaces the configuration in force.
pub(super) struct Reloader {
    source: ConfigSource,
    load: LoadOptions,
    fixed: Fixed,
    contexts: Arc<CurrentContext>,
    /// One at a time.
    now: Mutex<Now>,
}

struct Now {
    at_work: AtWork,
    in_force: Read,
    /// What was refused last, for as long as the file is like that.
    refused: Option<Attempt>,
}

/// What was found in the file, or why nothing was.
type Attempt = Result<Read, String>;

impl Reloader {
    pub(super) fn new(
        (source, load): (ConfigSource, LoadOptions),
        fixed: Fixed,
        contexts: Arc<CurrentContext>,
        (at_work, in_force): (AtWork, Read),
    ) -> Self {
        let now = Mutex::new(Now { at_work, in_force, refused: None });
        Self { source, load, fixed, contexts, now }
    }

    pub(super) fn fixed(&self) -> &Fixed {
        &self.fixed
    }

    pub(super) fn contexts(&self) -> &Arc<CurrentContext> {
        &self.contexts
    }

    /// Stops the plugins: the pool ends.
    pub(super) fn stop(&self) {
        self.now.lock().at_work.stop();
    }

    /// Looks at the configuration, and puts it to work if it is another one and is right. What
    /// comes of it is in the log, in the metrics and on the page.
    ///
    /// To be called where tasks can be started, and where it does no harm to wait for a file.
    pub(super) fn look(&self, why: Why) {
        let mut now = self.now.lock();
        let attempt = read(&self.source).map_err(|exit| exit.text);
        if attempt.as_ref() == Ok(&now.in_force) {
            if now.refused.take().is_some() {
                self.fixed.config.taken_back();
                tracing::info!(
                    file = now.in_force.name,
                    "The configuration is again the one in force"
                );
            } else if why == Why::Asked {
                tracing::info!(file = now.in_force.name, "The configuration has not changed");
            }
            return;
        }
        // A file that stays wrong is reported once.
        if why == Why::Noticed && now.refused.as_ref() == Some(&attempt) {
            return;
        }
        let replaced = match &attempt {
            Ok(found) => self.replace(found, &mut now),
            Err(mistake) => Err(mistake.clone()),
        };
        if let Err(mistakes) = replaced {
            self.fixed.config.refused(&mistakes);
            tracing::error!(
                file = now.in_force.name,
                mistakes = mistakes.trim_end(),
                "The configuration is refused: the one before stays in force"
            );
            now.refused = Some(attempt);
        }
    }

    /// Puts a document to work.
    ///
    /// # Errors
    /// What is wrong with it; the one in force goes on then.
    fn replace(&self, found: &Read, now: &mut Now) -> Result<(), String> {
        let fixed = &self.fixed;
        let (ids, in_force) = (fixed.pool.ids(), Some(now.at_work.in_force()));
        let text = found.text.as_deref();
        let (loaded, diagnostics) = loader::load_over(&found.name, text, &self.load, ids, in_force);
        let Some((pipeline, changes)) = loaded else { return Err(diagnostics.to_string()) };
        let needs_restart = now.at_work.needs_restart(&pipeline, fixed);
        let (summary, residents) = (pipeline.summary.clone(), pipeline.residents.clone());
        let shown = found.shown(&pipeline);
        let begun = shown.and_then(|mut shown| {
            shown.needs_restart.clone_from(&needs_restart);
            Ok((shown, begin(fixed, pipeline, Some(&mut now.at_work))?))
        });
        let (shown, begun) = begun.map_err(|Exit { text, .. }| {
            residents.give_back(ids);
            text
        })?;
        self.contexts.set(begun.context);
        now.at_work = begun.at_work;
        now.in_force = found.clone();
        now.refused = None;
        fixed.config.applied(shown);
        for line in diagnostics.to_string().lines() {
            tracing::warn!("{line}");
        }
        if needs_restart.is_empty() {
            tracing::info!(file = found.name, changes = %changes, summary, "Configuration reloaded");
        } else {
            let needs_restart = needs_restart.join(", ");
            tracing::warn!(
                file = found.name,
                changes = %changes,
                needs_restart,
                summary,
                "Configuration reloaded, but for what takes a restart"
            );
        }
        Ok(())
    }
}
