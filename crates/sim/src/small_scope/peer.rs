//! One of the two clients of a world, with its links to the broker.

use std::collections::VecDeque;
use std::fmt;

use super::broker::LinkId;
use super::client::{Client, Terms};
use super::model::StateText;
use super::packet::Packet;
use super::watch::Watch;

/// A client with its links.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) client: Client,
    pub(crate) link: LinkId,
    /// The link whose CONNECT the broker has seen last.
    pub(crate) attached: Option<LinkId>,
    pub(crate) up: VecDeque<Packet>,
    pub(crate) down: VecDeque<Packet>,
    /// A link that the client has left and the broker still reads.
    pub(crate) ghost: Option<Ghost>,
    pub(crate) watch: Watch,
    pub(crate) acquaintance: Acquaintance,
    /// The last PUBLISH that the broker was brought, where a link is to bring it again.
    pub(crate) last_publish: Option<Packet>,
}

/// What a client knows of the session that the broker has of it.
///
/// ```text
///            CONNECT read           CONNACK read
/// Unknown ────────────────▶ Begun ────────────────▶ Known
///    ▲                        │ connection lost
///    │ crash                  ▼
///    └──────── all ──────── Misled
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquaintance {
    /// The broker has no session of this client.
    Unknown,
    /// The broker has begun one.
    Begun,
    /// The client knows that it was begun.
    Known,
    /// The client will be told that its session is present, and take it for the one before the crash.
    /// MQTT gives it no way to find out.
    Misled,
}

#[derive(Debug)]
pub(crate) struct Ghost {
    pub(crate) link: LinkId,
    pub(crate) up: VecDeque<Packet>,
}

/// Who a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Publisher,
    Subscriber,
}

impl Peer {
    /// A client that has sent its CONNECT on `link`.
    pub(crate) fn new(terms: Terms, link: LinkId) -> Self {
        Self {
            client: Client::new(terms),
            link,
            attached: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            ghost: None,
            watch: Watch::new(),
            acquaintance: Acquaintance::Unknown,
            last_publish: None,
        }
    }

    /// Whether a link is this client's, left by it or not.
    pub(crate) fn has(&self, link: LinkId) -> bool {
        self.link == link || self.ghost.as_ref().is_some_and(|ghost| ghost.link == link)
    }

    pub(crate) fn write_state(&self, text: &mut StateText) {
        let Self {
            client,
            link,
            attached,
            up,
            down,
            ghost,
            watch,
            acquaintance,
            last_publish,
        } = self;
        client.write_state(text);
        text.debug(link);
        text.debug(attached);
        let ghost_up = ghost.as_ref().map(|ghost| &ghost.up);
        text.debug(&ghost.as_ref().map(|ghost| ghost.link));
        for packets in [Some(up), Some(down), ghost_up].into_iter().flatten() {
            text.debug(&packets.len());
            for packet in packets {
                text.bytes(&packet.bytes);
            }
        }
        text.debug(watch);
        text.debug(acquaintance);
        text.debug(&last_publish.as_ref().map(|packet| &packet.bytes));
    }
}

impl Who {
    pub(crate) const BOTH: [Self; 2] = [Self::Publisher, Self::Subscriber];

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Publisher => 0,
            Self::Subscriber => 1,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publisher => "publisher",
            Self::Subscriber => "subscriber",
        })
    }
}
