//! The handshake: from the first byte to an admitted connection, before there is a session.

use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout_at;
use whimbrel_broker_core::session::codec::bytes::Bytes;
use whimbrel_broker_core::session::codec::topic::{ByteStr, TopicName};
use whimbrel_broker_core::session::codec::{
    AckProperties, Authentication, Connect, PayloadFormat, ProtocolVersion, ReasonCode,
};
use whimbrel_broker_core::{ConnectionPump, Grants, Handshake};

use crate::admission::{Admission, Refusal};
use crate::arrival::Admitted;
use crate::exchange::{self, AuthenticationStep};
use crate::farewell::{farewell, write_out};
use crate::gate::{ConnectionGate, begin_exchange, caught};
use crate::hooks::{Access, AnyAuthenticator, ClientInfo, ConnectRequest};
use crate::shared::ConnectionSlot;
use crate::thread::{Thread, ThreadTask};
use crate::transport::Transport;

/// Reads CONNECT, decides on it, and hands the connection to the thread of its session.
///
/// All of it has the CONNECT timeout, the authenticator's time included [U5-033].
pub(crate) async fn greet(
    thread: Rc<Thread>,
    mut transport: Transport,
    peer: Option<SocketAddr>,
    permit: OwnedSemaphorePermit,
) {
    let clock = thread.shared.clock;
    let mut pump = ConnectionPump::new(clock.tick(), Arc::clone(&thread.shared.connection_config));
    let deadline = pump.handshake_timeout().and_then(|due| clock.instant(due));
    let deciding = decide(&thread, &mut transport, peer, &mut pump);
    let decision = match deadline {
        Some(deadline) => timeout_at(deadline, deciding).await,
        None => Ok(deciding.await),
    };
    match decision {
        Ok(Decision::Admit(admission)) => {
            let Admittance {
                connect,
                grants,
                gate,
                slot,
            } = *admission;
            let admitted = Admitted {
                pump,
                connect,
                grants,
                gate,
                slot,
            };
            thread.hand_over(transport, admitted, permit);
        }
        Ok(Decision::Refuse) => say_goodbye(&thread, transport, pump, permit).await,
        Ok(Decision::Gone) => {}
        Err(_elapsed) => {
            thread.traffic.count_handshake_timeout();
            tracing::debug!(?peer, "no CONNECT within the CONNECT timeout");
            pump.expire_handshake();
            let is_told = pump
                .handshake_output()
                .is_some_and(|output| !output.is_empty());
            if is_told {
                say_goodbye(&thread, transport, pump, permit).await;
            }
        }
    }
}

/// Writes what is left for a client that is not let in, and closes.
async fn say_goodbye(
    thread: &Rc<Thread>,
    transport: Transport,
    mut pump: ConnectionPump,
    permit: OwnedSemaphorePermit,
) {
    let output = pump.handshake_output().map(std::mem::take);
    drop(pump);
    farewell(
        ThreadTask::from(thread),
        transport,
        output.unwrap_or_default(),
        None,
    )
    .await;
    // Held until the socket is closed.
    drop(permit);
}

/// What becomes of a connection.
enum Decision {
    Admit(Box<Admittance>),
    /// The answer, if there is one, is in the pump's output.
    Refuse,
    /// The peer went.
    Gone,
}

struct Admittance {
    connect: Box<Connect>,
    grants: Grants,
    gate: ConnectionGate,
    slot: ConnectionSlot,
}

async fn decide(
    thread: &Thread,
    transport: &mut Transport,
    peer: Option<SocketAddr>,
    pump: &mut ConnectionPump,
) -> Decision {
    let mut connect = loop {
        match read_on(thread, transport, pump).await {
            Ok(Some(Handshake::Connect(connect))) => break connect,
            Ok(Some(Handshake::NeedInput)) if pump.carried() <= connect_bytes_max(thread) => {}
            Ok(Some(Handshake::NeedInput | Handshake::Failed | Handshake::Auth(_))) => {
                tracing::debug!(?peer, "no valid CONNECT");
                return Decision::Refuse;
            }
            Ok(None) | Err(_) => return Decision::Gone,
        }
    };
    let mut grants = Grants::default();
    if let Err(reason) = settle_terms(thread, &mut connect, &mut grants) {
        return refuse(pump, Refusal::new(reason));
    }
    let Some(slot) = thread.shared.take_slot() else {
        return refuse(pump, Refusal::new(ReasonCode::ServerBusy));
    };
    let client = ClientInfo {
        client_id: connect.client_id.clone(),
        user_name: connect.user_name.clone(),
        peer,
        version: connect.version,
    };
    let authentication = connect.properties.authentication.take();
    let is_enhanced = authentication.is_some();
    let admission = match authentication {
        Some(begun) => exchange(thread, transport, pump, &client, begun).await,
        None => authenticate(thread, transport, peer, pump, &connect).await,
    };
    let acceptance = match admission.map(Admission::into_result) {
        Ok(Ok(acceptance)) => acceptance,
        Ok(Err(refusal)) => return refuse(pump, refusal),
        Err(decision) => return decision,
    };
    acceptance.add_to(&mut grants);
    let mut gate = ConnectionGate::new(&thread.shared.hooks, client, is_enhanced);
    // Ambiguity C7: a will that may not be published is dropped.
    connect.will = connect
        .will
        .take_if(|will| gate.may_publish(&will.topic) == Access::Allow);
    Decision::Admit(Box::new(Admittance {
        connect,
        grants,
        gate,
        slot,
    }))
}

/// Asks the authenticator about a CONNECT without a method.
async fn authenticate(
    thread: &Thread,
    transport: &mut Transport,
    peer: Option<SocketAddr>,
    pump: &mut ConnectionPump,
    connect: &Connect,
) -> Result<Admission, Decision> {
    let Some(authenticator) = &thread.shared.hooks.authenticator else {
        return Ok(Admission::Accept);
    };
    let request = ConnectRequest {
        client_id: connect.client_id.clone(),
        user_name: connect.user_name.clone(),
        password: connect.password.clone(),
        peer,
        version: connect.version,
        will_topic: connect.will.as_ref().map(|will| will.topic.clone()),
    };
    tokio::select! {
        biased;
        admission = ask(&**authenticator, &request) => Ok(admission),
        () = until_gone(thread, transport, pump) => Err(Decision::Gone),
    }
}

/// Goes through an enhanced authentication, step by step [MQTT-4.12.0-2].
async fn exchange(
    thread: &Thread,
    transport: &mut Transport,
    pump: &mut ConnectionPump,
    client: &ClientInfo,
    begun: Authentication,
) -> Result<Admission, Decision> {
    let hooks = &thread.shared.hooks;
    let Some(mut exchange) = begin_exchange(hooks, &begun.method, client) else {
        // [MQTT-4.12.0-1]
        return Ok(Admission::Refuse(ReasonCode::BadAuthenticationMethod));
    };
    let mut data = begun.data;
    loop {
        let step = tokio::select! {
            biased;
            step = exchange::step(&mut *exchange, data) => step,
            () = until_gone(thread, transport, pump) => return Err(Decision::Gone),
        };
        let challenge = match step {
            AuthenticationStep::Continue(challenge) => challenge,
            AuthenticationStep::Decide(admission) => return Ok(admission),
        };
        if let Err(error) = pump.challenge(challenge, AckProperties::new()) {
            // The client does not take an AUTH of this size.
            tracing::debug!(%error, "an authentication can't go on");
            return Ok(Admission::Refuse(ReasonCode::NotAuthorized));
        }
        data = answer_to_challenge(thread, transport, client, pump).await?;
    }
}

/// Sends the challenge, and waits for the data of the client's next AUTH.
async fn answer_to_challenge(
    thread: &Thread,
    transport: &mut Transport,
    client: &ClientInfo,
    pump: &mut ConnectionPump,
) -> Result<Option<Bytes>, Decision> {
    if let Some(output) = pump.handshake_output()
        && write_out(thread, transport, output).await.is_err()
    {
        return Err(Decision::Gone);
    }
    // It may be there already, behind the CONNECT.
    let mut next = Ok(Some(pump.handshake(thread.shared.clock.tick(), &[])));
    loop {
        match next {
            Ok(Some(Handshake::Auth(auth))) => return Ok(auth.authentication.data),
            Ok(Some(Handshake::NeedInput)) if pump.carried() <= connect_bytes_max(thread) => {}
            Ok(Some(_)) => {
                tracing::debug!(peer = ?client.peer, "no valid AUTH");
                return Err(Decision::Refuse);
            }
            Ok(None) | Err(_) => return Err(Decision::Gone),
        }
        next = read_on(thread, transport, pump).await;
    }
}

/// Answers CONNECT with an error.
fn refuse(pump: &mut ConnectionPump, refusal: Refusal) -> Decision {
    let reason = refusal.reason;
    tracing::debug!(%reason, "a CONNECT was refused");
    match pump.refuse(reason, refusal.properties()) {
        Ok(()) => Decision::Refuse,
        // The answer can't be said; closing says it.
        Err(error) => {
            tracing::debug!(%error, "a CONNECT is refused without a word");
            Decision::Gone
        }
    }
}

/// Checks what needs no hook, and fills in what the client left to the server.
fn settle_terms(
    thread: &Thread,
    connect: &mut Connect,
    grants: &mut Grants,
) -> Result<(), ReasonCode> {
    let topic_levels_max = thread.shared.core.limits.topic_levels_max;
    if let Some(will) = &connect.will
        && will.topic.exceeds_levels(topic_levels_max)
    {
        return Err(ReasonCode::TopicNameInvalid);
    }
    if let Some(will) = &connect.will
        && thread.shared.core.payload_format_checked
        && will.properties.as_properties().payload_format() == PayloadFormat::Utf8
        && std::str::from_utf8(&will.payload).is_err()
    {
        return Err(ReasonCode::PayloadFormatInvalid); // [U5-031]
    }
    if connect.client_id.is_empty() {
        let may_be_empty = match connect.version {
            ProtocolVersion::V31 => false,                // Ambiguity A4.
            ProtocolVersion::V311 => connect.clean_start, // [3.1.1 MQTT-3.1.3-8]
            ProtocolVersion::V5 => true,                  // [MQTT-3.1.3-6], ambiguity A3.
        };
        if !may_be_empty {
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        connect.client_id = thread.shared.assign_client_id();
        grants.client_id_assigned = true;
    }
    if let Some(secs_max) = thread.shared.config.keep_alive_secs_max
        && connect.version.is_v5()
        && (connect.keep_alive_secs == 0 || connect.keep_alive_secs > secs_max)
    {
        grants.server_keep_alive_secs = Some(secs_max); // Ambiguity A10.
    }
    if connect.properties.request_response_information {
        let prefix = thread.shared.config.response_topic_prefix.as_deref();
        grants.response_information =
            prefix.and_then(|prefix| response_topic(prefix, &connect.client_id));
    }
    Ok(())
}

/// Asks the authenticator; one that panics refuses.
async fn ask(authenticator: &dyn AnyAuthenticator, request: &ConnectRequest) -> Admission {
    let Some(mut asked) = caught("authenticator", || authenticator.authenticate(request)) else {
        return REFUSED_BY_PANIC;
    };
    poll_fn(|context| {
        caught("authenticator", || asked.as_mut().poll(context))
            .unwrap_or(Poll::Ready(REFUSED_BY_PANIC))
    })
    .await
}

/// Reads ahead while the authenticator thinks, to notice when the client goes (ambiguity A13). A
/// client that sends more than a bounded amount is left alone until it is its turn.
async fn until_gone(thread: &Thread, transport: &mut Transport, pump: &mut ConnectionPump) {
    while pump.carried() < READ_AHEAD_BYTES_MAX {
        match read_on(thread, transport, pump).await {
            Ok(Some(Handshake::NeedInput)) => {}
            Ok(Some(_) | None) | Err(_) => return,
        }
    }
    pending::<()>().await;
}

/// Reads once and lets the pump look at it; `None` at the end of the stream.
async fn read_on(
    thread: &Thread,
    transport: &mut Transport,
    pump: &mut ConnectionPump,
) -> io::Result<Option<Handshake>> {
    poll_fn(|context| {
        let mut buffer = thread.read_buffer.borrow_mut();
        let count = ready!(transport.poll_read(context, &mut buffer))?;
        let Some(input) = buffer.get(..count).filter(|input| !input.is_empty()) else {
            return Poll::Ready(Ok(None));
        };
        thread.traffic.count_received(count);
        let tick = thread.shared.clock.tick();
        Poll::Ready(Ok(Some(pump.handshake(tick, input))))
    })
    .await
}

/// A topic of the client's own, if its id can be part of one.
fn response_topic(prefix: &str, client_id: &str) -> Option<ByteStr> {
    let topic = format!("{}/{client_id}", prefix.trim_end_matches('/'));
    TopicName::new(&topic).is_ok().then(|| ByteStr::from(topic))
}

/// No valid CONNECT is longer: five fields of 64 KiB, two sections of properties, and the rest.
fn connect_bytes_max(thread: &Thread) -> usize {
    let properties_max = thread.shared.core.connection.limits.property_bytes_max as usize;
    (5 * 64 * 1024 + 64usize).saturating_add(properties_max.saturating_mul(2))
}

const REFUSED_BY_PANIC: Admission = Admission::Refuse(ReasonCode::UnspecifiedError);

const READ_AHEAD_BYTES_MAX: usize = 64 * 1024;
