//! Finds, for every packet that promises something, the sync that covers it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use whimbrel_codec::{Limits, PacketId, PacketRef, PacketType, ProtocolVersion, QoS, decode_ref};

use super::trace::{Call, Target};
use crate::account::{Account, Violation};
use crate::message::{self, HEADER_BYTES};

/// A connection of the judge's clients.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) port: u16,
    pub(crate) client_id: String,
    pub(crate) version: ProtocolVersion,
}

/// How many packets of each type were proven to have waited.
#[derive(Clone, Debug, Default)]
pub struct SyncReport {
    /// By type; PUBLISH and PUBREL are those that the broker sent.
    pub proven: BTreeMap<&'static str, u64>,
    /// Calls of fdatasync and fsync on the store.
    pub syncs: usize,
    /// Calls that wrote to the store.
    pub writes: usize,
}

/// Compares the trace of a broker with what its clients were told.
pub(crate) fn judge(
    calls: &[Call],
    data_dir: &str,
    connections: &[Connection],
    account: &Account,
) -> SyncReport {
    let store = Store::new(calls, data_dir);
    let mut report = SyncReport {
        proven: BTreeMap::new(),
        syncs: store.syncs.len(),
        writes: store.writes.len(),
    };
    for connection in connections {
        let mut packets = packets(calls, connection, Direction::In, account);
        packets.extend(packets_out(calls, connection, account));
        packets.sort_by_key(|packet| packet.at);
        follow(connection, &packets, &store, account, &mut report);
    }
    report
}

/// The calls that change what is on the disk.
struct Store<'a> {
    writes: Vec<&'a Call>,
    /// The writes that have a message's header in them.
    writes_of: HashMap<[u8; HEADER_BYTES], Vec<&'a Call>>,
    syncs: Vec<&'a Call>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

/// A packet as it passed the broker's socket.
#[derive(Clone, Debug)]
struct Seen {
    direction: Direction,
    packet_type: PacketType,
    id: u16,
    qos: QoS,
    /// What must be in a write to the store: of a PUBLISH its header, of a SUBSCRIBE its filter.
    marker: Vec<u8>,
    is_refusal: bool,
    /// In: the return of the call that read its end. Out: the beginning of the call that wrote its beginning.
    at: u64,
}

impl<'a> Store<'a> {
    fn new(calls: &'a [Call], data_dir: &str) -> Self {
        let of_store = || {
            calls.iter().filter(
                |call| matches!(&call.target, Target::File(path) if path.starts_with(data_dir)),
            )
        };
        let writes: Vec<&Call> = of_store()
            .filter(|call| call.name.contains("write"))
            .collect();
        let mut writes_of: HashMap<_, Vec<_>> = HashMap::new();
        for &write in &writes {
            for header in message::headers(&write.data) {
                writes_of.entry(header).or_default().push(write);
            }
        }
        Self {
            writes,
            writes_of,
            syncs: of_store()
                .filter(|call| call.name.ends_with("sync") && call.result == 0)
                .collect(),
        }
    }

    /// Whether what came at `after` was written, and synced, before `before`.
    ///
    /// A sync covers a write that had returned when it began, and helps who waits once it has returned.
    fn covers(&self, marker: &[u8], after: u64, before: u64) -> Coverage {
        let mut coverage = Coverage::NotWritten;
        let header = marker.try_into().ok();
        let found = header.and_then(|header: [u8; HEADER_BYTES]| self.writes_of.get(&header));
        for write in found.unwrap_or(&self.writes) {
            if write.start < after || write.end > before {
                continue;
            }
            if found.is_none() && !contains(&write.data, marker) {
                continue;
            }
            coverage = Coverage::NotSynced;
            let is_synced = self.syncs.iter().any(|sync| {
                sync.target == write.target && sync.start >= write.end && sync.end <= before
            });
            if is_synced {
                return Coverage::Synced;
            }
        }
        coverage
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coverage {
    NotWritten,
    NotSynced,
    Synced,
}

/// What a client has asked for on its connection, and when that came.
#[derive(Default)]
struct Asked {
    connect: Option<u64>,
    subscribe: HashMap<u16, Seen>,
    publish: HashMap<u16, Seen>,
    release: HashMap<u16, u64>,
    received: HashMap<u16, u64>,
}

fn follow(
    connection: &Connection,
    packets: &[Seen],
    store: &Store<'_>,
    account: &Account,
    report: &mut SyncReport,
) {
    let mut asked = Asked::default();
    for packet in packets {
        if packet.direction == Direction::In {
            match packet.packet_type {
                PacketType::Connect => asked.connect = Some(packet.at),
                PacketType::Subscribe => drop(asked.subscribe.insert(packet.id, packet.clone())),
                PacketType::Publish => drop(asked.publish.insert(packet.id, packet.clone())),
                PacketType::PubRel => drop(asked.release.insert(packet.id, packet.at)),
                PacketType::PubRec => drop(asked.received.insert(packet.id, packet.at)),
                _ => {}
            }
            continue;
        }
        if packet.is_refusal {
            let text = format!(
                "{}: {:?} {} refused",
                connection.client_id, packet.packet_type, packet.id
            );
            account.found(Violation::Refused, text);
            continue;
        }
        // What has to be on the disk, and since when: marker and time.
        let publish = asked.publish.get(&packet.id);
        let needs: Option<Vec<(&[u8], u64)>> = match packet.packet_type {
            PacketType::ConnAck => asked
                .connect
                .map(|at| vec![(connection.client_id.as_bytes(), at)]),
            PacketType::SubAck => {
                let subscribe = asked.subscribe.get(&packet.id);
                subscribe.map(|subscribe| vec![(subscribe.marker.as_slice(), subscribe.at)])
            }
            PacketType::PubAck | PacketType::PubRec => {
                publish.map(|publish| vec![(publish.marker.as_slice(), publish.at)])
            }
            // The message, and anything at all that was written after the PUBREL: its release has no marker.
            PacketType::PubComp => {
                publish
                    .zip(asked.release.get(&packet.id))
                    .map(|(publish, &released)| {
                        vec![(publish.marker.as_slice(), publish.at), (&[], released)]
                    })
            }
            PacketType::Publish if packet.qos == QoS::ExactlyOnce => {
                Some(vec![(packet.marker.as_slice(), 0)])
            }
            PacketType::PubRel => {
                let received = asked.received.get(&packet.id);
                received.map(|&received| vec![(&[][..], received)])
            }
            _ => continue,
        };
        let name = name_of(packet.packet_type);
        let Some(needs) = needs else {
            let text = format!(
                "{}: {name} {} that nothing had asked for",
                connection.client_id, packet.id
            );
            account.found(Violation::PacketIdentifier, text);
            continue;
        };
        let missing = needs
            .into_iter()
            .map(|(marker, after)| store.covers(marker, after, packet.at))
            .find(|&coverage| coverage != Coverage::Synced);
        match missing {
            None => *report.proven.entry(name).or_default() += 1,
            Some(coverage) => {
                let text = format!(
                    "{}: {name} {} left at {}, and what it promises was {}",
                    connection.client_id,
                    packet.id,
                    Time(packet.at),
                    match coverage {
                        Coverage::NotWritten => "not written by then",
                        _ => "written by then, but not synced",
                    }
                );
                account.found(Violation::AckBeforeSync, text);
            }
        }
    }
}

fn packets_out(calls: &[Call], connection: &Connection, account: &Account) -> Vec<Seen> {
    packets(calls, connection, Direction::Out, account)
}

/// The packets that went over a connection in one direction.
fn packets(
    calls: &[Call],
    connection: &Connection,
    direction: Direction,
    account: &Account,
) -> Vec<Seen> {
    let names: &[&str] = match direction {
        Direction::In => &["read", "recvfrom", "recvmsg", "readv"],
        Direction::Out => &["write", "sendto", "sendmsg", "writev"],
    };
    let calls = calls.iter().filter(|call| {
        call.target == Target::Socket(connection.port) && names.contains(&call.name.as_str())
    });
    let mut bytes = Vec::new();
    // Where in `bytes` each call begins, and its own beginning and return.
    let mut places = Vec::new();
    for call in calls {
        places.push((bytes.len(), call.start, call.end));
        bytes.extend_from_slice(&call.data);
    }
    let call_of = |offset: usize| {
        let index = places.partition_point(|&(begin, ..)| begin <= offset);
        index.checked_sub(1).and_then(|index| places.get(index))
    };
    let mut packets = Vec::new();
    let mut offset = 0;
    while let Some(rest) = bytes.get(offset..) {
        let decoded = match decode_ref(rest, connection.version, &Limits::PROTOCOL) {
            Ok(Some(decoded)) => decoded,
            Ok(None) => break,
            Err(error) => {
                let text = format!(
                    "{}, {direction:?}, byte {offset}: the trace has no packet there: {error}",
                    connection.client_id
                );
                account.found(Violation::Damaged, text);
                break;
            }
        };
        let at = match direction {
            Direction::In => call_of(offset + decoded.length - 1).map(|&(_, _, end)| end),
            Direction::Out => call_of(offset).map(|&(_, start, _)| start),
        };
        packets.push(describe(decoded.packet, direction, at.unwrap_or(0)));
        offset += decoded.length;
    }
    packets
}

fn describe(packet: PacketRef<'_>, direction: Direction, at: u64) -> Seen {
    let mut seen = Seen {
        direction,
        packet_type: packet.packet_type(),
        id: 0,
        qos: QoS::AtMostOnce,
        marker: Vec::new(),
        is_refusal: false,
        at,
    };
    match packet {
        PacketRef::Publish(publish) => {
            seen.id = publish.packet_id().map_or(0, PacketId::get);
            seen.qos = publish.qos();
            let payload = publish.payload();
            if message::read(payload).is_some() {
                seen.marker = payload.get(..HEADER_BYTES).unwrap_or_default().to_vec();
            }
        }
        PacketRef::PubAck(ack)
        | PacketRef::PubRec(ack)
        | PacketRef::PubRel(ack)
        | PacketRef::PubComp(ack) => {
            seen.id = ack.id.get();
            seen.is_refusal = ack.reason.is_error();
        }
        PacketRef::Subscribe(subscribe) => {
            seen.id = subscribe.id.get();
            let first = subscribe.filters().next();
            seen.marker = first.map_or(Vec::new(), |filter| filter.filter.as_bytes().to_vec());
        }
        PacketRef::SubAck(suback) => seen.id = suback.id.get(),
        _ => {}
    }
    seen
}

fn name_of(packet_type: PacketType) -> &'static str {
    match packet_type {
        PacketType::ConnAck => "CONNACK",
        PacketType::SubAck => "SUBACK",
        PacketType::PubAck => "PUBACK",
        PacketType::PubRec => "PUBREC",
        PacketType::PubComp => "PUBCOMP",
        PacketType::Publish => "PUBLISH",
        PacketType::PubRel => "PUBREL",
        _ => "packet",
    }
}

/// An empty marker is in every write.
fn contains(data: &[u8], marker: &[u8]) -> bool {
    marker.is_empty() || data.windows(marker.len()).any(|window| window == marker)
}

/// Microseconds since the epoch, as the trace has them.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl fmt::Display for SyncReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} writes and {} syncs of the store",
            self.writes, self.syncs
        )?;
        for (name, count) in &self.proven {
            write!(f, "; {count} {name}")?;
        }
        write!(f, " left after the sync that covers them")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/data/store";
    const PORT: u16 = 4_000;

    fn call(name: &str, target: Target, start: u64, end: u64, data: &[u8]) -> Call {
        Call {
            name: name.to_owned(),
            target,
            start,
            end,
            data: data.to_vec(),
            result: if name == "fdatasync" {
                0
            } else {
                data.len() as i64
            },
        }
    }

    /// A QoS 1 message comes at 10; written from 20 to 30, synced from `sync` on for 10, acknowledged at `ack`.
    fn counts(sync: u64, ack: u64) -> (u64, usize) {
        let name = message::MessageName {
            publisher: 1,
            stream: 2,
            number: 3,
        };
        let payload = message::payload(name, 16);
        let publish = [b"\x32\x15\x00\x01t\x00\x07".as_slice(), &payload].concat();
        let file = || Target::File(PATH.to_owned());
        let mut calls = vec![
            call("recvfrom", Target::Socket(PORT), 9, 10, &publish),
            call(
                "pwrite64",
                file(),
                20,
                30,
                &[b"page ", payload.as_slice()].concat(),
            ),
            call("fdatasync", file(), sync, sync + 10, &[]),
            call(
                "sendto",
                Target::Socket(PORT),
                ack,
                ack + 1,
                b"\x40\x02\x00\x07",
            ),
        ];
        calls.sort_by_key(|call| call.start);
        let connection = Connection {
            port: PORT,
            client_id: "client".to_owned(),
            version: ProtocolVersion::V311,
        };
        let account = Account::new();
        let report = judge(&calls, "/data", &[connection], &account);
        let proven = report.proven.get("PUBACK").copied().unwrap_or(0);
        (proven, account.texts().len())
    }

    #[test]
    fn an_acknowledgement_after_its_sync_is_proven() {
        assert_eq!(counts(30, 40), (1, 0));
        assert_eq!(counts(35, 60), (1, 0));
    }

    #[test]
    fn an_acknowledgement_while_its_sync_runs_is_a_violation() {
        assert_eq!(counts(30, 39), (0, 1));
    }

    #[test]
    fn a_sync_that_began_before_the_write_had_returned_covers_nothing() {
        assert_eq!(counts(29, 60), (0, 1));
    }

    #[test]
    fn an_acknowledgement_before_the_write_is_a_violation() {
        assert_eq!(counts(30, 19), (0, 1));
    }
}
