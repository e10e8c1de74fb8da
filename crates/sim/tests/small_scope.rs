//! Every order of events in worlds of two clients and two messages; and planted faults, to see that
//! breaking a rule is found.
//!
//! Built with the core's own assertions, these explore the smaller scopes only:
//! `cargo xtask sim --exhaustive` explores the others.

use whimbrel_sim::{Plant, Scope, Violation};

/// Explores a scope in which every rule has to hold.
fn holds(name: &str) {
    let seen = scope(name).explore();
    if let Some(violation) = seen.violation {
        panic!("{name}\n{violation}");
    }
    assert!(seen.states > 1_000, "{name}: {} states", seen.states);
    assert!(seen.terminal_states > 0, "{name}: nothing comes to rest");
}

/// Explores a scope with a planted fault, which breaks a rule.
fn breaks(name: &str, plant: Plant) -> Violation {
    let seen = scope(name).planted(plant).explore();
    seen.violation
        .unwrap_or_else(|| panic!("{name}: {plant:?} is not found"))
}

fn scope(name: &str) -> Scope {
    Scope::named(name).unwrap_or_else(|| panic!("no scope is called {name}"))
}

#[test]
fn at_least_once_holds_over_every_loss() {
    holds("qos1-v311");
}

#[test]
fn at_least_once_holds_while_a_shard_waits_for_credit() {
    holds("crash-qos1-v311-shards");
}

#[test]
fn exactly_once_holds_over_every_loss() {
    holds("qos2-v311-shards");
}

#[test]
fn a_mixture_holds_over_every_loss() {
    holds("reversed-v311-shards");
}

#[test]
fn takeover_loses_nothing_and_repeats_nothing() {
    holds("takeover-qos1-v311");
}

#[test]
fn two_sessions_agree_over_every_cut() {
    holds("pair-qos2-v311");
}

#[test]
fn an_exploration_is_the_same_every_time() {
    let [first, second] = [(); 2].map(|()| scope("reversed-v311-shards").explore());
    assert_eq!(first.states, second.states);
    assert_eq!(first.transitions, second.transitions);
    assert_eq!(first.depth, second.depth);
}

#[test]
fn a_link_that_repeats_a_publish_breaks_exactly_once() {
    let violation = breaks("qos2-v311-shards", Plant::LinkRepeatsPublish);
    assert_eq!(violation.finding.rule, "a QoS 2 message arrives twice");
}

#[test]
fn a_receiver_that_forgets_breaks_exactly_once() {
    let violation = breaks("pair-qos2-v311", Plant::ForgetfulReceiver);
    assert_eq!(violation.finding.rule, "a QoS 2 message arrives twice");
}

#[test]
fn a_subscriber_that_never_acknowledges_leaves_its_window_stuck() {
    let violation = breaks("qos1-v311", Plant::ForgottenAcknowledgement);
    assert_eq!(violation.finding.rule, "a window is stuck");
}

#[test]
fn a_lost_answer_between_shards_leaves_a_publisher_waiting() {
    let violation = breaks("qos1-v5-shards", Plant::LostHop);
    assert_eq!(violation.finding.rule, "a publisher waits for ever");
}

#[test]
fn messages_that_change_places_between_shards_break_the_order() {
    // Depth first, runs with both messages under way at once come late.
    let planted = scope("qos1-v5-shards").planted(Plant::SwappedHops);
    let violation = planted.shortest_violation().expect("it is found");
    assert_eq!(violation.finding.rule, "a message overtakes an earlier one");
}

#[test]
fn the_shortest_way_to_a_broken_rule_is_told_step_by_step() {
    let planted = scope("pair-qos2-v311").planted(Plant::ForgetfulReceiver);
    let violation = planted
        .shortest_violation()
        .expect("it is found breadth first too");
    let longer = planted
        .explore()
        .violation
        .expect("it is found depth first");
    assert!(violation.path.len() <= longer.path.len());
    let told = violation.path.join("\n");
    assert!(told.contains("the connection is lost"), "{told}");
    assert!(told.contains("PUBLISH of message"), "{told}");
}
