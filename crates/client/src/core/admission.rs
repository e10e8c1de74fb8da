//! Who may add to the queue, in the order of asking.

use std::collections::VecDeque;
use std::task::Waker;

/// The bound of what is accepted and not yet done with, and those that wait for room in it.
///
/// First come, first served: while somebody waits, nobody else is let in, so that a large message is not passed by for
/// ever. The waiters are bounded by the futures that there are.
#[derive(Debug)]
pub(crate) struct Admission {
    bytes_max: usize,
    /// Invariant: above `bytes_max` only by one message that was alone when it came, or by what was restored.
    bytes: usize,
    waiting: VecDeque<Waiting>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    waker: Waker,
}

/// A place in the queue of those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

impl Admission {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            waiting: VecDeque::new(),
            next_ticket: 0,
        }
    }

    /// Takes room for so many bytes, if nobody waits and there is room.
    pub(crate) fn try_take(&mut self, bytes: usize) -> bool {
        let may = self.waiting.is_empty() && self.has_room(bytes);
        if may {
            self.bytes += bytes;
        }
        may
    }

    /// Waits for room: to be asked again when `waker` is woken.
    pub(crate) fn wait(&mut self, waker: &Waker) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.push_back(Waiting {
            ticket,
            waker: waker.clone(),
        });
        ticket
    }

    /// Takes room for so many bytes if it is this one's turn; else it goes on waiting.
    pub(crate) fn take_in_turn(&mut self, ticket: Ticket, bytes: usize, waker: &Waker) -> bool {
        let is_first = self
            .waiting
            .front()
            .is_some_and(|first| first.ticket == ticket);
        if is_first && self.has_room(bytes) {
            self.waiting.pop_front();
            self.bytes += bytes;
            self.wake_first();
            return true;
        }
        self.stay(ticket, waker);
        false
    }

    /// Goes on waiting.
    pub(crate) fn stay(&mut self, ticket: Ticket, waker: &Waker) {
        let mut waiting = self.waiting.iter_mut();
        if let Some(own) = waiting.find(|waiting| waiting.ticket == ticket) {
            own.waker.clone_from(waker);
        }
    }

    /// Takes room that an earlier process has taken already.
    #[cfg(feature = "outbox")]
    pub(crate) fn take_restored(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// No longer waits.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        self.waiting.retain(|waiting| waiting.ticket != ticket);
        self.wake_first();
    }

    /// Gives room back.
    pub(crate) fn give_back(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.bytes, "only what was taken is given back");
        self.bytes = self.bytes.saturating_sub(bytes);
        self.wake_first();
    }

    /// Wakes everybody: the client is closed.
    pub(crate) fn wake_all(&mut self) {
        for waiting in self.waiting.drain(..) {
            waiting.waker.wake();
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes.saturating_add(bytes) <= self.bytes_max
    }

    fn wake_first(&self) {
        if self.bytes < self.bytes_max
            && let Some(first) = self.waiting.front()
        {
            first.waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_passes_those_who_wait() {
        let mut admission = Admission::new(10);
        let waker = Waker::noop();
        assert!(admission.try_take(8));
        let large = admission.wait(waker);
        assert!(!admission.try_take(1));
        let small = admission.wait(waker);
        assert!(!admission.take_in_turn(small, 1, waker));
        assert!(!admission.take_in_turn(large, 5, waker));
        admission.give_back(8);
        assert!(!admission.take_in_turn(small, 1, waker));
        assert!(admission.take_in_turn(large, 5, waker));
        assert!(admission.take_in_turn(small, 1, waker));
    }

    #[test]
    fn one_that_gives_up_makes_way() {
        let mut admission = Admission::new(10);
        assert!(admission.try_take(10));
        let first = admission.wait(Waker::noop());
        let second = admission.wait(Waker::noop());
        admission.leave(first);
        admission.give_back(10);
        assert!(admission.take_in_turn(second, 10, Waker::noop()));
    }

    #[test]
    fn a_message_of_any_size_passes_alone() {
        let mut admission = Admission::new(10);
        assert!(admission.try_take(1_000));
        assert!(!admission.try_take(1));
        admission.give_back(1_000);
        assert!(admission.try_take(1));
        assert!(!admission.try_take(10));
    }
}
