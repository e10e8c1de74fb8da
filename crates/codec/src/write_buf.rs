//! What a connection has still to send.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::PAYLOAD_SHARE_MIN;
use crate::encode::Sink;

/// The outgoing bytes of one connection: packets are encoded at its end, and the socket takes them from its front.
///
/// What is small is copied into one contiguous run; a shared payload of [`PAYLOAD_SHARE_MIN`] bytes or more is kept as
/// a reference and sent from where it is, so sending it to many costs its memory once. Empty, it can hold no memory at
/// all: see [`release_memory`](WriteBuf::release_memory).
///
/// It has no limit of its own: who writes looks at [`len`](WriteBuf::len) first.
#[derive(Debug, Default)]
pub struct WriteBuf {
    /// Bytes that were copied. Those before `read` are sent.
    copied: Vec<u8>,
    read: usize,
    /// What was not copied, in order.
    ///
    /// Invariants: no entry is empty; `position` does not decrease, is at least `read` and at most `copied.len()`.
    #[expect(
        clippy::box_collection,
        reason = "connections that never had one pay for a pointer"
    )]
    shared: Option<Box<VecDeque<SharedBytes>>>,
    /// The length of all `shared`.
    shared_length: usize,
}

/// Bytes that are sent when `copied` has been sent up to `position`.
#[derive(Debug)]
struct SharedBytes {
    position: usize,
    bytes: Bytes,
}

impl WriteBuf {
    /// A buffer without memory.
    pub const fn new() -> WriteBuf {
        WriteBuf {
            copied: Vec::new(),
            read: 0,
            shared: None,
            shared_length: 0,
        }
    }

    /// The bytes that are to be sent.
    #[inline]
    pub fn len(&self) -> usize {
        self.copied.len() - self.read + self.shared_length
    }

    /// Whether nothing is to be sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first contiguous bytes; empty when there are none.
    pub fn chunk(&self) -> &[u8] {
        match self.first_shared() {
            Some(front) if front.position == self.read => &front.bytes,
            Some(front) => &self.copied[self.read..front.position],
            None => &self.copied[self.read..],
        }
    }

    /// Fills `slices` with what comes first, for a vectored write, and returns how many it filled.
    pub fn io_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut fill = |bytes: &'a [u8]| {
            if bytes.is_empty() {
                return true;
            }
            let Some(slice) = slices.get_mut(filled) else {
                return false;
            };
            *slice = IoSlice::new(bytes);
            filled += 1;
            true
        };
        let mut read = self.read;
        for shared in self.shared.iter().flat_map(|shared| shared.iter()) {
            if !fill(&self.copied[read..shared.position]) || !fill(&shared.bytes) {
                return filled;
            }
            read = shared.position;
        }
        fill(&self.copied[read..]);
        filled
    }

    /// Drops the first `count` bytes: they were sent.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn advance(&mut self, count: usize) {
        let before = self.len();
        assert!(count <= before, "advanced by {count} of {before} bytes");
        let mut left = count;
        while left > 0 {
            match self.shared.as_mut().and_then(|shared| shared.front_mut()) {
                Some(front) if front.position == self.read => {
                    let step = left.min(front.bytes.len());
                    front.bytes.advance(step);
                    self.shared_length -= step;
                    left -= step;
                    if front.bytes.is_empty() {
                        self.shared.as_mut().and_then(|shared| shared.pop_front());
                    }
                }
                front => {
                    let end = front.map_or(self.copied.len(), |front| front.position);
                    let step = left.min(end - self.read);
                    self.read += step;
                    left -= step;
                }
            }
        }
        self.give_back();
        self.assert_invariants();
    }

    /// Gives all memory back, if nothing is to be sent: for connections that turned idle.
    ///
    /// Without it a drained buffer keeps up to 64 KiB, so that a busy connection does not allocate again and again.
    pub fn release_memory(&mut self) {
        if self.is_empty() {
            *self = WriteBuf::new();
        }
    }

    /// The memory held, in bytes, shared payloads not counted.
    pub fn allocated_bytes(&self) -> usize {
        let shared = self.shared.as_ref().map_or(0, |shared| {
            size_of::<VecDeque<SharedBytes>>() + shared.capacity() * size_of::<SharedBytes>()
        });
        self.copied.capacity() + shared
    }

    fn first_shared(&self) -> Option<&SharedBytes> {
        self.shared.as_ref()?.front()
    }

    /// Reuses the room of what was sent.
    fn give_back(&mut self) {
        if self.read == self.copied.len() && self.shared_length == 0 {
            self.read = 0;
            self.copied.clear();
            self.copied.shrink_to(KEPT_BYTES_MAX);
            if let Some(shared) = &mut self.shared {
                shared.shrink_to(KEPT_SHARED_MAX);
            }
        } else if self.read >= MOVED_BYTES_MIN && self.read >= self.copied.len() / 2 {
            // What is left is no more than what was sent since the last time, so the moves add up to less than that.
            self.copied.drain(..self.read);
            for shared in self.shared.iter_mut().flat_map(|shared| shared.iter_mut()) {
                shared.position -= self.read;
            }
            self.read = 0;
        }
    }

    fn assert_invariants(&self) {
        if cfg!(debug_assertions) {
            let mut position = self.read;
            let mut length = 0;
            for shared in self.shared.iter().flat_map(|shared| shared.iter()) {
                assert!(position <= shared.position && !shared.bytes.is_empty());
                position = shared.position;
                length += shared.bytes.len();
            }
            assert!(position <= self.copied.len() && length == self.shared_length);
        }
    }
}

impl Sink for WriteBuf {
    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
    }

    #[inline]
    fn put_u8(&mut self, byte: u8) {
        self.copied.push(byte);
    }

    #[inline]
    fn put_bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < PAYLOAD_SHARE_MIN {
            self.copied.extend_from_slice(bytes);
        } else {
            self.shared_length += bytes.len();
            self.shared.get_or_insert_default().push_back(SharedBytes {
                position: self.copied.len(),
                bytes: bytes.clone(),
            });
        }
    }

    #[inline]
    fn reserve(&mut self, additional: usize) {
        // A packet this large has a payload that may not be copied.
        if additional < PAYLOAD_SHARE_MIN {
            self.copied.reserve(additional);
        }
    }
}

impl Buf for WriteBuf {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        WriteBuf::chunk(self)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.io_slices(slices)
    }

    fn advance(&mut self, count: usize) {
        WriteBuf::advance(self, count);
    }
}

/// The memory in bytes that a drained buffer keeps.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// The places for shared payloads that a drained buffer keeps.
const KEPT_SHARED_MAX: usize = 64;
/// How many bytes must have been sent before what is left is moved to the front.
const MOVED_BYTES_MIN: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(buf: &mut WriteBuf, step: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !buf.is_empty() {
            let chunk = buf.chunk();
            let taken = chunk.len().min(step);
            bytes.extend_from_slice(&chunk[..taken]);
            buf.advance(taken);
        }
        bytes
    }

    #[test]
    fn bytes_leave_in_the_order_they_came() {
        let large = Bytes::from(vec![7; PAYLOAD_SHARE_MIN]);
        let small = Bytes::from(vec![8; PAYLOAD_SHARE_MIN - 1]);
        for step in [1, 5, 4096, usize::MAX] {
            let mut buf = WriteBuf::new();
            let mut expected = Vec::new();
            for round in 0..20_u8 {
                buf.put_u8(round);
                buf.put_slice(&[1, 2, 3]);
                buf.put_bytes(&large);
                buf.put_bytes(&large);
                buf.put_bytes(&small);
                expected.extend_from_slice(&[round, 1, 2, 3]);
                expected.extend_from_slice(&large);
                expected.extend_from_slice(&large);
                expected.extend_from_slice(&small);
            }
            assert_eq!(buf.len(), expected.len());
            assert_eq!(drained(&mut buf, step), expected);
            assert_eq!(buf.chunk(), b"");
        }
    }

    #[test]
    fn large_payloads_are_shared_and_small_ones_copied() {
        let large = Bytes::from(vec![7; PAYLOAD_SHARE_MIN]);
        let mut buf = WriteBuf::new();
        buf.put_slice(b"head");
        buf.put_bytes(&large);
        buf.put_bytes(&large.slice(1..));
        let mut slices = [IoSlice::new(b""); 4];
        assert_eq!(buf.io_slices(&mut slices), 3);
        assert_eq!(&*slices[0], b"head");
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
        assert_ne!(slices[2].as_ptr(), large[1..].as_ptr());
        assert_eq!(buf.io_slices(&mut slices[..2]), 2);
        assert_eq!(buf.io_slices(&mut []), 0);
        assert_eq!(buf.chunks_vectored(&mut [IoSlice::new(b"")]), 1);
    }

    #[test]
    fn a_busy_buffer_keeps_its_memory_and_an_idle_one_has_none() {
        let mut buf = WriteBuf::new();
        assert_eq!(buf.allocated_bytes(), 0);
        buf.put_slice(&[0; 10_000]);
        let allocated = buf.allocated_bytes();
        buf.release_memory();
        assert_eq!(buf.allocated_bytes(), allocated, "something is to be sent");
        buf.advance(10_000);
        assert_eq!(buf.allocated_bytes(), allocated);
        buf.release_memory();
        assert_eq!(buf.allocated_bytes(), 0);
    }

    #[test]
    fn memory_is_bounded_by_what_is_unsent() {
        let mut buf = WriteBuf::new();
        buf.put_slice(&[0; 1_000_000]);
        buf.advance(1_000_000);
        assert!(buf.allocated_bytes() <= 2 * KEPT_BYTES_MAX);
        buf.put_slice(&[0; 1000]);
        for _ in 0..10_000 {
            buf.put_slice(&[0; 1000]);
            buf.advance(1000);
        }
        assert!(buf.allocated_bytes() <= 4 * KEPT_BYTES_MAX);
    }

    #[test]
    #[should_panic(expected = "advanced by 3 of 2 bytes")]
    fn more_than_there_is_cannot_be_sent() {
        let mut buf = WriteBuf::new();
        buf.put_slice(&[0; 2]);
        buf.advance(3);
    }
}
