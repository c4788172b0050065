/// A topic as llm-d and KServe configure engines to use: `kv@<pod>@<model>`. Engines that are
/// not configured use the empty topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic<'a> {
    /// `ip:port`, `ip`, or the name of a pod.
    pub publisher: &'a str,
    /// The model's name, which may have an `@` in it; empty where it is not said.
    pub model: &'a str,
}

impl<'a> Topic<'a> {
    /// `None` for topics of another form.
    pub fn parse(topic: &'a str) -> Option<Self> {
        let mut parts = topic.splitn(3, '@');
        let _prefix = parts.next()?;
        let publisher = parts.next().filter(|publisher| !publisher.is_empty())?;
        Some(Self { publisher, model: parts.next().unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics() {
        let cases = [
            ("kv@10.0.0.1:8000@Qwen/Qwen3-8B", Some(("10.0.0.1:8000", "Qwen/Qwen3-8B"))),
            ("kv@pod-a@m@v2", Some(("pod-a", "m@v2"))),
            ("kv@pod-a", Some(("pod-a", ""))),
            ("kv@@m", None),
            ("kv", None),
            ("", None),
        ];
        for (topic, expected) in cases {
            let expected = expected.map(|(publisher, model)| Topic { publisher, model });
            assert_eq!(Topic::parse(topic), expected, "{topic}");
        }
    }
}
