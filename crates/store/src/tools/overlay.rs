//! [`Overlay`]: a storage that is read, and never written.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// Keeps what is written in memory, so that redb can open and mend a database without touching it.
#[derive(Debug)]
pub(crate) struct Overlay {
    below: Box<dyn StorageBackend>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    length: u64,
    /// Below this, blocks that were not written are those of the storage; above, they are zero.
    length_below: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
}

impl Overlay {
    pub(crate) fn new(below: Box<dyn StorageBackend>) -> io::Result<Self> {
        let length = below.len()?;
        let state = Mutex::new(State {
            length,
            length_below: length,
            blocks: BTreeMap::new(),
        });
        Ok(Self { below, state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block as it is now.
    fn block(&self, state: &State, number: u64) -> io::Result<Box<[u8; BLOCK]>> {
        if let Some(block) = state.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = Box::new([0; BLOCK]);
        let start = number * BLOCK as u64;
        let there = state.length_below.saturating_sub(start).min(BLOCK as u64);
        // At most a block.
        if let Some(part) = block.get_mut(..there as usize) {
            self.below.read(start, part)?;
        }
        Ok(block)
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.lock();
        if offset.saturating_add(out.len() as u64) > state.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, part) in parts(offset, out) {
            let block = self.block(&state, number)?;
            if let Some(from) = block.get(within..within + part.len()) {
                part.copy_from_slice(from);
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.lock();
        if length < state.length {
            let last = length / BLOCK as u64;
            let mut block = self.block(&state, last)?;
            // Less than a block.
            let kept = (length % BLOCK as u64) as usize;
            block.iter_mut().skip(kept).for_each(|byte| *byte = 0);
            state.blocks.split_off(&last);
            state.blocks.insert(last, block);
            state.length_below = state.length_below.min(length);
        }
        state.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        let mut data = data.to_vec();
        for (number, within, part) in parts(offset, &mut data) {
            let mut block = self.block(&state, number)?;
            if let Some(to) = block.get_mut(within..within + part.len()) {
                to.copy_from_slice(part);
            }
            state.blocks.insert(number, block);
        }
        state.length = state.length.max(offset.saturating_add(data.len() as u64));
        Ok(())
    }
}

/// Cuts bytes at the bounds of blocks: number of the block, place in it, and the part.
fn parts(offset: u64, bytes: &mut [u8]) -> impl Iterator<Item = (u64, usize, &mut [u8])> {
    let mut at = offset;
    let mut rest = Some(bytes).filter(|bytes| !bytes.is_empty());
    std::iter::from_fn(move || {
        let bytes = rest.take()?;
        // Less than a block.
        let within = (at % BLOCK as u64) as usize;
        let (part, behind) = bytes.split_at_mut(bytes.len().min(BLOCK - within));
        let number = at / BLOCK as u64;
        at += part.len() as u64;
        rest = Some(behind).filter(|behind| !behind.is_empty());
        Some((number, within, part))
    })
}

const BLOCK: usize = 4096;

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_goes_no_further() {
        let below = InMemoryBackend::new();
        below.set_len(10_000).expect("memory");
        below.write(4000, &[1; 200]).expect("memory");
        let overlay = Overlay::new(Box::new(below)).expect("memory");
        overlay.write(4090, &[2; 10]).expect("memory");
        let mut read = [0; 22];
        overlay.read(4084, &mut read).expect("there");
        assert_eq!(
            read,
            [[1; 6], [2; 6]]
                .concat()
                .into_iter()
                .chain([2; 4])
                .chain([1; 6])
                .collect::<Vec<_>>()[..]
        );
        overlay.set_len(4095).expect("memory");
        overlay.set_len(20_000).expect("memory");
        let mut read = [9; 4];
        overlay.read(4093, &mut read).expect("there");
        assert_eq!(read, [2, 2, 0, 0]);
        assert!(overlay.read(19_999, &mut read).is_err());
        let mut below = [0; 1];
        overlay.below.read(4095, &mut below).expect("there");
        assert_eq!(below, [1]);
    }
}
