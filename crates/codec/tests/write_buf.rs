//! The outgoing buffer gives the bytes it was given, in order, whatever is written and sent in between.

use std::io::IoSlice;

use proptest::collection::vec;
use proptest::prelude::*;
use whimbrel_codec::bytes::Bytes;
use whimbrel_codec::{PAYLOAD_SHARE_MIN, Sink, WriteBuf};

#[derive(Clone, Debug)]
enum Step {
    Copy(usize),
    Share(usize),
    Send(prop::sample::Index),
    Release,
}

proptest! {
    // A case moves up to a megabyte, byte by byte.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_buffer_is_a_queue_of_bytes(steps in vec(step(), 1..60)) {
        let mut buf = WriteBuf::new();
        let mut model = Vec::new();
        let mut next = 0_u8;
        for step in steps {
            match step {
                Step::Copy(length) | Step::Share(length) => {
                    let bytes: Vec<u8> = (0..length).map(|_| {
                        next = next.wrapping_add(1);
                        next
                    }).collect();
                    model.extend_from_slice(&bytes);
                    match step {
                        Step::Share(_) => buf.put_bytes(&Bytes::from(bytes)),
                        _ => buf.put_slice(&bytes),
                    }
                }
                Step::Send(index) => {
                    let length = index.index(model.len() + 1);
                    model.drain(..length);
                    buf.advance(length);
                }
                Step::Release => buf.release_memory(),
            }
            prop_assert_eq!(buf.len(), model.len());
            prop_assert_eq!(buf.is_empty(), model.is_empty());
            prop_assert!(model.starts_with(buf.chunk()));
            prop_assert_eq!(buf.chunk().is_empty(), model.is_empty());
            let mut slices = [IoSlice::new(b""); 64];
            let filled = buf.io_slices(&mut slices);
            prop_assert!(filled < slices.len());
            prop_assert_eq!(joined(&slices[..filled]), &model[..]);
            // One slice less than there is: the beginning.
            let filled = buf.io_slices(&mut slices[..filled.saturating_sub(1)]);
            prop_assert!(model.starts_with(&joined(&slices[..filled])));
        }
    }
}

fn joined(slices: &[IoSlice<'_>]) -> Vec<u8> {
    slices
        .iter()
        .flat_map(|slice| slice.iter().copied())
        .collect()
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..200_usize).prop_map(Step::Copy),
        1 => (15_000..25_000_usize).prop_map(Step::Copy),
        1 => (0..200_usize).prop_map(Step::Share),
        2 => (PAYLOAD_SHARE_MIN - 1..PAYLOAD_SHARE_MIN + 2).prop_map(Step::Share),
        3 => any::<prop::sample::Index>().prop_map(Step::Send),
        1 => Just(Step::Release),
    ]
}
