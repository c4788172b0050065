use super::*;
use crate::loader::LoadOptions;

const CONFIG: &str = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n- type: \
                      queue-scorer\n- type: max-score-picker\n";

fn check_stdin(text: &str) -> (u8, String) {
    let options =
        CheckOptions { files: vec!["-".into()], effective: false, load: LoadOptions::default() };
    let exit = check(&options, &mut text.as_bytes());
    (exit.code, exit.text)
}

/// `text` in a block, indented by four.
fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

#[test]
fn a_configuration_is_found_wherever_it_stands() {
    let config_map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata:\n  epp.yaml: |\n{}",
        indented(CONFIG)
    );
    let values = format!(
        "inferenceExtension:\n  replicas: 1\n  pluginsCustomConfig:\n   custom.yaml: |\n{}  env: []\n",
        indented(CONFIG)
    );
    let inline = format!(
        "kind: LLMInferenceService\nspec:\n  scheduler:\n   inline:\n{}   replicas: 1\n",
        indented(CONFIG)
    );
    let in_braces = "kind: X\nspec: {inline: {apiVersion: llm-d.ai/v1alpha1, kind: \
                     EndpointPickerConfig, plugins: [{type: queue-scorer}]}}\n";
    let quoted = "kind: ConfigMap\ndata:\n  c: \"apiVersion: llm-d.ai/v1alpha1\\nkind: \
                  EndpointPickerConfig\\n\"\n";
    let json = r#"{"kind":"List","items":[{"data":{"c":"kind: EndpointPickerConfig\napiVersion: llm-d.ai/v1alpha1\n"}}]}"#;
    let release = format!("# Source: x\n---\nkind: Service\n---\n{config_map}---\n# nothing\n");
    for (text, titles) in [
        (CONFIG, &["stdin: ok: "][..]),
        (&format!("---\n{CONFIG}"), &["stdin: ok: "]),
        (&format!("{CONFIG}---\n"), &["stdin: ok: "]),
        (&config_map, &["stdin (data.epp.yaml): ok: "]),
        (&values, &["stdin (inferenceExtension.pluginsCustomConfig.custom.yaml): ok: "]),
        (&inline, &["stdin (spec.scheduler.inline): ok: "]),
        (in_braces, &["stdin (spec.inline): ok: "]),
        (quoted, &["stdin (data.c): ok: "]),
        (json, &["stdin (items[0].data.c): ok: "]),
        (&release, &["stdin (data.epp.yaml): ok: "]),
        (
            &format!("{config_map}---\n{config_map}"),
            &["stdin (data.epp.yaml): ok: ", "stdin (data.epp.yaml): ok: "],
        ),
    ] {
        let (code, said) = check_stdin(text);
        assert_eq!(code, 0, "{text}\n{said}");
        let verdicts: Vec<_> =
            said.lines().filter(|l| l.contains("): ok: ") || l.starts_with("stdin: ok")).collect();
        assert_eq!(verdicts.len(), titles.len(), "{text}\n{said}");
        for (verdict, title) in verdicts.iter().zip(titles) {
            assert!(verdict.starts_with(title), "{verdict}");
        }
    }
}

#[test]
fn mistakes_have_their_place_in_the_file_that_was_given() {
    let wrong = CONFIG.replace("max-score-picker", "max-score-pickr");
    let config_map = format!("kind: ConfigMap\ndata:\n  epp.yaml: |\n{}", indented(&wrong));
    let in_dashes =
        format!("kind: ConfigMap\ndata:\n  epp.yaml: |\n{}", indented(&format!("---\n{wrong}")));
    let inline = format!("kind: X\nspec:\n  inline:\n{}", indented(&wrong));
    let listed = format!("kind: X\nspec:\n  - {}", indented(&wrong).trim_start());
    for (text, place) in [
        (&wrong, "stdin:5:9: "),
        (&format!("# c\n---\n{wrong}"), "stdin:7:9: "),
        (&config_map, "stdin:8:13: "),
        (&inline, "stdin:8:13: "),
        (&listed, "stdin:7:13: "),
        (&format!("kind: A\n---\n{config_map}"), "stdin:10:13: "),
        (&in_dashes, "stdin (data.epp.yaml):6:9: "),
    ] {
        let (code, said) = check_stdin(text);
        assert_eq!(code, 2, "{text}\n{said}");
        assert!(
            said.contains(place) && said.contains("max-score-picker"),
            "{place}\n{text}\n{said}"
        );
    }
}

#[test]
fn what_is_hardly_meant_is_not_silently_fine() {
    let saturation = "saturationDetector: {queueDepthThreshold: -5, kvCacheUtilThreshold: 0.8}\n";
    for (text, code, said) in [
        ("", 0, "stdin: warning: the file is empty"),
        (" \n\n", 0, "stdin: warning: the file is empty"),
        ("# nothing\n", 2, "stdin: has no document"),
        (&format!("{CONFIG}---\n{CONFIG}"), 2, "stdin:7:1: a second document"),
        (&format!("{CONFIG}---\nkind: Service\n"), 2, "stdin:7:1: a second document"),
        ("kind: A\n---\nkind: B\n", 2, "no EndpointPickerConfig in its 2 documents"),
        ("kind: ConfigMap\n", 2, "EndpointPickerConfig"),
        ("a: [", 2, "stdin:"),
        (
            "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n",
            0,
            "plugins: is null",
        ),
        (
            &format!("{CONFIG}{saturation}"),
            0,
            "saturationDetector.queueDepthThreshold: is negative",
        ),
    ] {
        let (got, text_said) = check_stdin(text);
        assert!(text_said.contains(said), "{text}\n{text_said}");
        assert_eq!(got, code, "{text}\n{text_said}");
    }
}

/// A check does not know the flags of the program that will read the file.
#[test]
fn an_experimental_plugin_is_no_mistake_of_the_file() {
    let text = CONFIG.replace("queue-scorer", "agent-identity");
    for (only_checked, code) in [(true, 0), (false, 2)] {
        let load = LoadOptions { only_checked, ..LoadOptions::default() };
        let options = CheckOptions { files: vec!["-".into()], effective: false, load };
        let exit = check(&options, &mut text.as_bytes());
        assert!(exit.text.contains("start with --allow-experimental-plugins"), "{}", exit.text);
        assert_eq!(exit.code, code, "{}", exit.text);
    }
}

#[test]
fn all_files_are_checked_and_one_that_is_wrong_is_enough() {
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good.yaml");
    std::fs::write(&good, CONFIG).unwrap();
    let options = |files: &[&Path]| CheckOptions {
        files: files.iter().map(|f| f.to_path_buf()).collect(),
        effective: true,
        load: LoadOptions::default(),
    };
    let exit = check(&options(&[&good, &good]), &mut std::io::empty());
    assert_eq!((exit.code, exit.text.matches("kind: EndpointPickerConfig").count()), (0, 2));
    let exit = check(&options(&[&good, directory.path(), &good]), &mut std::io::empty());
    assert_eq!((exit.code, exit.text.matches("good.yaml: ok").count()), (2, 2), "{}", exit.text);
    assert!(exit.text.contains("it is a directory"), "{}", exit.text);
}
