//! The test functions of a source file, and the lines that belong to each.

use std::ops::RangeInclusive;

use proc_macro2::{Delimiter, Group, LexError, TokenStream, TokenTree};

/// A test that runs: not one that is marked `#[ignore]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TestFunction {
    /// With the modules inside the file around it, as in `tests::name`.
    pub(super) name: String,
    /// From the comment directly above its attributes to its closing brace, counted from one.
    pub(super) lines: RangeInclusive<usize>,
}

/// Every `#[test]` function in `text`, whoever's attribute of that name it is, also in `proptest!`.
pub(super) fn test_functions(text: &str) -> Result<Vec<TestFunction>, LexError> {
    let tokens: TokenStream = text.parse()?;
    let mut functions = Vec::new();
    collect(tokens, "", &mut functions);
    let lines: Vec<&str> = text.lines().collect();
    for function in &mut functions {
        let end = *function.lines.end();
        let first = first_comment(&lines, *function.lines.start());
        function.lines = first..=end;
    }
    Ok(functions)
}

/// Adds the tests in `tokens`, which stand in the modules `path`.
///
/// Recursion is as deep as the brackets of our own sources are.
fn collect(tokens: TokenStream, path: &str, functions: &mut Vec<TestFunction>) {
    let mut tokens = tokens.into_iter().peekable();
    let mut item = Item::default();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                if let Some(TokenTree::Group(attribute)) = tokens.peek() {
                    item.attribute(punct.span().start().line, attribute);
                    tokens.next();
                }
            }
            TokenTree::Ident(keyword) if keyword == "fn" || keyword == "mod" => {
                if let Some(TokenTree::Ident(name)) = tokens.peek() {
                    item.begin(keyword == "fn", name.to_string());
                }
            }
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                let inner = match (&item.name, item.is_function) {
                    (Some(name), true) => {
                        if item.is_test && !item.is_ignored {
                            functions.push(TestFunction {
                                name: joined(path, name),
                                lines: item.first_line..=group.span_close().end().line,
                            });
                        }
                        None
                    }
                    (Some(name), false) => Some(joined(path, name)),
                    (None, _) => Some(path.to_owned()),
                };
                if let Some(inner) = inner {
                    collect(group.stream(), &inner, functions);
                }
                item = Item::default();
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => item = Item::default(),
            TokenTree::Group(_)
            | TokenTree::Ident(_)
            | TokenTree::Punct(_)
            | TokenTree::Literal(_) => {}
        }
    }
}

/// What has been read of an item that may turn out to be a test.
#[derive(Debug, Default)]
struct Item {
    /// Of its first attribute.
    first_line: usize,
    is_test: bool,
    is_ignored: bool,
    is_function: bool,
    name: Option<String>,
}

impl Item {
    fn attribute(&mut self, line: usize, attribute: &Group) {
        if self.first_line == 0 {
            self.first_line = line;
        }
        // The path is what stands before any arguments: `tokio::test(flavor = "…")`.
        let path = attribute.stream().into_iter();
        let path = path.take_while(|token| !matches!(token, TokenTree::Group(_)));
        let last = path.filter_map(|token| match token {
            TokenTree::Ident(ident) => Some(ident.to_string()),
            _ => None,
        });
        match last.last().as_deref() {
            Some("test") => self.is_test = true,
            Some("ignore") => self.is_ignored = true,
            _ => {}
        }
    }

    fn begin(&mut self, is_function: bool, name: String) {
        self.is_function = is_function;
        self.name = Some(name);
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}::{name}")
    }
}

/// The first line of the comment that ends directly above `line`, or `line` itself.
fn first_comment(lines: &[&str], line: usize) -> usize {
    let above = lines.iter().take(line.saturating_sub(1)).rev();
    line - above
        .take_while(|text| text.trim_start().starts_with("//"))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, usize, usize)> {
        let functions = test_functions(text).unwrap().into_iter();
        let parts = functions.map(|one| (one.name, *one.lines.start(), *one.lines.end()));
        parts.collect()
    }

    #[test]
    fn test_reaches_from_the_comment_above_to_its_brace() {
        let text = "fn helper() {}\n\n// no part\n\n// [1]\n/// [2]\n#[test]\n// [3]\nfn one() {\n    let x = \"}\";\n}\n// no part\n";
        assert_eq!(found(text), [("one".to_owned(), 5, 11)]);
    }

    #[test]
    fn tests_are_found_in_modules_macros_and_with_arguments() {
        let text = "#[cfg(test)]\nmod tests {\n    #[tokio::test(flavor = \"current_thread\")]\n    async fn one() {}\n    mod inner {\n        #[test]\n        fn two() {}\n    }\n}\nproptest! {\n    #![proptest_config(config())]\n    #[test]\n    fn three(x in 0..3) {\n        body(x);\n    }\n}\n";
        assert_eq!(
            found(text),
            [
                ("tests::one".to_owned(), 3, 4),
                ("tests::inner::two".to_owned(), 6, 7),
                ("three".to_owned(), 12, 15),
            ]
        );
    }

    #[test]
    fn what_does_not_run_is_no_test() {
        let text = "#[test]\n#[ignore = \"slow\"]\nfn one() {}\n#[bench]\nfn two() {}\n#[test]\nmod x;\nfn three() {}\n#[cfg(test)]\nfn four() {}\n";
        assert_eq!(found(text), []);
    }

    #[test]
    fn function_inside_a_test_is_part_of_it() {
        let text = "#[test]\nfn one() {\n    fn inner() {}\n    inner();\n}\n#[test]\nfn two() -> Result<(), Error> {\n}\n";
        assert_eq!(
            found(text),
            [("one".to_owned(), 1, 5), ("two".to_owned(), 6, 8)]
        );
    }
}
