//! The end of a run: faults stop, everybody comes back and drains, and all has to be as promised;
//! then everybody leaves, and nothing may be left.

use whimbrel_broker_core::session::codec::{
    Connect, Disconnect, ProtocolVersion, QoS, SubscriptionOptions,
};
use whimbrel_broker_core::{QueueFull, Residue};

use crate::client::{Standing, client_id};
use crate::journal::View;
use crate::world::{Part, Pieces, World, wall_ms};

impl World {
    /// Runs the end. The first broken rule is in the oracle.
    pub(crate) fn end(&mut self, step: u64) {
        let phases = [
            Phase::FaultsStop,
            Phase::EverybodyDrains,
            Phase::FreshSubscriberComes,
            Phase::EverybodyLeaves,
            Phase::NothingIsLeft,
        ];
        for (number, phase) in phases.into_iter().enumerate() {
            self.trace.begin(step + number as u64, self.now_ms);
            self.trace
                .note(&[40, number as u64], || format!("{phase:?}"));
            match phase {
                Phase::FaultsStop => self.stop_faults(),
                Phase::EverybodyDrains => self.drain(),
                Phase::FreshSubscriberComes => self.fresh_subscriber(),
                Phase::EverybodyLeaves => self.leave(),
                Phase::NothingIsLeft => self.check_nothing_left(),
            }
            if self.oracle.finding().is_some() {
                return;
            }
        }
    }

    fn stop_faults(&mut self) {
        self.process.spare();
        self.make_room();
        let links: Vec<_> = self.links.keys().copied().collect();
        for number in links {
            let Some(wire) = self.links.get_mut(&number) else {
                continue;
            };
            wire.link.stalled = false;
            if wire.link.frozen || self.clients[wire.client].link() != Some(number) {
                self.cut(number);
            }
        }
    }

    /// Everybody who has a session comes back, and everything under way arrives.
    fn drain(&mut self) {
        self.come_to_rest(Returning::WithSession);
        if self.oracle.finding().is_some() {
            return;
        }
        let withholds =
            self.plan.core.queue_full == QueueFull::Refuse || self.oracle.has_been_full();
        for client in &mut self.clients {
            let stuck = client.in_flight() > 0 && !withholds;
            if stuck || client.owes() > 0 || !client.output_is_empty() {
                let connection = client.link().map(|link| self.process.describe(link));
                let detail = format!(
                    "c{}: {} in flight, {} owed, {:?}, {connection:?}",
                    client.number,
                    client.in_flight(),
                    client.owes(),
                    client.standing()
                );
                self.oracle.fail("stuck", detail);
            }
        }
        for (shard, residue) in self.process.residues().into_iter().enumerate() {
            let stuck = residue.obligations
                + residue.commits
                + residue.jobs
                + residue.queued_messages
                + residue.queued_bytes
                + residue.window_bytes;
            if stuck > 0 {
                let detail = format!("shard {shard}: {residue:?}");
                self.oracle.fail("the broker holds something back", detail);
            }
        }
        let stats = self.process.stats();
        if stats.queued_messages > 0 {
            let detail = format!("{} queued though all are here", stats.queued_messages);
            self.oracle.fail("the broker holds something back", detail);
        }
        let drops = self.drops_before + self.process.drops();
        if drops > 0 && !self.plan.queues_are_small {
            let detail = format!("{drops} drops, {:?}", stats.dropped);
            self.oracle.fail("dropped though there was room", detail);
        }
        self.oracle.check_quiet(drops);
    }

    /// A new subscriber to everything gets exactly the retained messages.
    fn fresh_subscriber(&mut self) {
        let number = self.plan.clients.len();
        let connect = Connect::new(ProtocolVersion::V5, client_id(number));
        self.connect(number, connect, None);
        self.come_to_rest(Returning::Nobody);
        let before = self.oracle.retained_now();
        let drops_before = self.process.stats().dropped_total();
        let filters = [
            ("#".to_owned(), SubscriptionOptions::new(QoS::ExactlyOnce)),
            (
                "$d/#".to_owned(),
                SubscriptionOptions::new(QoS::ExactlyOnce),
            ),
        ];
        let now = self.tick();
        self.clients[number].subscribe(now, &filters, None);
        self.come_to_rest(Returning::Nobody);
        let after = self.oracle.retained_now();
        let drops = self.process.stats().dropped_total() - drops_before;
        let seen = self.oracle.seen_by(number);
        let extra = seen.iter().find(|(topic, key)| {
            let is_known = self.oracle.knows_retained(topic);
            is_known && before.get(*topic).copied() != **key
        });
        if let Some((topic, key)) = extra {
            let detail = format!("{key:?} on {topic}, expected {:?}", before.get(topic));
            self.oracle
                .fail("a fresh subscriber got a wrong retained message", detail);
        }
        let missing = after
            .keys()
            .filter(|topic| !seen.contains_key(*topic))
            .count() as u64;
        if missing > drops {
            let detail = format!("{missing} of {}, {drops} dropped", after.len());
            self.oracle
                .fail("a fresh subscriber misses retained messages", detail);
        }
    }

    /// Every session is ended by its own client.
    fn leave(&mut self) {
        for which in 0..self.locals.len() {
            self.detach_local(which);
        }
        for number in self.oracle.living_clients() {
            if number < self.clients.len() {
                let version = self
                    .plan
                    .clients
                    .get(number)
                    .map_or(ProtocolVersion::V5, |persona| persona.version);
                self.connect(number, Connect::new(version, client_id(number)), None);
            }
        }
        self.come_to_rest(Returning::Nobody);
        for client in &mut self.clients {
            if client.standing() == Standing::Connected {
                client.disconnect(Disconnect::default());
            }
        }
        self.come_to_rest(Returning::Nobody);
        let links: Vec<_> = self.links.keys().copied().collect();
        for number in links {
            self.cut(number);
        }
        self.come_to_rest(Returning::Nobody);
    }

    fn check_nothing_left(&mut self) {
        for (shard, residue) in self.process.residues().into_iter().enumerate() {
            if residue != Residue::default() {
                let detail = format!("shard {shard}: {residue:?}");
                self.oracle.fail("memory did not come back", detail);
            }
        }
        let stats = self.process.stats();
        let gauges = [
            stats.sessions,
            stats.connections,
            stats.subscriptions,
            stats.queued_messages,
            stats.queued_bytes,
        ];
        if gauges != [0; 5] {
            self.oracle
                .fail("gauges did not come back", format!("{stats:?}"));
        }
        let filters = self.process.index().filters();
        if filters > 0 {
            self.oracle.fail("filters are left", format!("{filters}"));
        }
        self.process
            .sweep(wall_ms(self.now_ms, self.wall_offset_ms));
        let retained = self.process.index().retained_messages();
        let expected = self.oracle.retained_now().len();
        let unknown = self.oracle.retained_unknown();
        if retained < expected || retained > expected + unknown {
            let detail = format!("{retained} instead of {expected}");
            self.oracle
                .fail("retained messages are left or missing", detail);
        }
        self.check_store_is_empty(retained);
    }

    /// A store that is opened once more has retained messages and nothing else.
    fn check_store_is_empty(&mut self, retained: usize) {
        self.settle();
        if let Err(error) = self.process.maintain() {
            let detail = format!("{error:?}");
            return self
                .oracle
                .fail("the journal fails without a fault", detail);
        }
        let Some(disk) = &mut self.disk else {
            return;
        };
        self.process.drop_journal();
        let view = disk.open().and_then(|mut journal| View::of(&mut *journal));
        let view = match view {
            Ok(view) => view,
            Err(error) => {
                let detail = format!("{error:?}");
                return self.oracle.fail("the store can't be read back", detail);
            }
        };
        let left = view.unretained().next().cloned();
        if let Some(left) = left {
            self.oracle
                .fail("the store did not come back to nothing", left);
        }
        if view.retained() != retained {
            let detail = format!("{} of {retained}", view.retained());
            self.oracle
                .fail("the store has other retained messages", detail);
        }
    }

    /// Moves everything on until nothing moves, and a little longer.
    fn come_to_rest(&mut self, returning: Returning) {
        let mut idle = 0;
        for _ in 0..REST_ROUNDS {
            let mut moved = self.settle();
            if returning == Returning::WithSession {
                moved |= self.bring_back();
            }
            let links: Vec<_> = self.links.keys().copied().collect();
            for number in links {
                for part in [
                    Part::ClientWrites,
                    Part::BrokerReads,
                    Part::BrokerServes,
                    Part::ClientReads,
                ] {
                    moved |= self.move_part(number, part, Pieces::Whole);
                }
            }
            let now = self.tick();
            for client in &mut self.clients {
                moved |= client.owes() > 0;
                client.acknowledge(now, usize::MAX, &mut self.oracle, &mut self.trace);
            }
            moved |= self.drain_locals();
            if self.oracle.finding().is_some() {
                return;
            }
            idle = if moved { 0 } else { idle + 1 };
            if idle > IDLE_ROUNDS {
                return;
            }
            if !moved {
                // What is under way on links has its latency.
                self.advance(1 + self.plan.latency_ms_max);
            }
        }
        self.oracle.fail(
            "no rest",
            format!("after {REST_ROUNDS} rounds without faults"),
        );
    }

    /// Connects clients whose sessions wait for them.
    fn bring_back(&mut self) -> bool {
        let mut moved = false;
        for number in self.oracle.living_clients() {
            let Some(persona) = self.plan.clients.get(number).copied() else {
                continue;
            };
            if self.clients[number].standing() != Standing::Offline {
                continue;
            }
            let mut connect = Connect::new(persona.version, client_id(number));
            connect.keep_alive_secs = 0;
            connect.clean_start = self.clients[number].insists_on_clean_start;
            connect.properties.session_expiry_secs = u32::MAX;
            connect.properties.packet_size_max =
                persona.packet_size_max.and_then(std::num::NonZeroU32::new);
            self.connect(number, connect, None);
            moved = true;
        }
        moved
    }
}

/// The parts of the end.
#[derive(Clone, Copy, Debug)]
enum Phase {
    FaultsStop,
    EverybodyDrains,
    FreshSubscriberComes,
    EverybodyLeaves,
    NothingIsLeft,
}

/// Who connects while the world comes to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Returning {
    Nobody,
    WithSession,
}

/// Far more than the longest exchange has steps: the narrowest link takes 64 bytes a round, and large
/// payloads for one client can come to some megabytes.
const REST_ROUNDS: u32 = 200_000;

/// Rounds in which nothing moves before that counts as rest.
const IDLE_ROUNDS: u32 = 3;
