//! Packets put together byte by byte, for those that the codec rightly refuses to build.

use bytes::Bytes;
use whimbrel_codec::{Connect, Packet, ProtocolVersion};

use crate::context::Context;

/// A packet: first byte, remaining length, and `parts` one after the other.
pub fn packet(first_byte: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = vec![first_byte];
    bytes.extend(varint(length));
    bytes.extend(parts.concat());
    bytes
}

/// A variable byte integer in its shortest form.
///
/// # Panics
/// Above 268,435,455, which no case needs.
pub fn varint(mut value: usize) -> Vec<u8> {
    assert!(
        value <= 268_435_455,
        "no variable byte integer holds {value}"
    );
    let mut bytes = Vec::new();
    loop {
        let digit = u8::try_from(value % 128).expect("below 128");
        value /= 128;
        if value == 0 {
            bytes.push(digit);
            return bytes;
        }
        bytes.push(digit | 0x80);
    }
}

/// A field of two bytes of length and the content: a string, which need not be one, or binary data.
///
/// # Panics
/// Above 65,535 bytes.
pub fn field(content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let length = u16::try_from(content.len()).expect("cases stay below 65,536 bytes");
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes
}

/// A property section: its length, and `properties` one after the other, each an identifier and a value.
pub fn properties(properties: &[&[u8]]) -> Vec<u8> {
    let content = properties.concat();
    let mut bytes = varint(content.len());
    bytes.extend(content);
    bytes
}

/// A property with a value of any type, its bytes given.
pub fn property(id: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = vec![id];
    bytes.extend_from_slice(value.as_ref());
    bytes
}

/// A string property.
pub fn string_property(id: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
    property(id, field(value))
}

/// A user property.
pub fn user_property(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    property(0x26, [field(name), field(value)].concat())
}

/// The bytes of a packet that the codec can build.
///
/// # Panics
/// When it can't.
pub fn encoded(packet: &Packet, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoded = packet.encode(version, &mut bytes);
    encoded.expect("cases build valid packets with the codec");
    bytes
}

/// A CONNECT whose every field can be wrong. It starts as a valid one.
///
/// `properties`, `will_properties` are the content without the length; `None` leaves the section out, as 3.x does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawConnect {
    /// The first byte: 0x10.
    pub first_byte: u8,
    /// The protocol name.
    pub protocol_name: Vec<u8>,
    /// The protocol level.
    pub level: u8,
    /// The connect flags.
    pub flags: u8,
    /// The keep alive in seconds.
    pub keep_alive_secs: u16,
    /// The properties.
    pub properties: Option<Vec<u8>>,
    /// The client id.
    pub client_id: Option<Vec<u8>>,
    /// The will's properties.
    pub will_properties: Option<Vec<u8>>,
    /// The will's topic.
    pub will_topic: Option<Vec<u8>>,
    /// The will's payload.
    pub will_payload: Option<Vec<u8>>,
    /// The user name.
    pub user_name: Option<Vec<u8>>,
    /// The password.
    pub password: Option<Vec<u8>>,
    /// What follows the last field.
    pub trailing: Vec<u8>,
}

impl RawConnect {
    /// A valid CONNECT with a clean start, this client id of the case, and the target's credentials.
    pub fn new(context: &Context, client_name: &str) -> RawConnect {
        let version = context.version();
        let credentials = Credentials::of(context);
        let mut flags = CLEAN_START;
        if credentials.user_name.is_some() {
            flags |= USER_NAME;
        }
        if credentials.password.is_some() {
            flags |= PASSWORD;
        }
        RawConnect {
            first_byte: 0x10,
            protocol_name: version.name().into(),
            level: version.level(),
            flags,
            keep_alive_secs: 60,
            properties: version.is_v5().then(Vec::new),
            client_id: Some(context.client_id(client_name).into()),
            will_properties: None,
            will_topic: None,
            will_payload: None,
            user_name: credentials.user_name,
            password: credentials.password,
            trailing: Vec::new(),
        }
    }

    /// Adds a will of QoS 0 with its flag.
    #[must_use]
    pub fn with_will(mut self, topic: impl Into<Vec<u8>>, payload: impl Into<Vec<u8>>) -> Self {
        self.flags |= WILL;
        self.will_properties = self.properties.is_some().then(Vec::new);
        self.will_topic = Some(topic.into());
        self.will_payload = Some(payload.into());
        self
    }

    /// Adds properties at the end, each an identifier and a value.
    #[must_use]
    pub fn with_properties(mut self, properties: &[&[u8]]) -> Self {
        self.properties
            .get_or_insert_default()
            .extend(properties.concat());
        self
    }

    /// The bytes.
    pub fn build(&self) -> Vec<u8> {
        let section = |content: &Option<Vec<u8>>| match content {
            Some(content) => properties(&[content]),
            None => Vec::new(),
        };
        let optional = |content: &Option<Vec<u8>>| match content {
            Some(content) => field(content),
            None => Vec::new(),
        };
        packet(
            self.first_byte,
            &[
                &field(&self.protocol_name),
                &[self.level, self.flags],
                &self.keep_alive_secs.to_be_bytes(),
                &section(&self.properties),
                &optional(&self.client_id),
                &section(&self.will_properties),
                &optional(&self.will_topic),
                &optional(&self.will_payload),
                &optional(&self.user_name),
                &optional(&self.password),
                &self.trailing,
            ],
        )
    }
}

/// Puts the target's credentials into a CONNECT.
pub(crate) fn authenticate(connect: &mut Connect, context: &Context) {
    let target = context.target();
    connect.user_name = target.user_name.as_deref().map(Into::into);
    connect.password = target.password.clone().map(Bytes::from);
}

struct Credentials {
    user_name: Option<Vec<u8>>,
    password: Option<Vec<u8>>,
}

impl Credentials {
    fn of(context: &Context) -> Credentials {
        let target = context.target();
        Credentials {
            user_name: target.user_name.clone().map(Into::into),
            password: target.password.clone().map(Into::into),
        }
    }
}

/// Connect flag: a clean start.
pub const CLEAN_START: u8 = 0x02;
/// Connect flag: there is a will.
pub const WILL: u8 = 0x04;
/// Connect flag: the will is retained.
pub const WILL_RETAIN: u8 = 0x20;
/// Connect flag: there is a password.
pub const PASSWORD: u8 = 0x40;
/// Connect flag: there is a user name.
pub const USER_NAME: u8 = 0x80;
