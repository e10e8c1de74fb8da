//! The reader of `vectors.txt`, which says itself how it is written.

use whimbrel_codec::ProtocolVersion;

/// One line of the table in one version.
pub(crate) struct Vector {
    pub(crate) version: ProtocolVersion,
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) bytes: Vec<u8>,
    pub(crate) expectation: Outcome,
    pub(crate) statements: Vec<String>,
}

/// What comes of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    More,
    /// It is a packet, and encoded to these bytes.
    Packet(Vec<u8>),
    Error {
        kind: String,
        reason_code: String,
    },
    /// What no line of the table expects.
    Other(String),
}

pub(crate) fn all() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for (index, text) in include_str!("vectors.txt").lines().enumerate() {
        if text.trim().is_empty() || text.starts_with('#') {
            continue;
        }
        let line = index + 1;
        let columns: Vec<&str> = text.split('|').map(str::trim).collect();
        let [versions, name, bytes, expectation, statements] = columns[..] else {
            panic!("line {line} has not five columns");
        };
        for version in parse_versions(versions) {
            vectors.push(Vector {
                version,
                name: name.to_owned(),
                line,
                bytes: parse_bytes(bytes),
                expectation: parse_expectation(expectation, bytes),
                statements: statements.split_whitespace().map(str::to_owned).collect(),
            });
        }
    }
    vectors
}

/// Reads the `bytes` column.
pub(crate) fn parse_bytes(text: &str) -> Vec<u8> {
    let mut open = vec![Vec::new()];
    for token in text.split_whitespace() {
        if token == "{" {
            open.push(Vec::new());
            continue;
        }
        if token == "}" {
            let inner = open.pop().expect("a brace is open");
            let outer = open.last_mut().expect("a brace is open");
            put_variable(outer, inner.len());
            outer.extend(inner);
            continue;
        }
        let bytes = open.last_mut().expect("all braces are closed");
        if let Some(text) = token.strip_prefix("s'") {
            let text = text.strip_suffix('\'').expect("a closing quote");
            bytes.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
            bytes.extend(text.as_bytes());
        } else if let Some(text) = token.strip_prefix('\'') {
            bytes.extend(text.strip_suffix('\'').expect("a closing quote").as_bytes());
        } else {
            let (byte, count) = token.split_once('*').unwrap_or((token, "1"));
            let byte = u8::from_str_radix(byte, 16).expect("a byte in two digits");
            bytes.extend(std::iter::repeat_n(byte, count.parse().unwrap()));
        }
    }
    let [bytes] = <[Vec<u8>; 1]>::try_from(open).expect("all braces are closed");
    bytes
}

fn parse_versions(text: &str) -> Vec<ProtocolVersion> {
    let versions = text.split_whitespace().map(|version| match version {
        "3.1" => vec![ProtocolVersion::V31],
        "3.1.1" => vec![ProtocolVersion::V311],
        "5" => vec![ProtocolVersion::V5],
        "3" => vec![ProtocolVersion::V31, ProtocolVersion::V311],
        "all" => vec![
            ProtocolVersion::V31,
            ProtocolVersion::V311,
            ProtocolVersion::V5,
        ],
        _ => panic!("no version {version}"),
    });
    versions.flatten().collect()
}

fn parse_expectation(text: &str, bytes: &str) -> Outcome {
    match text.split_once(' ').unwrap_or((text, "")) {
        ("same", "") => Outcome::Packet(parse_bytes(bytes)),
        ("as", bytes) => Outcome::Packet(parse_bytes(bytes)),
        ("more", "") => Outcome::More,
        ("error", error) => {
            let (kind, reason_code) = error.split_once(' ').expect("a kind and a code");
            Outcome::Error {
                kind: kind.to_owned(),
                reason_code: reason_code.to_owned(),
            }
        }
        _ => panic!("no expectation {text}"),
    }
}

fn put_variable(out: &mut Vec<u8>, length: usize) {
    let mut rest = length;
    loop {
        let low = u8::try_from(rest % 128).unwrap();
        rest /= 128;
        if rest == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}
