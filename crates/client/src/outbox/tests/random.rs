//! Any operations, with crashes and faults at any moment, against the model.

use proptest::prelude::*;
use whimbrel_session::codec::{PacketId, QoS};

use super::super::faulty::{Crash, Fault};
use super::super::{Accepted, AppendError, Durability, OutboxOptions, Record};
use super::harness::Harness;
use super::model::Model;
use super::{message, options};

#[derive(Clone, Copy, Debug)]
enum Action {
    Accept {
        qos: QoS,
        payload_bytes: usize,
    },
    /// The first that is not sent, after so many ids that requests took.
    Send {
        skipped: u16,
    },
    Receive(usize),
    Finish(usize),
    Hold(u16),
    Release(u16),
    BeginSession,
}

#[derive(Clone, Debug)]
enum Operation {
    Append(Vec<Action>),
    AppendFailing(Vec<Action>, Fault),
    Sync,
    Maintain,
    Reopen,
    LosePower(u64),
}

fn action() -> impl Strategy<Value = Action> {
    let qos = prop_oneof![Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)];
    prop_oneof![
        6 => (qos, 0..200_usize).prop_map(|(qos, payload_bytes)| Action::Accept { qos, payload_bytes }),
        6 => prop_oneof![4 => 0..2_u16, 1 => Just(30_000)].prop_map(|skipped| Action::Send { skipped }),
        4 => any::<usize>().prop_map(Action::Receive),
        5 => any::<usize>().prop_map(Action::Finish),
        2 => (1..8_u16).prop_map(Action::Hold),
        2 => (1..8_u16).prop_map(Action::Release),
        1 => Just(Action::BeginSession),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let actions = || prop::collection::vec(action(), 1..5);
    let fault = prop_oneof![
        Just(Fault::Error),
        Just(Fault::ShortWrite),
        Just(Fault::LateWrite),
        Just(Fault::Stop)
    ];
    prop_oneof![
        20 => actions().prop_map(Operation::Append),
        2 => (actions(), fault).prop_map(|(actions, fault)| Operation::AppendFailing(actions, fault)),
        3 => Just(Operation::Sync),
        3 => Just(Operation::Maintain),
        2 => Just(Operation::Reopen),
        1 => any::<u64>().prop_map(Operation::LosePower),
    ]
}

/// The record of an action, if it makes sense now.
fn record(model: &Model, action: Action) -> Option<Record> {
    Some(match action {
        Action::Accept { qos, payload_bytes } => {
            let sequence = model.next_sequence;
            Record::Accepted(message(sequence, qos, &vec![sequence as u8; payload_bytes]))
        }
        Action::Send { skipped } => {
            let message = model
                .open
                .iter()
                .find(|open| !model.is_sent(open.sequence))?;
            Record::Sent {
                sequence: message.sequence,
                packet_id: next_id(model, skipped)?,
            }
        }
        Action::Receive(index) => {
            let awaiting: Vec<_> = model
                .sent
                .iter()
                .filter(|&&(sequence, _)| {
                    let mut open = model.open.iter();
                    let message = open.find(|message| message.sequence == sequence);
                    message.is_some_and(|message| message.qos == QoS::ExactlyOnce)
                        && !model.taken.contains(&sequence)
                })
                .collect();
            let &&(_, packet_id) = awaiting.get(index % awaiting.len().max(1))?;
            Record::Received { packet_id }
        }
        Action::Finish(index) => {
            let of_open = model.open.iter().map(|message| message.sequence);
            let mut sequences: Vec<_> = of_open.chain(model.taken.iter().copied()).collect();
            sequences.sort_unstable();
            sequences.dedup();
            let &sequence = sequences.get(index % sequences.len().max(1))?;
            Record::Done { sequence }
        }
        Action::Hold(number) => Record::Held {
            packet_id: PacketId::new(number)?,
        },
        Action::Release(number) => Record::Released {
            packet_id: PacketId::new(number)?,
        },
        Action::BeginSession => Record::SessionBegan,
    })
}

/// As a window of exchanges takes them: one after the other, never past the oldest in use.
fn next_id(model: &Model, skipped: u16) -> Option<PacketId> {
    if model
        .sent
        .first()
        .is_some_and(|&(_, oldest)| oldest == model.next_packet_id)
    {
        return None;
    }
    let ring = u32::from(u16::MAX);
    let next = u32::from(model.next_packet_id.get()) - 1;
    let room = model.sent.first().map_or(ring, |&(_, oldest)| {
        (u32::from(oldest.get()) - 1 + ring - next - 1) % ring + 1
    });
    let skipped = u32::from(skipped).min(room - 1);
    let number = (next + skipped) % ring + 1;
    u16::try_from(number).ok().and_then(PacketId::new)
}

fn records(model: &Model, actions: &[Action]) -> Vec<Record> {
    let mut model = model.clone();
    let mut records = Vec::new();
    for &action in actions {
        if let Some(record) = record(&model, action) {
            model.record(&record);
            records.push(record);
        }
    }
    records
}

fn accepts(records: &[Record]) -> Vec<&Accepted> {
    let accepted = records.iter().filter_map(|record| match record {
        Record::Accepted(message) => Some(message),
        _ => None,
    });
    accepted.collect()
}

fn run(options: OutboxOptions, operations: Vec<Operation>) {
    let mut harness = Harness::new(options);
    for operation in operations {
        match operation {
            Operation::Append(actions) => {
                let records = records(&harness.model, &actions);
                match harness.append(&records) {
                    Ok(()) => {}
                    Err(AppendError::Full { needed, room }) => {
                        assert!(needed > room && !accepts(&records).is_empty());
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Operation::AppendFailing(actions, fault) => {
                let records = records(&harness.model, &actions);
                harness.disk.fail(0, fault);
                match harness.append(&records) {
                    Ok(()) => assert!(records.is_empty()),
                    Err(AppendError::Io { .. } | AppendError::Full { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                harness.disk.heal();
                if fault == Fault::Stop {
                    harness = harness.crash(Crash::Process);
                }
            }
            Operation::Sync => harness.sync().expect("no fault"),
            Operation::Maintain => {
                harness.maintain().expect("no fault");
                let live = harness.outbox.live_bytes();
                assert!(harness.outbox.file_bytes() <= live + live.max(500) + 100);
            }
            Operation::Reopen => harness = harness.crash(Crash::Process),
            Operation::LosePower(blocks) if options.durability == Durability::Sync => {
                harness = harness.crash(Crash::PowerLostKeeping(blocks));
            }
            Operation::LosePower(_) => {}
        }
        let live = harness.outbox.live_bytes();
        assert_eq!(
            live == 0,
            harness.model.open.is_empty()
                && harness.model.sent.is_empty()
                && harness.model.held.is_empty()
        );
    }
    harness.crash(Crash::Process);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_outbox_holds_what_its_model_holds(
        operations in prop::collection::vec(operation(), 1..80),
        is_synced in any::<bool>(),
    ) {
        let durability = if is_synced { Durability::Sync } else { Durability::Os };
        run(OutboxOptions { durability, ..options() }, operations);
    }
}
