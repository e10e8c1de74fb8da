//! What `strace -f -ttt -T -xx -yy` writes, as [`Call`]s.

use std::collections::HashMap;

/// A system call on a descriptor, from its beginning to its return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) target: Target,
    /// Microseconds since the epoch.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// What was written or read; none of it when the call failed.
    pub(crate) data: Vec<u8>,
    pub(crate) result: i64,
}

/// What a descriptor stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    File(String),
    /// A TCP connection, by the port of the peer.
    Socket(u16),
    Other,
}

/// Reads a trace. Lines that are no calls on a descriptor, as those about signals, are left out.
pub(crate) fn parse(text: &str) -> Vec<Call> {
    let mut unfinished: HashMap<&str, (u64, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let Some((time, rest)) = rest.trim_start().split_once(' ') else {
            continue;
        };
        let Some(time) = micros(time) else { continue };
        if let Some(begin) = rest.strip_suffix(UNFINISHED) {
            unfinished.insert(pid, (time, begin));
            continue;
        }
        let call = match rest.strip_prefix("<... ") {
            None => read_call(time, "", rest),
            Some(resumed) => {
                let tail = resumed.split_once(RESUMED).map(|(_, tail)| tail);
                let begun = unfinished.remove(pid);
                begun
                    .zip(tail)
                    .and_then(|((start, begin), tail)| read_call(start, begin, tail))
            }
        };
        calls.extend(call);
    }
    calls.sort_by_key(|call| call.start);
    calls
}

/// Reads a call whose text is in two pieces, the first of which may be empty.
fn read_call(start: u64, begin: &str, tail: &str) -> Option<Call> {
    let whole;
    let text = if begin.is_empty() {
        tail
    } else {
        whole = [begin, tail].concat();
        &whole
    };
    let (name, arguments) = text.split_once('(')?;
    let (arguments, outcome) = arguments.rsplit_once(") = ")?;
    let mut outcome = outcome.split_whitespace();
    let result: i64 = outcome.next()?.parse().ok()?;
    let took = outcome.next_back()?;
    let took = took.strip_prefix('<')?.strip_suffix('>')?;
    let descriptor = arguments.split_once('<')?.1;
    // "->" is within it, "<" and ">" of a path are escaped.
    let end = descriptor.find(['"', ',']).unwrap_or(descriptor.len());
    let descriptor = descriptor.get(..end)?.trim_end_matches([')', ' ']);
    let target = read_target(descriptor.strip_suffix('>').unwrap_or(descriptor));
    let mut data: Vec<u8> = arguments
        .split('"')
        .skip(1)
        .step_by(2)
        .flat_map(unescape)
        .collect();
    data.truncate(usize::try_from(result).unwrap_or(0));
    Some(Call {
        name: name.to_owned(),
        target,
        start,
        end: start + micros(took)?,
        data,
        result,
    })
}

fn read_target(text: &str) -> Target {
    if let Some(addresses) = text.strip_prefix("TCP:[") {
        let port = addresses.trim_end_matches(']').rsplit(':').next();
        let port = port.and_then(|port| port.parse().ok());
        return port.map_or(Target::Other, Target::Socket);
    }
    let path = unescape(text);
    match path.first() {
        Some(b'/') => Target::File(String::from_utf8_lossy(&path).into_owned()),
        _ => Target::Other,
    }
}

/// `\x41\x42`, or plain text.
fn unescape(text: &str) -> Vec<u8> {
    if !text.starts_with("\\x") {
        return text.as_bytes().to_vec();
    }
    let digits = text.split("\\x").skip(1);
    digits
        .filter_map(|two| u8::from_str_radix(two.get(..2)?, 16).ok())
        .collect()
}

/// Seconds with six decimals.
fn micros(text: &str) -> Option<u64> {
    let (seconds, micros) = text.split_once('.')?;
    if micros.len() != 6 {
        return None;
    }
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?)
}

const UNFINISHED: &str = " <unfinished ...>";
const RESUMED: &str = " resumed>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_whole_and_in_two_pieces() {
        let text = r#"7 1700000000.000010 pwrite64(5<\x2f\x61\x2c>, "\x01\x02\x03"..., 9, 4096) = 3 <0.000004>
8 1700000000.000011 fdatasync(5<\x2f\x61\x2c> <unfinished ...>
7 1700000000.000020 sendto(6<TCP:[127.0.0.1:1883->127.0.0.1:43602]>, "\x40\x02", 2, MSG_NOSIGNAL, NULL, 0) = 2 <0.000101>
8 1700000000.000500 <... fdatasync resumed>) = 0 <0.000480>
7 1700000000.000600 recvfrom(6<TCP:[127.0.0.1:1883->127.0.0.1:43602]>, 0x7f00, 64, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable) <0.000002>
7 1700000000.000700 writev(6<TCP:[127.0.0.1:1883->127.0.0.1:43602]>, [{iov_base="\x31", iov_len=1}, {iov_base="\x32\x33", iov_len=2}], 2) = 2 <0.000001>
7 1700000000.000800 +++ exited with 0 +++
"#;
        let calls = parse(text);
        let file = Target::File("/a,".to_owned());
        let seen: Vec<_> = calls
            .iter()
            .map(|call| (call.name.as_str(), &call.target, call.data.as_slice()))
            .collect();
        let socket = Target::Socket(43_602);
        assert_eq!(
            seen,
            [
                ("pwrite64", &file, &[1, 2, 3][..]),
                ("fdatasync", &file, &[]),
                ("sendto", &socket, &[0x40, 2]),
                ("recvfrom", &socket, &[]),
                ("writev", &socket, &[0x31, 0x32]),
            ]
        );
        let sync = &calls[1];
        assert_eq!((sync.end - sync.start, sync.result), (480, 0));
        assert_eq!(calls[0].start, 1_700_000_000_000_010);
    }
}
