//! What an outbox tells when it is opened.

use whimbrel_session::Stage;
use whimbrel_session::codec::QoS;

use super::super::faulty::{Crash, FaultyDisk};
use super::super::{AppendError, Contradiction, Outbox, OutboxError, Outstanding, Record};
use super::model::Model;
use super::{CLIENT_ID, accepted, id, message, open, options, path, sent};

#[test]
fn a_new_outbox_is_empty() {
    let (_, restored) = open(&FaultyDisk::default()).expect("a new outbox");
    assert_eq!(Model::of(&restored), Model::new());
    assert_eq!(restored.torn_bytes, 0);
}

#[test]
fn messages_that_were_not_sent_come_back_in_order() {
    let disk = FaultyDisk::default();
    let (mut outbox, _) = open(&disk).expect("a new outbox");
    for sequence in [0, 3, 4] {
        let record = accepted(sequence, QoS::AtLeastOnce);
        outbox.append(&[record]).expect("room");
    }
    let (_, restored) = open(&disk.after(Crash::Process)).expect("an outbox");
    let expected = [0, 3, 4].map(|sequence| message(sequence, QoS::AtLeastOnce, b"payload"));
    assert_eq!(restored.unsent, expected);
    assert_eq!(restored.next_sequence, 5);
}

#[test]
fn exchanges_come_back_in_the_order_of_sending_with_their_ids_and_stages() {
    // [5:MQTT-4.6.0-1] [5:MQTT-4.6.0-4]
    let disk = FaultyDisk::default();
    let (mut outbox, _) = open(&disk).expect("a new outbox");
    let records = [
        accepted(0, QoS::ExactlyOnce),
        accepted(1, QoS::AtLeastOnce),
        accepted(2, QoS::ExactlyOnce),
        accepted(3, QoS::ExactlyOnce),
        sent(0, 65_534),
        sent(1, 65_535),
        sent(2, 1),
        sent(3, 2),
        Record::Received { packet_id: id(2) },
        Record::Received {
            packet_id: id(65_534),
        },
    ];
    outbox.append(&records).expect("room");
    let (_, restored) = open(&disk.after(Crash::Process)).expect("an outbox");
    let exchanges = restored.session.exchanges.iter();
    let exchanges: Vec<_> = exchanges
        .map(|exchange| (exchange.packet_id, exchange.stage, exchange.item.clone()))
        .collect();
    let body = |sequence, qos| Outstanding::Message(message(sequence, qos, b"payload"));
    let expected = [
        (
            id(65_534),
            Stage::AwaitPubComp { rank: 1 },
            Outstanding::Taken { sequence: 0 },
        ),
        (id(65_535), Stage::AwaitPubAck, body(1, QoS::AtLeastOnce)),
        (id(1), Stage::AwaitPubRec, body(2, QoS::ExactlyOnce)),
        (
            id(2),
            Stage::AwaitPubComp { rank: 0 },
            Outstanding::Taken { sequence: 3 },
        ),
    ];
    assert_eq!(exchanges, expected);
    assert_eq!(restored.session.next_packet_id, id(3));
    assert!(restored.unsent.is_empty());
}

#[test]
fn what_is_done_does_not_come_back() {
    let disk = FaultyDisk::default();
    let (mut outbox, _) = open(&disk).expect("a new outbox");
    let records = [
        accepted(0, QoS::AtLeastOnce),
        accepted(1, QoS::AtLeastOnce),
        sent(0, 1),
        Record::Done { sequence: 0 },
        Record::Done { sequence: 1 },
    ];
    outbox.append(&records).expect("room");
    let (_, restored) = open(&disk.after(Crash::Process)).expect("an outbox");
    assert!(restored.unsent.is_empty() && restored.session.exchanges.is_empty());
    assert_eq!(restored.next_sequence, 2);
    assert_eq!(restored.session.next_packet_id, id(2));
}

#[test]
fn ids_of_the_server_are_held_until_they_are_released() {
    // [5:MQTT-4.3.3-10]
    let disk = FaultyDisk::default();
    let (mut outbox, _) = open(&disk).expect("a new outbox");
    let held = |number| Record::Held {
        packet_id: id(number),
    };
    let released = Record::Released { packet_id: id(7) };
    let records = [held(9), held(7), held(7), held(8), released];
    outbox.append(&records).expect("room");
    let (_, restored) = open(&disk.after(Crash::Process)).expect("an outbox");
    assert_eq!(restored.session.held, [id(8), id(9)]);
}

#[test]
fn in_a_new_session_unfinished_messages_are_new_and_before_the_others() {
    // [5:MQTT-3.2.2-5]
    let disk = FaultyDisk::default();
    let (mut outbox, _) = open(&disk).expect("a new outbox");
    let records = [
        accepted(0, QoS::ExactlyOnce),
        accepted(1, QoS::ExactlyOnce),
        accepted(2, QoS::AtLeastOnce),
        accepted(3, QoS::AtLeastOnce),
        sent(0, 1),
        sent(1, 2),
        sent(2, 3),
        Record::Received { packet_id: id(1) },
        Record::Held { packet_id: id(4) },
        Record::SessionBegan,
    ];
    outbox.append(&records).expect("room");
    let (_, restored) = open(&disk.after(Crash::Process)).expect("an outbox");
    let unsent: Vec<_> = restored
        .unsent
        .iter()
        .map(|message| message.sequence)
        .collect();
    assert_eq!(unsent, [1, 2, 3]);
    assert!(restored.session.exchanges.is_empty() && restored.session.held.is_empty());
}

#[test]
fn a_record_that_contradicts_takes_its_batch_with_it() {
    let disk = FaultyDisk::default();
    let (mut outbox, _) = open(&disk).expect("a new outbox");
    let batch = [
        accepted(0, QoS::AtLeastOnce),
        sent(0, 1),
        Record::Received { packet_id: id(1) },
    ];
    let appended = outbox.append(&batch);
    assert!(
        matches!(
            appended,
            Err(AppendError::Contradiction(Contradiction::NotAwaitingPubRec(number))) if number == id(1)
        ),
        "{appended:?}"
    );
    outbox
        .append(&[accepted(0, QoS::AtLeastOnce)])
        .expect("sequence 0 is free");
    let (_, restored) = open(&disk.after(Crash::Process)).expect("an outbox");
    assert_eq!(restored.unsent.len(), 1);
}

#[test]
fn the_outbox_of_another_client_id_is_refused() {
    let disk = FaultyDisk::default();
    open(&disk).expect("a new outbox");
    let opened = Outbox::open_on(Box::new(disk), path(), "other", options(), None);
    let error = opened.expect_err("it belongs to another client id");
    assert!(
        matches!(&error, OutboxError::OtherClientId { found, wanted, .. } if found == CLIENT_ID && wanted == "other")
    );
    assert_eq!(
        error.to_string(),
        "outbox belongs to client id \"sensor\", not to \"other\": choose another path, or that client id"
    );
}

#[test]
fn a_client_id_that_the_server_chooses_has_no_outbox() {
    for client_id in ["", &"x".repeat(65_536)] {
        let disk = Box::new(FaultyDisk::default());
        let opened = Outbox::open_on(disk, path(), client_id, options(), None);
        assert!(matches!(opened, Err(OutboxError::ClientIdLength)));
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let disk = FaultyDisk::default();
    open(&disk).expect("a new outbox");
    let mut image = disk.image(path()).expect("there");
    image[8] = 2;
    let opened = open(&FaultyDisk::with_file(path(), image));
    assert!(
        matches!(
            opened,
            Err(OutboxError::NewerVersion {
                version: 2,
                known: 1,
                ..
            })
        ),
        "{opened:?}"
    );
}

#[test]
fn a_file_of_another_kind_is_refused() {
    for content in [&b""[..], b"SQLite format 3\0"] {
        let opened = open(&FaultyDisk::with_file(path(), content.to_vec()));
        assert!(
            matches!(opened, Err(OutboxError::NotAnOutbox { .. })),
            "{opened:?}"
        );
    }
}
