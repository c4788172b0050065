//! Results for people and programs: tables on the terminal, JSON, one HTML page with plots.

mod html;
mod number;
mod plot;

use std::path::Path;

use serde::Serialize;

use super::args::OutputArgs;
use super::process;

pub use number::{bytes, count, factor, median, micros, millis, optional, percent};
pub use plot::{Plot, Scale, Series};

/// What a command found.
#[derive(Debug)]
pub struct Report {
    pub title: String,
    /// What it comes to, in one sentence.
    pub verdict: String,
    /// Under what conditions, as name and value.
    pub facts: Vec<(String, String)>,
    pub tables: Vec<Table>,
    pub plots: Vec<Plot>,
    /// All figures, for `--json`.
    pub data: serde_json::Value,
}

/// A table; the first column names the row.
#[derive(Clone, Debug)]
pub struct Table {
    pub title: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        Self {
            title: title.into(),
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            rows: Vec::new(),
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    title: &'a str,
    verdict: &'a str,
    facts: serde_json::Map<String, serde_json::Value>,
    results: &'a serde_json::Value,
}

impl Report {
    /// A report that begins with what every measurement depends on: the program, the machine, the
    /// time and the command line.
    pub fn new(title: impl Into<String>, verdict: String, data: serde_json::Value) -> Self {
        let commit = option_env!("EPP_COMMIT").filter(|commit| !commit.is_empty());
        let facts = vec![
            ("version".to_owned(), concat!("epp ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("commit".to_owned(), commit.unwrap_or("not told by this build").to_owned()),
            ("date".to_owned(), jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()),
            ("cores".to_owned(), process::cores().to_string()),
            ("processor".to_owned(), process::cpu_model().unwrap_or_else(|| "unknown".into())),
            ("command".to_owned(), std::env::args().collect::<Vec<_>>().join(" ")),
        ];
        let (tables, plots) = (Vec::new(), Vec::new());
        Self { title: title.into(), verdict, facts, tables, plots, data }
    }

    /// Prints the tables and writes the files asked for.
    ///
    /// # Errors
    /// Where a file cannot be written, with a text for the user.
    pub fn emit(&self, output: &OutputArgs) -> Result<(), String> {
        println!("\n{}", self.verdict);
        for table in &self.tables {
            println!("\n{}\n{}", table.title, terminal(table));
        }
        if let Some(path) = &output.json {
            let document = Document {
                title: &self.title,
                verdict: &self.verdict,
                facts: self.facts.iter().map(|(k, v)| (k.clone(), v.as_str().into())).collect(),
                results: &self.data,
            };
            let json = serde_json::to_string_pretty(&document).map_err(|e| e.to_string())?;
            write(path, &json)?;
        }
        if let Some(path) = &output.html {
            write(path, &html::page(self)?)?;
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

fn terminal(table: &Table) -> comfy_table::Table {
    let mut out = comfy_table::Table::new();
    out.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    out.set_header(&table.columns);
    out.add_rows(&table.rows);
    for column in out.column_iter_mut().skip(1) {
        column.set_cell_alignment(comfy_table::CellAlignment::Right);
    }
    out
}
