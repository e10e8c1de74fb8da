//! [`Arrival`]: an admitted connection on its way to the shard of its session.

use tokio::sync::OwnedSemaphorePermit;
use whimbrel_broker_core::session::codec::Connect;
use whimbrel_broker_core::{ConnectionPump, Grants};

use crate::gate::ConnectionGate;
use crate::shared::ConnectionSlot;
use crate::transport::Parcel;

/// A connection whose CONNECT was read and admitted, between two threads.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) parcel: Parcel,
    pub(crate) admitted: Admitted,
    /// Bounds what waits in inboxes; given back when the connection is attached.
    pub(crate) _permit: OwnedSemaphorePermit,
}

/// All of a connection that was admitted but its stream.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// Carries what was read behind the CONNECT.
    pub(crate) pump: ConnectionPump,
    pub(crate) connect: Box<Connect>,
    pub(crate) grants: Grants,
    pub(crate) gate: ConnectionGate,
    pub(crate) slot: ConnectionSlot,
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Arrival>();
};
