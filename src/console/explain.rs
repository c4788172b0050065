use std::fmt::Write;

use super::{AdminClient, AskError, ExplainOptions};

/// How a running `epp` decided about one request, in words.
///
/// # Errors
/// Why it does not say.
pub async fn explain(options: &ExplainOptions) -> Result<String, AskError> {
    let client = AdminClient::new(&options.access)?;
    let answer = client.text(&page(&options.id, options.json)).await?;
    // A decision begins with its time; anything else says why there is none.
    let has_it = match options.json {
        true => !answer.starts_with("{\"decisions\":[]"),
        false => answer.starts_with(|c: char| c.is_ascii_digit()),
    };
    match has_it {
        true => Ok(answer),
        false if options.json => Err(AskError::NotKept("no such decision is kept".to_owned())),
        false => Err(AskError::NotKept(answer.trim_end().to_owned())),
    }
}

/// The page of one request's decisions.
pub(super) fn page(id: &str, json: bool) -> String {
    let format = if json { "json" } else { "text" };
    let mut page = format!("/debug/decisions?format={format}&last=20&request_id=");
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                page.push(char::from(byte));
            }
            // Writing to a string does not fail.
            _ => _ = write!(page, "%{byte:02X}"),
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_encoded() {
        let page = page("a b&c=ü/\r\n", true);
        assert!(page.ends_with("request_id=a%20b%26c%3D%C3%BC%2F%0D%0A"), "{page}");
    }
}
