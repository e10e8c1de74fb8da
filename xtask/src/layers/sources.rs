//! Names in the source of pure crates: what a dependency table can't see, because it is in std.

use std::path::Path;

use proc_macro2::{Delimiter, Ident, LexError, Spacing, Span, TokenStream, TokenTree};

use super::{Violation, rules::Forbidden};

/// Every use of a forbidden path in `text`, the source of `file`.
///
/// The text is read as tokens, so comments, documentation and strings may say what they like, and a
/// path is found however it is written: in full, in a nested `use`, behind an alias, in a macro
/// call, or by a glob.
pub(super) fn check(file: &Path, text: &str, forbidden: &[Forbidden]) -> Vec<Violation> {
    let paths = match paths(text) {
        Ok(paths) => paths,
        Err(error) => {
            return vec![Violation {
                place: format!("{}:{}", file.display(), error.span().start().line),
                rule: "a source file consists of Rust tokens".to_owned(),
                mend: error.to_string(),
            }];
        }
    };
    let mut violations = Vec::new();
    for path in paths {
        for rule in forbidden.iter().filter(|rule| path.meets(rule.path)) {
            violations.push(Violation {
                place: format!(
                    "{}:{}: {}",
                    file.display(),
                    path.line,
                    path.segments.join("::")
                ),
                rule: format!("a pure crate does not name {}", rule.path.join("::")),
                mend: rule.mend.to_owned(),
            });
        }
    }
    violations
}

/// A path as written, with the braces of a `use` multiplied out; a glob ends in `*`.
#[derive(Debug)]
struct SourcePath {
    segments: Vec<String>,
    line: usize,
}

impl SourcePath {
    fn meets(&self, forbidden: &[&str]) -> bool {
        let segments: Vec<&str> = self.segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            // Its own modules may be called what they like.
            ["crate" | "self" | "super", ..] => false,
            // A glob brings in what lies right below it.
            [parents @ .., "*"] => {
                forbidden.len() > parents.len() && forbidden.starts_with(parents)
            }
            // After `use std::time;` the rest of the path is enough.
            segments => {
                let tail = forbidden.get(1..).filter(|tail| tail.len() > 1);
                segments.starts_with(forbidden)
                    || tail.is_some_and(|tail| segments.starts_with(tail))
            }
        }
    }
}

fn paths(text: &str) -> Result<Vec<SourcePath>, LexError> {
    let tokens: TokenStream = text.parse()?;
    let mut paths = Vec::new();
    collect(tokens, &[], &mut paths);
    Ok(paths)
}

/// Adds the paths in `tokens`, each behind `prefix`: empty but for the inside of a `use` group.
///
/// Recursion is as deep as the brackets of our own sources are.
fn collect(tokens: TokenStream, prefix: &[String], paths: &mut Vec<SourcePath>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let first = match token {
            TokenTree::Group(group) => {
                collect(group.stream(), &[], paths);
                continue;
            }
            TokenTree::Punct(punct) if punct.as_char() == '*' && !prefix.is_empty() => {
                paths.push(extended(prefix, "*", punct.span()));
                continue;
            }
            // In `use ::std::thread` the keyword is no part of the path.
            TokenTree::Ident(ident) if BEFORE_A_PATH.iter().any(|keyword| ident == keyword) => {
                continue;
            }
            TokenTree::Ident(ident) => ident,
            TokenTree::Punct(_) | TokenTree::Literal(_) => continue,
        };
        let mut path = extended(prefix, &name(&first), first.span());
        while let Some(TokenTree::Punct(colon)) = tokens.peek() {
            if colon.as_char() != ':' || colon.spacing() != Spacing::Joint {
                break;
            }
            tokens.next();
            tokens.next();
            match tokens.peek() {
                Some(TokenTree::Ident(ident)) => path.segments.push(name(ident)),
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                    path.segments.push("*".to_owned());
                }
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    collect(group.stream(), &path.segments, paths);
                }
                _ => break,
            }
            tokens.next();
        }
        paths.push(path);
    }
}

fn extended(prefix: &[String], segment: &str, span: Span) -> SourcePath {
    let mut segments = prefix.to_vec();
    // `use std::thread::{self}` names the module itself.
    if segment != "self" || segments.is_empty() {
        segments.push(segment.to_owned());
    }
    SourcePath {
        segments,
        line: span.start().line,
    }
}

fn name(ident: &Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_owned()
}

/// Keywords that may stand right before a path which begins with `::`.
const BEFORE_A_PATH: [&str; 12] = [
    "as", "dyn", "else", "for", "if", "impl", "in", "match", "mut", "return", "use", "while",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::rules::FORBIDDEN;

    fn places(text: &str) -> Vec<String> {
        check(Path::new("lib.rs"), text, FORBIDDEN)
            .into_iter()
            .map(|violation| violation.place)
            .collect()
    }

    #[test]
    fn planted_names_fail_however_they_are_written() {
        for (text, path) in [
            ("use std::time::Instant;", "std::time::Instant"),
            ("use std::time::{Duration, Instant};", "std::time::Instant"),
            (
                "use std::{fmt, time::{Duration, SystemTime as Clock}};",
                "std::time::SystemTime",
            ),
            ("use ::std::time::Instant as Now;", "std::time::Instant"),
            ("use std::time::*;", "std::time::*"),
            ("use std::{time::*};", "std::time::*"),
            (
                "use std::time; fn f() { time::Instant::now(); }",
                "time::Instant::now",
            ),
            (
                "fn f() -> std::time::Instant { todo!() }",
                "std::time::Instant",
            ),
            (
                "fn f() { let now = std :: time :: Instant :: now(); }",
                "std::time::Instant::now",
            ),
            ("use std::thread;", "std::thread"),
            ("use std::{thread::{self, JoinHandle as J}};", "std::thread"),
            (
                "fn f() { std::thread::spawn(|| ()); }",
                "std::thread::spawn",
            ),
            ("use std::net::TcpStream;", "std::net::TcpStream"),
            (
                "macro_rules! m { () => { std::net::IpAddr::from([0; 4]) } }",
                "std::net::IpAddr::from",
            ),
            (
                "#[cfg(test)] mod tests { use tokio::time::sleep; }",
                "tokio::time::sleep",
            ),
            ("use tokio;", "tokio"),
            ("use std::hash::RandomState;", "std::hash::RandomState"),
        ] {
            assert!(
                places(text).contains(&format!("lib.rs:1: {path}")),
                "{text}: {:?}",
                places(text)
            );
        }
    }

    #[test]
    fn innocent_text_passes() {
        for text in [
            "/// Not a `std::time::Instant`.\n//! tokio::spawn\n// std::thread\nfn f() {}",
            "const TEXT: &str = \"std::time::Instant\"; const RAW: &str = r#\"tokio::spawn\"#;",
            "use std::time::Duration;",
            "use core::net::IpAddr;",
            "use crate::time::Instant; use super::*; use self::tokio::spawn;",
            "use tokio_util::codec::Decoder;",
            "fn f<'a>(text: &'a str) -> char { let tokio_free = 'a'; tokio_free }",
            "fn f() { instant.time(); Vec::<u8>::new(); }",
        ] {
            assert_eq!(places(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn line_of_the_name_is_told() {
        assert_eq!(
            places("use std::fmt;\n\nuse std::thread;\n"),
            ["lib.rs:3: std::thread"]
        );
    }

    #[test]
    fn violation_names_the_rule_and_how_to_mend_it() {
        let text = check(Path::new("lib.rs"), "use std::time::Instant;", FORBIDDEN)[0].to_string();
        assert!(
            text.contains("rule: a pure crate does not name std::time::Instant"),
            "{text}"
        );
        assert!(
            text.contains("mend: take the time as an argument"),
            "{text}"
        );
    }

    #[test]
    fn text_that_is_not_rust_is_reported() {
        assert_eq!(places("fn f() {\n    )\n}"), ["lib.rs:2"]);
    }
}
