//! In-process clients: attached without a link, with a bounded mailbox.

use std::collections::BTreeMap;

use whimbrel_broker_core::session::codec::MessageProperties;
use whimbrel_broker_core::session::codec::topic::ByteStr;
use whimbrel_broker_core::{LocalDelivery, LocalPublish, LocalSubscribe, UnixMillis};

use crate::client::client_id;
use crate::oracle::{Copy, Gated, Published};
use crate::payload::{self, MessageKey};
use crate::process::LocalHandle;
use crate::world::World;

/// One in-process client over all its attachments.
#[derive(Debug)]
pub(crate) struct LocalClient {
    pub(crate) number: usize,
    attached: Option<Attached>,
    next_sequence: u32,
    next_request: u64,
    attachments: usize,
    /// Messages whose outcome is still to come, by request.
    publishes: BTreeMap<u64, MessageKey>,
    /// Subscribe requests without an outcome, in their order; outcomes come in any.
    subscribes: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Attached {
    handle: LocalHandle,
    /// Its number among connections.
    connection: usize,
}

impl LocalClient {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            number,
            attached: None,
            next_sequence: 0,
            next_request: 0,
            attachments: 0,
            publishes: BTreeMap::new(),
            subscribes: Vec::new(),
        }
    }

    /// The process that it was a part of has died.
    pub(crate) fn crash(&mut self) {
        self.attached = None;
        self.publishes.clear();
        self.subscribes.clear();
    }
}

impl World {
    /// Some in-process client does something.
    pub(crate) fn operate_local(&mut self) {
        let which = self.rng.index(self.locals.len());
        let Some(Attached { handle, connection }) = self.locals[which].attached else {
            return self.attach_local(which);
        };
        match self.rng.below(100) {
            0..40 => self.publish_local(which, handle, connection),
            40..60 => self.subscribe_local(which, handle, connection),
            60..97 => {
                for _ in 0..self.rng.between(1, 8) {
                    self.take_local(handle, connection);
                }
            }
            _ => self.detach_local(which),
        }
        self.hear_outcomes();
    }

    /// Empties every mailbox; true if there was anything.
    pub(crate) fn drain_locals(&mut self) -> bool {
        let mut moved = false;
        for which in 0..self.locals.len() {
            if let Some(Attached { handle, connection }) = self.locals[which].attached {
                while self.take_local(handle, connection) {
                    moved = true;
                }
            }
        }
        self.hear_outcomes();
        moved
    }

    pub(crate) fn detach_local(&mut self, which: usize) {
        if let Some(Attached { handle, connection }) = self.locals[which].attached.take() {
            let (process, mut around) = self.parts();
            process.detach_local(&mut around, handle);
            self.oracle.detached(connection);
        }
    }

    fn attach_local(&mut self, which: usize) {
        let local = &mut self.locals[which];
        local.attachments += 1;
        local.subscribes.clear();
        let number = local.number;
        let connection = LOCAL_CONNECTIONS * (1 + local.attachments) + number;
        let mailbox_max = self.rng.between(1, 20) as usize;
        let (process, mut around) = self.parts();
        around
            .trace
            .note(&[30, number as u64], || format!("c{number} attaches"));
        let handle = process.attach_local(&mut around, connection, &client_id(number), mailbox_max);
        self.locals[which].attached = Some(Attached { handle, connection });
    }

    fn publish_local(&mut self, which: usize, handle: LocalHandle, connection: usize) {
        let qos = self.draw_qos();
        let topic = self.rng.pick(&crate::ops::TOPICS).to_owned();
        let retain = self.plan.features.retained && self.rng.percent(15);
        let local = &mut self.locals[which];
        local.next_sequence += 1;
        local.next_request += 1;
        let request = local.next_request;
        let key = MessageKey {
            publisher: local.number as u16,
            sequence: local.next_sequence,
        };
        local.publishes.insert(request, key);
        let publish = LocalPublish {
            topic: crate::ops::topic_name(&topic),
            payload: payload::encode(key, 20),
            qos,
            retain,
            properties: MessageProperties::new(),
        };
        self.oracle.published(Published {
            key,
            topic: topic.clone(),
            qos,
            retain,
            expiry_secs: None,
            payload_length: 20,
            is_will: false,
            is_denied: false,
        });
        let gated = Gated::Publish {
            topic,
            key: Some(key),
            qos,
            retain,
            is_denied: false,
        };
        self.oracle.gated(connection, vec![gated]);
        let (process, mut around) = self.parts();
        around
            .trace
            .note(&[31, request], || format!("{key} from within: {publish:?}"));
        process.local_publish(&mut around, handle, &publish, request);
    }

    fn subscribe_local(&mut self, which: usize, handle: LocalHandle, connection: usize) {
        let filter = self.draw_filter();
        let options = self.draw_options(&filter, true);
        let local = &mut self.locals[which];
        local.next_request += 1;
        let request = local.next_request;
        local.subscribes.push(request);
        let gated = Gated::Subscribe {
            filters: vec![(filter.clone(), options)],
            id: None,
        };
        self.oracle.gated(connection, vec![gated]);
        let filters = [LocalSubscribe {
            filter: ByteStr::from(filter.as_str()),
            options,
        }];
        let (process, mut around) = self.parts();
        around.trace.note(&[32, request], || {
            format!("subscribed from within: {filter}")
        });
        process.local_subscribe(&mut around, handle, &filters, request);
    }

    fn take_local(&mut self, handle: LocalHandle, connection: usize) -> bool {
        let (process, mut around) = self.parts();
        let Some(LocalDelivery {
            message,
            qos,
            retain,
            subscription_ids,
            ..
        }) = process.local_take(&mut around, handle)
        else {
            return false;
        };
        let payload = message.payload();
        let copy = Copy {
            topic: message.topic().as_str().to_owned(),
            key: payload::decode(&payload),
            is_empty: payload.is_empty(),
            qos,
            retain,
            dup: false,
            ids: subscription_ids.iter().map(|id| id.get()).collect(),
            expiry_secs: (message.expires_at() != UnixMillis::NEVER).then_some(0),
            // It is given the message itself, whose expiry is a moment and not an interval.
            is_v5: message.expires_at() == UnixMillis::NEVER,
        };
        self.trace.note(&[33, connection as u64], || {
            format!("taken from within: {copy:?}")
        });
        self.oracle.taken_locally(connection, &copy);
        true
    }

    fn hear_outcomes(&mut self) {
        for (handle, outcome) in self.process.take_outcomes() {
            for local in &mut self.locals {
                let own = local
                    .attached
                    .is_some_and(|attached| attached.handle == handle);
                if !own {
                    continue;
                }
                let place = local
                    .subscribes
                    .iter()
                    .position(|&request| request == outcome.request);
                if let (Some(attached), Some(place)) = (local.attached, place) {
                    local.subscribes.remove(place);
                    self.oracle.answered(attached.connection, place);
                }
                let key = local.publishes.remove(&outcome.request);
                if let (Some(key), [reason]) = (key, outcome.reasons.as_slice()) {
                    self.oracle.settled(key, *reason);
                }
            }
        }
    }
}

/// Connections of in-process clients are numbered beyond those of links.
const LOCAL_CONNECTIONS: usize = 1_000_000;
