//! The cases of the conformance tool, which are tests over a network.
//!
//! Each is declared as `case!(name, [V311, V5], ["3:MQTT-3.1.0-2", "5:MQTT-3.1.0-2"]),`.

use proc_macro2::{Delimiter, LexError, TokenStream, TokenTree};

/// Where they are declared, below the workspace's root.
pub(super) const FOLDER: &str = "crates/conformance/src/cases";

/// One declared case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) name: String,
    /// `V31`, `V311`, `V5`.
    pub(super) versions: Vec<String>,
    pub(super) statements: Vec<String>,
    pub(super) line: usize,
}

impl Case {
    /// Whether it runs in a version that `statement` binds.
    ///
    /// MQTT 3.1 has no numbered statements; there a case shows those of 3.1.1 that it names.
    pub(super) fn runs_for(&self, statement: &str) -> bool {
        let versions: &[&str] = match statement.split_once([':', '-']) {
            Some(("5" | "U5", _)) => &["V5"],
            Some(("3", _)) => &["V31", "V311"],
            Some(("U311", _)) => &["V311"],
            Some(("U31", _)) => &["V31"],
            _ => &[],
        };
        self.versions
            .iter()
            .any(|version| versions.contains(&version.as_str()))
    }
}

/// Every case in `text`.
pub(super) fn cases(text: &str) -> Result<Vec<Case>, LexError> {
    let mut cases = Vec::new();
    collect(text.parse()?, &mut cases);
    Ok(cases)
}

fn collect(tokens: TokenStream, cases: &mut Vec<Case>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => collect(group.stream(), cases),
            TokenTree::Ident(ident) if ident == "case" => {
                let is_call =
                    matches!(tokens.peek(), Some(TokenTree::Punct(mark)) if mark.as_char() == '!');
                if !is_call {
                    continue;
                }
                tokens.next();
                if let Some(TokenTree::Group(arguments)) = tokens.next() {
                    cases.extend(parse(arguments.stream(), ident.span().start().line));
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Reads the arguments of the macro; `None` for others than the three.
fn parse(arguments: TokenStream, line: usize) -> Option<Case> {
    let mut arguments = arguments.into_iter();
    let TokenTree::Ident(name) = arguments.next()? else {
        return None;
    };
    let mut lists = arguments.filter_map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
            Some(items(group.stream()))
        }
        _ => None,
    });
    Some(Case {
        name: name.to_string(),
        versions: lists.next()?,
        statements: lists.next()?,
        line,
    })
}

fn items(list: TokenStream) -> Vec<String> {
    let items = list.into_iter().filter_map(|token| match token {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        TokenTree::Literal(literal) => Some(literal.to_string().trim_matches('"').to_owned()),
        TokenTree::Group(_) | TokenTree::Punct(_) => None,
    });
    items.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "pub(crate) const CASES: &[Case] = &[\n    case!(second_connect, [V311, V5], [\"3:MQTT-3.1.0-2\", \"5:MQTT-3.1.0-2\"]),\n    case!(\n        pings,\n        [V31],\n        [\"U31-001\"]\n    ),\n];\nfn other() { let case = 1; case!(oops); }\n";

    #[test]
    fn declared_cases_are_read() {
        let cases = cases(TEXT).unwrap();
        let second = &cases[0];
        assert_eq!((second.name.as_str(), second.line), ("second_connect", 2));
        assert_eq!(second.versions, ["V311", "V5"]);
        assert_eq!(second.statements, ["3:MQTT-3.1.0-2", "5:MQTT-3.1.0-2"]);
        assert_eq!((cases[1].name.as_str(), cases[1].line), ("pings", 3));
        assert_eq!(cases.len(), 2);
    }

    #[test]
    fn case_counts_in_the_versions_it_runs_in() {
        let cases = cases(TEXT).unwrap();
        let runs = |case: usize| {
            let ids = [
                "5:MQTT-3.1.0-2",
                "U5-001",
                "3:MQTT-3.1.0-2",
                "U311-001",
                "U31-001",
            ];
            ids.map(|id| cases[case].runs_for(id))
        };
        assert_eq!(runs(0), [true, true, true, true, false]);
        assert_eq!(runs(1), [false, false, true, false, true]);
    }
}
