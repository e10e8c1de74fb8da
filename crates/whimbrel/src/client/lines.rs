//! [`Lines`]: standard input, a message a line.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use whimbrel_client::codec::bytes::Bytes;

/// Lines of bytes, without their ends.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    /// The beginning of the next line. Bounded by [`LINE_BYTES_MAX`].
    line: Vec<u8>,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            line: Vec::new(),
        }
    }

    /// The next line, `None` at the end. What stands behind the last end of line is a line too, unless it is empty.
    ///
    /// Cancel-safe: what was read is kept.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() {
                let rest = std::mem::take(&mut self.line);
                return Ok((!rest.is_empty()).then(|| rest.into()));
            }
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or(chunk);
            if self.line.len() + part.len() > LINE_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a line is longer than a message can be",
                ));
            }
            self.line.extend_from_slice(part);
            let consumed = part.len() + usize::from(end.is_some());
            self.reader.consume(consumed);
            if end.is_some() {
                return Ok(Some(std::mem::take(&mut self.line).into()));
            }
        }
    }
}

/// What no packet has room for.
pub(crate) const LINE_BYTES_MAX: usize = 268_435_455;

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8], capacity: usize) -> Vec<Bytes> {
        let mut lines = Lines::new(tokio::io::BufReader::with_capacity(capacity, bytes));
        let mut out = Vec::new();
        while let Some(line) = lines.next().await.expect("memory can be read") {
            out.push(line);
        }
        out
    }

    #[test]
    fn lines_end_at_a_line_feed_and_nowhere_else() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(async {
            for capacity in [1, 3, 64] {
                let lines = read(b"one\ntwo\r\n\nth\0ree", capacity).await;
                assert_eq!(lines, [&b"one"[..], b"two\r", b"", b"th\0ree"]);
                assert_eq!(read(b"one\n", capacity).await, [&b"one"[..]]);
                assert!(read(b"", capacity).await.is_empty());
            }
        });
    }
}
