//! `epp migrate`: configurations rewritten in today's form.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::check::{MAX_BYTES, STDIN, read_all};
use super::embedded::{self, Found};
use crate::endpoints::PoolIds;
use crate::files;
use crate::loader::{LoadOptions, load};
use crate::migrate::migrate as rewrite;

/// `epp migrate`.
#[derive(Debug)]
pub struct MigrateOptions {
    /// `-` is standard input.
    pub files: Vec<PathBuf>,
    /// Write each file anew; else the results go to standard output.
    pub in_place: bool,
}

/// What `epp migrate` has to say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Migration {
    /// For standard output: the new texts.
    pub text: String,
    /// For standard error: what was changed, what was left, and why.
    pub told: String,
    /// 0, or 2 where a file could not be rewritten.
    pub code: u8,
}

/// Rewrites files, which may be configurations or hold some, as `epp check` finds them.
pub fn migrate(options: &MigrateOptions, stdin: &mut dyn Read) -> Migration {
    let mut all = Migration::default();
    let mut texts = Vec::new();
    for file in &options.files {
        let is_stdin = file == Path::new(STDIN);
        let name = if is_stdin { "stdin".to_owned() } else { file.display().to_string() };
        let read = if is_stdin { read_all(stdin) } else { files::read_text(file, MAX_BYTES) };
        let rewritten = read
            .map_err(|e| format!("{name}: {e}\n"))
            .and_then(|text| rewrite_file(&name, &text, &mut all.told).map(|new| (text, new)));
        let written = rewritten.and_then(|(old, new)| {
            if !options.in_place || is_stdin {
                texts.push(new);
                return Ok(());
            }
            match old == new {
                true => Ok(()),
                false => fs::write(file, new).map_err(|e| format!("{name}: {e}\n")),
            }
        });
        if let Err(told) = written {
            all.told.push_str(&told);
            all.code = 2;
        }
    }
    all.text = texts.join("---\n");
    all
}

/// The new text of a file; every line of `told` is about it.
fn rewrite_file(name: &str, text: &str, told: &mut String) -> Result<String, String> {
    let found = embedded::find(name, text).map_err(|diagnostics| diagnostics.to_string())?;
    let mut text = text.to_owned();
    // From the last to the first, so that those before stay where they are.
    for found in found.iter().rev() {
        text = rewrite_one(name, &text, found, told)?;
    }
    Ok(text)
}

fn rewrite_one(file: &str, text: &str, found: &Found, told: &mut String) -> Result<String, String> {
    let name = found.title(file);
    let migrated = rewrite(&found.text).map_err(|why| format!("{name}: {why}\n"))?;
    for what in &migrated.changes {
        told.push_str(&format!("{name}: {what}\n"));
    }
    for what in &migrated.left {
        told.push_str(&format!("{name}: not changed: {what}\n"));
    }
    if migrated.changes.is_empty() {
        told.push_str(&format!("{name}: nothing to change\n"));
        return Ok(text.to_owned());
    }
    let loads = |text: &str| {
        let options = LoadOptions {
            only_checked: true,
            allow_experimental_plugins: true,
            ..Default::default()
        };
        load(&name, Some(text), &options, &PoolIds::default())
    };
    let (before, _) = loads(&found.text);
    let (after, diagnostics) = loads(&migrated.text);
    if before.is_some() && after.is_none() {
        return Err(format!("{name}: left as it is, as it would not load:\n{diagnostics}"));
    }
    found.put_back(text, &migrated.text).ok_or_else(|| {
        format!("{name}: left as it is: it cannot be edited where it stands in the file\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "apiVersion: inference.networking.x-k8s.io/v1alpha1\n\
        kind: EndpointPickerConfig\nplugins:\n- type: kv-cache-scorer # empty first\n";

    fn indented(text: &str, by: usize) -> String {
        text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
    }

    fn run(text: &str) -> Migration {
        let options = MigrateOptions { files: vec![STDIN.into()], in_place: false };
        migrate(&options, &mut text.as_bytes())
    }

    #[test]
    fn a_configuration_is_rewritten_where_it_stands() {
        let new = OLD
            .replace("inference.networking.x-k8s.io/v1alpha1", "llm-d.ai/v1alpha1")
            .replace("kv-cache-scorer", "kv-cache-utilization-scorer");
        assert_eq!(run(OLD).text, new);
        let map = |inner: &str| {
            format!(
                "kind: ConfigMap\ndata:\n  other: 1 # kept\n  default.yaml: |\n{}  last: x\n",
                indented(inner, 4)
            )
        };
        let moved = run(&map(OLD));
        assert_eq!((moved.text, moved.code), (map(&new), 0));
        assert!(moved.told.starts_with("stdin (data.default.yaml): apiVersion"), "{}", moved.told);
        let service = |inner: &str| {
            format!(
                "kind: LLMInferenceService\nspec:\n  config:\n{}  other: {{}}\n",
                indented(inner, 4)
            )
        };
        assert_eq!(run(&service(OLD)).text, service(&new));
        let list = |inner: &str| format!("items:\n- {}", &indented(inner, 2)[2..]);
        assert_eq!(run(&list(OLD)).text, list(&new));
    }

    #[test]
    fn what_cannot_be_rewritten_is_told() {
        let anchors = "kind: EndpointPickerConfig\nplugins:\n- &a {type: queue-scorer}\n";
        let moved = run(anchors);
        assert_eq!((moved.text.as_str(), moved.code), ("", 2));
        assert!(moved.told.contains("anchors and aliases"), "{}", moved.told);
        assert_eq!(run("kind: [").code, 2);
        let escaped = format!("data: {}\n", serde_json::Value::from(OLD));
        let moved = run(&escaped);
        assert_eq!(moved.code, 2, "{}", moved.told);
        assert!(moved.told.contains("cannot be edited"), "{}", moved.told);
    }

    #[test]
    fn files_are_written_where_something_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (old, good) = (folder.path().join("old.yaml"), folder.path().join("good.yaml"));
        fs::write(&old, OLD).unwrap();
        fs::write(&good, "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n").unwrap();
        let before = fs::metadata(&good).unwrap().modified().unwrap();
        let options = MigrateOptions { files: vec![old.clone(), good.clone()], in_place: true };
        let moved = migrate(&options, &mut std::io::empty());
        assert_eq!((moved.text.as_str(), moved.code), ("", 0), "{}", moved.told);
        assert!(fs::read_to_string(&old).unwrap().contains("kv-cache-utilization-scorer # empty"));
        assert_eq!(fs::metadata(&good).unwrap().modified().unwrap(), before);
        assert!(moved.told.contains("good.yaml: nothing to change"), "{}", moved.told);
    }
}
