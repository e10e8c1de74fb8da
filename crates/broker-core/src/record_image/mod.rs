//! Serial forms of what outlives a process: on the disk, and later between nodes.
//!
//! Each begins with a version byte. Integers are varints (seven bits a byte, lowest first), strings and byte strings have
//! their length in front. Any bytes decode to a value or an error, and cost no more memory than a small multiple of their
//! length.

mod message;
mod reader;
mod session;
mod subscription;
mod window;

use crate::holders::put_varint;

/// Bytes that are no serial form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Of a version that is not known here: most likely written by a newer one.
    #[error("serial form of version {version}, which is not known")]
    Version {
        /// The version found.
        version: u8,
    },
    /// The bytes end too early.
    #[error("serial form ends too early, at byte {at}")]
    Truncated {
        /// Where.
        at: usize,
    },
    /// What stands there can't be.
    #[error("serial form is malformed at byte {at}")]
    Malformed {
        /// Where.
        at: usize,
    },
}

/// The version of all forms but the message image, which counts its own.
const VERSION: u8 = 1;

const QOS: u8 = 0b11;
const RETAIN: u8 = 0b100;
const HAS_IDS: u8 = 0b1000;

/// The bit, if it is set.
fn flag(is_set: bool, bit: u8) -> u8 {
    if is_set { bit } else { 0 }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
