//! Who gets which message of a group.

use whimbrel_session::codec::PublishProperties;
use whimbrel_session::codec::topic::{ByteStr, TopicFilter, TopicName};

use super::*;
use crate::message::MessageParts;
use crate::{MsgId, SessionKey, ShardId, UnixMillis};

const ONLINE: MemberStatus = MemberStatus {
    connected: true,
    durable: true,
};
const AWAY: MemberStatus = MemberStatus {
    connected: false,
    durable: true,
};

fn session(index: u32) -> SessionRef {
    SessionRef {
        shard: ShardId(0),
        key: SessionKey {
            index,
            generation: 0,
        },
    }
}

fn message(sequence: u64, qos: QoS) -> Message {
    Message::new(&MessageParts {
        id: MsgId {
            node: 0,
            incarnation: 0,
            sequence,
        },
        topic: TopicName::new("t").expect("valid"),
        qos,
        retain: false,
        expires_at: UnixMillis::NEVER,
        properties: PublishProperties::EMPTY,
        payload: b"",
    })
}

fn group(credit: u32) -> Group {
    let name = GroupName {
        share: ByteStr::from("g"),
        filter: TopicFilter::new("t").expect("valid").to_owned(),
    };
    Group::new(name, credit, 0)
}

fn at(sequence: u64) -> Position {
    Position::new(sequence + 1).expect("not 0")
}

/// Adds a message whose sequence is that of its identity.
fn push(group: &mut Group, message: Message) -> bool {
    let takes = group.takes(&message);
    if takes {
        let queued = Queued {
            message,
            is_recorded: false,
        };
        group.enqueue(at(queued.message.id().sequence), queued);
    }
    takes
}

fn handouts(group: &mut Group) -> Vec<(u32, u64)> {
    std::iter::from_fn(|| group.next(UnixMillis(0), None))
        .filter_map(|next| match next {
            Next::Handout(handout) => Some(handout),
            Next::Expired => None,
        })
        .map(|handout| {
            (
                handout.member.key.index,
                handout.queued.message.id().sequence,
            )
        })
        .collect()
}

#[test]
fn messages_go_round_the_connected_members_within_their_credit() {
    let mut group = group(2);
    for index in 0..2 {
        group.join(session(index), ONLINE);
    }
    group.join(session(9), AWAY);
    for sequence in 0..6 {
        push(&mut group, message(sequence, QoS::AtLeastOnce));
    }
    assert_eq!(handouts(&mut group), [(0, 0), (1, 1), (0, 2), (1, 3)]);
    assert_eq!(group.queued(), 2);
    group.done(at(1), session(1), GroupOutcome::Consumed);
    assert_eq!(handouts(&mut group), [(1, 4)]);
}

#[test]
fn what_a_member_returns_goes_in_front_of_newer_messages() {
    let mut group = group(2);
    group.join(session(0), ONLINE);
    for sequence in 0..3 {
        push(&mut group, message(sequence, QoS::AtLeastOnce));
    }
    assert_eq!(handouts(&mut group), [(0, 0), (0, 1)]);
    group.join(session(1), ONLINE);
    group.leave(session(0));
    group.done(at(0), session(0), GroupOutcome::Returned);
    group.done(at(1), session(0), GroupOutcome::Consumed);
    assert_eq!(handouts(&mut group), [(1, 0), (1, 2)]);
}

#[test]
fn a_late_answer_of_a_former_holder_changes_nothing() {
    let mut group = group(2);
    group.join(session(0), ONLINE);
    push(&mut group, message(0, QoS::AtLeastOnce));
    assert_eq!(handouts(&mut group), [(0, 0)]);
    group.join(session(1), ONLINE);
    group.leave(session(0));
    let answer = group.done(at(0), session(0), GroupOutcome::Returned);
    assert!(matches!(answer, Answered::Requeued));
    assert_eq!(handouts(&mut group), [(1, 0)]);
    let answer = group.done(at(0), session(0), GroupOutcome::Returned);
    assert!(matches!(answer, Answered::Settled));
    assert_eq!(group.queued(), 0, "the message is with its new holder");
}

#[test]
fn members_that_are_away_get_messages_only_while_nobody_is_connected() {
    let mut group = group(8);
    group.join(session(0), AWAY);
    assert!(push(&mut group, message(0, QoS::AtLeastOnce)));
    assert!(!push(&mut group, message(1, QoS::AtMostOnce)));
    assert_eq!(handouts(&mut group), [(0, 0)]);
    group.join(session(1), ONLINE);
    push(&mut group, message(2, QoS::AtMostOnce));
    push(&mut group, message(3, QoS::AtLeastOnce));
    assert_eq!(handouts(&mut group), [(1, 2), (1, 3)]);
    assert_eq!(group.queued_bytes(), 0);
}

#[test]
fn qos_0_goes_with_the_last_connected_member() {
    let mut group = group(1);
    group.join(session(0), ONLINE);
    for sequence in 0..3 {
        push(&mut group, message(sequence, QoS::AtMostOnce));
    }
    assert_eq!(handouts(&mut group), [(0, 0)]);
    assert_eq!(group.set_status(session(0), AWAY), 2);
    assert_eq!((group.queued(), group.queued_bytes()), (0, 0));
}

#[test]
fn what_is_too_large_for_a_member_goes_to_another_one_once() {
    // F7
    let mut group = group(1);
    for index in 0..3 {
        group.join(session(index), ONLINE);
    }
    push(&mut group, message(0, QoS::AtLeastOnce));
    push(&mut group, message(1, QoS::AtLeastOnce));
    assert_eq!(handouts(&mut group), [(0, 0), (1, 1)]);
    // Member 1 has no credit left, so that it is not asked.
    let answer = group.done(at(0), session(0), GroupOutcome::TooLarge);
    let Answered::HandedOver(handout) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(handout.member, session(2));
    let answer = group.done(at(0), session(2), GroupOutcome::TooLarge);
    assert!(matches!(answer, Answered::TooLarge));
    let answer = group.done(at(1), session(1), GroupOutcome::Consumed);
    assert!(matches!(answer, Answered::Settled));
    assert_eq!(group.queued(), 0);
    // All have their credit back.
    for sequence in 2..5 {
        push(&mut group, message(sequence, QoS::AtLeastOnce));
    }
    assert_eq!(handouts(&mut group).len(), 3);
}

#[test]
fn a_closed_group_waits_for_what_its_members_still_hold() {
    let mut group = group(2);
    group.join(session(0), ONLINE);
    for sequence in 0..3 {
        push(&mut group, message(sequence, QoS::AtLeastOnce));
    }
    assert_eq!(handouts(&mut group).len(), 2);
    assert_eq!(group.leave(session(0)), 1, "nobody will get the third");
    assert!(group.is_closed() && !group.is_over());
    assert!(
        !push(&mut group, message(3, QoS::AtLeastOnce)),
        "matched too early"
    );
    let answer = group.done(at(0), session(0), GroupOutcome::Returned);
    assert!(matches!(answer, Answered::Lost));
    let answer = group.done(at(1), session(0), GroupOutcome::Consumed);
    assert!(matches!(answer, Answered::Settled));
    assert!(group.is_over());
}

#[test]
fn leaving_keeps_the_slots_of_the_others_right() {
    let mut group = group(1);
    for index in 0..4 {
        group.join(session(index), ONLINE);
    }
    group.leave(session(1));
    for sequence in 0..3 {
        push(&mut group, message(sequence, QoS::AtLeastOnce));
    }
    let mut members: Vec<_> = handouts(&mut group)
        .iter()
        .map(|&(member, _)| member)
        .collect();
    members.sort_unstable();
    assert_eq!(members, [0, 2, 3]);
    group.done(at(0), session(0), GroupOutcome::Consumed);
    group.done(at(1), session(3), GroupOutcome::Consumed);
    group.done(at(2), session(2), GroupOutcome::Consumed);
    push(&mut group, message(3, QoS::AtLeastOnce));
    assert_eq!(handouts(&mut group).len(), 1);
}
