//! Which Subscription Identifiers a server may use.

use whimbrel_codec::SubscriptionId;

/// The identifiers that this client has given in the session, as far as they are known here.
///
/// They are no part of the client's session state, so a resumed session may have others from an earlier
/// connection. An identifier stays allowed after UNSUBSCRIBE: messages with it may be under way.
#[derive(Debug)]
pub(super) enum GivenIds {
    /// All of them, ascending.
    Known(Vec<SubscriptionId>),
    /// There may be more than is known, or there are more than [`GIVEN_IDS_MAX`]: any may come.
    Unknown,
}

impl GivenIds {
    /// Those of a session that begins.
    pub(super) const fn none() -> Self {
        Self::Known(Vec::new())
    }

    pub(super) fn give(&mut self, id: SubscriptionId) {
        let Self::Known(ids) = self else { return };
        let Err(place) = ids.binary_search(&id) else {
            return;
        };
        if ids.len() >= GIVEN_IDS_MAX {
            *self = Self::Unknown;
        } else {
            ids.insert(place, id);
        }
    }

    /// Whether a server may send `id` [U5-048].
    pub(super) fn allow(&self, id: SubscriptionId) -> bool {
        match self {
            Self::Known(ids) => ids.binary_search(&id).is_ok(),
            Self::Unknown => true,
        }
    }
}

/// How many identifiers a client keeps to hold against its server: 4 KiB of them.
const GIVEN_IDS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> SubscriptionId {
        let number = u32::try_from(number).expect("small");
        SubscriptionId::new(number).expect("not 0")
    }

    #[test]
    fn identifiers_are_known_up_to_a_bound_and_all_allowed_beyond_it() {
        let mut ids = GivenIds::none();
        for number in (1..=GIVEN_IDS_MAX).rev() {
            ids.give(id(number));
            ids.give(id(number));
        }
        assert!(ids.allow(id(1)) && ids.allow(id(GIVEN_IDS_MAX)));
        assert!(!ids.allow(id(GIVEN_IDS_MAX + 1)));
        ids.give(id(GIVEN_IDS_MAX + 5));
        assert!(ids.allow(id(GIVEN_IDS_MAX + 1)));
    }
}
