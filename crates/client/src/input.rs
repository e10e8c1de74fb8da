//! [`Input`]: bytes that were read and are no whole packets yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// The input of one link: small while little comes, and as large as the largest packet when it has to be.
#[derive(Debug)]
pub(crate) struct Input {
    /// Initialised all through; the first `filled` bytes are input.
    buffer: Vec<u8>,
    filled: usize,
}

impl Input {
    pub(crate) fn new() -> Self {
        Self {
            buffer: vec![0; BYTES_MIN],
            filled: 0,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// The first bytes are done with.
    pub(crate) fn consume(&mut self, count: usize) {
        self.buffer.copy_within(count..self.filled, 0);
        self.filled -= count;
        if self.filled == 0 && self.buffer.len() > BYTES_KEPT {
            self.buffer = vec![0; BYTES_MIN];
        }
    }

    /// Reads once; 0 bytes are the end.
    pub(crate) fn poll_read(
        &mut self,
        link: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.filled == self.buffer.len() {
            // Full of what is no whole packet, or of as much as came at once. The decoder's limit of a packet ends it.
            self.buffer.resize(self.filled * 2, 0);
        }
        let mut buffer = ReadBuf::new(&mut self.buffer[self.filled..]);
        let polled = Pin::new(link).poll_read(cx, &mut buffer);
        let count = buffer.filled().len();
        self.filled += count;
        polled.map_ok(|()| count)
    }
}

/// What an idle client keeps.
const BYTES_MIN: usize = 2 * 1024;

/// What is kept between one burst and the next.
const BYTES_KEPT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn it_grows_for_a_large_packet_and_shrinks_after_it() {
        let packet = vec![7; 200 * 1024];
        let mut rest = &packet[..];
        let mut input = Input::new();
        let mut cx = Context::from_waker(Waker::noop());
        while !rest.is_empty() {
            assert!(matches!(
                input.poll_read(&mut rest, &mut cx),
                Poll::Ready(Ok(1..))
            ));
        }
        assert_eq!(input.bytes(), packet);
        input.consume(1);
        assert_eq!(input.bytes().len(), packet.len() - 1);
        input.consume(packet.len() - 1);
        assert_eq!(input.buffer.len(), BYTES_MIN);
        assert!(matches!(
            input.poll_read(&mut rest, &mut cx),
            Poll::Ready(Ok(0))
        ));
    }
}
