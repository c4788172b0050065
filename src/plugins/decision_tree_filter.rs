//! `decision-tree-filter` of GIE v0.5: filters that follow each other as their results tell.

use super::{
    About, Build, Capabilities, Dependencies, Kind, Parameter, Parameters, Part, PluginPart,
    PluginType, Stability,
};
use crate::config::Fields;
use crate::scheduling::{Cycle, Filter};

pub(super) const TYPE: PluginType =
    PluginType { name: "decision-tree-filter", aliases: &[], about: ABOUT, build };

const ABOUT: About = About {
    parts: &[Part::Filter],
    stability: Stability::Removed(""),
    since: "GIE v0.5",
    summary: "a filter, and what follows where it keeps something or nothing",
    formula: "what current keeps, as what follows success narrows it; where that is nothing, what follows failure makes of all",
    parameters: Parameters::Listed(&[
        Parameter::fields("current", &NODE, "the filter to begin with")
            .required()
            .example("{pluginRef: some}"),
        Parameter::fields("nextOnSuccess", &NODE, "what narrows the endpoints that were kept")
            .example("{pluginRef: some}"),
        Parameter::fields("nextOnFailure", &NODE, "what is asked instead where none was kept")
            .example("{pluginRef: some}"),
        Parameter::fields("nextOnSuccessOrFailure", &NODE, "both of these")
            .example("{pluginRef: some}"),
    ]),
};

const NODE: [Parameter; 2] = [
    Parameter::plugin("pluginRef", "filter", "a filter; either this")
        .beside("{decisionTree: null}"),
    Parameter::of_kind("decisionTree", Kind::Itself, "or a tree").beside("{pluginRef: null}"),
];

/// Trees deeper than this are refused.
const MAX_DEPTH: usize = 32;

/// A filter, and what follows it.
#[derive(Debug)]
struct DecisionTree {
    current: Node,
    on_success: Option<Node>,
    on_failure: Option<Node>,
}

#[derive(Debug)]
enum Node {
    Filter(PluginPart<dyn Filter>),
    Tree(Box<DecisionTree>),
}

fn build(build: Build<'_, '_>) -> Capabilities {
    let tree = read_tree(build.parameters, build.dependencies, 0);
    tree.map_or_else(Capabilities::default, Capabilities::filter)
}

fn read_tree(mut p: Fields<'_>, all: &mut Dependencies, depth: usize) -> Option<DecisionTree> {
    if depth > MAX_DEPTH {
        p.diagnostics().error(p.at(), p.path(), format!("nests more than {MAX_DEPTH} trees"));
        p.ignore_rest();
        return None;
    }
    let mut node = |name: &'static str| {
        let node = p.nested(name);
        (!node.is_absent()).then(|| read_node(node, all, depth)).flatten()
    };
    let current = node("current");
    let (success, failure) = (node("nextOnSuccess"), node("nextOnFailure"));
    let either = node("nextOnSuccessOrFailure");
    let has = |p: &mut Fields<'_>, name| p.node(name).is_some();
    if has(&mut p, "nextOnSuccessOrFailure")
        && (has(&mut p, "nextOnSuccess") || has(&mut p, "nextOnFailure"))
    {
        p.error("nextOnSuccessOrFailure", "excludes nextOnSuccess and nextOnFailure");
    }
    if p.node("current").is_none() {
        p.error("current", "is missing: the filter to begin with");
    }
    p.finish();
    let (on_success, on_failure) = match either {
        None => (success, failure),
        Some(node) => (Some(node.clone()), Some(node)),
    };
    Some(DecisionTree { current: current?, on_success, on_failure })
}

fn read_node(mut node: Fields<'_>, all: &mut Dependencies, depth: usize) -> Option<Node> {
    let name = node.placed_string("pluginRef");
    let tree = node.nested("decisionTree");
    let found = match (name, tree.is_absent()) {
        (Some(name), true) => Some(Node::Filter(all.plugin(name.map(str::to_owned), "filter"))),
        (None, false) => read_tree(tree, all, depth + 1).map(|tree| Node::Tree(Box::new(tree))),
        _ => {
            let message = "must have either a pluginRef or a decisionTree";
            node.diagnostics().error(node.at(), node.path(), message);
            None
        }
    };
    node.finish();
    found
}

impl Clone for Node {
    fn clone(&self) -> Self {
        match self {
            Self::Filter(filter) => Self::Filter(filter.clone()),
            Self::Tree(tree) => Self::Tree(Box::new(DecisionTree {
                current: tree.current.clone(),
                on_success: tree.on_success.clone(),
                on_failure: tree.on_failure.clone(),
            })),
        }
    }
}

impl Filter for Node {
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        match self {
            Self::Filter(filter) => {
                if let Some(filter) = filter.get() {
                    filter.filter(cycle, candidates);
                }
            }
            Self::Tree(tree) => tree.filter(cycle, candidates),
        }
    }
}

impl Filter for DecisionTree {
    fn wants(&self) -> String {
        "to pass the branch of the tree that applied".to_owned()
    }

    /// What follows success gets what was kept; what follows failure, where nothing was, gets what
    /// came in.
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Vec<u32>) {
        let before = candidates.clone();
        self.current.filter(cycle, candidates);
        if !candidates.is_empty() {
            if let Some(next) = &self.on_success {
                next.filter(cycle, candidates);
            }
        } else if let Some(next) = &self.on_failure {
            *candidates = before;
            next.filter(cycle, candidates);
        }
    }
}
