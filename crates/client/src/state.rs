//! [`ConnectionState`]: how things stand.

use std::sync::Arc;
use std::time::Duration;

use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{ConnAck, ProtocolVersion, QoS};

use crate::{Closed, ConnectionError};

/// How a client's connection stands; see [`Client::state`](crate::Client::state).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionState {
    /// An attempt is under way.
    Connecting {
        /// How many have failed before, in a row.
        failures: u32,
    },
    /// The server has accepted the connection.
    Connected(Arc<Established>),
    /// The connection was lost, or could not be made; the next attempt comes.
    Waiting {
        /// What happened.
        error: ConnectionError,
        /// How many attempts have failed in a row.
        failures: u32,
        /// The wait before the next, from the moment of the loss.
        delay: Duration,
    },
    /// Nothing more will happen.
    Closed(Closed),
}

/// What the server has said to a connection.
#[derive(Clone, Debug)]
pub struct Established {
    connack: ConnAck,
    version: ProtocolVersion,
    session_present: bool,
}

impl Established {
    pub(crate) fn new(connack: ConnAck, version: ProtocolVersion, session_present: bool) -> Self {
        Self {
            connack,
            version,
            session_present,
        }
    }

    /// Whether the server went on with a session it had [MQTT-3.2.2-2].
    pub fn session_present(&self) -> bool {
        self.session_present
    }

    /// The version of the connection.
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// The client id that the server has assigned, if the client had none [MQTT-3.2.2-16].
    pub fn assigned_client_id(&self) -> Option<&ByteStr> {
        self.connack.properties.assigned_client_id.as_ref()
    }

    /// The highest QoS that the server takes [MQTT-3.2.2-11].
    pub fn maximum_qos(&self) -> QoS {
        self.connack.properties.maximum_qos
    }

    /// The packet, with everything else the server has said.
    pub fn connack(&self) -> &ConnAck {
        &self.connack
    }
}
