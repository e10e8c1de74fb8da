//! The world of one run: the broker, its clients, the links between them, and time.

use std::collections::BTreeMap;

use whimbrel_broker_core::session::Tick;
use whimbrel_broker_core::session::codec::{Connect, Will};

use crate::client::{Client, Standing};
use crate::journal::{Disk, ModelDisk, RedbDisk, Room};
use crate::link::Link;
use crate::local::LocalClient;
use crate::oracle::{ArrivalWill, Oracle};
use crate::plan::Plan;
use crate::process::{Around, Process};
use crate::rng::Rng;
use crate::run::Options;
use crate::trace::Trace;

/// Everything that exists in a run.
#[derive(Debug)]
pub(crate) struct World {
    seed: u64,
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now_ms: u64,
    /// What the wall clock is ahead of ticks and of where it began.
    pub(crate) wall_offset_ms: i64,
    pub(crate) process: Process,
    /// What outlives the process; with a journal only.
    pub(crate) disk: Option<Box<dyn Disk>>,
    /// When there is room on the disk again.
    pub(crate) room_again_ms: Option<u64>,
    /// Processes that have died.
    pub(crate) deaths: u32,
    /// Messages that they had dropped for want of room in a queue.
    pub(crate) drops_before: u64,
    pub(crate) clients: Vec<Client>,
    pub(crate) locals: Vec<LocalClient>,
    pub(crate) links: BTreeMap<usize, Wire>,
    next_link: usize,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
}

/// A link and whose it is.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) client: usize,
    pub(crate) link: Link,
}

/// The parts of a link that can move on their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    ClientWrites,
    BrokerReads,
    BrokerServes,
    ClientReads,
}

impl World {
    pub(crate) fn new(options: &Options) -> Self {
        let seed = options.seed;
        let mut rng = Rng::new(seed);
        let mut plan = Plan::draw(&mut rng);
        options.changes.apply(&mut plan);
        let mut trace = Trace::new(options.trace);
        trace.note(&[seed], || format!("{plan:#?}"));
        // The last client is the fresh subscriber of the end.
        let clients = (0..=plan.clients.len())
            .map(|number| Client::new(number, plan.client))
            .collect();
        let locals = (0..plan.local_clients)
            .map(|local| LocalClient::new(plan.clients.len() + 1 + local))
            .collect();
        let journal = plan.core.journal;
        let mut disk = journal.then(|| -> Box<dyn Disk> {
            if plan.redb {
                Box::new(RedbDisk::default())
            } else {
                Box::new(ModelDisk::default())
            }
        });
        let mut oracle = Oracle::new(&plan, options.follow);
        let mut around = Around {
            now_ms: 0,
            wall_ms: wall_ms(0, 0),
            oracle: &mut oracle,
            trace: &mut trace,
        };
        let process = Process::start(&plan, 0, disk.as_mut(), &mut around)
            .expect("an empty store can be read back");
        Self {
            seed,
            process,
            disk,
            room_again_ms: None,
            deaths: 0,
            drops_before: 0,
            oracle,
            rng,
            now_ms: 0,
            wall_offset_ms: 0,
            clients,
            locals,
            links: BTreeMap::new(),
            next_link: 0,
            trace,
            plan,
        }
    }

    /// Takes one step of the run.
    pub(crate) fn step(&mut self, step: u64) {
        self.trace.begin(step, self.now_ms);
        // Each step draws for itself, so that one that is left out changes no other's draws.
        self.rng = Rng::of_step(self.seed, step);
        match self.rng.below(100) {
            0..45 => {
                for _ in 0..self.rng.between(1, 12) {
                    self.move_something();
                }
            }
            45..60 => {
                let pair = self.rng.index(self.process.pairs());
                for _ in 0..self.rng.between(1, 4) {
                    let (process, mut around) = self.parts();
                    process.deliver_hop(&mut around, pair);
                }
            }
            60..66 => {
                let posts = self.draw_posts();
                let (process, mut around) = self.parts();
                process.commit(&mut around, &posts);
                if self.rng.percent(60) {
                    let (process, mut around) = self.parts();
                    process.hand_loaded(&mut around, u64::MAX);
                }
            }
            66..70 if self.plan.faults.slow_backlog && self.rng.percent(70) => {}
            66..70 => {
                let shard = self.rng.index(self.process.shards());
                let (process, mut around) = self.parts();
                process.run_backlog(&mut around, shard);
            }
            70..89 => self.operate(),
            89..95 => {
                let ms = self.rng.between(0, 40);
                self.advance(ms);
            }
            95..98 => self.fault(),
            98 if !self.locals.is_empty() => self.operate_local(),
            _ => {
                if self.plan.faults.long_pauses && self.rng.percent(20) {
                    let ms = self.rng.between(500, 15_000);
                    self.let_everybody_work();
                    self.advance(ms);
                }
            }
        }
        if self.process.is_dead() {
            self.crash();
        }
        self.check_queues();
    }

    /// Which posts of each shard are committed together: most often those of a few shards.
    fn draw_posts(&mut self) -> Vec<usize> {
        let takes_all = self.rng.percent(20);
        (0..self.process.shards())
            .map(|_| match self.rng.below(3) {
                _ if takes_all => usize::MAX,
                0 => 0,
                _ => self.rng.between(1, 8) as usize,
            })
            .collect()
    }

    /// Checks that no queue is above its bound. What groups hand out is bounded in another way.
    fn check_queues(&mut self) {
        let features = self.plan.features;
        if !self.plan.queues_are_small || features.shared {
            return;
        }
        let limits = &self.plan.core.limits;
        let mut bound = limits
            .queue_messages_max
            .max(limits.clean_queue_messages_max);
        if features.retained {
            // One step of a scan is let in whatever the bound, while the queue is empty.
            bound = bound.max(limits.step_budget);
        }
        let longest = self
            .process
            .residues()
            .iter()
            .map(|residue| residue.longest_queue)
            .max();
        if let Some(longest) = longest.filter(|&longest| longest > bound) {
            let detail = format!("{longest} messages where {bound} are allowed");
            self.oracle.fail("a queue above its bound", detail);
        }
    }

    /// The process, and what its steps touch.
    pub(crate) fn parts(&mut self) -> (&mut Process, Around<'_>) {
        (
            &mut self.process,
            Around {
                now_ms: self.now_ms,
                wall_ms: wall_ms(self.now_ms, self.wall_offset_ms),
                oracle: &mut self.oracle,
                trace: &mut self.trace,
            },
        )
    }

    pub(crate) fn tick(&self) -> Tick {
        Tick(self.now_ms)
    }

    /// Moves some part of some link.
    fn move_something(&mut self) {
        let Some(number) = self.pick_link() else {
            return self.operate();
        };
        let part = self.rng.pick(&[
            Part::ClientWrites,
            Part::BrokerReads,
            Part::BrokerReads,
            Part::BrokerServes,
            Part::BrokerServes,
            Part::ClientReads,
        ]);
        self.move_part(number, part, Pieces::Drawn);
    }

    /// Lets the broker do all that it could do in no time, so that nobody is kept waiting by it
    /// while time goes on.
    fn let_everybody_work(&mut self) {
        for _ in 0..WORK_ROUNDS {
            self.settle();
            let waiting: Vec<_> = self
                .links
                .keys()
                .copied()
                .filter(|&number| self.process.is_woken(number))
                .collect();
            if waiting.is_empty() {
                return;
            }
            for number in waiting {
                self.move_part(number, Part::BrokerServes, Pieces::Whole);
            }
        }
    }

    pub(crate) fn pick_link(&mut self) -> Option<usize> {
        if self.links.is_empty() {
            return None;
        }
        let nth = self.rng.index(self.links.len());
        self.links.keys().nth(nth).copied()
    }

    /// Moves bytes at one end of a link; true if anything happened.
    pub(crate) fn move_part(&mut self, number: usize, part: Part, pieces: Pieces) -> bool {
        let Some(wire) = self.links.get_mut(&number) else {
            return false;
        };
        // Writers notice nothing until the link is full.
        if wire.link.frozen && matches!(part, Part::BrokerReads | Part::ClientReads) {
            return false;
        }
        match part {
            Part::ClientWrites => self.client_writes(number, pieces),
            Part::BrokerReads => self.broker_reads(number, pieces),
            Part::BrokerServes => self.broker_serves(number, pieces),
            Part::ClientReads => self.client_reads(number, pieces),
        }
    }

    fn client_writes(&mut self, number: usize, pieces: Pieces) -> bool {
        let Some(wire) = self.links.get_mut(&number) else {
            return false;
        };
        let client = &mut self.clients[wire.client];
        if client.link() != Some(number) {
            return false;
        }
        let room = wire.link.capacity.saturating_sub(wire.link.up.len());
        let count = pieces.draw(&mut self.rng, room, self.plan.piece_max);
        let bytes = client.output(count);
        let arrives_ms = self.now_ms + latency(&mut self.rng, &wire.link, pieces);
        wire.link.up.push(arrives_ms, &bytes);
        self.trace.bytes(&bytes);
        // A connection that is over goes away with its last byte.
        if client.standing() == Standing::Closing && client.output_is_empty() {
            wire.link.up.end();
            wire.link.down.cut(0);
            let client = wire.client;
            self.lose(client);
            return true;
        }
        !bytes.is_empty()
    }

    fn broker_reads(&mut self, number: usize, pieces: Pieces) -> bool {
        let Some(wire) = self.links.get_mut(&number) else {
            return false;
        };
        if !self.process.wants_input(number) {
            return false;
        }
        if wire.link.up.is_over() {
            let (process, mut around) = self.parts();
            around
                .trace
                .note(&[5, number as u64], || format!("connection {number} ends"));
            process.close(&mut around, number);
            self.hang_up(number);
            return true;
        }
        let arrived = wire.link.up.arrived(self.now_ms);
        let count = pieces.draw(&mut self.rng, arrived, self.plan.piece_max);
        let bytes = wire.link.up.take(self.now_ms, count);
        if bytes.is_empty() {
            return false;
        }
        let (process, mut around) = self.parts();
        around.trace.bytes(&bytes);
        around.trace.note(&[6, number as u64], || {
            format!("connection {number} in {bytes:02x?}")
        });
        process.input(&mut around, number, &bytes);
        true
    }

    fn broker_serves(&mut self, number: usize, pieces: Pieces) -> bool {
        let Some(wire) = self.links.get_mut(&number) else {
            return false;
        };
        if !self.process.is_woken(number) {
            return false;
        }
        let room = wire.link.capacity.saturating_sub(wire.link.down.len());
        let piece_max = match pieces {
            Pieces::Drawn => self.plan.piece_max,
            Pieces::Whole => usize::MAX,
        };
        let mut around = Around {
            now_ms: self.now_ms,
            wall_ms: wall_ms(self.now_ms, self.wall_offset_ms),
            oracle: &mut self.oracle,
            trace: &mut self.trace,
        };
        let bytes = self
            .process
            .serve(&mut around, number, room, &mut self.rng, piece_max);
        around.trace.bytes(&bytes);
        around.trace.note(&[7, number as u64], || {
            format!("connection {number} out {bytes:02x?}")
        });
        let arrives_ms = self.now_ms + latency(&mut self.rng, &wire.link, pieces);
        wire.link.down.push(arrives_ms, &bytes);
        if self.process.is_finished(number) {
            let (process, mut around) = self.parts();
            around.trace.note(&[8, number as u64], || {
                format!("connection {number} is closed")
            });
            process.close(&mut around, number);
            self.hang_up(number);
            return true;
        }
        !bytes.is_empty()
    }

    fn client_reads(&mut self, number: usize, pieces: Pieces) -> bool {
        let Some(wire) = self.links.get_mut(&number) else {
            return false;
        };
        let client = &mut self.clients[wire.client];
        if client.link() != Some(number) {
            // Whoever opened it has gone: what arrives is lost.
            let arrived = wire.link.down.arrived(self.now_ms);
            return !wire.link.down.take(self.now_ms, arrived).is_empty();
        }
        if wire.link.stalled {
            return false;
        }
        if wire.link.down.is_over() {
            let client = wire.client;
            wire.link.up.end();
            self.lose(client);
            return true;
        }
        let arrived = wire.link.down.arrived(self.now_ms);
        let count = pieces.draw(&mut self.rng, arrived, self.plan.piece_max);
        let bytes = wire.link.down.take(self.now_ms, count);
        if bytes.is_empty() {
            return false;
        }
        self.trace.bytes(&bytes);
        let now = Tick(self.now_ms);
        client.input(now, &bytes, &mut self.oracle, &mut self.trace);
        if pieces == Pieces::Whole || self.rng.percent(70) {
            client.acknowledge(now, usize::MAX, &mut self.oracle, &mut self.trace);
        }
        true
    }

    /// A client finds that its connection is gone.
    ///
    /// Two things no client can find out are spared it, because then its state and that of its
    /// session fit no more, and nobody is to blame: a CONNECT that arrives behind a later one is
    /// lost, and where the answer to a CONNECT is lost that has begun a new session, the client
    /// gives up what it had of the old one.
    fn lose(&mut self, client: usize) {
        let unanswered = self.clients[client].unanswered();
        let link = self.clients[client].link();
        self.clients[client].lose();
        // The process that had the other end has died.
        if let Some(number) = link.filter(|&number| !self.process.knows(number)) {
            self.links.remove(&number);
        }
        let Some(number) = unanswered else {
            return;
        };
        if self.oracle.began_session(number) {
            self.clients[client].forget();
        } else if let Some(wire) = self.links.get_mut(&number)
            && !self.process.is_attached(number)
        {
            wire.link.up.cut(0);
        }
    }

    /// The broker has closed its end of a link.
    fn hang_up(&mut self, number: usize) {
        let Some(wire) = self.links.get_mut(&number) else {
            return;
        };
        wire.link.down.end();
        wire.link.up.cut(0);
        if self.clients[wire.client].link() != Some(number) {
            self.links.remove(&number);
        }
    }

    /// Opens a link and sends CONNECT on it. An older connection of the client is left behind.
    pub(crate) fn connect(&mut self, client: usize, mut connect: Connect, will: Option<Will>) {
        let number = self.next_link;
        self.next_link += 1;
        self.trace.note(&[9, number as u64, client as u64], || {
            format!(
                "c{client} connects on {number}, clean {}",
                connect.clean_start
            )
        });
        if let Some(old) = self.clients[client].link() {
            self.lose(client);
            if let Some(wire) = self.links.get_mut(&old) {
                wire.link.down.cut(0);
                wire.link.stalled = false;
            }
        }
        let arrival = will.as_ref().and_then(|will| {
            Some(ArrivalWill {
                key: crate::payload::decode(&will.payload)?,
                delay_secs: will.delay_secs,
            })
        });
        connect.will = will;
        let latency_ms = match self.plan.latency_ms_max {
            0 => 0,
            max => self.rng.between(0, max),
        };
        self.links.insert(
            number,
            Wire {
                client,
                link: Link::new(latency_ms, self.plan.link_capacity),
            },
        );
        let around = Around {
            now_ms: self.now_ms,
            wall_ms: wall_ms(self.now_ms, self.wall_offset_ms),
            oracle: &mut self.oracle,
            trace: &mut self.trace,
        };
        self.process.open(&around, number, arrival);
        self.clients[client].connect(Tick(self.now_ms), number, connect);
    }

    /// Both ends of a link find out that it is lost, each in its own time.
    pub(crate) fn cut(&mut self, number: usize) {
        let Some(wire) = self.links.get_mut(&number) else {
            return;
        };
        let kept_up = self.rng.below(wire.link.up.len() as u64 + 1) as usize;
        let kept_down = self.rng.below(wire.link.down.len() as u64 + 1) as usize;
        self.trace.note(
            &[10, number as u64, kept_up as u64, kept_down as u64],
            || format!("link {number} is cut"),
        );
        wire.link.up.cut(kept_up);
        wire.link.down.cut(kept_down);
        wire.link.frozen = false;
        wire.link.stalled = false;
    }

    /// Time goes on. What is due on the way is handled at its moment, and nothing waits for
    /// another shard or the journal longer than [`HOLD_MS`].
    pub(crate) fn advance(&mut self, ms: u64) {
        let target = self.now_ms + ms;
        loop {
            let client_due = self
                .clients
                .iter()
                .filter_map(Client::next_timeout)
                .map(|tick| tick.0)
                .min();
            let due = [
                self.process.next_timeout_ms(),
                client_due,
                self.room_again_ms,
            ]
            .into_iter()
            .flatten()
            .min()
            .filter(|&due| due <= target);
            self.now_ms = due.map_or(target, |due| due.max(self.now_ms));
            self.oracle.advance(self.now_ms);
            if self.room_again_ms.is_some_and(|again| again <= self.now_ms) {
                self.make_room();
            }
            let before_ms = self.now_ms.saturating_sub(HOLD_MS);
            let backlog = !self.plan.faults.slow_backlog;
            let (process, mut around) = self.parts();
            process.settle_older(&mut around, before_ms);
            if backlog {
                process.run_backlogs(&mut around);
            }
            process.handle_timeouts(&mut around);
            if self.process.is_dead() {
                self.crash();
            }
            for client in &mut self.clients {
                while client
                    .next_timeout()
                    .is_some_and(|tick| tick.0 <= self.now_ms)
                {
                    client.handle_timeout(Tick(self.now_ms));
                }
            }
            self.oracle.overdue();
            if due.is_none() {
                return;
            }
        }
    }

    /// There is room on the disk, however little there was.
    pub(crate) fn make_room(&mut self) {
        self.room_again_ms = None;
        if let Some(disk) = &mut self.disk {
            disk.set_room(Room::Enough);
            let (process, mut around) = self.parts();
            process.look_at_disk(&mut around);
        }
    }

    /// Lets everything inside the process come to rest.
    pub(crate) fn settle(&mut self) -> bool {
        let mut moved = false;
        for _ in 0..SETTLE_ROUNDS {
            let (process, mut around) = self.parts();
            let busy = process.settle_older(&mut around, u64::MAX);
            if !(process.run_backlogs(&mut around) || busy) {
                return moved;
            }
            if self.process.is_dead() {
                return moved;
            }
            moved = true;
        }
        self.oracle.fail(
            "the shards never come to rest",
            format!("{SETTLE_ROUNDS} rounds"),
        );
        moved
    }
}

/// How bytes are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pieces {
    /// By chance.
    Drawn,
    /// Not at all: the quiet end.
    Whole,
}

impl Pieces {
    fn draw(self, rng: &mut Rng, available: usize, piece_max: usize) -> usize {
        match self {
            Self::Whole => available,
            Self::Drawn if available == 0 => 0,
            Self::Drawn => rng.between(1, available.min(piece_max) as u64) as usize,
        }
    }
}

/// What the wall clock says, in Unix milliseconds.
pub(crate) fn wall_ms(now_ms: u64, offset_ms: i64) -> u64 {
    (EPOCH_MS + now_ms).saturating_add_signed(offset_ms)
}

/// The wall clock at tick 0.
const EPOCH_MS: u64 = 1_700_000_000_000;

fn latency(rng: &mut Rng, link: &Link, pieces: Pieces) -> u64 {
    match (pieces, link.latency_ms) {
        (Pieces::Whole, _) | (_, 0) => 0,
        (Pieces::Drawn, max) => rng.between(0, max),
    }
}

/// Simulated milliseconds that a hop or a record may wait.
const HOLD_MS: u64 = 200;

/// Enough for every client to get a turn at the narrowest window. A connection whose link is full
/// stays ready all the time.
const WORK_ROUNDS: u32 = 50;

/// More rounds than any number of things under way needs.
const SETTLE_ROUNDS: u32 = 100_000;
