//! Retained messages, each topic with one writer: what a new subscriber gets is the last acknowledged, or a later one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use whimbrel_codec::{Connect, Packet, PacketId, ProtocolVersion, SubscriptionOptions};

use crate::account::{Account, Violation};
use crate::link::{self, Link, LinkError, POLL};
use crate::message::{self, MessageName};
use crate::publisher::{Publisher, Sent};
use crate::subscriber::Due;

/// Reads the retained messages as a new client without a session. `None` is a payload that nobody sent.
pub(crate) fn read_all(
    port: u16,
    filter: &str,
    expected: usize,
) -> Result<HashMap<String, Option<MessageName>>, LinkError> {
    let connect = Connect::new(ProtocolVersion::V5, "retained-reader");
    let (mut link, _) = Link::open(port, &connect)?;
    let filters = [(filter.to_owned(), SubscriptionOptions::default())];
    link.put(&link::subscribe_packet(PacketId::MIN, filters));
    link.flush()?;
    let mut found = HashMap::new();
    let mut last_packet = Instant::now();
    loop {
        if link.fill(POLL)? {
            last_packet = Instant::now();
        }
        while let Some(packet) = link.next()? {
            let Packet::Publish(publish) = packet else {
                continue;
            };
            let topic = publish.topic().map_or("", |topic| topic.as_str());
            found.insert(topic.to_owned(), message::read(publish.payload()));
        }
        let is_whole = found.len() >= expected;
        if last_packet.elapsed() > if is_whole { QUIET } else { STALL } {
            link.disconnect()?;
            return Ok(found);
        }
    }
}

/// Compares what was read with what was sent.
pub(crate) fn judge(
    writers: &[Publisher],
    found: &HashMap<String, Option<MessageName>>,
    due: Due,
    account: &Account,
) {
    for writer in writers {
        for (number, stream) in (0..).zip(&writer.streams) {
            let is_due = |sent: &Sent| match due {
                Due::Completed => sent.completed.is_some(),
                Due::Acked => sent.acked.is_some(),
            };
            let last_due = stream.sent.iter().rposition(is_due);
            // What may be retained: the last due message, and all that were sent after it.
            let allowed = stream.sent.get(last_due.unwrap_or(0)..).unwrap_or_default();
            let is_right = match found.get(&stream.topic) {
                Some(None) => false,
                Some(Some(name)) => {
                    let sent = stream.sent.get(name.number as usize);
                    name.publisher == writer.number
                        && name.stream == number
                        && last_due.is_none_or(|last| name.number as usize >= last)
                        && sent.is_some_and(|sent| sent.length > 0)
                }
                None => last_due.is_none() || allowed.iter().any(|sent| sent.length == 0),
            };
            if !is_right {
                let last = last_due.map(|last| {
                    let sent = &stream.sent[last];
                    let deleted = if sent.length == 0 { ", a deletion" } else { "" };
                    let acked = sent
                        .acked
                        .map_or_else(String::new, |acked| acked.to_string());
                    format!("number {last}{deleted}, in {acked}")
                });
                let text = format!(
                    "{} has {:?} retained; of {} sent, the last acknowledged is {}",
                    stream.topic,
                    found.get(&stream.topic),
                    stream.sent.len(),
                    last.as_deref().unwrap_or("none"),
                );
                account.found(Violation::Retained, text);
            }
        }
    }
}

/// Topics that certainly have a retained message.
pub(crate) fn expected(writers: &[Publisher]) -> usize {
    let streams = writers.iter().flat_map(|writer| &writer.streams);
    streams
        .filter(|stream| stream.sent.last().is_some_and(|sent| sent.length > 0))
        .count()
}

/// All that can be expected has come: nothing more comes.
const QUIET: Duration = Duration::from_millis(200);
const STALL: Duration = Duration::from_secs(3);
