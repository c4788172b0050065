//! What an error of the API server means.

use std::error::Error;

/// True where the API server does not have a kind, or does not let us read it.
pub(crate) fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403 || status.code == 404)
}

/// What went wrong, as one sentence for a human.
pub(crate) fn reason(error: &kube::Error) -> String {
    match error {
        // The answer for a path that nobody serves has no message of its own.
        kube::Error::Api(status) if status.code == 404 && status.details.is_none() => {
            "the API server does not have it (404)".to_owned()
        }
        kube::Error::Api(status) => format!("{} ({})", status.message.trim(), status.code),
        kube::Error::Service(error) => causes(error.as_ref()),
        kube::Error::HyperError(error) => causes(error),
        kube::Error::ReadEvents(error) => causes(error),
        other => other.to_string(),
    }
}

/// An error and what brought it about. An error that repeats its cause is left out.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut chain = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        if chain.last().is_some_and(|outer| outer.contains(&text)) {
            chain.pop();
        }
        chain.push(text);
        next = error.source();
    }
    chain.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] std::io::Error);

    #[test]
    fn reasons_are_sentences() {
        let io = || std::io::Error::other("no route to host");
        for (error, expected) in [
            (Outer("cannot connect", io()), "cannot connect: no route to host"),
            (Outer("io: no route to host", io()), "no route to host"),
        ] {
            assert_eq!(reason(&kube::Error::Service(error.into())), expected);
        }
    }
}
