//! Proves from a trace of a broker's system calls that what it promises is on the disk first.
//!
//! A kill leaves the page cache alone, so that a broker which never syncs survives it. Here the order is looked at: the
//! bytes of an acknowledgement may reach the socket when an `fdatasync` has returned 0 that began after the record was
//! written, which was after the request had been read. Nothing of the store's format is known: a message is found by
//! the first bytes of its payload, a session by its client identifier, a subscription by its filter.

mod judge;
mod trace;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use whimbrel_codec::{
    Ack, Connect, Delivery, Packet, PacketId, ProtocolVersion, Publish, QoS, SubscriptionOptions,
};

use crate::account::{Account, Violation};
use crate::broker::Place;
use crate::link::{self, Link, LinkError, POLL};
use crate::message::{self, MessageName};
use crate::publisher::topic;
use crate::{BrokerCommand, Failure, process, wait};

use self::judge::Connection;

pub use self::judge::SyncReport;

/// What is run under `strace`.
#[derive(Clone, Debug)]
pub struct SyncPlan {
    /// The broker.
    pub broker: BrokerCommand,
    /// Where its data and the trace are.
    pub folder: PathBuf,
    /// Messages of each publisher that are sent one by one.
    pub singles: u16,
    /// Messages of each publisher that are sent at once.
    pub burst: u16,
}

/// Publishes under `strace` and judges the trace.
///
/// # Errors
///
/// [`Failure`] when the broker or strace could not be run, or the clients did not get their answers.
pub fn run(plan: &SyncPlan, account: &Account) -> Result<SyncReport, Failure> {
    let place = Place::new(&plan.folder)?;
    let trace = plan.folder.join("trace");
    let strace = strace_words(&trace.to_string_lossy());
    let broker = plan.broker.clone().under(&strace);
    let mut broker = broker.start(&place, 2)?;
    let mut connections = Vec::new();
    let work = Clients {
        port: place.port,
        plan,
        connections: &mut connections,
    };
    work.run()
        .map_err(Failure::client("a client under strace failed"))?;

    // strace itself ends when what it traces has.
    for child in process::children(broker.pid()) {
        process::signal(child, "TERM")?;
    }
    if wait::poll(END_TIMEOUT, || broker.ended()).is_none() {
        return Err(Failure::Other(format!(
            "the broker under strace did not end in {END_TIMEOUT:?}"
        )));
    }
    let text = fs::read_to_string(&trace).map_err(Failure::system("could not read the trace"))?;
    let data_dir = fs::canonicalize(&place.data_dir)
        .map_err(Failure::system("could not find the data directory"))?;
    let calls = trace::parse(&text);
    let report = judge::judge(&calls, &data_dir.to_string_lossy(), &connections, account);
    for name in [
        "CONNACK", "SUBACK", "PUBACK", "PUBREC", "PUBCOMP", "PUBLISH", "PUBREL",
    ] {
        if !report.proven.contains_key(name) {
            account.found(
                Violation::AckBeforeSync,
                format!("not one {name} was proven"),
            );
        }
    }
    Ok(report)
}

/// The clients of a run: a subscriber that stays, one that is away, and publishers of both QoS.
struct Clients<'a> {
    port: u16,
    plan: &'a SyncPlan,
    connections: &'a mut Vec<Connection>,
}

impl Clients<'_> {
    fn run(mut self) -> Result<(), LinkError> {
        let mut subscribers = Vec::new();
        for version in [ProtocolVersion::V5, ProtocolVersion::V311] {
            let (mut subscriber, _) = self.open("subscriber", version)?;
            subscribe(&mut subscriber)?;
            subscribers.push(subscriber);
        }
        let (mut away, _) = self.open("away", ProtocolVersion::V5)?;
        subscribe(&mut away)?;
        away.disconnect()?;

        let mut publishers = 0;
        for version in [ProtocolVersion::V5, ProtocolVersion::V311] {
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let (mut publisher, receive_maximum) = self.open("publisher", version)?;
                let burst = self.plan.burst.min(receive_maximum);
                let mut next = 1;
                for _ in 0..self.plan.singles {
                    publish(&mut publisher, publishers, &mut next, 1, qos)?;
                }
                publish(&mut publisher, publishers, &mut next, burst, qos)?;
                // The windows at the broker would fill up: they are emptied before the next publisher.
                for subscriber in &mut subscribers {
                    let expected = self.plan.singles + burst;
                    receive(subscriber, expected)?;
                }
                publisher.disconnect()?;
                publishers += 1;
            }
        }
        for subscriber in subscribers {
            subscriber.disconnect()?;
        }
        Ok(())
    }

    /// Connects, and tells how many messages may wait for an acknowledgement.
    fn open(&mut self, role: &str, version: ProtocolVersion) -> Result<(Link, u16), LinkError> {
        // Found in the trace by this name, so it is nobody else's.
        let client_id = format!("tr-{role}-{}", self.connections.len());
        let mut connect = Connect::new(version, client_id.as_str());
        connect.clean_start = false;
        connect.keep_alive_secs = 0;
        connect.properties.session_expiry_secs = u32::MAX;
        let (link, connack) = Link::open(self.port, &connect)?;
        self.connections.push(Connection {
            port: link.local_port()?,
            client_id,
            version,
        });
        Ok((link, connack.properties.receive_maximum.get()))
    }
}

fn subscribe(link: &mut Link) -> Result<(), LinkError> {
    let filters = [(
        FILTER.to_owned(),
        SubscriptionOptions::new(QoS::ExactlyOnce),
    )];
    link.put(&link::subscribe_packet(PacketId::MIN, filters));
    link.flush()?;
    match link.answer()? {
        Packet::SubAck(suback) if link::is_granted(&suback) => Ok(()),
        other => Err(LinkError::Unexpected(format!("{:?}", other.packet_type()))),
    }
}

/// Sends so many messages at once and waits until all are acknowledged in full.
fn publish(
    link: &mut Link,
    publisher: u16,
    next: &mut u16,
    count: u16,
    qos: QoS,
) -> Result<(), LinkError> {
    for number in *next..*next + count {
        let name = MessageName {
            publisher,
            stream: 0,
            number: number.into(),
        };
        let id = PacketId::new(number).unwrap_or(PacketId::MIN);
        let publish = Publish::builder(topic(TOPIC))
            .payload(message::payload(name, 64))
            .delivery(Delivery::first(qos, id));
        link.put(&Packet::Publish(publish.build()));
    }
    *next += count;
    link.flush()?;
    let mut open = count;
    while open > 0 {
        match link.answer()? {
            Packet::PubAck(_) | Packet::PubComp(_) => open -= 1,
            Packet::PubRec(ack) => {
                link.put(&Packet::PubRel(Ack::success(ack.id)));
                link.flush()?;
            }
            other => return Err(LinkError::Unexpected(format!("{:?}", other.packet_type()))),
        }
    }
    Ok(())
}

/// Receives so many messages and acknowledges them in full.
fn receive(link: &mut Link, count: u16) -> Result<(), LinkError> {
    let mut open = count;
    let mut last = Instant::now();
    while open > 0 {
        let Some(packet) = link.next()? else {
            if last.elapsed() > link::ANSWER_TIMEOUT {
                return Err(LinkError::Silent(link::ANSWER_TIMEOUT));
            }
            link.fill(POLL)?;
            continue;
        };
        last = Instant::now();
        match packet {
            Packet::Publish(publish) => match publish.delivery() {
                Delivery::AtMostOnce => open -= 1,
                Delivery::AtLeastOnce { id, .. } => {
                    link.put(&Packet::PubAck(Ack::success(id)));
                    open -= 1;
                }
                Delivery::ExactlyOnce { id, .. } => link.put(&Packet::PubRec(Ack::success(id))),
            },
            Packet::PubRel(ack) => {
                link.put(&Packet::PubComp(Ack::success(ack.id)));
                open -= 1;
            }
            other => return Err(LinkError::Unexpected(format!("{:?}", other.packet_type()))),
        }
        link.flush()?;
    }
    Ok(())
}

fn strace_words(trace: &str) -> Vec<String> {
    let words = [
        "strace",
        "-f",
        "-ttt",
        "-T",
        "-xx",
        "-yy",
        "-s",
        STRING_BYTES,
        "-o",
        trace,
        "-e",
        CALLS,
        "--",
    ];
    words.map(str::to_owned).to_vec()
}

const TOPIC: &str = "traced-topic/one";
/// Found in the trace by its text.
const FILTER: &str = "traced-topic/#";
/// More than any single write here has, so that no byte of a packet is left out.
const STRING_BYTES: &str = "4194304";
const CALLS: &str = "trace=fdatasync,fsync,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,read,readv,recvfrom,recvmsg";
const END_TIMEOUT: Duration = Duration::from_secs(60);
