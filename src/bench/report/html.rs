//! The report as one HTML page that needs nothing beside it.

use std::fmt::Write;

use super::{Report, Table};

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1400px; margin: 1em auto; padding: 0 1em; }
h1, h2 { line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.1em; }
body > p { font-size: 1.15em; }
div { overflow-x: auto; margin: 0 0 2em; }
table { border-collapse: collapse; }
th, td { padding: .25em .7em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th { vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { text-align: left; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0 1.5em; color: #555; }
dd { margin: 0; overflow-wrap: anywhere; }
section { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 560px), 1fr)); gap: 1em; }
figure { margin: 0; overflow-x: auto; }
svg { width: 100%; min-width: 560px; max-width: 760px; height: auto; }
";

/// # Errors
/// Where a plot cannot be drawn.
pub(super) fn page(report: &Report) -> Result<String, String> {
    let (title, verdict) = (escape(&report.title), escape(&report.verdict));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<p>{verdict}</p>\n\
         <dl>\n"
    );
    for (name, value) in &report.facts {
        let _ = writeln!(out, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    }
    out.push_str("</dl>\n");
    // What it was measured with, then the pictures, then the figures behind them.
    let (first, rest) = report.tables.split_at(report.tables.len().min(1));
    first.iter().for_each(|t| table(&mut out, t));
    out.push_str("<section>\n");
    for plot in &report.plots {
        let _ = writeln!(out, "<figure>{}</figure>", plot.svg()?);
    }
    out.push_str("</section>\n");
    rest.iter().for_each(|t| table(&mut out, t));
    out.push_str("</body>\n</html>\n");
    Ok(out)
}

fn table(out: &mut String, table: &Table) {
    let _ = writeln!(out, "<h2>{}</h2>\n<div><table>", escape(&table.title));
    row(out, "th", &table.columns);
    for cells in &table.rows {
        row(out, "td", cells);
    }
    out.push_str("</table></div>\n");
}

fn row(out: &mut String, tag: &str, cells: &[String]) {
    out.push_str("<tr>");
    for cell in cells {
        let _ = write!(out, "<{tag}>{}</{tag}>", escape(cell));
    }
    out.push_str("</tr>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fits_a_telephone_and_says_what_it_is_of() {
        let html = page(&Report::new("t", "Nobody won.".into(), serde_json::Value::Null)).unwrap();
        assert!(html.contains("content=\"width=device-width"), "{html}");
        assert!(html.contains("<p>Nobody won.</p>"), "{html}");
        for fact in ["commit", "date", "command"] {
            assert!(html.contains(&format!("<dt>{fact}</dt><dd>")), "{fact}: {html}");
        }
        // Nothing is wider than the window, whatever that is.
        assert!(!STYLE.contains("minmax(560px"), "{STYLE}");
    }

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let mut report = Report::new("<t>", "<v>".into(), serde_json::Value::Null);
        report.facts = vec![("a\"b".into(), "<script>".into())];
        let mut t = Table::new("x & y", &["name", "n"]);
        t.rows.push(vec!["<td>".into(), "1".into()]);
        report.tables.push(t);
        let html = page(&report).unwrap();
        assert!(!html.contains("<script>") && !html.contains("<td><td>"));
        assert!(!html.contains("<v>"));
        assert!(html.contains("x &amp; y") && html.contains("&lt;td&gt;"));
        assert!(!html.contains("http://") && !html.contains("https://"), "needs nothing else");
    }
}
