//! What a seed draws before it begins: sizes, limits, and which features and faults are on.

use std::num::NonZeroU16;

use whimbrel_broker_core::session::codec::ProtocolVersion;
use whimbrel_broker_core::session::{ClientConfig, ServerConfig};
use whimbrel_broker_core::{CoreConfig, CoreLimits, QueueFull};

use crate::rng::Rng;

/// The shape of one run. Rare combinations come about because every seed draws all of it anew.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) core: CoreConfig,
    pub(crate) client: ClientConfig,
    pub(crate) clients: Vec<Persona>,
    /// Clients inside the process, by attach.
    pub(crate) local_clients: usize,
    /// Queues may overflow, so that missing messages have to be found in the drop counters instead.
    pub(crate) queues_are_small: bool,
    pub(crate) features: Features,
    pub(crate) faults: Faults,
    /// The journal is the store that runs in production, not the plain one.
    pub(crate) redb: bool,
    /// The longest latency of a link.
    pub(crate) latency_ms_max: u64,
    /// Bytes a pipe of a link takes.
    pub(crate) link_capacity: usize,
    /// Largest piece of a read or write.
    pub(crate) piece_max: usize,
    /// Topic aliases that clients of MQTT 5 take.
    pub(crate) topic_alias_max: u16,
}

/// What a client tends to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Persona {
    pub(crate) version: ProtocolVersion,
    /// Asks for a session that outlives its connection, mostly.
    pub(crate) is_durable: bool,
    /// `QoS` of everything it publishes to its own retained topic, so that order holds there.
    pub(crate) own_topic_qos: u8,
    /// It does nothing at all: a run without it, of which nothing else is drawn anew.
    pub(crate) is_silent: bool,
    /// Largest packet it accepts; MQTT 5 only.
    pub(crate) packet_size_max: Option<u32>,
}

/// Protocol features in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Features {
    pub(crate) shared: bool,
    /// Members of groups ask for `QoS` 1: nothing excuses the loss of a message then.
    pub(crate) shared_at_least_once: bool,
    pub(crate) retained: bool,
    pub(crate) wills: bool,
    pub(crate) expiry: bool,
    pub(crate) no_local: bool,
    pub(crate) keep_alive: bool,
    pub(crate) denied_topics: bool,
    pub(crate) large_payloads: bool,
    /// Bursts of SUBSCRIBE and UNSUBSCRIBE with many filters.
    pub(crate) storms: bool,
    /// Topic aliases, both ways.
    pub(crate) aliases: bool,
}

/// Faults that may happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) cuts: bool,
    pub(crate) takeovers: bool,
    pub(crate) half_open: bool,
    pub(crate) slow_readers: bool,
    pub(crate) garbage: bool,
    pub(crate) long_pauses: bool,
    /// The process dies with all it holds in memory, and a new one starts.
    pub(crate) crashes: bool,
    /// The wall clock is set, forwards or backwards. Ticks go on.
    pub(crate) clock_jumps: bool,
    /// Shards seldom get to what they have put off.
    pub(crate) slow_backlog: bool,
    /// Writes and syncs fail, and the process ends.
    pub(crate) disk_errors: bool,
    /// There is no room on the disk for a while.
    pub(crate) disk_full: bool,
    /// A process that starts has another number of shards than the one before.
    pub(crate) reshards: bool,
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let core = draw_core(rng);
        let queues_are_small = core.limits.queue_messages_max < ROOMY;
        let mut client = ClientConfig::default();
        client.in_flight_max = window(rng);
        client.receive_maximum = window(rng);
        let count = match rng.below(20) {
            0 => rng.between(31, 50),
            1..=2 => rng.between(13, 30),
            3 => 1,
            4..=7 => rng.between(2, 3),
            _ => rng.between(4, 12),
        };
        let faults = draw_faults(rng);
        let sizes_matter = rng.percent(15);
        // MQTT 3.1 has no Session Present: its clients can't know that a session is gone.
        let sessions_expire = faults.crashes && !core.journal
            || core
                .v3_session_expiry_secs
                .min(core.session_expiry_secs_max)
                != u32::MAX;
        let clients = (0..count)
            .map(|_| {
                let version = rng.pick(&[
                    ProtocolVersion::V31,
                    ProtocolVersion::V311,
                    ProtocolVersion::V311,
                    ProtocolVersion::V5,
                    ProtocolVersion::V5,
                    ProtocolVersion::V5,
                ]);
                Persona {
                    version,
                    is_durable: rng.percent(70)
                        && !(sessions_expire && version == ProtocolVersion::V31),
                    own_topic_qos: rng.below(3) as u8,
                    is_silent: false,
                    packet_size_max: (sizes_matter && rng.percent(40)).then_some(PACKET_SIZE_MAX),
                }
            })
            .collect();
        let mut plan = Self {
            core,
            client,
            clients,
            local_clients: if rng.percent(30) {
                rng.between(1, 2) as usize
            } else {
                0
            },
            queues_are_small,
            features: Features {
                shared: rng.percent(60),
                shared_at_least_once: rng.percent(40),
                retained: rng.percent(70),
                wills: rng.percent(60),
                expiry: rng.percent(50),
                no_local: rng.percent(50),
                keep_alive: rng.percent(50),
                denied_topics: rng.percent(20),
                large_payloads: rng.percent(15),
                storms: rng.percent(25),
                aliases: false,
            },
            faults,
            redb: false,
            latency_ms_max: rng.pick(&[0, 0, 5, 40]),
            link_capacity: rng.pick(&[64, 512, 4_096, 65_536]),
            piece_max: rng.pick(&[3, 40, 700, 65_536]),
            topic_alias_max: 0,
        };
        plan.features.aliases = rng.percent(40);
        plan.topic_alias_max = rng.pick(&[1, 2, 3, 16]);
        plan.core.connection.sent_topic_alias_max = rng.pick(&[1, 4, 16]);
        plan.client.sent_topic_alias_max = rng.pick(&[0, 1, 4]);
        plan.redb = rng.percent(REDB_PERCENT);
        plan.faults.disk_errors = rng.percent(30);
        plan.faults.disk_full = rng.percent(20);
        plan.faults.reshards = rng.percent(50);
        plan.settle();
        plan
    }

    /// Whether queues may be so long that a part of them is on the disk only.
    pub(crate) fn queues_spill(&self) -> bool {
        let limits = &self.core.limits;
        let is_narrow = limits.queue_window_messages < ROOMY
            || limits.queue_window_bytes < CoreLimits::default().queue_window_bytes
            || self.queues_are_small;
        self.core.journal && is_narrow
    }

    /// Makes the parts agree that were set by hand.
    pub(crate) fn settle(&mut self) {
        let limits = &mut self.core.limits;
        if !self.queues_are_small {
            let roomy = CoreLimits::default();
            limits.queue_messages_max = roomy.queue_messages_max;
            limits.clean_queue_messages_max = roomy.clean_queue_messages_max;
            limits.queue_bytes_total_max = roomy.queue_bytes_total_max;
            self.core.queue_full = QueueFull::DropOldest;
        } else if limits.queue_messages_max >= ROOMY {
            limits.queue_messages_max = FEW;
            limits.clean_queue_messages_max = FEW;
        }
        if !self.features.aliases {
            self.topic_alias_max = 0;
            self.client.sent_topic_alias_max = 0;
        }
        self.faults.disk_errors &= self.faults.crashes && self.core.journal;
        self.faults.disk_full &= self.core.journal;
        self.redb &= self.core.journal;
        for persona in &mut self.clients {
            let may_vanish = self.faults.crashes && !self.core.journal;
            persona.is_durable &= persona.version != ProtocolVersion::V31 || !may_vanish;
        }
    }
}

fn draw_faults(rng: &mut Rng) -> Faults {
    Faults {
        cuts: rng.percent(70),
        takeovers: rng.percent(50),
        half_open: rng.percent(30),
        slow_readers: rng.percent(50),
        garbage: rng.percent(20),
        long_pauses: rng.percent(40),
        crashes: rng.percent(25),
        clock_jumps: rng.percent(25),
        slow_backlog: rng.percent(25),
        disk_errors: false,
        disk_full: false,
        reshards: false,
    }
}

fn draw_core(rng: &mut Rng) -> CoreConfig {
    let mut core = CoreConfig::default();
    core.shards = draw_shards(rng);
    core.placement_seed = rng.next();
    core.seed = rng.next();
    core.journal = rng.percent(50);
    core.queue_qos0_offline = rng.percent(30);
    core.v3_session_expiry_secs = if rng.percent(70) {
        u32::MAX
    } else {
        rng.between(5, 60) as u32
    };
    core.session_expiry_secs_max = if rng.percent(80) { u32::MAX } else { 20 };
    let mut connection = ServerConfig::default();
    connection.receive_maximum = window(rng);
    connection.in_flight_max = window(rng);
    connection.output_bytes_max = rng.pick(&[64, 500, 4_096, 262_144]);
    core.connection = connection;
    let limits = &mut core.limits;
    limits.shard_window_bytes = rng.pick(&[100, 2_000, 1 << 20, 1 << 20]);
    limits.group_credit = rng.pick(&[1, 3, 256]);
    limits.match_cache_topics = rng.pick(&[0, 2, 16_384]);
    limits.step_budget = rng.pick(&[1, 2, 5, 4_096, 4_096, 4_096]);
    if rng.percent(40) {
        limits.queue_window_messages = rng.between(1, 6) as usize;
        limits.queue_window_bytes = rng.pick(&[1, 600, 1 << 20]);
    }
    if rng.percent(15) {
        limits.queue_messages_max = rng.between(1, 20) as usize;
        limits.clean_queue_messages_max = rng.between(1, 20) as usize;
        if rng.percent(30) {
            limits.queue_bytes_total_max = 4_000;
        }
        if rng.percent(30) {
            core.queue_full = QueueFull::Refuse;
        }
    }
    core
}

/// How many shards a process has.
pub(crate) fn draw_shards(rng: &mut Rng) -> usize {
    rng.pick(&[1, 1, 2, 2, 2, 2, 3, 3, 4, 5, 6, 7, 8])
}

fn window(rng: &mut Rng) -> NonZeroU16 {
    let size = match rng.below(4) {
        0 => 1,
        1 => rng.between(2, 8) as u16,
        _ => 256,
    };
    NonZeroU16::new(size).unwrap_or(NonZeroU16::MIN)
}

/// So many seeds with a journal in a hundred have the store that runs in production.
const REDB_PERCENT: u64 = 25;

/// Queues of at least so many messages never fill up in a run.
const ROOMY: usize = 1_000;

/// What queues hold where somebody asks for small ones.
const FEW: usize = 5;

/// Large enough for every packet but PUBLISH.
pub(crate) const PACKET_SIZE_MAX: u32 = 200;
