//! Any bytes as a database file, any change of a database file, and any bytes as records: a store that opens tells what
//! was committed last, or right before; otherwise there is an error. Nothing panics.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use whimbrel_broker_core::{
    Batch, GroupRecord, Holders, Journal, Message, SessionRecord, SubscriptionRecord, WindowRecord,
};
use whimbrel_store::suite::{
    Told, batch, done, enqueued, enqueued_as, group, inbound_stored, message, retained_set,
    session, session_left_at, subscribed, window,
};
use whimbrel_store::{MemoryDisk, OpenOptions, RedbStore};

fuzz_target!(
    init: {
        // The store turns panics of the database into errors; the fuzzer is not to end at their sight. It still sees
        // those that come out.
        std::panic::set_hook(Box::new(|_| {}));
        LazyLock::force(&BASE);
    },
    |input: &[u8]| {
        let Some((&kind, rest)) = input.split_first() else {
            return;
        };
        match kind % 4 {
            0 => {
                // Whatever it tells, it is no store of ours: it only has to come to an end.
                let _ = told(rest.to_vec());
            }
            1 => changed(&BASE.closed, rest),
            2 => changed(&BASE.open, rest),
            _ => records(rest),
        }
    }
);

/// A store, as a file.
struct Base {
    /// After an orderly end.
    closed: Vec<u8>,
    /// As a crash leaves it.
    open: Vec<u8>,
    /// What was told after the last commit, and after the one before.
    states: [Told; 2],
}

static BASE: LazyLock<Base> = LazyLock::new(|| {
    let disk = MemoryDisk::new();
    let mut store = RedbStore::on_backend(disk.storage(), disk.room(), OpenOptions::default())
        .expect("a new store");
    store.replay(&mut |_| Ok(())).expect("an empty store");
    let taken_over = message(9000, "q/2", 50);
    let first = vec![
        group(10),
        session(1),
        session_left_at(2, Some(5)),
        subscribed(1, &["a/#", "$share/x/b"]),
        subscribed(2, &["c/+"]),
        inbound_stored(1, 5, taken_over.clone()),
        enqueued_as(1, message(1, "a/b", 9000), &[1, 2]),
        enqueued_as(2, taken_over, &[2]),
    ];
    store.commit(&batch(first)).expect("memory");
    let queued = (10..90).map(|place| enqueued(place, &[1 + place % 2, 10])).collect();
    store.commit(&batch(queued)).expect("memory");
    let before = state(&disk);
    store
        .commit(&Batch {
            records: vec![window(2, 3, &[1]), done(2, &[2]), done(10, &[10, 11])],
            retained: (0..20).map(|number| retained_set(number, "r")).collect(),
        })
        .expect("memory");
    let last = state(&disk);
    let open = disk.image();
    drop(store);
    Base {
        closed: disk.image(),
        open,
        states: [last, before],
    }
});

fn state(disk: &MemoryDisk) -> Told {
    told(disk.image()).expect("a store")
}

fn told(image: Vec<u8>) -> Option<Told> {
    let disk = MemoryDisk::with_image(image);
    let opened = RedbStore::on_backend(disk.storage(), disk.room(), OpenOptions::default());
    Told::by(&mut opened.ok()?).ok().map(|(told, _)| told)
}

/// The input says which bytes change: three for the place, one for the change; a place beyond the file cuts it.
fn changed(base: &[u8], input: &[u8]) {
    let mut image = base.to_vec();
    for change in input.chunks_exact(4) {
        let at = usize::from(change[0]) << 16 | usize::from(change[1]) << 8 | usize::from(change[2]);
        match image.get_mut(at) {
            Some(byte) => *byte ^= change[3],
            None => image.truncate(at % image.len().max(1)),
        }
    }
    // An empty storage is a new store.
    if image.is_empty() {
        return;
    }
    if let Some(told) = told(image) {
        assert!(
            BASE.states.contains(&told),
            "{}",
            told.difference(&BASE.states[0])
        );
    }
}

/// What decodes, encodes to what decodes to the same.
fn records(input: &[u8]) {
    macro_rules! round_trip {
        ($($record:ident),*) => {
            $(if let Ok(record) = $record::decode(input) {
                let mut bytes = Vec::new();
                record.encode(&mut bytes);
                assert_eq!($record::decode(&bytes), Ok(record));
            })*
        };
    }
    round_trip!(SessionRecord, SubscriptionRecord, GroupRecord, WindowRecord);
    if let Ok(holders) = Holders::from_bytes(input.to_vec().into()) {
        assert!(holders.iter().count() <= input.len());
    }
    if let Ok(message) = Message::from_image(input) {
        assert_eq!(Message::new(&message.parts()), message);
        assert!(message.parts().properties.iter().count() <= input.len());
    }
}
