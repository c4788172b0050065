use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn spliced(body: &str, target: &str) -> String {
    let parsed = parse(COMPLETIONS, body);
    let body = Bytes::copy_from_slice(body.as_bytes());
    String::from_utf8(parsed.with_model(&body, target, usize::MAX).expect("no limit").to_vec())
        .expect("UTF-8")
}

#[test]
fn only_the_model_changes() {
    for (body, expected) in [
        (r#"{"model":"m","prompt":"p"}"#, r#"{"model":"new","prompt":"p"}"#),
        (
            "{\n  \"prompt\" : \"p\",\n  \"model\" :\t\"m\"  }\n",
            "{\n  \"prompt\" : \"p\",\n  \"model\" :\t\"new\"  }\n",
        ),
        // A body that names none.
        (r#"{"prompt":"p"}"#, r#"{"model":"new","prompt":"p"}"#),
        (r#" { "prompt":"p"}"#, r#" {"model":"new", "prompt":"p"}"#),
        // Of several at the top the last, which is the one that counts; none further down.
        (
            r#"{"model":"a","prompt":"p","x":{"model":"m"},"model":null}"#,
            r#"{"model":"a","prompt":"p","x":{"model":"m"},"model":"new"}"#,
        ),
        (r#"{"model":{"a":[1, "}"]},"prompt":"p"}"#, r#"{"model":"new","prompt":"p"}"#),
        (r#"{"mod\u0065l":"m","prompt":"p"}"#, r#"{"mod\u0065l":"new","prompt":"p"}"#),
        // A lone surrogate stays what it was.
        (r#"{"model":"m","prompt":"\ud800"}"#, r#"{"model":"new","prompt":"\ud800"}"#),
        (r#"{"model":"\ud800","prompt":"p"}"#, r#"{"model":"new","prompt":"p"}"#),
    ] {
        assert_eq!(spliced(body, "new"), expected);
    }
    assert_eq!(
        spliced(r#"{"model":"m","prompt":"p"}"#, "a\"b\\c\nü"),
        r#"{"model":"a\"b\\c\nü","prompt":"p"}"#
    );
}

#[test]
fn another_body_than_the_parsed_one_is_left_alone() {
    let parsed = parse(COMPLETIONS, r#"{"prompt":"p","model":"m"}"#);
    let short = Bytes::from_static(b"{}");
    assert_eq!(parsed.with_model(&short, "new", 9), Ok(short));
}

#[test]
fn a_long_name_in_many_places_makes_no_large_body() {
    let keys = 20_000;
    let body = format!(r#"{{{}"prompt":"p"}}"#, r#""model":"m","#.repeat(keys));
    let name = "n".repeat(4_000);
    let limit = 1 << 20;
    let parsed = parse(COMPLETIONS, &body);
    let body = Bytes::from(body);
    let spliced = parsed.with_model(&body, &name, limit).expect("one name more");
    assert_eq!(spliced.len(), body.len() - 1 + name.len());
    assert_eq!(parse(COMPLETIONS, std::str::from_utf8(&spliced).unwrap()).model, Some(name));
}

#[test]
fn a_body_that_would_be_larger_than_the_limit_is_refused() {
    for (body, length) in [
        (r#"{"model":"m","prompt":"p"}"#, 28),
        (r#"{"prompt":"p"}"#, 28),
        (r#"{"model":"","model":"m","prompt":"p"}"#, 39),
    ] {
        let parsed = parse(COMPLETIONS, body);
        let body = Bytes::copy_from_slice(body.as_bytes());
        let fits = parsed.with_model(&body, "new", length).expect("fits");
        assert_eq!(fits.len(), length, "{body:?}");
        let refused = parsed.with_model(&body, "new", length - 1).unwrap_err();
        assert_eq!(refused.code, Code::PayloadTooLarge, "{body:?}");
        let text = "request body with the rewritten model is larger than the limit of ";
        assert_eq!(refused.message, format!("{text}{} bytes", length - 1));
        // What does not change is not measured.
        assert_eq!(parse(SGLANG, r#"{"input_ids":[1]}"#).with_model(&body, "new", 0), Ok(body));
    }
}

proptest! {
    #[test]
    fn a_splice_changes_the_model_and_nothing_else(
        members in prop::collection::vec(("[a-z\"\\\\]{0,4}|model", "\\PC{0,8}|[\"\\\\{}\\[\\],:]{1,6}"), 0..6),
        target in "\\PC{1,12}",
        pretty in any::<bool>(),
    ) {
        let mut object: serde_json::Map<String, Value> =
            members.into_iter().map(|(key, text)| (key, Value::from(text))).collect();
        object.insert("prompt".to_owned(), Value::from("p"));
        let value = Value::Object(object);
        let body = if pretty {
            serde_json::to_string_pretty(&value).expect("JSON")
        } else {
            value.to_string()
        };
        let new = spliced(&body, &target);
        let mut expected = value;
        expected["model"] = Value::from(target.as_str());
        let read: Value = serde_json::from_str(&new).expect("still JSON");
        prop_assert_eq!(read, expected);
    }
}
