//! What an observer of the packets between a client and its broker holds both sides to.

use std::fmt;

use whimbrel_broker_core::session::codec::{AckType, QoS};

use super::packet::Says;
use crate::Finding;

/// The packets of one client's session, over all its connections.
#[derive(Debug)]
pub(crate) struct Watch {
    /// What the client sends, and what the broker sends.
    sides: [Side; 2],
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Server,
}

impl Sender {
    /// Who reads what this side sends.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

#[derive(Debug, Default)]
struct Side {
    /// Exchanges this side has begun, in the order of first sending.
    open: Vec<Open>,
    /// Packets of the peer that this side has to answer, in the order of receipt.
    owed: Vec<Owed>,
    /// The place in `open` of the last PUBLISH that was sent again on this connection.
    resent: Option<u16>,
    /// A PUBLISH was sent for the first time on this connection.
    sends_new: bool,
}

#[derive(Debug)]
struct Open {
    id: u16,
    qos: QoS,
    /// Its PUBLISH went out on this connection.
    in_flight: bool,
    /// PUBREC has come.
    received: bool,
    /// PUBREL has gone out.
    released: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Owed {
    kind: AckType,
    id: u16,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            sides: [Side::default(), Side::default()],
        }
    }

    /// A new connection begins.
    pub(crate) fn connection_begins(&mut self) {
        for side in &mut self.sides {
            side.owed.clear();
            side.resent = None;
            side.sends_new = false;
            for open in &mut side.open {
                open.in_flight = false;
            }
        }
    }

    /// What this side had open is forgotten.
    pub(crate) fn session_begins(&mut self, from: Sender) {
        self.side(from).open.clear();
    }

    /// A side has sent a packet; `window` is what may be open.
    pub(crate) fn sent(&mut self, from: Sender, says: Says, window: usize) -> Result<(), Finding> {
        let side = self.side(from);
        match says {
            Says::Publish { id, qos, dup, .. } if qos > QoS::AtMostOnce => {
                if dup {
                    side.sends_again(id, qos)?;
                } else {
                    side.sends_first(id, qos)?;
                }
                let in_flight = side.open.iter().filter(|open| open.in_flight).count();
                if in_flight > window {
                    // [MQTT-3.3.4-7] [MQTT-3.3.4-9]
                    return broken("the window is exceeded", id);
                }
                Ok(())
            }
            Says::Answer { kind, id, .. } => side.answers(kind, id),
            _ => Ok(()),
        }
    }

    /// A packet has reached the other side.
    pub(crate) fn received(&mut self, from: Sender, says: Says) {
        let receiver = self.side(from.other());
        match says {
            Says::Publish { id, qos, .. } => match qos {
                QoS::AtMostOnce => {}
                QoS::AtLeastOnce => receiver.owe(AckType::PubAck, id),
                QoS::ExactlyOnce => receiver.owe(AckType::PubRec, id),
            },
            Says::Answer { kind, id, reason } => match kind {
                AckType::PubRec if !reason.is_error() => {
                    if let Some(open) = receiver.open.iter_mut().find(|open| open.id == id) {
                        open.received = true;
                    }
                    receiver.owe(AckType::PubRel, id);
                }
                AckType::PubAck | AckType::PubComp | AckType::PubRec => {
                    receiver.open.retain(|open| open.id != id);
                }
                AckType::PubRel => receiver.owe(AckType::PubComp, id),
            },
            _ => {}
        }
    }

    /// Exchanges that are open.
    pub(crate) fn open(&self) -> usize {
        self.sides.iter().map(|side| side.open.len()).sum()
    }

    fn side(&mut self, from: Sender) -> &mut Side {
        match from {
            Sender::Client => &mut self.sides[0],
            Sender::Server => &mut self.sides[1],
        }
    }
}

impl Side {
    fn owe(&mut self, kind: AckType, id: u16) {
        self.owed.push(Owed { kind, id });
    }

    fn sends_first(&mut self, id: u16, qos: QoS) -> Result<(), Finding> {
        // [MQTT-2.2.1-3] [MQTT-2.2.1-4]
        if self.open.iter().any(|open| open.id == id) {
            return broken("a packet id in use is used for another message", id);
        }
        self.sends_new = true;
        self.open.push(Open {
            id,
            qos,
            in_flight: true,
            received: false,
            released: false,
        });
        Ok(())
    }

    fn sends_again(&mut self, id: u16, qos: QoS) -> Result<(), Finding> {
        let Some(place) = self.open.iter().position(|open| open.id == id) else {
            return broken("a message is sent again that was never sent", id);
        };
        let last = self
            .resent
            .and_then(|last| self.open.iter().position(|open| open.id == last));
        let open = &mut self.open[place];
        if open.qos != qos {
            return broken("a message is sent again with another QoS", id);
        }
        // [MQTT-4.3.3-6]
        if open.released {
            return broken("a message is sent again after its PUBREL", id);
        }
        // [MQTT-4.4.0-1]: only when a client reconnects.
        if std::mem::replace(&mut open.in_flight, true) {
            return broken("a message is sent again on one connection", id);
        }
        // [MQTT-4.6.0-1]
        if self.sends_new || last.is_some_and(|last| last > place) {
            return broken("messages are sent again out of order", id);
        }
        self.resent = Some(id);
        Ok(())
    }

    fn answers(&mut self, kind: AckType, id: u16) -> Result<(), Finding> {
        if kind == AckType::PubRel {
            match self.open.iter_mut().find(|open| open.id == id) {
                Some(open) if open.qos != QoS::ExactlyOnce || !open.received => {
                    return broken("PUBREL without PUBREC", id);
                }
                Some(open) => {
                    open.released = true;
                    // Its PUBREC came on an earlier connection [MQTT-4.4.0-1].
                    if !self.owed.contains(&Owed { kind, id }) {
                        return Ok(());
                    }
                }
                None => {}
            }
        }
        // [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4]
        let first = self.owed.iter().position(|owed| owed.kind == kind);
        match first {
            Some(place) if self.owed[place].id == id => {
                self.owed.remove(place);
                Ok(())
            }
            Some(_) => broken("acknowledgements leave out of order", id),
            None => broken("an acknowledgement answers nothing", id),
        }
    }
}

fn broken<T>(rule: &'static str, id: u16) -> Result<T, Finding> {
    Err(Finding {
        rule,
        detail: format!("packet id {id}"),
    })
}
