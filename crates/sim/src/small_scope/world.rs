//! A publisher, a subscriber and the whole broker between them.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

use whimbrel_broker_core::session::codec::{ProtocolVersion, QoS, ReasonCode};
use whimbrel_broker_core::{CoreConfig, placement};

use super::broker::{Broker, Credits, LinkId, Outcome};
use super::client::{Heard, Terms};
use super::model::{Choices, StateText, World};
use super::packet::{Packet, Says, split};
use super::peer::{Acquaintance, Ghost, Peer, Who};
use super::promises::Promises;
use super::scope::Plant;
use super::watch::Sender;
use crate::Finding;

/// The size of a [`BrokerWorld`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrokerScope {
    pub(crate) shards: usize,
    pub(crate) publisher_version: ProtocolVersion,
    pub(crate) subscriber_version: ProtocolVersion,
    /// The messages that are published, by `QoS`.
    pub(crate) qos: &'static [QoS],
    /// Receive Maximum of all sides, and their own limit in flight.
    pub(crate) window: u16,
    /// The publisher keeps one more open than the broker takes: an MQTT 3.x client is not told, so the
    /// broker stops reading.
    pub(crate) impatient_publisher: bool,
    /// The applications give each acknowledgement in a step of its own.
    pub(crate) slow_applications: bool,
    /// One message uses the window between two shards up, so that the next one waits for the credit.
    pub(crate) narrow_shards: bool,
    pub(crate) faults: Faults,
}

/// How often what may happen in one run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Connections lost, of both clients together: both ends know.
    pub(crate) losses: u8,
    /// Connections that only the client knows to be lost: it comes back while the old one still
    /// brings what it had sent.
    pub(crate) half_losses: u8,
    /// The broker stops and begins again with nothing.
    pub(crate) crashes: u8,
}

/// Everything between two applications.
#[derive(Debug)]
pub(crate) struct BrokerWorld {
    scope: BrokerScope,
    plant: Option<Plant>,
    config: Arc<CoreConfig>,
    broker: Broker,
    peers: [Peer; 2],
    /// What the publisher's application has still to publish, in order.
    outbox: VecDeque<u8>,
    /// The subscriber has its SUBACK of this life of the broker.
    subscribed: bool,
    promises: Promises,
    faults_left: Faults,
    next_link: LinkId,
    finding: Option<Finding>,
    story: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// The publisher's application publishes its next message.
    Publish,
    /// The broker reads the next packet of a client.
    Up(Who),
    /// A client reads the next packet of the broker.
    Down(Who),
    /// The broker reads the next packet of a link that its client has left.
    GhostUp(Who),
    /// The broker finds that such a link has ended.
    GhostEnds(Who),
    /// An application gives its oldest acknowledgement.
    Acknowledge(Who),
    /// The journal of a shard commits its next record.
    Commit(usize),
    /// What is first between a pair of shards arrives.
    Hop(usize),
    Backlog(usize),
    Lose(Who),
    HalfLose(Who),
    Crash,
}

impl BrokerWorld {
    /// Connects both clients and subscribes; exploration begins after that.
    pub(crate) fn begin(scope: BrokerScope, plant: Option<Plant>) -> Self {
        let config = Arc::new(core_config(scope));
        let peer = |shard: usize, name: &str, version: ProtocolVersion, link: LinkId| {
            let window = if link == 0 {
                publisher_window(scope)
            } else {
                window(scope)
            };
            let terms = Terms {
                client_id: client_id_on(&config, shard, name),
                version,
                window,
                qos: scope.qos,
            };
            Peer::new(terms, link)
        };
        let peers = [
            peer(0, "publisher", scope.publisher_version, 0),
            peer(scope.shards - 1, "subscriber", scope.subscriber_version, 1),
        ];
        let mut world = Self {
            scope,
            plant,
            broker: Broker::new(Arc::clone(&config), credits(scope)),
            config,
            peers,
            outbox: VecDeque::new(),
            subscribed: false,
            promises: Promises::new(scope.qos),
            faults_left: scope.faults,
            next_link: 2,
            finding: None,
            story: None,
        };
        for who in Who::BOTH {
            world.broker.open(world.peers[who.index()].link);
            world.flush(who);
        }
        let mut choices = Choices::new();
        world.choices(&mut choices);
        while let Some(&step) = choices.progress.first() {
            world.take(step);
            choices = Choices::new();
            world.choices(&mut choices);
        }
        world.outbox = (0_u8..).take(scope.qos.len()).collect();
        world
    }

    fn take_step(&mut self, step: Step) -> Result<(), Finding> {
        match step {
            Step::Publish => self.publish(),
            Step::Up(who) => self.up(who)?,
            Step::Down(who) => self.down(who)?,
            Step::GhostUp(who) => self.ghost_up(who)?,
            Step::GhostEnds(who) => self.ghost_ends(who)?,
            Step::Acknowledge(who) => self.acknowledge(who),
            Step::Commit(shard) => {
                self.tell(|_| format!("the journal of shard {shard} commits a record"));
                let outcome = self.broker.commit(shard);
                self.carry(outcome)?;
            }
            Step::Hop(pair) => self.hop(pair)?,
            Step::Backlog(shard) => {
                self.tell(|_| format!("shard {shard} goes on with what it has put off"));
                let outcome = self.broker.run_backlog(shard);
                self.carry(outcome)?;
            }
            Step::Lose(who) => self.lose(who)?,
            Step::HalfLose(who) => self.half_lose(who)?,
            Step::Crash => self.crash(),
        }
        for who in Who::BOTH {
            if !self.scope.slow_applications {
                while self.peers[who.index()].client.owes() > 0 {
                    self.acknowledge(who);
                }
            }
            self.flush(who);
        }
        Ok(())
    }

    fn publish(&mut self) {
        let Some(message) = self.outbox.pop_front() else {
            return;
        };
        self.tell(|_| format!("the publisher publishes message {message}"));
        let peer = &mut self.peers[Who::Publisher.index()];
        if !peer.client.publish(message) {
            self.outbox.push_front(message);
        }
    }

    fn up(&mut self, who: Who) -> Result<(), Finding> {
        let peer = &mut self.peers[who.index()];
        let Some(packet) = peer.up.pop_front() else {
            return Ok(());
        };
        let link = peer.link;
        self.tell(|_| format!("the broker reads of the {who}: {packet}"));
        self.feed(who, link, &packet)
    }

    fn ghost_up(&mut self, who: Who) -> Result<(), Finding> {
        let ghost = self.peers[who.index()].ghost.as_mut();
        let Some((link, packet)) =
            ghost.and_then(|ghost| Some((ghost.link, ghost.up.pop_front()?)))
        else {
            return Ok(());
        };
        self.tell(|_| format!("the broker reads of the {who}'s old connection: {packet}"));
        self.feed(who, link, &packet)
    }

    fn ghost_ends(&mut self, who: Who) -> Result<(), Finding> {
        let Some(ghost) = self.peers[who.index()].ghost.take() else {
            return Ok(());
        };
        self.tell(|_| format!("the {who}'s old connection ends"));
        let outcome = self.broker.close(ghost.link);
        self.carry(outcome)
    }

    /// Hands a packet to the broker.
    fn feed(&mut self, who: Who, link: LinkId, packet: &Packet) -> Result<(), Finding> {
        let peer = &mut self.peers[who.index()];
        // What a connection brings whose session is elsewhere by now is ignored.
        if peer.attached == Some(link) {
            peer.watch.received(Sender::Client, packet.says);
        }
        if self.plant == Some(Plant::LinkRepeatsPublish)
            && matches!(packet.says, Says::Publish { .. })
        {
            peer.last_publish = Some(packet.clone());
        }
        let outcome = self.broker.input(link, &packet.bytes);
        let peer = &mut self.peers[who.index()];
        if packet.says == Says::Connect && self.broker.is_attached(link) {
            peer.attached = Some(link);
            peer.watch.connection_begins();
            if peer.acquaintance == Acquaintance::Unknown {
                peer.acquaintance = Acquaintance::Begun;
            }
        }
        self.carry(outcome)
    }

    fn down(&mut self, who: Who) -> Result<(), Finding> {
        let peer = &mut self.peers[who.index()];
        let Some(packet) = peer.down.pop_front() else {
            return Ok(());
        };
        peer.watch.received(Sender::Server, packet.says);
        let mut heard = Vec::new();
        let handled = peer.client.handle_input(&packet.bytes, &mut heard);
        self.tell(|_| format!("the {who} reads: {packet}"));
        if let Err(error) = handled {
            let detail = format!("the {who}: {error:?}");
            return Err(finding("the broker broke the protocol", detail));
        }
        for heard in heard {
            self.hear(who, heard)?;
        }
        Ok(())
    }

    /// A client's application is told something.
    fn hear(&mut self, who: Who, heard: Heard) -> Result<(), Finding> {
        match heard {
            Heard::Accepted {
                session_present,
                discarded,
            } => {
                let peer = &mut self.peers[who.index()];
                if peer.acquaintance == Acquaintance::Begun {
                    peer.acquaintance = Acquaintance::Known;
                }
                if session_present {
                    return Ok(());
                }
                peer.watch.session_begins(Sender::Client);
                match who {
                    Who::Publisher => {
                        // The broker has forgotten them: they are published again, as new ones.
                        for &message in discarded.iter().rev() {
                            self.outbox.push_front(message);
                        }
                    }
                    Who::Subscriber => peer.client.subscribe(),
                }
                Ok(())
            }
            Heard::Message { message, qos } => {
                if who != Who::Subscriber {
                    return Err(finding(
                        "a message for nobody",
                        format!("message {message}"),
                    ));
                }
                self.promises.seen(message, qos)
            }
            Heard::Settled { message, reason } => {
                // What PUBREL brings after its PUBCOMP was lost, or after a crash (D6).
                let released = reason == ReasonCode::PacketIdentifierNotFound;
                if reason.is_error() && !released {
                    let detail = format!("message {message}: {reason:?}");
                    return Err(finding("a message was refused", detail));
                }
                if self.promises.is_settled(message) {
                    let detail = format!("message {message}");
                    return Err(finding("a publisher is told twice", detail));
                }
                self.promises.settled(message);
                Ok(())
            }
            Heard::Subscribed => {
                self.subscribed = true;
                Ok(())
            }
            Heard::Ended { reason } => Err(finding(
                "a correct client was disconnected",
                format!("the {who}: {reason:?}"),
            )),
        }
    }

    fn acknowledge(&mut self, who: Who) {
        self.tell(|world| {
            let slow = world.scope.slow_applications;
            let how = if slow { "" } else { " at once" };
            format!("the {who}'s application gives an acknowledgement{how}")
        });
        let peer = &mut self.peers[who.index()];
        if self.plant == Some(Plant::ForgottenAcknowledgement) && who == Who::Subscriber {
            peer.client.forget(0);
        } else {
            peer.client.acknowledge(0);
        }
    }

    fn hop(&mut self, pair: usize) -> Result<(), Finding> {
        let (from, to) = self.broker.ends(pair);
        if self.plant == Some(Plant::LostHop) && to < from {
            self.tell(|_| format!("what shard {from} says to shard {to} is lost"));
            self.broker.lose_hop(pair);
            return Ok(());
        }
        self.tell(|_| format!("shard {to} hears what shard {from} said"));
        if self.plant == Some(Plant::SwappedHops) {
            self.broker.swap_hops(pair);
        }
        let outcome = self.broker.deliver_hop(pair);
        self.carry(outcome)
    }

    /// Both ends of a connection know that it is lost, with everything under way.
    fn lose(&mut self, who: Who) -> Result<(), Finding> {
        self.faults_left.losses -= 1;
        self.tell(|world| {
            let peer = &world.peers[who.index()];
            let lost = peer.up.len() + peer.down.len();
            format!("the {who}'s connection is lost, with {lost} packets; it connects again")
        });
        let link = self.peers[who.index()].link;
        self.reconnect(who);
        let outcome = self.broker.close(link);
        self.carry(outcome)
    }

    /// Only the client knows.
    fn half_lose(&mut self, who: Who) -> Result<(), Finding> {
        self.faults_left.half_losses -= 1;
        self.tell(|world| {
            let peer = &world.peers[who.index()];
            let (up, down) = (peer.up.len(), peer.down.len());
            format!(
                "the {who} loses its connection and {down} packets, {up} are still on their way; \
                 it connects again"
            )
        });
        let peer = &mut self.peers[who.index()];
        let link = peer.link;
        let up = std::mem::take(&mut peer.up);
        self.reconnect(who);
        self.peers[who.index()].ghost = Some(Ghost { link, up });
        Ok(())
    }

    /// The broker loses all it knows, and every connection.
    fn crash(&mut self) {
        self.faults_left.crashes -= 1;
        self.tell(|_| "the broker crashes and starts again with nothing".to_owned());
        let mut config = (*self.config).clone();
        config.incarnation += 1;
        self.config = Arc::new(config);
        self.broker = Broker::new(Arc::clone(&self.config), credits(self.scope));
        self.subscribed = false;
        self.promises.begin_life();
        for who in Who::BOTH {
            let peer = &mut self.peers[who.index()];
            peer.ghost = None;
            peer.watch.session_begins(Sender::Server);
            peer.acquaintance = Acquaintance::Unknown;
            self.reconnect(who);
        }
    }

    /// A client begins a new connection.
    fn reconnect(&mut self, who: Who) {
        let link = self.next_link;
        self.next_link += 1;
        self.broker.open(link);
        let rejects = self.plant == Some(Plant::ForgetfulReceiver) && who == Who::Subscriber;
        let peer = &mut self.peers[who.index()];
        if peer.acquaintance == Acquaintance::Begun {
            peer.acquaintance = Acquaintance::Misled;
        }
        peer.link = link;
        peer.up.clear();
        peer.down.clear();
        peer.client.reconnect(|state, owed| {
            // What it was shown counts as taken, unless its application is at fault.
            if rejects && owed.message.is_some() {
                state.settle(owed.token, ReasonCode::UnspecifiedError);
            }
        });
        self.flush(who);
        let peer = &mut self.peers[who.index()];
        peer.up.extend(peer.last_publish.take());
    }

    /// What the broker has brought about reaches the links.
    fn carry(&mut self, outcome: Outcome) -> Result<(), Finding> {
        let Outcome {
            written,
            closed,
            accepted,
            restless,
        } = outcome;
        if restless {
            return Err(finding("a step has no end", String::new()));
        }
        for message in accepted {
            self.promises.taken(message, self.subscribed);
        }
        let window = usize::from(self.scope.window);
        for (link, bytes) in written {
            let Some(peer) = self.peers.iter_mut().find(|peer| peer.has(link)) else {
                continue;
            };
            for packet in split(&bytes, peer.client.version()) {
                let begins = Says::ConnAck {
                    session_present: false,
                };
                if packet.says == begins {
                    peer.watch.session_begins(Sender::Server);
                }
                if peer.attached == Some(link) {
                    peer.watch.sent(Sender::Server, packet.says, window)?;
                }
                // Nobody reads at the end of a link that its client has left.
                if peer.link == link {
                    peer.down.push_back(packet);
                }
            }
        }
        for link in closed {
            for peer in &mut self.peers {
                if peer.link == link {
                    let detail = format!("link {link}");
                    return Err(finding("the broker closes a correct client's link", detail));
                }
                if peer.ghost.as_ref().is_some_and(|ghost| ghost.link == link) {
                    peer.ghost = None;
                }
            }
        }
        Ok(())
    }

    /// What a client has written goes on its link.
    fn flush(&mut self, who: Who) {
        let peer = &mut self.peers[who.index()];
        let bytes = peer.client.take_output();
        for packet in split(&bytes, peer.client.version()) {
            let window = usize::from(publisher_window(self.scope).get());
            if let Err(broken) = peer.watch.sent(Sender::Client, packet.says, window) {
                self.finding.get_or_insert(broken);
            }
            peer.up.push_back(packet);
        }
    }

    fn tell(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.story.is_some() {
            let line = line(self);
            self.story.get_or_insert_default().push(line);
        }
    }

    fn check_rest(self) -> Result<(), Finding> {
        self.promises.check_rest()?;
        if !self.outbox.is_empty() {
            let detail = format!("{} messages are not published", self.outbox.len());
            return Err(finding("a window is stuck", detail));
        }
        for who in Who::BOTH {
            let open = self.peers[who.index()].watch.open();
            if open > 0 {
                let detail = format!("{open} exchanges of the {who} are open");
                return Err(finding("a window is stuck", detail));
            }
        }
        let mut broker = self.broker;
        for link in broker.links() {
            broker.close(link);
        }
        for (shard, residue) in broker.residues().enumerate() {
            let held = residue.obligations
                + residue.commits
                + residue.jobs
                + residue.queued_messages
                + residue.queued_bytes
                + residue.window_bytes
                + residue.exchanges
                + residue.connections;
            if held > 0 {
                let detail = format!("shard {shard}: {residue:?}");
                return Err(finding("the broker still holds something", detail));
            }
        }
        for (who, peer) in Who::BOTH.into_iter().zip(self.peers) {
            // What it had received before a crash nobody will release.
            let is_misled = peer.acquaintance == Acquaintance::Misled;
            if !is_misled && !peer.client.into_state().is_empty() {
                let detail = format!("the {who}'s session is not empty");
                return Err(finding("a window is stuck", detail));
            }
        }
        Ok(())
    }
}

impl World for BrokerWorld {
    type Step = Step;

    fn choices(&self, choices: &mut Choices<Step>) {
        let progress = &mut choices.progress;
        for who in Who::BOTH {
            let peer = &self.peers[who.index()];
            if !peer.up.is_empty() && self.broker.wants_input(peer.link) {
                progress.push(Step::Up(who));
            }
            if !peer.down.is_empty() {
                progress.push(Step::Down(who));
            }
            if peer.client.owes() > 0 {
                progress.push(Step::Acknowledge(who));
            }
            match &peer.ghost {
                Some(ghost) if ghost.up.is_empty() => progress.push(Step::GhostEnds(who)),
                Some(ghost) if self.broker.wants_input(ghost.link) => {
                    progress.push(Step::GhostUp(who));
                }
                _ => {}
            }
        }
        progress.extend(self.broker.uncommitted().map(Step::Commit));
        progress.extend(self.broker.busy_pairs().map(Step::Hop));
        progress.extend(self.broker.backlogs().map(Step::Backlog));
        let publisher = &self.peers[Who::Publisher.index()].client;
        if !self.outbox.is_empty() && publisher.may_publish() {
            progress.push(Step::Publish);
        }
        for who in Who::BOTH {
            let peer = &self.peers[who.index()];
            if self.faults_left.losses > 0 {
                choices.faults.push(Step::Lose(who));
            }
            // A CONNECT that arrives behind a later one would begin a connection nobody has.
            if self.faults_left.half_losses > 0
                && peer.ghost.is_none()
                && peer.attached == Some(peer.link)
            {
                choices.faults.push(Step::HalfLose(who));
            }
        }
        if self.faults_left.crashes > 0 {
            choices.faults.push(Step::Crash);
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
            // Only its incarnation changes, with the faults that are left.
            config: _,
            broker,
            peers,
            outbox,
            subscribed,
            promises,
            faults_left,
            // Counts connections: as many as faults are gone.
            next_link: _,
            // Exploration stops at the first.
            finding: _,
            story: _,
        } = self;
        broker.write_state(text);
        for peer in peers {
            peer.write_state(text);
        }
        text.debug(outbox);
        text.debug(subscribed);
        text.debug(promises);
        text.debug(faults_left);
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

fn core_config(scope: BrokerScope) -> CoreConfig {
    let mut config = CoreConfig::default();
    config.shards = scope.shards;
    config.journal = true;
    if scope.narrow_shards {
        config.limits.shard_window_bytes = 1;
    }
    config.connection.receive_maximum = window(scope);
    config.connection.in_flight_max = window(scope);
    config
}

fn credits(scope: BrokerScope) -> Credits {
    if scope.narrow_shards {
        Credits::Steps
    } else {
        Credits::AtOnce
    }
}

fn publisher_window(scope: BrokerScope) -> NonZeroU16 {
    window(scope).saturating_add(u16::from(scope.impatient_publisher))
}

fn window(scope: BrokerScope) -> NonZeroU16 {
    NonZeroU16::new(scope.window).unwrap_or(NonZeroU16::MIN)
}

/// A client id that is placed on this shard.
fn client_id_on(config: &CoreConfig, shard: usize, name: &str) -> String {
    (0_u32..)
        .map(|count| format!("{name}{count}"))
        .find(|id| placement(id, config.placement_seed, config.shards).index() == shard)
        .unwrap_or_default()
}

fn finding(rule: &'static str, detail: String) -> Finding {
    Finding { rule, detail }
}
