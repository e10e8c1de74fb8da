//! Enhanced authentication at a shard: before CONNACK by the pump, after it beside other traffic.

use std::cell::RefCell;
use std::sync::Arc;

use whimbrel_broker_core::session::codec::bytes::{Buf, Bytes};
use whimbrel_broker_core::session::codec::topic::ByteStr;
use whimbrel_broker_core::session::codec::{
    AckProperties, Auth, AuthRef, Authentication, Connect, Disconnect, Limits, Packet,
    ProtocolVersion, ReasonCode, SubscribeRef, decode_ref,
};
use whimbrel_broker_core::session::{InboundPublish, Tick};
use whimbrel_broker_core::{
    AuthenticationAnswer, CloseReason, ConnectionKey, ConnectionPump, CoreConfig, Env, Event, Gate,
    Grants, Handshake, Index, InputStatus, Now, Shard, ShardId, UnixMillis, Verdict,
};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// Asks for time with every AUTH, and notes its data.
#[derive(Default)]
struct Asking {
    asked: Vec<(ReasonCode, Vec<u8>)>,
}

impl Gate for Asking {
    fn publish(&mut self, _: &InboundPublish<'_>) -> Verdict {
        Verdict::Allow
    }

    fn subscribe(&mut self, _: &SubscribeRef<'_>) -> Verdict {
        Verdict::Allow
    }

    fn authenticate(&mut self, auth: &AuthRef<'_>) -> Verdict {
        let data = auth.properties.authentication_data().unwrap_or_default();
        self.asked.push((auth.reason, data.to_vec()));
        Verdict::Pending
    }
}

struct World {
    index: Index,
    shard: RefCell<Shard>,
    pump: ConnectionPump,
    gate: Asking,
    now: Now,
}

impl World {
    /// A client that was let in by the method "m", after one challenge.
    fn authenticated(keep_alive_secs: u16) -> Self {
        let config = Arc::new(CoreConfig::default());
        let index = Index::new(config.seed, &config.limits);
        let id = ShardId::new(0).expect("the first");
        let now = Now {
            tick: Tick(1_000),
            wall: UnixMillis(1_700_000_000_000),
        };
        let mut world = Self {
            shard: RefCell::new(Shard::new(id, Arc::clone(&config))),
            pump: ConnectionPump::new(now.tick, config.connection),
            index,
            gate: Asking::default(),
            now,
        };
        let mut connect = Connect::new(V5, "c");
        connect.keep_alive_secs = keep_alive_secs;
        connect.properties.authentication = Some(authentication(b"first"));
        let bytes = encoded(&Packet::Connect(Box::new(connect)));
        let Handshake::Connect(connect) = world.pump.handshake(now.tick, &bytes) else {
            panic!("no CONNECT");
        };
        let challenge = Some(Bytes::from_static(b"who?"));
        let challenged = world.pump.challenge(challenge, AckProperties::new());
        challenged.expect("CONNECT waits");
        let output = world.pump.handshake_output().expect("no shard yet");
        let bytes = output.chunk().to_vec();
        output.advance(bytes.len());
        assert!(matches!(&decoded(&bytes)[..], [Packet::Auth(_)]));
        let answer = encoded(&auth(ReasonCode::ContinueAuthentication, b"me"));
        let Handshake::Auth(step) = world.pump.handshake(now.tick, &answer) else {
            panic!("no AUTH");
        };
        assert_eq!(step.authentication, authentication(b"me"));
        let mut grants = Grants::default();
        grants.authentication_data = Some(Bytes::from_static(b"welcome"));
        let env = Env {
            now,
            index: &world.index,
        };
        let mut shard = world.shard.borrow_mut();
        let attached = world.pump.attach(env, &mut shard, connect, grants);
        drop(shard);
        attached.expect("not attached before");
        let [Packet::ConnAck(connack)] = &world.sent()[..] else {
            panic!("no CONNACK");
        };
        let said = connack.properties.authentication.clone();
        assert_eq!(said, Some(authentication(b"welcome")));
        world
    }

    fn key(&self) -> ConnectionKey {
        self.pump.connection().expect("attached")
    }

    fn env(&self) -> Env<'_> {
        Env {
            now: self.now,
            index: &self.index,
        }
    }

    fn feed(&mut self, packet: &Packet) -> InputStatus {
        let env = Env {
            now: self.now,
            index: &self.index,
        };
        let input = encoded(packet);
        self.pump
            .handle_input(env, &self.shard, &mut self.gate, &input)
    }

    fn answer(&mut self, answer: AuthenticationAnswer) {
        let key = self.key();
        let mut shard = self.shard.borrow_mut();
        shard.answer_authentication(self.env(), key, answer);
    }

    fn sent(&mut self) -> Vec<Packet> {
        let key = self.key();
        let mut shard = self.shard.borrow_mut();
        let output = shard.output(key).expect("attached");
        let mut bytes = Vec::new();
        while output.has_remaining() {
            let chunk = output.chunk().to_vec();
            output.advance(chunk.len());
            bytes.extend(chunk);
        }
        decoded(&bytes)
    }

    fn closed_for(&self) -> Option<CloseReason> {
        let mut shard = self.shard.borrow_mut();
        let events = std::mem::take(&mut shard.effects().events);
        events.into_iter().find_map(|event| match event {
            Event::Disconnected { reason, .. } => Some(reason),
            _ => None,
        })
    }
}

fn authentication(data: &'static [u8]) -> Authentication {
    Authentication {
        method: ByteStr::from("m"),
        data: Some(Bytes::from_static(data)),
    }
}

fn auth(reason: ReasonCode, data: &'static [u8]) -> Packet {
    Packet::Auth(Box::new(Auth {
        reason,
        authentication: authentication(data),
        properties: AckProperties::new(),
    }))
}

fn encoded(packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(V5, &mut bytes).expect("encodable");
    bytes
}

fn decoded(mut bytes: &[u8]) -> Vec<Packet> {
    let mut packets = Vec::new();
    while !bytes.is_empty() {
        let decoded = decode_ref(bytes, V5, &Limits::PROTOCOL).expect("valid");
        let decoded = decoded.expect("complete");
        packets.push(decoded.packet.into_owned());
        bytes = &bytes[decoded.length..];
    }
    packets
}

fn disconnected_with(packets: &[Packet]) -> Option<ReasonCode> {
    match packets {
        [Packet::Disconnect(disconnect)] => Some(disconnect.reason),
        _ => None,
    }
}

#[test]
fn a_client_is_asked_again_while_other_traffic_goes_on() {
    // [U5-093] [5:MQTT-4.12.1-1]
    let mut world = World::authenticated(60);
    world.feed(&auth(ReasonCode::ReAuthenticate, b"again"));
    assert_eq!(world.feed(&Packet::PingReq), InputStatus::Open);
    assert_eq!(world.sent(), [Packet::PingResp]);
    world.answer(AuthenticationAnswer::Continue(Some(Bytes::from_static(
        b"who?",
    ))));
    let asked = auth(ReasonCode::ContinueAuthentication, b"who?");
    assert_eq!(world.sent(), [asked]);
    world.feed(&auth(ReasonCode::ContinueAuthentication, b"me"));
    world.answer(AuthenticationAnswer::Confirm(None));
    assert!(matches!(
        &world.sent()[..],
        [Packet::Auth(auth)] if auth.reason == ReasonCode::Success
    ));
    let asked = [
        (ReasonCode::ReAuthenticate, b"again".to_vec()),
        (ReasonCode::ContinueAuthentication, b"me".to_vec()),
    ];
    assert_eq!(world.gate.asked, asked);
}

#[test]
fn a_client_that_fails_is_told_and_closed() {
    // [5:MQTT-4.12.1-2]
    let mut world = World::authenticated(60);
    world.feed(&auth(ReasonCode::ReAuthenticate, b"again"));
    let refusal = Disconnect::new(ReasonCode::NotAuthorized);
    world.answer(AuthenticationAnswer::Refuse(Box::new(refusal)));
    let told = disconnected_with(&world.sent());
    assert_eq!(told, Some(ReasonCode::NotAuthorized));
    assert_eq!(world.closed_for(), Some(CloseReason::NotAuthorized));
}

#[test]
fn a_client_that_stops_halfway_is_closed_in_time() {
    for keep_alive_secs in [0, 60] {
        let mut world = World::authenticated(keep_alive_secs);
        world.feed(&auth(ReasonCode::ReAuthenticate, b"again"));
        world.answer(AuthenticationAnswer::Continue(None));
        world.sent();
        let due = world.shard.borrow().poll_timeout();
        assert_eq!(due, Some(Tick(11_000)), "the handshake timeout");
        world.now.tick = Tick(11_000);
        world.shard.borrow_mut().handle_timeout(world.env());
        let told = disconnected_with(&world.sent());
        assert_eq!(told, Some(ReasonCode::NotAuthorized));
        assert_eq!(world.closed_for(), Some(CloseReason::NotAuthorized));
    }
}

#[test]
fn a_confirmed_client_is_left_to_its_keep_alive() {
    let mut world = World::authenticated(60);
    world.feed(&auth(ReasonCode::ReAuthenticate, b"again"));
    world.answer(AuthenticationAnswer::Confirm(None));
    world.sent();
    world.now.tick = Tick(11_000);
    world.shard.borrow_mut().handle_timeout(world.env());
    assert_eq!(world.closed_for(), None);
    assert_eq!(world.shard.borrow().poll_timeout(), Some(Tick(91_000)));
    world.now.tick = Tick(91_000);
    world.shard.borrow_mut().handle_timeout(world.env());
    assert_eq!(world.closed_for(), Some(CloseReason::KeepAlive));
}

#[test]
fn an_answer_that_comes_too_late_does_nothing() {
    let mut world = World::authenticated(60);
    world.answer(AuthenticationAnswer::Confirm(None));
    assert_eq!(world.sent(), []);
    assert_eq!(world.closed_for(), None);
}
