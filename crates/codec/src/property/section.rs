//! A section of properties: validated once, then read in place.

use std::iter::FusedIterator;

use super::id::WireType;
use super::{Property, PropertyId, PropertyPlace, PropertySet, UserPropertyRef};
use crate::reader::Reader;
use crate::{ControlCharacters, DecodeErrorKind, Limits, SubscriptionId};

/// The properties of a packet, borrowed from its bytes and read in place.
///
/// They were validated as a whole when the packet was decoded: each is allowed in that packet, has a valid value, and
/// stands there once unless it may repeat. In 3.1 and 3.1.1 a packet has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PropertiesRef<'a> {
    bytes: &'a [u8],
}

impl<'a> PropertiesRef<'a> {
    /// Reads and validates the section at the front of `reader`: a length, and as many bytes of properties.
    #[inline]
    pub(crate) fn decode(
        reader: &mut Reader<'a>,
        place: PropertyPlace,
        limits: &Limits,
    ) -> Result<PropertiesRef<'a>, DecodeErrorKind> {
        let length = reader.variable()?;
        PropertiesRef::decode_body(length, reader, place, limits)
    }

    /// Reads and validates `length` bytes of properties.
    #[inline]
    pub(crate) fn decode_body(
        length: u32,
        reader: &mut Reader<'a>,
        place: PropertyPlace,
        limits: &Limits,
    ) -> Result<PropertiesRef<'a>, DecodeErrorKind> {
        if length != 0 {
            PropertiesRef::check_front(reader.rest(), length, place, limits)?;
        }
        let bytes = reader.take(length as usize)?;
        Ok(PropertiesRef { bytes })
    }

    /// Validates the first `length` bytes of `body` as properties.
    ///
    /// Takes and gives values only, so that what calls it keeps its own in registers.
    #[inline(never)]
    pub(crate) fn check_front(
        body: &[u8],
        length: u32,
        place: PropertyPlace,
        limits: &Limits,
    ) -> Result<(), DecodeErrorKind> {
        let Some(bytes) = body.get(..length as usize) else {
            // [U5-010]
            return Err(DecodeErrorKind::PropertyLengthInvalid);
        };
        if length > limits.property_bytes_max {
            return Err(DecodeErrorKind::TooManyPropertyBytes);
        }
        validate(bytes, place, limits)
    }

    /// Whether there are no properties.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The properties as on the wire, without the length in front.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The properties in their order.
    pub const fn iter(&self) -> Properties<'a> {
        Properties { bytes: self.bytes }
    }

    /// The reason in words.
    pub fn reason_string(&self) -> Option<&'a str> {
        match find(self.bytes, PropertyId::ReasonString)? {
            Property::ReasonString(text) => Some(text),
            _ => None,
        }
    }

    /// The session expiry in seconds.
    pub fn session_expiry_secs(&self) -> Option<u32> {
        match find(self.bytes, PropertyId::SessionExpiry)? {
            Property::SessionExpiry(seconds) => Some(seconds),
            _ => None,
        }
    }

    /// Another server to use.
    pub fn server_reference(&self) -> Option<&'a str> {
        match find(self.bytes, PropertyId::ServerReference)? {
            Property::ServerReference(text) => Some(text),
            _ => None,
        }
    }

    /// The subscription identifier of a SUBSCRIBE.
    pub fn subscription_id(&self) -> Option<SubscriptionId> {
        match find(self.bytes, PropertyId::SubscriptionId)? {
            Property::SubscriptionId(id) => Some(id),
            _ => None,
        }
    }

    /// The name of the authentication method.
    pub fn authentication_method(&self) -> Option<&'a str> {
        match find(self.bytes, PropertyId::AuthenticationMethod)? {
            Property::AuthenticationMethod(text) => Some(text),
            _ => None,
        }
    }

    /// Data of the authentication method.
    pub fn authentication_data(&self) -> Option<&'a [u8]> {
        match find(self.bytes, PropertyId::AuthenticationData)? {
            Property::AuthenticationData(data) => Some(data),
            _ => None,
        }
    }

    /// The user properties in their order.
    pub const fn user_properties(&self) -> UserPropertyRefs<'a> {
        UserPropertyRefs { bytes: self.bytes }
    }
}

impl<'a> IntoIterator for PropertiesRef<'a> {
    type Item = Property<'a>;
    type IntoIter = Properties<'a>;

    fn into_iter(self) -> Properties<'a> {
        self.iter()
    }
}

/// An iterator over the properties of a packet.
#[derive(Clone, Debug, Default)]
pub struct Properties<'a> {
    bytes: &'a [u8],
}

impl<'a> Properties<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Properties<'a> {
        Properties { bytes }
    }
}

impl<'a> Iterator for Properties<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        let mut reader = trusted(self.bytes);
        let id = PropertyId::from_u8(reader.u8().ok()?)?;
        let property = Property::read(id, &mut reader).ok()?;
        self.bytes = reader.rest();
        Some(property)
    }
}

impl FusedIterator for Properties<'_> {}

/// An iterator over the user properties of a packet.
#[derive(Clone, Debug, Default)]
pub struct UserPropertyRefs<'a> {
    bytes: &'a [u8],
}

impl<'a> UserPropertyRefs<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> UserPropertyRefs<'a> {
        UserPropertyRefs { bytes }
    }
}

impl<'a> Iterator for UserPropertyRefs<'a> {
    type Item = UserPropertyRef<'a>;

    fn next(&mut self) -> Option<UserPropertyRef<'a>> {
        match next_of(&mut self.bytes, PropertyId::UserProperty)? {
            Property::UserProperty(property) => Some(property),
            _ => None,
        }
    }
}

impl FusedIterator for UserPropertyRefs<'_> {}

/// Checks every property of a section.
pub(super) fn validate(
    bytes: &[u8],
    place: PropertyPlace,
    limits: &Limits,
) -> Result<(), DecodeErrorKind> {
    let allowed = place.allowed();
    let repeatable = place.repeatable();
    let mut seen = PropertySet::default();
    let mut user_properties = 0_u32;
    let mut reader = Reader::new(bytes, limits.control_characters);
    while !reader.is_empty() {
        let byte = reader.u8()?;
        let Some(id) = PropertyId::from_u8(byte) else {
            return Err(DecodeErrorKind::PropertyUnknown { id: byte });
        };
        if !allowed.contains(id) {
            return Err(DecodeErrorKind::PropertyNotAllowed { id });
        }
        if seen.contains(id) && !repeatable.contains(id) {
            return Err(DecodeErrorKind::PropertyRepeated { id });
        }
        seen = seen.with(id);
        Property::read(id, &mut reader)?;
        if id == PropertyId::UserProperty {
            user_properties += 1;
            if user_properties > limits.user_properties_max {
                return Err(DecodeErrorKind::TooManyUserProperties);
            }
        }
    }
    if seen.contains(PropertyId::AuthenticationData)
        && !seen.contains(PropertyId::AuthenticationMethod)
    {
        // [U5-028]
        return Err(DecodeErrorKind::AuthenticationMethodMissing);
    }
    Ok(())
}

/// The first property `id` of a validated section.
pub(super) fn find(bytes: &[u8], id: PropertyId) -> Option<Property<'_>> {
    let mut rest = bytes;
    next_of(&mut rest, id)
}

/// The next property `id` of a validated section, of which `bytes` is what is left; moves `bytes` behind it.
pub(super) fn next_of<'a>(bytes: &mut &'a [u8], id: PropertyId) -> Option<Property<'a>> {
    let mut reader = trusted(bytes);
    loop {
        let found = PropertyId::from_u8(reader.u8().ok()?)?;
        if found == id {
            let property = Property::read(id, &mut reader).ok();
            *bytes = reader.rest();
            return property;
        }
        skip(found, &mut reader)?;
    }
}

/// Steps over the value of a property in a validated section.
pub(super) fn skip(id: PropertyId, reader: &mut Reader<'_>) -> Option<()> {
    match id.wire_type() {
        WireType::Byte => reader.take(1).ok()?,
        WireType::TwoBytes => reader.take(2).ok()?,
        WireType::FourBytes => reader.take(4).ok()?,
        WireType::VariableInteger => return reader.variable().ok().map(drop),
        WireType::Prefixed => reader.binary().ok()?,
        WireType::PrefixedPair => reader.binary().and_then(|_| reader.binary()).ok()?,
    };
    Some(())
}

/// A reader of a section that was validated under limits that need not be known any more.
pub(super) const fn trusted(bytes: &[u8]) -> Reader<'_> {
    Reader::new(bytes, ControlCharacters::Accept)
}
