//! Reading a file: the session it holds, or where it is damaged.

use std::path::Path;

use whimbrel_session::codec::QoS;
use whimbrel_session::{Exchange, SessionParts, Stage};

use super::error::{Damage, OutboxError};
use super::frame::{self, Batch, HEAD_BYTES, Header, NoHeader, Search};
use super::ledger::{Ledger, Place};
use super::record::{Accepted, Line};

/// What an outbox held when it was opened.
#[derive(Debug)]
#[non_exhaustive]
pub struct Restored {
    /// Messages that were sent under no packet id, in the order in which they were accepted. They go out behind those of
    /// the session.
    pub unsent: Vec<Accepted>,
    /// The session that the server may still have: what was sent and is not over, and the ids that are held. For
    /// [`SessionState::from_parts`](whimbrel_session::SessionState::from_parts), which takes every exchange as sent
    /// before.
    pub session: SessionParts<Outstanding>,
    /// The sequence of the next message that is accepted.
    pub next_sequence: u64,
    /// Bytes at the end that a crash had left unfinished, and that were dropped. Nobody was told that they are safe.
    pub torn_bytes: u64,
}

/// A message with an open exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outstanding {
    /// It may have to be sent again.
    Message(Accepted),
    /// QoS 2: the server has taken it, and only its exchange is to be ended.
    Taken {
        /// The message.
        sequence: u64,
    },
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) number: u32,
    pub(super) header_bytes: u64,
    pub(super) ledger: Ledger,
    /// Where the next batch goes.
    pub(super) length: u64,
    pub(super) torn_bytes: u64,
}

impl Outstanding {
    /// The message's place among all messages.
    pub fn sequence(&self) -> u64 {
        match *self {
            Self::Message(ref accepted) => accepted.sequence,
            Self::Taken { sequence } => sequence,
        }
    }
}

/// Reads the file at `path`, of which `image` is the content.
pub(super) fn replay(path: &Path, image: &[u8], client_id: &str) -> Result<Replayed, OutboxError> {
    let (header, header_bytes) = check_header(path, image, client_id)?;
    let damaged = |at: usize, damage| OutboxError::Damaged {
        path: path.to_owned(),
        at: at as u64,
        damage,
    };
    let number = Some(header.number);
    let mut ledger = Ledger::new();
    let mut at = header_bytes;
    // Each batch is checked once.
    let mut budget = image.len();
    while let Some(batch) = frame::batch_at(image, at, number, &mut budget) {
        apply(&mut ledger, at, &batch).map_err(|(at, damage)| damaged(at, damage))?;
        at += HEAD_BYTES + batch.records.len();
    }
    if is_damage(image, at, header.number) {
        return Err(damaged(at, Damage::Checksum));
    }
    Ok(Replayed {
        number: header.number,
        header_bytes: header_bytes as u64,
        ledger,
        length: at as u64,
        torn_bytes: (image.len() - at) as u64,
    })
}

/// Reads the header, which has to be that of `client_id`.
pub(super) fn check_header(
    path: &Path,
    image: &[u8],
    client_id: &str,
) -> Result<(Header, usize), OutboxError> {
    let (header, header_bytes) = Header::decode(image).map_err(|no_header| match no_header {
        NoHeader::Magic => OutboxError::NotAnOutbox {
            path: path.to_owned(),
        },
        NoHeader::Version(version) => OutboxError::NewerVersion {
            path: path.to_owned(),
            version,
            known: frame::VERSION,
        },
        NoHeader::Damaged => OutboxError::Damaged {
            path: path.to_owned(),
            at: 0,
            damage: Damage::Header,
        },
    })?;
    if header.client_id != client_id {
        return Err(OutboxError::OtherClientId {
            path: path.to_owned(),
            found: header.client_id,
            wanted: client_id.to_owned(),
        });
    }
    Ok((header, header_bytes))
}

/// Applies the records of the batch at `at`; an error says where the record is that can't be.
pub(super) fn apply(
    ledger: &mut Ledger,
    at: usize,
    batch: &Batch<'_>,
) -> Result<(), (usize, Damage)> {
    for (offset, line) in lines(at, batch) {
        let (line, place) = line.map_err(|damage| (offset, damage))?;
        ledger
            .apply(line.step(place))
            .map_err(|contradiction| (offset, contradiction.into()))?;
    }
    ledger.keep();
    Ok(())
}

/// The records of the batch at `at`, and where each stands. After one that is none there are no more.
pub(super) fn lines<'a>(
    at: usize,
    batch: &Batch<'a>,
) -> impl Iterator<Item = (usize, Result<(Line<'a>, Place), Damage>)> {
    let mut rest = batch.records;
    let end = at + HEAD_BYTES + batch.records.len();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let before = rest;
        let offset = end - before.len();
        let Ok(line) = Line::decode(&mut rest) else {
            rest = &[];
            return Some((offset, Err(Damage::Record)));
        };
        let (record, _) = before.split_at(before.len() - rest.len());
        let place = Place {
            offset: offset as u64,
            // Within a batch, whose length has 32 bits.
            length: u32::try_from(record.len()).unwrap_or(u32::MAX),
            checksum: crc32fast::hash(record),
        };
        Some((offset, Ok((line, place))))
    })
}

/// Whether what follows `at`, where no batch stands, is more than the unfinished end of a file.
///
/// It is when a later batch says that the file was durable beyond `at`. Batches that say nothing of the kind were never
/// reported as safe, like the one at `at`: a crash of the machine may have kept any of them.
fn is_damage(image: &[u8], at: usize, number: u32) -> bool {
    let mut budget = frame::search_budget(image);
    let mut from = at;
    loop {
        match frame::search(image, from, Some(number), &mut budget) {
            Search::Found(_, batch) if batch.durable_to > at as u64 => return true,
            Search::Found(found, batch) => from = found + HEAD_BYTES + batch.records.len(),
            Search::Nothing => return false,
            // Whoever made it, nothing is dropped of it.
            Search::GivenUp => return true,
        }
    }
}

/// Copies what a ledger holds out of the file.
pub(super) fn restore(image: &[u8], replayed: &Replayed) -> Option<Restored> {
    let ledger = &replayed.ledger;
    let unsent = ledger
        .messages()
        .filter(|(_, entry)| entry.is_unsent())
        .map(|(_, entry)| read(image, entry.body?));
    let exchanges = ledger.exchanges().map(|sent| {
        let entry = ledger.message(sent.sequence)?;
        let (stage, item) = match (entry.body, sent.rank) {
            (_, Some(rank)) => (
                Stage::AwaitPubComp { rank },
                Outstanding::Taken {
                    sequence: sent.sequence,
                },
            ),
            (body, None) => {
                let stage = match entry.qos {
                    QoS::ExactlyOnce => Stage::AwaitPubRec,
                    QoS::AtMostOnce | QoS::AtLeastOnce => Stage::AwaitPubAck,
                };
                (stage, Outstanding::Message(read(image, body?)?))
            }
        };
        Some(Exchange {
            packet_id: sent.packet_id,
            stage,
            item,
        })
    });
    Some(Restored {
        unsent: unsent.collect::<Option<_>>()?,
        session: SessionParts {
            next_packet_id: ledger.next().packet_id,
            exchanges: exchanges.collect::<Option<_>>()?,
            held: ledger.held().collect(),
        },
        next_sequence: ledger.next().sequence,
        torn_bytes: replayed.torn_bytes,
    })
}

fn read(image: &[u8], place: Place) -> Option<Accepted> {
    let mut record = image.get(usize::try_from(place.offset).ok()?..)?;
    match Line::decode(&mut record) {
        Ok(Line::Accepted(line)) => Some(line.to_accepted()),
        _ => None,
    }
}
