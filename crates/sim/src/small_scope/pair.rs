//! One client and one server of the session crate, without the rest of the broker: both directions,
//! packets cut in the middle, acknowledgements in any order.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use whimbrel_broker_core::session::SessionState;
use whimbrel_broker_core::session::codec::{PacketType, ProtocolVersion, QoS, ReasonCode};

use super::client::{Client, Heard, Owed, Terms};
use super::model::{Choices, StateText, World};
use super::packet::{Packet, Says, split};
use super::promises::Promises;
use super::scope::Plant;
use super::server::Server;
use super::watch::{Sender, Watch};
use crate::Finding;

/// The size of a [`PairWorld`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairScope {
    pub(crate) version: ProtocolVersion,
    /// What the client publishes.
    pub(crate) up: &'static [QoS],
    /// What the server delivers.
    pub(crate) down: &'static [QoS],
    /// Receive Maximum of both sides, and their own limit in flight.
    pub(crate) window: u16,
    /// Packets may arrive in two pieces.
    pub(crate) cuts: bool,
    pub(crate) losses: u8,
}

#[derive(Debug)]
pub(crate) struct PairWorld {
    scope: PairScope,
    plant: Option<Plant>,
    client: Client,
    server: Server,
    up: Direction,
    down: Direction,
    watch: Watch,
    losses_left: u8,
    finding: Option<Finding>,
    story: Option<Vec<String>>,
}

/// One way of the link, with the messages that go that way.
#[derive(Debug)]
struct Direction {
    link: VecDeque<Packet>,
    /// The first piece of the first packet has arrived.
    is_cut: bool,
    outbox: VecDeque<u8>,
    promises: Promises,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A side sends its next message.
    Send(Sender),
    /// The first piece of a packet of this side arrives.
    Piece(Sender),
    /// A packet of this side arrives, or what is left of it.
    Arrive(Sender),
    /// The server answers CONNECT.
    Accept,
    /// An application gives one of its acknowledgements.
    Acknowledge(Sender, usize),
    /// The connection is lost, and the client connects again.
    Lose(Unfinished),
}

/// What becomes of packets that an application was given and has not acknowledged when the connection
/// is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// It finishes with them afterwards.
    Done,
    /// It gives them up, and says so.
    GivenUp,
}

impl PairWorld {
    pub(crate) fn begin(scope: PairScope, plant: Option<Plant>) -> Self {
        let window = NonZeroU16::new(scope.window).unwrap_or(NonZeroU16::MIN);
        let terms = Terms {
            client_id: "client".to_owned(),
            version: scope.version,
            window,
            qos: scope.up,
        };
        let mut world = Self {
            scope,
            plant,
            client: Client::new(terms),
            server: Server::new(window, scope.down),
            up: Direction::new(scope.up),
            down: Direction::new(scope.down),
            watch: Watch::new(),
            losses_left: scope.losses,
            finding: None,
            story: None,
        };
        world.flush();
        world
    }

    fn take_step(&mut self, step: Step) -> Result<(), Finding> {
        match step {
            Step::Send(from) => self.send(from),
            Step::Piece(from) => self.piece(from)?,
            Step::Arrive(from) => self.arrive(from)?,
            Step::Accept => {
                self.tell(|_| "the server accepts".to_owned());
                self.server.accept();
            }
            Step::Acknowledge(from, index) => {
                self.tell(|_| format!("the {from} gives acknowledgement {index}"));
                match from {
                    Sender::Client => self.client.acknowledge(index),
                    Sender::Server => self.server.acknowledge(index),
                }
            }
            Step::Lose(unfinished) => self.lose(unfinished),
        }
        self.flush();
        Ok(())
    }

    fn send(&mut self, from: Sender) {
        let direction = self.direction(from);
        let Some(message) = direction.outbox.pop_front() else {
            return;
        };
        let is_sent = match from {
            Sender::Client => self.client.publish(message),
            Sender::Server => self.server.deliver(message),
        };
        if is_sent {
            self.direction(from).promises.taken(message, true);
            self.tell(|_| format!("the {from} sends message {message}"));
        } else {
            self.direction(from).outbox.push_front(message);
        }
    }

    fn piece(&mut self, from: Sender) -> Result<(), Finding> {
        let direction = self.direction(from);
        direction.is_cut = true;
        let Some(packet) = direction.link.front().cloned() else {
            return Ok(());
        };
        self.tell(|_| format!("the first piece of the {from}'s {packet} arrives"));
        let (piece, _) = packet.bytes.split_at(packet.bytes.len() / 2);
        self.feed(from, piece)
    }

    fn arrive(&mut self, from: Sender) -> Result<(), Finding> {
        let direction = self.direction(from);
        let is_cut = std::mem::take(&mut direction.is_cut);
        let Some(packet) = direction.link.pop_front() else {
            return Ok(());
        };
        let (first, rest) = packet.bytes.split_at(packet.bytes.len() / 2);
        self.tell(|_| {
            let what = if is_cut { "the rest of the" } else { "the" };
            format!("{what} {from}'s {packet} arrives")
        });
        self.watch.received(from, packet.says);
        if !is_cut {
            self.feed(from, first)?;
        }
        self.feed(from, rest)
    }

    fn feed(&mut self, from: Sender, bytes: &[u8]) -> Result<(), Finding> {
        let mut heard = Vec::new();
        let handled = match from {
            Sender::Client => self.server.handle_input(bytes, &mut heard),
            Sender::Server => self.client.handle_input(bytes, &mut heard),
        };
        if let Err(error) = handled {
            return Err(Finding {
                rule: "a side broke the protocol",
                detail: format!("the {from}: {error:?}"),
            });
        }
        for heard in &heard {
            self.hear(from, heard)?;
        }
        Ok(())
    }

    /// The application at the other end of `from` is told something.
    fn hear(&mut self, from: Sender, heard: &Heard) -> Result<(), Finding> {
        match *heard {
            Heard::Accepted {
                session_present: false,
                ..
            } => self.watch.session_begins(Sender::Client),
            Heard::Accepted { .. } | Heard::Subscribed => {}
            Heard::Message { message, qos } => {
                self.direction(from).promises.seen(message, qos)?;
            }
            Heard::Settled { message, reason } => {
                // What PUBREL brings after its PUBCOMP was lost (D6).
                let released = reason == ReasonCode::PacketIdentifierNotFound;
                let promises = &mut self.direction(from.other()).promises;
                if reason.is_error() && !released || promises.is_settled(message) {
                    return Err(Finding {
                        rule: "a message was refused or settled twice",
                        detail: format!("message {message}: {reason:?}"),
                    });
                }
                promises.settled(message);
            }
            Heard::Ended { reason } => {
                return Err(Finding {
                    rule: "a correct peer was disconnected",
                    detail: format!("{reason:?}"),
                });
            }
        }
        Ok(())
    }

    fn lose(&mut self, unfinished: Unfinished) {
        self.losses_left -= 1;
        self.tell(|world| {
            let lost = world.up.link.len() + world.down.link.len();
            let how = match unfinished {
                Unfinished::Done => "finish what they were given",
                Unfinished::GivenUp => "give up what they have not acknowledged",
            };
            format!("the connection is lost, with {lost} packets; the applications {how}")
        });
        for direction in [&mut self.up, &mut self.down] {
            direction.link.clear();
            direction.is_cut = false;
        }
        let is_forgetful = self.plant == Some(Plant::ForgetfulReceiver);
        let (up, down) = (&mut self.up.promises, &mut self.down.promises);
        self.client
            .reconnect(|state, owed| settle(unfinished, is_forgetful, down, state, owed));
        self.server
            .reconnect(|state, owed| settle(unfinished, false, up, state, owed));
        self.watch.connection_begins();
    }

    /// What both sides have written goes on the link.
    fn flush(&mut self) {
        let window = usize::from(self.scope.window);
        let client = split(&self.client.take_output(), self.client.version());
        let server = split(&self.server.take_output(), self.server.version());
        for (from, packets) in [(Sender::Client, client), (Sender::Server, server)] {
            for packet in packets {
                let begins = Says::ConnAck {
                    session_present: false,
                };
                if packet.says == begins {
                    self.watch.session_begins(Sender::Server);
                }
                if let Err(broken) = self.watch.sent(from, packet.says, window) {
                    self.finding.get_or_insert(broken);
                }
                self.direction(from).link.push_back(packet);
            }
        }
    }

    fn direction(&mut self, from: Sender) -> &mut Direction {
        match from {
            Sender::Client => &mut self.up,
            Sender::Server => &mut self.down,
        }
    }

    fn tell(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.story.is_some() {
            let line = line(self);
            self.story.get_or_insert_default().push(line);
        }
    }

    fn check_rest(self) -> Result<(), Finding> {
        for direction in [&self.up, &self.down] {
            direction.promises.check_rest()?;
        }
        let open = self.watch.open();
        let (client, server) = (self.client.into_state(), self.server.into_state());
        if open > 0 || !client.is_empty() || !server.is_empty() {
            return Err(Finding {
                rule: "a window is stuck",
                detail: format!("{open} exchanges are open; {client:?} {server:?}"),
            });
        }
        Ok(())
    }
}

impl World for PairWorld {
    type Step = Step;

    fn choices(&self, choices: &mut Choices<Step>) {
        let progress = &mut choices.progress;
        for (from, direction) in [(Sender::Client, &self.up), (Sender::Server, &self.down)] {
            if let Some(packet) = direction.link.front() {
                progress.push(Step::Arrive(from));
                if self.scope.cuts && !direction.is_cut && packet.bytes.len() > 1 {
                    progress.push(Step::Piece(from));
                }
            }
            let (owes, may_send) = match from {
                Sender::Client => (self.client.owes(), self.client.may_publish()),
                Sender::Server => (self.server.owes(), self.server.may_deliver()),
            };
            progress.extend((0..owes).map(|index| Step::Acknowledge(from, index)));
            if may_send && !direction.outbox.is_empty() {
                progress.push(Step::Send(from));
            }
        }
        if self.server.is_asked() {
            progress.push(Step::Accept);
        }
        if self.losses_left > 0 {
            choices.faults.push(Step::Lose(Unfinished::Done));
            if self.client.owes() + self.server.owes() > 0 {
                choices.faults.push(Step::Lose(Unfinished::GivenUp));
            }
        }
    }

    fn take(&mut self, step: Step) {
        if let Err(broken) = self.take_step(step) {
            self.finding.get_or_insert(broken);
        }
    }

    fn finding(&self) -> Option<&Finding> {
        self.finding.as_ref()
    }

    fn write_state(&self, text: &mut StateText) {
        let Self {
            // The same in every state.
            scope: _,
            plant: _,
            client,
            server,
            up,
            down,
            watch,
            losses_left,
            // Exploration stops at the first.
            finding: _,
            story: _,
        } = self;
        client.write_state(text);
        server.write_state(text);
        for direction in [up, down] {
            text.debug(&direction.link.len());
            for packet in &direction.link {
                text.bytes(&packet.bytes);
            }
            text.debug(&direction.is_cut);
            text.debug(&direction.outbox);
            text.debug(&direction.promises);
        }
        text.debug(watch);
        text.debug(losses_left);
    }

    fn rest(self) -> Option<Finding> {
        self.check_rest().err()
    }

    fn narrate(&mut self) {
        self.story = Some(Vec::new());
    }

    fn story(&mut self) -> Vec<String> {
        self.story.take().unwrap_or_default()
    }
}

impl Direction {
    fn new(qos: &'static [QoS]) -> Self {
        Self {
            link: VecDeque::new(),
            is_cut: false,
            outbox: (0_u8..).take(qos.len()).collect(),
            promises: Promises::new(qos),
        }
    }
}

/// What an application does with a packet that it can't acknowledge any more.
fn settle(
    unfinished: Unfinished,
    is_forgetful: bool,
    promises: &mut Promises,
    state: &mut SessionState<u8>,
    owed: Owed,
) {
    let releases = owed.token.acknowledged_by() == PacketType::PubComp;
    match (unfinished, owed.message) {
        (Unfinished::Done, Some(_)) if !is_forgetful => {}
        (Unfinished::Done, None) if releases => state.settle(owed.token, ReasonCode::Success),
        (Unfinished::Done | Unfinished::GivenUp, None) => {}
        (Unfinished::Done | Unfinished::GivenUp, Some(message)) => {
            if unfinished == Unfinished::GivenUp {
                promises.rejected(message);
            }
            state.settle(owed.token, ReasonCode::UnspecifiedError);
        }
    }
}
