//! The answer to `/v1/models`: which models and adapters a worker serves.

use serde::Deserialize;

use crate::endpoints::ServedModel;

#[derive(Deserialize)]
struct Answer {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    parent: Option<String>,
}

/// The models of an answer, in its order; `None` where it is no list of models.
pub fn read(answer: &[u8]) -> Option<Vec<ServedModel>> {
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let model =
        |entry: Entry| ServedModel { id: entry.id, parent: entry.parent.unwrap_or_default() };
    Some(answer.data.into_iter().map(model).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        type Models = &'static [(&'static str, &'static str)];
        let cases: [(&str, Option<Models>); 8] = [
            (r#"{"object":"list","data":[]}"#, Some(&[])),
            (
                // As vLLM answers, with an adapter.
                r#"{"object":"list","data":[{"id":"base","object":"model","created":1,
                    "owned_by":"vllm","root":"/m","parent":null,"max_model_len":4096,
                    "permission":[]},{"id":"sql","object":"model","parent":"base"}]}"#,
                Some(&[("base", ""), ("sql", "base")]),
            ),
            (r#"{"data":[{"id":""}]}"#, Some(&[("", "")])),
            (r#"{"data":[{"object":"model"}]}"#, None),
            (r#"{"data":{}}"#, None),
            ("[]", None),
            ("# HELP vllm:x", None),
            ("", None),
        ];
        for (answer, expected) in cases {
            let got = read(answer.as_bytes());
            let expected = expected.map(|models| {
                let model = |(id, parent): &(&str, &str)| ServedModel {
                    id: (*id).to_owned(),
                    parent: (*parent).to_owned(),
                };
                models.iter().map(model).collect::<Vec<_>>()
            });
            assert_eq!(got, expected, "{answer}");
        }
    }
}
