//! What a decoder accepts.

/// What a decoder accepts from its peer, besides what the standard allows.
///
/// The packet size is checked from the fixed header, before the packet is buffered; the rest before anything is
/// allocated. A packet over a limit is refused as a whole.
///
/// ```
/// use whimbrel_codec::Limits;
///
/// let mut limits = Limits::DEFAULT;
/// limits.packet_size_max = 64 * 1024;
/// # assert_eq!(limits.filters_max, Limits::default().filters_max);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The largest packet in bytes, fixed header included, of any type: what a Maximum Packet Size property announces.
    pub packet_size_max: u32,
    /// The most bytes of one property section (CONNECT has a second one for its will).
    pub property_bytes_max: u32,
    /// The most user properties in one property section.
    pub user_properties_max: u32,
    /// The most topic filters in one SUBSCRIBE or UNSUBSCRIBE.
    pub filters_max: u32,
    /// The most levels of a topic name, in PUBLISH and in a will.
    ///
    /// Topic filters are not measured: a SUBSCRIBE is answered filter by filter, by who checks their syntax.
    pub topic_levels_max: u32,
    /// What is done about control characters in strings.
    pub control_characters: ControlCharacters,
}

impl Limits {
    /// The limits a server should have while it knows nothing better: 1 MiB packets, 64 KiB of properties, 128 user
    /// properties, 1,024 filters, 128 topic levels; control characters are accepted.
    pub const DEFAULT: Limits = Limits {
        packet_size_max: 1024 * 1024,
        property_bytes_max: 64 * 1024,
        user_properties_max: 128,
        filters_max: 1024,
        topic_levels_max: 128,
        control_characters: ControlCharacters::Accept,
    };

    /// No limits but the protocol's own.
    pub const PROTOCOL: Limits = Limits {
        packet_size_max: u32::MAX,
        property_bytes_max: u32::MAX,
        user_properties_max: u32::MAX,
        filters_max: u32::MAX,
        topic_levels_max: u32::MAX,
        control_characters: ControlCharacters::Accept,
    };
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::DEFAULT
    }
}

/// What is done about U+0001 to U+001F, U+007F to U+009F and the non-characters of Unicode, which senders should not
/// put into strings and receivers may refuse [U5-002]. U+0000 is refused always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ControlCharacters {
    /// They are taken like any other character.
    #[default]
    Accept,
    /// The packet is malformed.
    Refuse,
}
