use std::cmp::Ordering;

use serde_json::Value;

/// The pool as `/debug/state` has it, ready to be shown in a terminal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pool {
    /// One line over all of it.
    pub summary: String,
    pub endpoints: Vec<Row>,
    /// What is wrong, each with the line to change.
    pub findings: Vec<(String, String)>,
    /// Bands of flow control, where it is on.
    pub bands: Vec<String>,
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    pub name: String,
    pub state: String,
    /// Numbers in the order of [`Column::NUMBERS`]; what is not known is not a number.
    pub numbers: [f64; 8],
}

/// What endpoints are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Column {
    #[default]
    Name,
    State,
    Queue,
    Running,
    InFlight,
    Kv,
    Hits,
    Share,
    Picks,
    Ttft,
}

impl Column {
    pub const ALL: [Self; 10] = [
        Self::Name,
        Self::State,
        Self::Queue,
        Self::Running,
        Self::InFlight,
        Self::Kv,
        Self::Hits,
        Self::Share,
        Self::Picks,
        Self::Ttft,
    ];
    const NUMBERS: [Self; 8] = [
        Self::Queue,
        Self::Running,
        Self::InFlight,
        Self::Kv,
        Self::Hits,
        Self::Share,
        Self::Picks,
        Self::Ttft,
    ];

    /// The column's head.
    pub fn head(self) -> &'static str {
        match self {
            Self::Name => "ENDPOINT",
            Self::State => "STATE",
            Self::Queue => "QUEUE",
            Self::Running => "RUNNING",
            Self::InFlight => "IN FLIGHT",
            Self::Kv => "KV",
            Self::Hits => "HITS",
            Self::Share => "SHARE",
            Self::Picks => "PICKS/S",
            Self::Ttft => "TTFT",
        }
    }

    /// The column of this name, as the flag has it: the head in lower case with dashes.
    pub fn named(name: &str) -> Option<Self> {
        let named = |column: &Self| column.head().to_lowercase().replace([' ', '/'], "-") == name;
        Self::ALL.into_iter().find(named)
    }

    fn place(self) -> Option<usize> {
        Self::NUMBERS.iter().position(|column| *column == self)
    }

    fn text(self, row: &Row) -> String {
        let value = self.place().and_then(|at| row.numbers.get(at)).copied().unwrap_or(f64::NAN);
        match self {
            Self::Name => row.name.clone(),
            Self::State => row.state.clone(),
            _ if value.is_nan() => "-".to_owned(),
            Self::Kv | Self::Hits | Self::Share => format!("{:.0}%", value * 100.0),
            Self::Picks => format!("{value:.1}"),
            Self::Ttft => format!("{value:.0}ms"),
            _ => format!("{value:.0}"),
        }
    }
}

/// A text from outside, without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn text(value: &Value) -> String {
    plain(value.as_str().unwrap_or_default())
}

impl Pool {
    /// Reads `/debug/state`; what is missing there is shown as not known.
    pub fn read(state: &Value) -> Self {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let lately = &state["lately"]["sum"];
        let flow = &state["flowControl"];
        let endpoints: Vec<Row> = list(&state["endpoints"]).iter().map(row).collect();
        let share =
            |name: &str| lately[name].as_f64().map(|share| format!("{name} {:.0}%", share * 100.0));
        let hits: Vec<String> =
            ["predicted", "indexed", "delivered"].into_iter().filter_map(share).collect();
        let mut summary = vec![
            match state["notReady"].as_str() {
                Some(reason) => format!("not ready: {}", plain(reason)),
                None => "ready".to_owned(),
            },
            format!("{} endpoints", endpoints.len()),
            format!("{:.1} picks/s", lately["picksPerSecond"].as_f64().unwrap_or(0.0)),
        ];
        if !hits.is_empty() {
            summary.push(format!("hits: {}", hits.join(", ")));
        }
        if flow["on"] == true {
            summary.push(format!("{} waiting", flow["requests"]));
        }
        let band = |band: &Value| {
            format!(
                "priority {}: {} of {} requests in {} flows",
                band["priority"],
                band["requests"],
                band["maxRequests"],
                band["flows"].as_array().map_or(0, Vec::len)
            )
        };
        Self {
            summary: summary.join(" | "),
            endpoints,
            findings: list(&state["findings"])
                .iter()
                .map(|f| (text(&f["what"]), text(&f["change"])))
                .collect(),
            bands: list(&flow["bands"]).iter().map(band).collect(),
        }
    }

    /// The rows by a column: names and states from A to Z, numbers from the largest on.
    pub fn sorted(&self, by: Column) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.endpoints.iter().collect();
        let number = |row: &Row| {
            let value = by.place().and_then(|at| row.numbers.get(at)).copied();
            value.filter(|v| !v.is_nan()).unwrap_or(f64::NEG_INFINITY)
        };
        rows.sort_by(|a, b| {
            let order = match by {
                Column::Name => Ordering::Equal,
                Column::State => a.state.cmp(&b.state),
                _ => number(b).total_cmp(&number(a)),
            };
            order.then_with(|| a.name.cmp(&b.name))
        });
        rows
    }

    /// A row's cells in the order of [`Column::ALL`].
    pub fn cells(row: &Row) -> Vec<String> {
        Column::ALL.iter().map(|column| column.text(row)).collect()
    }

    /// All of it as lines of text.
    pub fn plain(&self, by: Column) -> String {
        let heads: Vec<String> = Column::ALL.iter().map(|c| c.head().to_owned()).collect();
        let rows = self.sorted(by).into_iter().map(Self::cells);
        let lines: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
        let width = |at: usize| {
            lines.iter().filter_map(|l| l.get(at)).map(|c| c.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..Column::ALL.len()).map(width).collect();
        let mut out = format!("{}\n", self.summary);
        for line in &lines {
            let cells = line.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| {
                if at < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            out.push('\n');
        }
        for band in &self.bands {
            out.push_str(&format!("{band}\n"));
        }
        for (what, change) in &self.findings {
            out.push_str(&format!("! {what}\n  change: {change}\n"));
        }
        out
    }
}

fn row(endpoint: &Value) -> Row {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let lately = &endpoint["lately"];
    let state = match (endpoint["out"].as_str(), endpoint["stale"].as_bool()) {
        (Some(_), _) => "out".to_owned(),
        (None, Some(true)) => "stale".to_owned(),
        _ => match endpoint["standing"].as_str() {
            None | Some("healthy") => "ok".to_owned(),
            Some(other) => plain(other),
        },
    };
    Row {
        name: text(&endpoint["id"]),
        state,
        numbers: [
            number(&endpoint["waiting"]),
            number(&endpoint["running"]),
            number(&endpoint["inFlight"]),
            number(&endpoint["kv"]),
            number(&lately["delivered"]),
            number(&endpoint["pickShare"]),
            number(&lately["picksPerSecond"]),
            number(&lately["ttftMs"]),
        ],
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn pool() -> Pool {
        Pool::read(&json!({
            "notReady": null,
            "lately": { "sum": { "picksPerSecond": 12.34, "predicted": 0.5, "delivered": 0.25 } },
            "flowControl": { "on": true, "requests": 3,
                "bands": [{ "priority": 0, "requests": 3, "maxRequests": 9, "flows": [{}] }] },
            "findings": [{ "what": "ns/b is \u{1b}[31mout", "change": "look" }],
            "endpoints": [
                { "id": "ns/a", "waiting": 1, "running": 2, "inFlight": 3, "kv": 0.5, "standing": "healthy",
                  "stale": false, "pickShare": 0.75, "lately": { "picksPerSecond": 9.0, "ttftMs": 12.0 } },
                { "id": "ns/b", "waiting": 7, "out": "5xx", "lately": {} },
                { "id": "ns/c\u{1b}[2J", "stale": true },
            ],
        }))
    }

    #[test]
    fn the_table_is_plain_text() {
        let expected = "\
ready | 3 endpoints | 12.3 picks/s | hits: predicted 50%, delivered 25% | 3 waiting
ENDPOINT  STATE  QUEUE  RUNNING  IN FLIGHT   KV  HITS  SHARE  PICKS/S  TTFT
ns/b      out        7        -          -    -     -      -        -     -
ns/a      ok         1        2          3  50%     -    75%      9.0  12ms
ns/c\u{fffd}[2J  stale      -        -          -    -     -      -        -     -
priority 0: 3 of 9 requests in 1 flows
! ns/b is \u{fffd}[31mout
  change: look
";
        assert_eq!(pool().plain(Column::Queue), expected);
    }

    #[test]
    fn any_answer_can_be_shown() {
        for value in
            [json!(null), json!([]), json!({ "endpoints": 3 }), json!({ "endpoints": [1] })]
        {
            let pool = Pool::read(&value);
            for column in Column::ALL {
                assert!(pool.plain(column).starts_with("ready"), "{value}");
            }
        }
    }

    #[test]
    fn columns_have_names() {
        assert_eq!(Column::named("in-flight"), Some(Column::InFlight));
        assert_eq!(Column::named("picks-s"), Some(Column::Picks));
        assert_eq!(Column::named("nothing"), None);
    }
}
