//! The one option that clap has no words for: how many values `-D` takes depends on the second of them.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};

use clap::{ArgAction, Command};

use super::property::SEPARATOR;

/// Joins the values of each `-D` into one, where the subcommand has a `-D`.
///
/// `-D COMMAND PROPERTY VALUE`, but `-D COMMAND user-property NAME VALUE`: the values are joined by [`SEPARATOR`], which no argument
/// can have in it. What is incomplete is left for the parser of the option to complain about.
pub(crate) fn joined(
    cli: &Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let mut out: Vec<_> = arguments.by_ref().take(2).collect();
    let name = out.get(1).and_then(|name| name.to_str());
    let options = match name.and_then(|name| cli.find_subcommand(name)) {
        Some(command) if command.get_arguments().any(|arg| arg.get_id() == ID) => {
            options_with_values(command)
        }
        _ => {
            out.extend(arguments);
            return out;
        }
    };
    while let Some(argument) = arguments.next() {
        let option = options.get(&argument);
        let is_property = option.is_some_and(|id| *id == ID);
        let has_value = option.is_some();
        out.push(argument);
        if is_property {
            out.push(property(&mut arguments));
        } else if has_value {
            out.extend(arguments.next());
        }
    }
    out
}

/// Every spelling of an option that takes the next argument as its value, with the option's id.
fn options_with_values(command: &Command) -> HashMap<OsString, &str> {
    let mut options = HashMap::new();
    for argument in command.get_arguments() {
        if !matches!(argument.get_action(), ArgAction::Set | ArgAction::Append) {
            continue;
        }
        let id = argument.get_id().as_str();
        for short in argument.get_short_and_visible_aliases().unwrap_or_default() {
            options.insert(format!("-{short}").into(), id);
        }
        for long in argument.get_long_and_visible_aliases().unwrap_or_default() {
            options.insert(format!("--{long}").into(), id);
        }
    }
    options
}

fn property(arguments: &mut impl Iterator<Item = OsString>) -> OsString {
    let mut joined = OsString::new();
    let mut count = 3;
    let mut index = 0;
    while index < count {
        let Some(value) = arguments.next() else { break };
        if index == 1 && value == OsStr::new("user-property") {
            count = 4;
        }
        if index > 0 {
            joined.push(SEPARATOR);
        }
        joined.push(value);
        index += 1;
    }
    joined
}

/// The id of the option in [`ServerArguments`](super::server::ServerArguments).
const ID: &str = "property";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn check(line: &[&str], expected: &[&str]) {
        let arguments = line.iter().map(OsString::from);
        assert_eq!(joined(&Cli::command(), arguments), expected, "{line:?}");
    }

    #[test]
    fn values_of_a_property_are_joined_however_many_they_are() {
        check(
            &["w", "pub", "-D", "publish", "content-type", "-x", "-t", "a"],
            &["w", "pub", "-D", "publish\0content-type\0-x", "-t", "a"],
        );
        check(
            &[
                "w",
                "sub",
                "--property",
                "connect",
                "user-property",
                "k",
                "v",
                "-d",
            ],
            &[
                "w",
                "sub",
                "--property",
                "connect\0user-property\0k\0v",
                "-d",
            ],
        );
        check(&["w", "rr", "-D", "will"], &["w", "rr", "-D", "will"]);
    }

    #[test]
    fn values_of_other_options_are_no_properties() {
        check(
            &[
                "w",
                "pub",
                "-m",
                "-D",
                "--topic",
                "--property",
                "-d",
                "-D",
                "a",
                "b",
                "c",
            ],
            &[
                "w",
                "pub",
                "-m",
                "-D",
                "--topic",
                "--property",
                "-d",
                "-D",
                "a\0b\0c",
            ],
        );
        check(
            &["w", "serve", "-D", "a", "b", "c"],
            &["w", "serve", "-D", "a", "b", "c"],
        );
        check(&["w"], &["w"]);
    }
}
