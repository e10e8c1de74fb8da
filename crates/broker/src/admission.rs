//! [`Admission`]: what an authenticator says to a client that wants in.

use bytes::Bytes;
use whimbrel_broker_core::Grants;
use whimbrel_broker_core::session::codec::topic::ByteStr;
use whimbrel_broker_core::session::codec::{
    ConnAckProperties, Disconnect, PacketType, ReasonCode, UserProperties,
};

/// What an [`Authenticator`](crate::Authenticator) says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admission {
    /// The client may connect.
    Accept,
    /// The client may connect, and CONNACK tells it something.
    AcceptWith(Box<Acceptance>),
    /// CONNACK says this, or [`ReasonCode::NotAuthorized`] where CONNACK has no such code.
    Refuse(ReasonCode),
    /// CONNACK says this, with words or another server to use.
    RefuseWith(Box<Refusal>),
}

/// What CONNACK tells a client that may connect. MQTT 3.x clients can't be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acceptance {
    /// Replaces the client's keep alive, in seconds [MQTT-3.1.2-21].
    pub server_keep_alive_secs: Option<u16>,
    /// What the client may make its response topics from; told if it asked for it [MQTT-3.1.2-28]. Takes the
    /// place of what [`BrokerConfig::response_topic_prefix`](crate::BrokerConfig::response_topic_prefix) gives.
    pub response_information: Option<ByteStr>,
    /// The last word of an enhanced authentication.
    pub authentication_data: Option<Bytes>,
    /// A word for a person who looks at CONNACK.
    pub reason_string: Option<ByteStr>,
    /// User properties.
    pub user_properties: UserProperties,
}

/// What CONNACK tells a client that may not connect, or DISCONNECT one that may not stay. MQTT 3.x clients are told
/// CONNACK's return code that fits, and nothing later on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The code; where the packet has no such code, [`ReasonCode::NotAuthorized`] in CONNACK and at the end of a
    /// new authentication, [`ReasonCode::UnspecifiedError`] elsewhere.
    pub reason: ReasonCode,
    /// Other servers to use, separated by spaces [U5-109].
    pub server_reference: Option<ByteStr>,
    /// The reason in words.
    pub reason_string: Option<ByteStr>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl Refusal {
    /// A refusal without words.
    #[must_use]
    pub fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            server_reference: None,
            reason_string: None,
            user_properties: UserProperties::new(),
        }
    }

    /// Sends the client to other servers, separated by spaces, for now (0x9C).
    #[must_use]
    pub fn use_another_server(servers: impl Into<ByteStr>) -> Self {
        Self {
            server_reference: Some(servers.into()),
            ..Self::new(ReasonCode::UseAnotherServer)
        }
    }

    /// Sends the client to other servers, separated by spaces, for good (0x9D).
    #[must_use]
    pub fn server_moved(servers: impl Into<ByteStr>) -> Self {
        Self {
            server_reference: Some(servers.into()),
            ..Self::new(ReasonCode::ServerMoved)
        }
    }

    /// With a code that CONNACK can say.
    pub(crate) fn into_sayable(self) -> Self {
        let is_sayable = self.reason.is_error() && self.reason.allowed_in(PacketType::ConnAck);
        Self {
            reason: if is_sayable {
                self.reason
            } else {
                ReasonCode::NotAuthorized
            },
            ..self
        }
    }

    pub(crate) fn into_disconnect(self) -> Disconnect {
        Disconnect {
            reason: self.reason,
            session_expiry_secs: None,
            server_reference: self.server_reference,
            reason_string: self.reason_string,
            user_properties: self.user_properties,
        }
    }

    pub(crate) fn properties(self) -> ConnAckProperties {
        ConnAckProperties {
            server_reference: self.server_reference,
            reason_string: self.reason_string,
            user_properties: self.user_properties,
            ..ConnAckProperties::default()
        }
    }
}

impl Acceptance {
    /// Adds it to what the broker itself grants.
    pub(crate) fn add_to(self, grants: &mut Grants) {
        let Self {
            server_keep_alive_secs,
            response_information,
            authentication_data,
            reason_string,
            user_properties,
        } = self;
        if server_keep_alive_secs.is_some() {
            grants.server_keep_alive_secs = server_keep_alive_secs;
        }
        if response_information.is_some() {
            grants.response_information = response_information;
        }
        grants.authentication_data = authentication_data;
        grants.reason_string = reason_string;
        grants.user_properties = user_properties;
    }
}

impl Admission {
    /// What is to be told in either case.
    pub(crate) fn into_result(self) -> Result<Acceptance, Refusal> {
        match self {
            Self::Accept => Ok(Acceptance::default()),
            Self::AcceptWith(acceptance) => Ok(*acceptance),
            Self::Refuse(reason) => Err(Refusal::new(reason).into_sayable()),
            Self::RefuseWith(refusal) => Err(refusal.into_sayable()),
        }
    }
}
