//! Any bytes as an outbox, any change of one, and any records whose checksums fit: an error, or a session that goes on.
//! What is damaged is salvaged, or is none. Nothing panics.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use whimbrel_client::outbox::{
    Accepted, AppendError, Durability, Outbox, OutboxError, OutboxOptions, Outstanding, Record,
    Restored,
};
use whimbrel_codec::bytes::Bytes;
use whimbrel_codec::topic::TopicNameBuf;
use whimbrel_codec::{MessageProperties, PacketId, QoS};
use whimbrel_session::SessionState;

fuzz_target!(|input: &[u8]| {
    let Some((&kind, rest)) = input.split_first() else {
        return;
    };
    match kind % 3 {
        0 => open_image(rest),
        1 => open_image(&changed(rest)),
        _ => open_image(&forged(rest)),
    }
});

const CLIENT_ID: &str = "c";

static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = std::env::temp_dir().join(format!("whimbrel-outbox-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory for the outbox");
    directory.join("outbox")
});

/// An outbox in which every record occurs.
static BASE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let _ = fs::remove_file(&*PATH);
    let (mut outbox, _) = open().expect("a new outbox");
    let id = |number| PacketId::new(number).expect("not 0");
    let batches = [
        vec![accepted(0, QoS::ExactlyOnce), accepted(1, QoS::AtLeastOnce)],
        vec![
            Record::Sent { sequence: 0, packet_id: id(1) },
            Record::Sent { sequence: 1, packet_id: id(2) },
        ],
        vec![Record::Received { packet_id: id(1) }, Record::Held { packet_id: id(9) }],
        vec![Record::Done { sequence: 1 }, accepted(2, QoS::ExactlyOnce)],
        vec![Record::Released { packet_id: id(9) }],
        vec![Record::SessionBegan, Record::Sent { sequence: 2, packet_id: id(1) }],
    ];
    for batch in &batches {
        outbox.append(batch).expect("room");
    }
    fs::read(&*PATH).expect("there")
});

fn accepted(sequence: u64, qos: QoS) -> Record {
    let properties = MessageProperties::builder().content_type("t").build();
    Record::Accepted(Accepted {
        sequence,
        qos,
        retain: true,
        expires_at_unix_ms: Some(7),
        topic: TopicNameBuf::try_from("a/b").expect("a topic"),
        properties: properties.expect("a short text"),
        payload: Bytes::from_static(b"payload"),
    })
}

fn open() -> Result<(Outbox, Restored), OutboxError> {
    let mut options = OutboxOptions::default();
    options.durability = Durability::Os;
    Outbox::open(&*PATH, CLIENT_ID, options)
}

/// The input says which bytes change: two for the place, one for the change; a place beyond the file cuts it.
fn changed(input: &[u8]) -> Vec<u8> {
    let mut image = BASE.clone();
    for change in input.chunks_exact(3) {
        let at = usize::from(change[0]) << 8 | usize::from(change[1]);
        match image.get_mut(at) {
            Some(byte) => *byte ^= change[2],
            None => image.truncate(at % image.len().max(1)),
        }
    }
    image
}

/// The input says what the records are, batch by batch: a byte of length, and as many bytes.
fn forged(mut input: &[u8]) -> Vec<u8> {
    const NUMBER: [u8; 4] = [1, 2, 3, 4];
    let mut image = b"\x89whbx\r\n\n\x01\x00".to_vec();
    image.extend(NUMBER);
    image.extend([1, 0]);
    image.extend(CLIENT_ID.as_bytes());
    image.extend(crc32fast::hash(&image).to_le_bytes());
    while let Some((&length, rest)) = input.split_first() {
        let (records, rest) = rest.split_at(usize::from(length).min(rest.len()));
        let offset = image.len() as u64;
        let length = (records.len() as u32).to_le_bytes();
        let durable_to = offset.to_le_bytes();
        let mut hasher = crc32fast::Hasher::new();
        for part in [&offset.to_le_bytes()[..], &length, &NUMBER, &durable_to, records] {
            hasher.update(part);
        }
        image.extend(length);
        image.extend(hasher.finalize().to_le_bytes());
        image.extend(NUMBER);
        image.extend(durable_to);
        image.extend(records);
        input = rest;
    }
    image
}

fn open_image(image: &[u8]) {
    fs::write(&*PATH, image).expect("room");
    match open() {
        Ok((outbox, restored)) => go_on(outbox, restored),
        Err(error) => {
            assert_eq!(fs::read(&*PATH).expect("there"), image, "{error}");
            match Outbox::salvage(&*PATH, CLIENT_ID) {
                Ok(salvaged) => {
                    if let Some(copy) = salvaged.copy {
                        assert_eq!(fs::read(&copy).expect("there"), image);
                        fs::remove_file(copy).expect("there");
                    }
                    let (outbox, restored) = open().expect("what is salvaged opens");
                    let taken = restored.session.exchanges.iter();
                    let bodies = taken.filter(|open| matches!(open.item, Outstanding::Message(_)));
                    assert_eq!(bodies.count() + restored.unsent.len(), salvaged.messages);
                    go_on(outbox, restored);
                }
                Err(_) => assert_eq!(fs::read(&*PATH).expect("there"), image),
            }
        }
    }
}

/// It takes a message, and still has it and all else when it is opened again, written anew or not.
fn go_on(mut outbox: Outbox, restored: Restored) {
    SessionState::from_parts(restored.session.clone()).expect("the parts of a session");
    match outbox.append(&[accepted(restored.next_sequence, QoS::AtLeastOnce)]) {
        Ok(()) => {}
        // The last sequence there is.
        Err(AppendError::Contradiction(_)) => return,
        Err(error) => panic!("{error}"),
    }
    outbox.maintain().expect("a disk that works");
    drop(outbox);
    let (_, again) = open().expect("an outbox");
    assert_eq!(again.torn_bytes, 0);
    assert_eq!(again.unsent.len(), restored.unsent.len() + 1);
    assert_eq!(again.unsent[..restored.unsent.len()], restored.unsent);
    assert_eq!(again.session, restored.session);
}
