//! [`Window`]: how many messages a publisher may have under way, from its hand to the last of its receivers.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use tokio::sync::Notify;

/// The messages of one publisher that are sent and that not every receiver has.
///
/// A message takes a slot, `sequence % slots`, until each of its receivers has settled it. So QoS 0 is not thrown at a
/// broker that has to drop it, and a throughput is that of the slowest receiver. With a fixed rate there are no slots,
/// and nothing but [`wake`](Self::wake) is used.
///
/// The publisher may be on one thread and receivers on others. Orderings are `SeqCst` but for `sent`, of which the
/// publisher's waiting tells others: either the publisher
/// sees a settled message before it waits, or the receiver sees that it waits.
#[derive(Debug)]
pub(crate) struct Window {
    /// Receivers that have not settled the message in it.
    slots: Box<[AtomicU32]>,
    receivers: u32,
    sent: AtomicU64,
    /// Messages that every receiver has settled, or that were given up.
    completed: AtomicU64,
    /// The publisher waits until so many are completed; `u64::MAX` when it does not.
    wake_at: AtomicU64,
    /// Wakes the publisher: the window has room, or the time of a message has come.
    pub(crate) wake: Notify,
}

impl Window {
    /// A window of `slots` messages, each for so many receivers; 0 slots for one without end.
    pub(crate) fn new(slots: u32, receivers: u32) -> Self {
        Self {
            slots: (0..slots).map(|_| AtomicU32::new(0)).collect(),
            receivers,
            sent: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            wake_at: AtomicU64::new(NOBODY_WAITS),
            wake: Notify::new(),
        }
    }

    /// Whether the publisher may send this message now.
    pub(crate) fn has_room(&self, sequence: u32) -> bool {
        self.slot(sequence)
            .is_none_or(|slot| slot.load(SeqCst) == 0)
    }

    /// The publisher has put this message into its output.
    pub(crate) fn take(&self, sequence: u32) {
        if let Some(slot) = self.slot(sequence) {
            slot.store(self.receivers, SeqCst);
            // Only the publisher writes it.
            self.sent.store(self.sent.load(Relaxed) + 1, Relaxed);
        }
    }

    /// One receiver has this message, or will not get it any more.
    pub(crate) fn settle(&self, sequence: u32) {
        let Some(slot) = self.slot(sequence) else {
            return;
        };
        // Nothing is left where the message was given up before.
        if slot.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) != Ok(1) {
            return;
        }
        let completed = self.completed.fetch_add(1, SeqCst) + 1;
        if completed >= self.wake_at.load(SeqCst) {
            self.wake_at.store(NOBODY_WAITS, SeqCst);
            self.wake.notify_one();
        }
    }

    /// The publisher finds no room: asks to be woken by [`wake`](Self::wake) once a part of the window is free, so that
    /// messages go out in batches. False where that is so already.
    pub(crate) fn wait(&self) -> bool {
        let completed = self.completed.load(SeqCst);
        let open = self.sent.load(SeqCst).saturating_sub(completed);
        let batch = (self.slots.len() as u64 / BATCHES_PER_WINDOW).clamp(1, open.max(1));
        let wake_at = completed + batch;
        self.wake_at.store(wake_at, SeqCst);
        if self.completed.load(SeqCst) < wake_at {
            return true;
        }
        self.wake_at.store(NOBODY_WAITS, SeqCst);
        false
    }

    /// Whether the publisher has asked to be woken, and was not yet: until then it sends nothing, whatever else wakes it.
    pub(crate) fn is_awaited(&self) -> bool {
        self.wake_at.load(SeqCst) != NOBODY_WAITS
    }

    /// How far it is, for who looks whether it still moves; `None` while the publisher does not wait.
    pub(crate) fn stalled_at(&self) -> Option<u64> {
        self.is_awaited().then(|| self.completed.load(SeqCst))
    }

    /// Gives up whatever is under way: it did not come in time.
    pub(crate) fn give_up(&self) {
        for slot in &self.slots {
            slot.store(0, SeqCst);
        }
        self.completed.store(self.sent.load(SeqCst), SeqCst);
        self.wake_at.store(NOBODY_WAITS, SeqCst);
        self.wake.notify_one();
    }

    fn slot(&self, sequence: u32) -> Option<&AtomicU32> {
        let count = self.slots.len();
        (count > 0).then(|| &self.slots[sequence as usize % count])
    }
}

const NOBODY_WAITS: u64 = u64::MAX;
/// A publisher goes on when this part of its window is free.
const BATCHES_PER_WINDOW: u64 = 4;

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_woken(window: &Window) -> bool {
        let notified = pin!(window.wake.notified());
        notified
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    fn full(slots: u32, receivers: u32) -> Window {
        let window = Window::new(slots, receivers);
        for sequence in 0..slots {
            assert!(window.has_room(sequence));
            window.take(sequence);
        }
        window
    }

    #[test]
    fn a_message_holds_its_place_until_every_receiver_has_it() {
        let window = full(2, 3);
        assert!(!window.has_room(2));
        window.settle(0);
        window.settle(0);
        assert!(!window.has_room(2));
        window.settle(0);
        assert!(window.has_room(2));
        assert!(!window.has_room(3));
    }

    #[test]
    fn a_publisher_that_waits_is_woken_when_a_quarter_is_free() {
        let window = full(8, 1);
        assert!(!window.is_awaited());
        assert!(window.wait());
        window.settle(0);
        assert!(!is_woken(&window));
        assert!(window.is_awaited() && window.has_room(8));
        window.settle(1);
        assert!(is_woken(&window));
        assert!(!window.is_awaited());
        assert_eq!(window.stalled_at(), None);
    }

    #[test]
    fn a_publisher_does_not_wait_for_more_than_is_under_way() {
        let window = full(8, 1);
        for sequence in 1..8 {
            window.settle(sequence);
        }
        assert!(!window.has_room(8));
        assert!(window.wait());
        window.settle(0);
        assert!(is_woken(&window));
    }

    #[test]
    fn what_is_given_up_makes_room_and_counts_once() {
        let window = full(4, 1);
        assert!(window.wait());
        assert_eq!(window.stalled_at(), Some(0));
        window.give_up();
        assert!(is_woken(&window));
        assert!((4..8).all(|sequence| window.has_room(sequence)));
        window.settle(0);
        assert_eq!(window.completed.load(SeqCst), 4);
    }

    #[test]
    fn without_slots_there_is_always_room() {
        let window = Window::new(0, 5);
        for sequence in 0..1_000 {
            assert!(window.has_room(sequence));
            window.take(sequence);
        }
        window.settle(3);
        assert_eq!(window.stalled_at(), None);
    }
}
