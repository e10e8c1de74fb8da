//! Tables of vectors whose rows carry ids, and the test that runs each table.

/// A table and its test.
#[derive(Debug)]
pub(super) struct VectorTable {
    /// Below the workspace's root.
    pub(super) path: &'static str,
    /// As [`super::scan::Test`] names it.
    pub(super) test: (&'static str, &'static str),
}

/// All of them.
pub(super) const TABLES: &[VectorTable] = &[VectorTable {
    path: "crates/codec/tests/wire/vectors.txt",
    test: (
        "codec",
        "wire::vectors::every_vector_is_decoded_as_the_table_says",
    ),
}];

/// A row with its ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) name: &'a str,
    pub(super) statements: &'a str,
    pub(super) line: usize,
}

/// The rows of `text`: columns between bars, the name in the second and the ids in the last.
pub(super) fn rows(text: &str) -> Vec<Row<'_>> {
    let lines = text.lines().enumerate();
    let rows = lines
        .filter(|(_, text)| !text.starts_with('#'))
        .filter_map(|(index, text)| {
            let columns: Vec<&str> = text.split('|').map(str::trim).collect();
            let [_, name, .., statements] = columns.as_slice() else {
                return None;
            };
            Some(Row {
                name,
                statements,
                line: index + 1,
            })
        });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_their_name_line_and_ids() {
        let text = "# versions | name | bytes | expectation | MQTT-1.5.4-1\n\nall | a row | 00 | same | U5-005 U311-002\n";
        let row = Row {
            name: "a row",
            statements: "U5-005 U311-002",
            line: 3,
        };
        assert_eq!(rows(text), [row]);
    }
}
