//! DISCONNECT.

use whimbrel_topic::ByteStr;

use crate::encode::{self, Body, Sink};
use crate::reader::Reader;
use crate::{
    DecodeErrorKind, EncodeError, Limits, PacketType, PropertiesRef, Property, PropertyPlace,
    ProtocolVersion, ReasonCode, UserProperties,
};

/// A DISCONNECT: the last packet of a connection. Before 5.0 it has no contents and only clients send it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disconnect {
    /// Why the connection is closed.
    pub reason: ReasonCode,
    /// From a client: the seconds that the session outlives the connection from now on.
    pub session_expiry_secs: Option<u32>,
    /// From a server: another server to use.
    pub server_reference: Option<ByteStr>,
    /// The reason in words.
    pub reason_string: Option<ByteStr>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl Disconnect {
    /// A DISCONNECT without properties.
    pub const fn new(reason: ReasonCode) -> Disconnect {
        Disconnect {
            reason,
            session_expiry_secs: None,
            server_reference: None,
            reason_string: None,
            user_properties: UserProperties::new(),
        }
    }

    pub(super) fn downgrade(&mut self) {
        *self = Disconnect::default();
    }

    fn properties(&self) -> impl Iterator<Item = Property<'_>> + Clone {
        [
            self.session_expiry_secs.map(Property::SessionExpiry),
            self.server_reference
                .as_deref()
                .map(Property::ServerReference),
            self.reason_string.as_deref().map(Property::ReasonString),
        ]
        .into_iter()
        .flatten()
        .chain(self.user_properties.properties())
    }
}

impl Default for Disconnect {
    /// A normal disconnection.
    fn default() -> Disconnect {
        Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)
    }
}

/// A borrowed DISCONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DisconnectRef<'a> {
    /// Why the connection is closed.
    pub reason: ReasonCode,
    /// What is said besides.
    pub properties: PropertiesRef<'a>,
}

impl<'a> DisconnectRef<'a> {
    /// Copies the packet.
    pub fn into_owned(self) -> Disconnect {
        Disconnect {
            reason: self.reason,
            session_expiry_secs: self.properties.session_expiry_secs(),
            server_reference: self.properties.server_reference().map(ByteStr::from),
            reason_string: self.properties.reason_string().map(ByteStr::from),
            user_properties: UserProperties::from(self.properties.user_properties()),
        }
    }

    #[cold]
    pub(super) fn decode(
        reader: &mut Reader<'a>,
        limits: &Limits,
    ) -> Result<DisconnectRef<'a>, DecodeErrorKind> {
        let mut disconnect = DisconnectRef {
            reason: ReasonCode::NORMAL_DISCONNECTION,
            properties: PropertiesRef::default(),
        };
        // [U5-080]
        if !reader.is_empty() {
            disconnect.reason = super::decode_reason(PacketType::Disconnect, reader)?;
        }
        if !reader.is_empty() {
            let place = PropertyPlace::Packet(PacketType::Disconnect);
            disconnect.properties = PropertiesRef::decode(reader, place, limits)?;
        }
        Ok(disconnect)
    }
}

impl Body for Disconnect {
    fn encode<S: Sink>(&self, version: ProtocolVersion, out: &mut S) -> Result<(), EncodeError> {
        if !version.is_v5() {
            return Ok(());
        }
        super::check_reason(PacketType::Disconnect, self.reason)?;
        let has_properties = self.properties().next().is_some();
        if has_properties || self.reason != ReasonCode::NORMAL_DISCONNECTION {
            out.put_u8(self.reason.as_u8());
        }
        if has_properties {
            encode::put_properties(out, self.properties())?;
        }
        Ok(())
    }
}
