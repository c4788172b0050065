//! Pages that workers are asked for beside their metrics: who asks, and who reads the answers.

use std::time::Duration;

use super::Parameter;
use super::http_source::HttpSource;
use crate::scrape_config::{PageContent, PageScrape, ScrapeConfig};

/// Between two scrapes of one worker's page, where the configuration does not say.
///
/// The reference (llm-d-router main at ebab6879) asks at every tick of its metrics, 50 ms; what
/// these pages tell changes by the second at most.
const INTERVAL: Duration = Duration::from_secs(1);

/// The same as a parameter.
pub(super) const INTERVAL_PARAMETER: Parameter =
    Parameter::duration("interval", "time between two scrapes, 50ms at least").default("1s");

/// What a page holds, which has to be what its reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// Metrics in Prometheus's text format.
    Metrics,
    /// The answer to `/v1/models`.
    Models,
}

/// A data source that asks for pages other than the metrics of engines.
#[derive(Debug)]
pub struct PageSource {
    pub kind: PageKind,
    pub(super) source: HttpSource,
    pub(super) path: &'static str,
    /// `None`: the port that serves requests.
    pub(super) port: Option<u16>,
    pub(super) at_node: bool,
}

/// An extractor that reads such pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageExtractor(pub PageContent);

impl PageExtractor {
    /// The pages that it reads.
    pub fn kind(self) -> PageKind {
        match self.0 {
            PageContent::GpuUtilization(_) => PageKind::Metrics,
            PageContent::Models(_) => PageKind::Models,
        }
    }

    /// A page that is asked for as `scrape` says and read by this.
    pub fn of(self, types: [&'static str; 2], scrape: ScrapeConfig, at_node: bool) -> PageScrape {
        let [source, extractor] = types;
        PageScrape { source, extractor, scrape, at_node, content: self.0 }
    }
}

impl PageSource {
    /// How the page is asked for.
    pub fn scrape(&self) -> ScrapeConfig {
        self.source.over(ScrapeConfig {
            path: self.path.to_owned(),
            port: self.port,
            interval: Some(INTERVAL),
            ..ScrapeConfig::default()
        })
    }

    /// The node is asked, and not the worker.
    pub fn is_at_node(&self) -> bool {
        self.at_node
    }
}
