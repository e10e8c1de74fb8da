//! The table of packets in `vectors.txt`: valid ones, and malformed twins with the exact error.

use std::collections::BTreeSet;

use whimbrel_codec::{
    DecodeError, DecodeErrorKind, Limits, PacketType, ProtocolVersion, decode_ref,
};

use crate::table::{self, Outcome, Vector};

#[test]
fn every_vector_is_decoded_as_the_table_says() {
    let vectors = table::all();
    assert!(vectors.len() > 250, "the table was not read");
    let failures: Vec<String> = vectors.iter().filter_map(failure).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_vector_gives_the_same_however_it_is_cut() {
    for vector in table::all() {
        let whole = decode_ref(&vector.bytes, vector.version, &Limits::DEFAULT);
        for end in 0..vector.bytes.len().min(200) {
            let cut = decode_ref(&vector.bytes[..end], vector.version, &Limits::DEFAULT);
            // An error may be seen from the header already, but it is the same one.
            assert!(
                cut == Ok(None) || cut == whole,
                "{}: {end} bytes",
                vector.name
            );
        }
    }
}

#[test]
fn every_reason_code_may_be_sent_to_close() {
    for vector in table::all() {
        let decoded = decode_ref(&vector.bytes, vector.version, &Limits::DEFAULT);
        let Err(error) = decoded else { continue };
        let reason = error.reason_code();
        let is_connect = PacketType::from_first_byte(vector.bytes[0]) == Some(PacketType::Connect);
        let answer = if is_connect {
            PacketType::ConnAck
        } else {
            PacketType::Disconnect
        };
        assert!(
            reason.allowed_in(answer),
            "{}: {reason} in {answer}",
            vector.name
        );
    }
}

#[test]
fn errors_know_the_version_once_the_peer_has_said_it() {
    for vector in table::all() {
        let decoded = decode_ref(&vector.bytes, vector.version, &Limits::DEFAULT);
        let Err(error) = decoded else { continue };
        // The remaining length has one byte, or two in the vectors where it is over-long.
        let body = vector.bytes.get(2..).unwrap_or_default();
        let body = body.strip_prefix(b"\0\0\x04").map_or(body, |_| &body[1..]);
        let is_connect = vector.bytes[0] >> 4 == 1;
        let level = match body {
            [0, 4, b'M', b'Q', b'T', b'T', level, ..] if is_connect => Some(*level),
            [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', level, ..] if is_connect => Some(*level),
            _ if is_connect => None,
            _ => Some(vector.version.level()),
        };
        let level = level.filter(|_| {
            let unsupported =
                |kind| matches!(kind, DecodeErrorKind::ProtocolLevelUnsupported { .. });
            !unsupported(error.kind())
        });
        let known = error.version().map(ProtocolVersion::level);
        assert_eq!(known, level, "{}", vector.name);
    }
}

#[test]
fn every_packet_type_has_a_vector_in_every_version_that_has_it() {
    let valid = table::all().into_iter();
    let valid = valid.filter(|vector| matches!(vector.expectation, Outcome::Packet(_)));
    let seen: BTreeSet<_> = valid
        .map(|vector| (vector.version, PacketType::from_first_byte(vector.bytes[0])))
        .collect();
    for version in [
        ProtocolVersion::V31,
        ProtocolVersion::V311,
        ProtocolVersion::V5,
    ] {
        for packet_type in PacketType::ALL {
            let exists = packet_type != PacketType::Auth || version.is_v5();
            let has_vector = seen.contains(&(version, Some(packet_type)));
            assert_eq!(has_vector, exists, "{packet_type} in {version}");
        }
    }
}

/// The clause of an error as the table writes it, with its standard.
fn named(error: &DecodeError) -> String {
    let clause = error.clause();
    let standard = match error.version() {
        _ if !clause.starts_with("MQTT-") => "",
        Some(ProtocolVersion::V31 | ProtocolVersion::V311) => "3:",
        Some(ProtocolVersion::V5) | None => "5:",
    };
    format!("{standard}{clause}")
}

/// What is wrong with a vector.
fn failure(vector: &Vector) -> Option<String> {
    let decoded = decode_ref(&vector.bytes, vector.version, &Limits::DEFAULT);
    let outcome = match decoded {
        Ok(None) => Outcome::More,
        Ok(Some(decoded)) => {
            let mut bytes = Vec::new();
            let packet = decoded.packet.into_owned();
            match packet.encode(vector.version, &mut bytes) {
                Ok(()) if decoded.length == vector.bytes.len() => Outcome::Packet(bytes),
                result => Outcome::Other(format!("length {}, {result:?}", decoded.length)),
            }
        }
        Err(error) if !vector.statements.contains(&named(&error)) => {
            Outcome::Other(format!("{error}, a clause not in the table"))
        }
        Err(error) => Outcome::Error {
            // `Debug` without its spaces.
            kind: format!("{:?}", error.kind()).replace(' ', ""),
            reason_code: format!("{:?}", error.reason_code()),
        },
    };
    let Vector {
        version,
        name,
        line,
        ..
    } = vector;
    (outcome != vector.expectation).then(|| format!("line {line}, {version}: {name}: {outcome:?}"))
}
