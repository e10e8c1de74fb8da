//! [`Wakers`]: which task to wake for which connection, and whose buffers to give back.

use std::task::Waker;

use whimbrel_broker_core::ConnectionKey;

/// The tasks of a thread's connections, by the place of each connection in its shard.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    slots: Vec<Option<Slot>>,
    /// Connections that may hold output memory; each once, those that are gone included.
    warm: Vec<ConnectionKey>,
}

#[derive(Debug)]
struct Slot {
    key: ConnectionKey,
    waker: Waker,
    heat: Heat,
}

/// How long ago a connection wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heat {
    /// Its output memory was given back, or it never had any.
    Cold,
    /// Not since the last sweep.
    Cooling,
    /// Since the last sweep.
    Hot,
}

impl Wakers {
    /// Notes the task of a connection.
    pub(crate) fn register(&mut self, key: ConnectionKey, waker: &Waker) {
        let index = key.index();
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        let slot = &mut self.slots[index];
        match slot {
            Some(slot) if slot.key == key => slot.waker.clone_from(waker),
            _ => {
                *slot = Some(Slot {
                    key,
                    waker: waker.clone(),
                    heat: Heat::Cold,
                });
            }
        }
    }

    /// Forgets a connection.
    pub(crate) fn remove(&mut self, key: ConnectionKey) {
        if self.slot(key).is_some() {
            self.slots[key.index()] = None;
        }
        while self.slots.last().is_some_and(Option::is_none) {
            self.slots.pop();
        }
    }

    /// Wakes the task of a connection, if it has one yet: a new task looks by itself.
    pub(crate) fn wake(&mut self, key: ConnectionKey) {
        if let Some(slot) = self.slot(key) {
            slot.waker.wake_by_ref();
        }
    }

    /// Notes that a connection wrote. Says whether it is the first to be swept.
    pub(crate) fn warm_up(&mut self, key: ConnectionKey) -> Sweep {
        let none_was_warm = self.warm.is_empty();
        if let Some(slot) = self.slot(key) {
            let heat = std::mem::replace(&mut slot.heat, Heat::Hot);
            if heat == Heat::Cold {
                self.warm.push(key);
                if none_was_warm {
                    return Sweep::Begins;
                }
            }
        }
        Sweep::AsBefore
    }

    /// Whether a sweep has anything to do.
    pub(crate) fn has_warm(&self) -> bool {
        !self.warm.is_empty()
    }

    /// Calls `give_back` for each connection that has not written since the last sweep.
    pub(crate) fn sweep(&mut self, mut give_back: impl FnMut(ConnectionKey)) {
        let mut warm = std::mem::take(&mut self.warm);
        warm.retain(|&key| {
            let Some(slot) = self.slot(key) else {
                return false;
            };
            match slot.heat {
                Heat::Hot => slot.heat = Heat::Cooling,
                Heat::Cooling | Heat::Cold => {
                    slot.heat = Heat::Cold;
                    give_back(key);
                }
            }
            slot.heat != Heat::Cold
        });
        self.warm = warm;
    }

    fn slot(&mut self, key: ConnectionKey) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(key.index())?.as_mut()?;
        (slot.key == key).then_some(slot)
    }
}

/// Whether sweeps have to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sweep {
    /// Nothing was warm before.
    Begins,
    /// Sweeps go on, or are not needed.
    AsBefore,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use whimbrel_broker_core::session::codec::topic::ByteStr;
    use whimbrel_broker_core::{CoreConfig, Env, Index, Now, Shard, ShardId, UnixMillis};

    use super::*;

    /// Keys only a shard can make.
    fn keys<const N: usize>() -> [ConnectionKey; N] {
        let config = CoreConfig::default();
        let index = Index::new(0, &config.limits);
        let mut shard = Shard::new(ShardId::new(0).expect("a shard"), Arc::new(config));
        let now = Now {
            tick: Default::default(),
            wall: UnixMillis(0),
        };
        let env = Env { now, index: &index };
        std::array::from_fn(|number| {
            shard.attach_local(env, &ByteStr::from(format!("client-{number}")), 1)
        })
    }

    fn swept(wakers: &mut Wakers) -> Vec<ConnectionKey> {
        let mut swept = Vec::new();
        wakers.sweep(|key| swept.push(key));
        swept
    }

    #[test]
    fn memory_is_given_back_in_the_second_sweep_after_the_last_write() {
        let [key, busy] = keys();
        let mut wakers = Wakers::default();
        for key in [key, busy] {
            wakers.register(key, Waker::noop());
        }
        assert_eq!(wakers.warm_up(key), Sweep::Begins);
        assert_eq!(wakers.warm_up(busy), Sweep::AsBefore);
        assert_eq!(swept(&mut wakers), []);
        wakers.warm_up(busy);
        assert_eq!(swept(&mut wakers), [key]);
        assert_eq!(swept(&mut wakers), [busy]);
        assert!(!wakers.has_warm());
    }

    #[test]
    fn a_connection_that_is_gone_is_neither_swept_nor_kept() {
        let [key] = keys();
        let mut wakers = Wakers::default();
        wakers.register(key, Waker::noop());
        wakers.warm_up(key);
        wakers.remove(key);
        assert!(wakers.slots.is_empty());
        assert_eq!(wakers.warm_up(key), Sweep::AsBefore);
        assert_eq!(swept(&mut wakers), []);
        assert_eq!(swept(&mut wakers), []);
        assert!(!wakers.has_warm());
    }
}
