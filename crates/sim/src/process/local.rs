//! In-process clients at their shards.

use whimbrel_broker_core::session::codec::ProtocolVersion;
use whimbrel_broker_core::session::codec::topic::ByteStr;
use whimbrel_broker_core::{
    ConnectionKey, LocalDelivery, LocalOutcome, LocalPublish, LocalSubscribe, placement,
};

use super::{Around, Process};
use crate::client::client_number;
use crate::oracle::Arrival;

/// An in-process client at its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalHandle {
    pub(super) shard: usize,
    pub(super) key: ConnectionKey,
}

impl Process {
    /// Attaches an in-process client.
    pub(crate) fn attach_local(
        &mut self,
        around: &mut Around<'_>,
        number: usize,
        client_id: &str,
        mailbox_max: usize,
    ) -> LocalHandle {
        let config = &self.config;
        let shard = placement(client_id, config.placement_seed, config.shards).index();
        around.oracle.arrives(Arrival {
            connection: number,
            client: client_number(client_id),
            shard,
            version: ProtocolVersion::V5,
            clean_start: true,
            keep_alive_secs: 0,
            session_expiry_secs: 0,
            receive_maximum: u16::MAX,
            packet_size_max: None,
            topic_alias_max: 0,
            will: None,
            is_local: true,
        });
        let env = around.env(&self.index);
        let id = ByteStr::from(client_id);
        let key = self.shards[shard]
            .borrow_mut()
            .attach_local(env, &id, mailbox_max);
        self.drain(around, shard);
        LocalHandle { shard, key }
    }

    /// Ends an in-process client.
    pub(crate) fn detach_local(&mut self, around: &mut Around<'_>, handle: LocalHandle) {
        let env = around.env(&self.index);
        self.shards[handle.shard]
            .borrow_mut()
            .detach(env, handle.key);
        self.drain(around, handle.shard);
    }

    /// Publishes for an in-process client.
    pub(crate) fn local_publish(
        &mut self,
        around: &mut Around<'_>,
        handle: LocalHandle,
        publish: &LocalPublish,
        request: u64,
    ) {
        let env = around.env(&self.index);
        self.shards[handle.shard]
            .borrow_mut()
            .local_publish(env, handle.key, publish, request);
        self.drain(around, handle.shard);
    }

    /// Subscribes an in-process client.
    pub(crate) fn local_subscribe(
        &mut self,
        around: &mut Around<'_>,
        handle: LocalHandle,
        filters: &[LocalSubscribe],
        request: u64,
    ) {
        let env = around.env(&self.index);
        self.shards[handle.shard]
            .borrow_mut()
            .local_subscribe(env, handle.key, filters, request);
        self.drain(around, handle.shard);
    }

    /// Takes the next message of an in-process client.
    pub(crate) fn local_take(
        &mut self,
        around: &mut Around<'_>,
        handle: LocalHandle,
    ) -> Option<LocalDelivery> {
        let env = around.env(&self.index);
        let taken = self.shards[handle.shard]
            .borrow_mut()
            .local_take(env, handle.key);
        self.drain(around, handle.shard);
        taken
    }

    /// Outcomes for in-process clients since the last call.
    pub(crate) fn take_outcomes(&mut self) -> Vec<(LocalHandle, LocalOutcome)> {
        std::mem::take(&mut self.outcomes)
    }
}
