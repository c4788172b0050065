//! Brings an argument list to one spelling before `clap` sees it.
//!
//! Deployments pass flags the way their version of the reference picker wanted them: Go's `flag`
//! package takes one dash or two and camelCase names (up to v0.2.0), pflag takes two dashes and
//! names with dashes (since v1.3). In both a boolean flag never takes the next argument as its
//! value. Charts also leave empty arguments behind where a template was false.

use std::collections::{BTreeMap, BTreeSet};

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, Command};

use crate::config::did_you_mean;

/// Whether a flag takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Value,
    /// `--flag` or `--flag=false`.
    Bool,
    /// `--help`.
    Nothing,
}

/// The flags of a command line, by their long names.
#[derive(Debug)]
pub(super) struct Known {
    flags: BTreeMap<String, Takes>,
    /// Subcommands and the flags that only they have.
    subcommands: BTreeMap<String, BTreeMap<String, Takes>>,
}

/// An argument list in one spelling: `--name=value`, then the subcommand with its own.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    pub flags: Vec<(String, String)>,
    /// Help and version, as `clap` knows them.
    pub switches: Vec<String>,
    /// The subcommand, its flags, and what it is applied to.
    pub rest: Vec<String>,
}

impl Arguments {
    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|(name, _)| name == flag)
    }

    /// The list for `clap`, without the flags in `except`. A flag that was last given empty, as
    /// templates do for "not set", counts as not given.
    pub(super) fn to_list(&self, except: &BTreeSet<String>) -> Vec<String> {
        let is_emptied_later = |i: usize, name: &str| {
            self.flags[i..].iter().any(|(other, value)| other == name && value.is_empty())
        };
        let flags = self
            .flags
            .iter()
            .enumerate()
            .filter(|(i, (name, _))| !except.contains(name) && !is_emptied_later(*i, name));
        std::iter::once("epp".to_owned())
            .chain(self.switches.iter().cloned())
            .chain(flags.map(|(_, (name, value))| format!("--{name}={value}")))
            .chain(self.rest.iter().cloned())
            .collect()
    }
}

/// What stood before an argument, where that matters.
enum Before {
    Other,
    /// A boolean without a value: the argument may have been meant as one.
    BareBool(String),
    /// The argument may be its value.
    UnknownFlag,
}

/// Makes every boolean of `command` take its value only after an equals sign, true being the
/// value without one.
pub(super) fn with_bare_booleans(command: Command) -> Command {
    let bool_id = ValueParser::bool().type_id();
    command
        .mut_args(|arg| {
            let is_bool = arg.get_value_parser().type_id() == bool_id;
            if !is_bool || matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) {
                return arg;
            }
            let is_off = arg.get_default_values().iter().all(|value| value == "false");
            arg.action(ArgAction::Set)
                .value_parser(ValueParser::bool())
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name("BOOL")
                .hide_possible_values(true)
                .hide_default_value(is_off)
        })
        .mut_subcommands(with_bare_booleans)
}

impl Known {
    /// The flags of `command`, as [`with_bare_booleans`] left it.
    pub(super) fn of(command: &mut Command) -> Self {
        command.build();
        let flags = takes(command.get_arguments());
        let subcommands = command
            .get_subcommands()
            .map(|sub| (sub.get_name().to_owned(), takes(sub.get_arguments())))
            .collect();
        Self { flags, subcommands }
    }

    /// The long names of the main command's flags that take a value.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let takes_value = |takes: &Takes| *takes != Takes::Nothing;
        self.flags
            .iter()
            .filter(move |(_, takes)| takes_value(takes))
            .map(|(name, _)| name.as_str())
    }

    /// Brings `arguments` (without the program's name) to one spelling, and tells every mistake;
    /// what is mistaken is left out.
    pub(super) fn read(&self, arguments: &[String]) -> (Arguments, Vec<String>) {
        let mut read = Arguments::default();
        let mut mistakes = Vec::new();
        let mut of_subcommand = Vec::new();
        let mut only_words = false;
        let mut before = Before::Other;
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if argument.is_empty() {
                continue;
            }
            let after = std::mem::replace(&mut before, Before::Other);
            if !only_words && argument == "--" {
                only_words = true;
                continue;
            }
            if only_words || argument == "-" || !argument.starts_with('-') {
                if !read.rest.is_empty() || self.subcommands.contains_key(argument) {
                    read.rest.push(argument.clone());
                    continue;
                }
                match after {
                    Before::UnknownFlag => {}
                    Before::BareBool(flag) if parse_bool(argument).is_some() => mistakes.push(
                        format!("unexpected argument '{argument}'; write --{flag}={argument}"),
                    ),
                    _ => {
                        let known = self.subcommands.keys().map(String::as_str);
                        let near = did_you_mean(argument, known);
                        mistakes.push(format!("unexpected argument '{argument}'{near}"));
                    }
                }
                continue;
            }
            let (written, given) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument.as_str(), None),
            };
            let Some((name, takes, own, attached)) = self.find(written) else {
                mistakes.push(self.unknown(written));
                if given.is_none() {
                    before = Before::UnknownFlag;
                }
                continue;
            };
            let value = match (takes, given.or(attached)) {
                (Takes::Nothing, None) => {
                    // `-h` is shorter than `--help`.
                    let switch =
                        if written == "-h" { "-h".to_owned() } else { format!("--{name}") };
                    let of = if read.rest.is_empty() { &mut read.switches } else { &mut read.rest };
                    of.push(switch);
                    continue;
                }
                (Takes::Nothing, Some(_)) => {
                    mistakes.push(format!("--{name} takes no value"));
                    continue;
                }
                (Takes::Bool, None) => {
                    before = Before::BareBool(name.clone());
                    "true".to_owned()
                }
                (Takes::Bool, Some(text)) => match parse_bool(text) {
                    Some(value) => value.to_string(),
                    None => {
                        mistakes.push(format!("--{name}: '{text}' is neither true nor false"));
                        continue;
                    }
                },
                (Takes::Value, Some(value)) => value.to_owned(),
                (Takes::Value, None) => match arguments.clone().next() {
                    Some(next) if !self.is_flag(next) => {
                        arguments.next();
                        next.clone()
                    }
                    Some(next) => {
                        mistakes.push(format!("--{name} needs a value, but '{next}' follows"));
                        continue;
                    }
                    None => {
                        mistakes.push(format!("--{name} needs a value"));
                        continue;
                    }
                },
            };
            if own {
                read.flags.push((name, value));
            } else {
                of_subcommand.push((name, value));
            }
        }
        for (name, value) in of_subcommand {
            let subcommand = read.rest.first().and_then(|word| self.subcommands.get(word));
            if subcommand.is_some_and(|flags| flags.contains_key(&name)) {
                read.rest.insert(1, format!("--{name}={value}"));
            } else {
                mistakes.push(self.unknown(&format!("--{name}")));
            }
        }
        (read, mistakes)
    }

    /// A flag as written, with its dashes: its long name, what it takes, whether it is the main
    /// command's, and the value attached to it (`-v4`).
    fn find<'a>(&self, written: &'a str) -> Option<(String, Takes, bool, Option<&'a str>)> {
        let bare = written.strip_prefix("--").or_else(|| written.strip_prefix('-'))?;
        let (name, attached) = match bare {
            "h" => ("help".to_owned(), None),
            "V" => ("version".to_owned(), None),
            "o" => ("output".to_owned(), None),
            _ => match bare.strip_prefix('v') {
                Some(n) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => {
                    ("v".to_owned(), Some(n))
                }
                _ => (kebab(bare), None),
            },
        };
        if let Some(&takes) = self.flags.get(&name) {
            return Some((name, takes, true, attached));
        }
        let takes = self.subcommands.values().find_map(|flags| flags.get(&name)).copied()?;
        Some((name, takes, false, attached))
    }

    /// True where `argument` can only be meant as a flag.
    fn is_flag(&self, argument: &str) -> bool {
        let name = argument.split_once('=').map_or(argument, |(name, _)| name);
        name.starts_with('-') && self.find(name).is_some()
    }

    fn unknown(&self, written: &str) -> String {
        let names: Vec<String> = self.flags.keys().map(|name| format!("--{name}")).collect();
        let meant = format!("--{}", kebab(written.trim_start_matches('-')));
        let near = did_you_mean(&meant, names.iter().map(String::as_str));
        format!("unknown flag '{written}'{near}")
    }
}

/// A camelCase name in today's spelling; any other name as it is.
fn kebab(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            if !out.is_empty() && !out.ends_with('-') {
                out.push('-');
            }
            out.push(c.to_ascii_lowercase());
        } else {
            out.push(c);
        }
    }
    out
}

/// The spellings Go takes for a boolean.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn takes<'a>(arguments: impl Iterator<Item = &'a Arg>) -> BTreeMap<String, Takes> {
    arguments
        .filter_map(|arg| {
            let range = arg.get_num_args().unwrap_or_default();
            let takes = match (range.min_values(), range.max_values()) {
                (_, 0) => Takes::Nothing,
                (0, _) => Takes::Bool,
                _ => Takes::Value,
            };
            Some((arg.get_long()?.to_owned(), takes))
        })
        .collect()
}

#[cfg(test)]
mod tests;
