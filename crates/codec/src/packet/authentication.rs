//! Enhanced authentication, and AUTH.

use bytes::Bytes;
use whimbrel_topic::ByteStr;

use super::AckProperties;
use crate::encode::{self, Body, Sink};
use crate::reader::Reader;
use crate::{
    DecodeErrorKind, EncodeError, Limits, PacketType, PropertiesRef, Property, PropertyPlace,
    ProtocolVersion, ReasonCode,
};

/// A step of an enhanced authentication: the data never stands without the method [U5-028].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Authentication {
    /// The name of the method.
    pub method: ByteStr,
    /// Data of the method: at most 65,535 bytes.
    pub data: Option<Bytes>,
}

impl Authentication {
    pub(super) fn from_section(section: PropertiesRef<'_>) -> Option<Authentication> {
        let data = section.authentication_data();
        section
            .authentication_method()
            .map(|method| Authentication {
                method: ByteStr::from(method),
                data: data.map(Bytes::copy_from_slice),
            })
    }

    pub(super) fn method_property(&self) -> Property<'_> {
        Property::AuthenticationMethod(&self.method)
    }

    pub(super) fn data_property(&self) -> Option<Property<'_>> {
        self.data.as_deref().map(Property::AuthenticationData)
    }
}

/// An AUTH, which 5.0 alone has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Auth {
    /// What this step is: success, continue, or start again.
    pub reason: ReasonCode,
    /// The method, and data of it.
    pub authentication: Authentication,
    /// What is said for diagnostics.
    pub properties: AckProperties,
}

/// A borrowed AUTH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthRef<'a> {
    /// What this step is.
    pub reason: ReasonCode,
    /// The name of the method.
    pub method: &'a str,
    /// All properties, the method and its data among them.
    pub properties: PropertiesRef<'a>,
}

impl<'a> AuthRef<'a> {
    /// Copies the packet.
    pub fn into_owned(self) -> Auth {
        Auth {
            reason: self.reason,
            authentication: Authentication {
                method: ByteStr::from(self.method),
                data: self
                    .properties
                    .authentication_data()
                    .map(Bytes::copy_from_slice),
            },
            properties: AckProperties::from(self.properties),
        }
    }

    /// An AUTH without a body says success [U5-091], but lacks the method it must have [U5-092].
    #[cold]
    pub(super) fn decode(
        reader: &mut Reader<'a>,
        limits: &Limits,
    ) -> Result<AuthRef<'a>, DecodeErrorKind> {
        if reader.is_empty() {
            return Err(DecodeErrorKind::AuthenticationMethodMissing);
        }
        let reason = super::decode_reason(PacketType::Auth, reader)?;
        let place = PropertyPlace::Packet(PacketType::Auth);
        let properties = PropertiesRef::decode(reader, place, limits)?;
        let Some(method) = properties.authentication_method() else {
            return Err(DecodeErrorKind::AuthenticationMethodMissing);
        };
        Ok(AuthRef {
            reason,
            method,
            properties,
        })
    }
}

impl Body for Auth {
    fn encode<S: Sink>(&self, version: ProtocolVersion, out: &mut S) -> Result<(), EncodeError> {
        let packet_type = PacketType::Auth;
        if !version.is_v5() {
            return Err(EncodeError::NotInVersion {
                packet_type,
                version,
            });
        }
        super::check_reason(packet_type, self.reason)?;
        out.put_u8(self.reason.as_u8());
        let method = [
            Some(self.authentication.method_property()),
            self.authentication.data_property(),
        ];
        let method = method.into_iter().flatten();
        encode::put_properties(out, method.chain(self.properties.properties()))
    }
}
