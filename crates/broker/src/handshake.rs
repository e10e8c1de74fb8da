//! The handshake: from the first byte to an admitted connection, before there is a session.

use std::future::{pending, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Poll, ready};

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout_at;
use whimbrel_broker_core::session::codec::{
    ConnAckProperties, Connect, PacketType, ProtocolVersion, ReasonCode,
};
use whimbrel_broker_core::{ConnectionPump, Grants, Handshake};

use crate::arrival::Admitted;
use crate::farewell::farewell;
use crate::gate::{ConnectionGate, caught};
use crate::hooks::{Access, Admission, AnyAuthenticator, ClientInfo, ConnectRequest};
use crate::shared::ConnectionSlot;
use crate::thread::{Thread, ThreadTask};
use crate::transport::Transport;

/// Reads CONNECT, decides on it, and hands the connection to the thread of its session.
///
/// All of it has the CONNECT timeout, the authenticator's time included [U5-033].
pub(crate) async fn greet(
    thread: Rc<Thread>,
    mut transport: Transport,
    permit: OwnedSemaphorePermit,
) {
    let clock = thread.shared.clock;
    let mut pump = ConnectionPump::new(clock.tick(), &thread.shared.core.connection);
    let deadline = pump.handshake_timeout().and_then(|due| clock.instant(due));
    let deciding = decide(&thread, &mut transport, &mut pump);
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
        Ok(Decision::Refuse) => {
            let output = pump.handshake_output().map(std::mem::take);
            let task = ThreadTask::from(&thread);
            // The permit is held until the socket is closed.
            farewell(task, transport, output.unwrap_or_default(), None).await;
            drop(permit);
        }
        Ok(Decision::Gone) => {}
        Err(_elapsed) => {
            thread.traffic.count_handshake_timeout();
            tracing::debug!(peer = ?transport.peer(), "no CONNECT within the CONNECT timeout");
        }
    }
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

async fn decide(thread: &Thread, transport: &mut Transport, pump: &mut ConnectionPump) -> Decision {
    let mut connect = loop {
        match read_on(thread, transport, pump).await {
            Ok(Some(Handshake::Connect(connect))) => break connect,
            Ok(Some(Handshake::NeedInput)) if pump.carried() <= connect_bytes_max(thread) => {}
            Ok(Some(Handshake::NeedInput | Handshake::Failed)) => {
                tracing::debug!(peer = ?transport.peer(), "no valid CONNECT");
                return Decision::Refuse;
            }
            Ok(None) | Err(_) => return Decision::Gone,
        }
    };
    let mut grants = Grants::default();
    if let Err(reason) = settle_terms(thread, &mut connect, &mut grants) {
        return refuse(pump, reason);
    }
    let Some(slot) = thread.shared.take_slot() else {
        return refuse(pump, ReasonCode::ServerBusy);
    };
    let peer = transport.peer();
    if let Some(authenticator) = &thread.shared.hooks.authenticator {
        let request = ConnectRequest {
            client_id: connect.client_id.clone(),
            user_name: connect.user_name.clone(),
            password: connect.password.clone(),
            peer,
            version: connect.version,
            will_topic: connect.will.as_ref().map(|will| will.topic.clone()),
        };
        let admission = tokio::select! {
            biased;
            admission = ask(&**authenticator, &request) => admission,
            () = until_gone(thread, transport, pump) => return Decision::Gone,
        };
        if let Admission::Refuse(reason) = admission {
            return refuse(pump, sayable(reason));
        }
    }
    let client = ClientInfo {
        client_id: connect.client_id.clone(),
        user_name: connect.user_name.clone(),
        peer,
        version: connect.version,
    };
    let mut gate = ConnectionGate::new(&thread.shared.hooks, client);
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

/// Answers CONNECT with an error.
fn refuse(pump: &mut ConnectionPump, reason: ReasonCode) -> Decision {
    tracing::debug!(%reason, "a CONNECT was refused");
    match pump.refuse(reason, ConnAckProperties::default()) {
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
    if connect.properties.authentication.is_some() {
        // Enhanced authentication is not supported yet [MQTT-4.12.0-1].
        return Err(ReasonCode::BadAuthenticationMethod);
    }
    let topic_levels_max = thread.shared.core.limits.topic_levels_max;
    if let Some(will) = &connect.will
        && will.topic.exceeds_levels(topic_levels_max)
    {
        return Err(ReasonCode::TopicNameInvalid);
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

/// No valid CONNECT is longer: five fields of 64 KiB, two sections of properties, and the rest.
fn connect_bytes_max(thread: &Thread) -> usize {
    let properties_max = thread.shared.core.connection.limits.property_bytes_max as usize;
    (5 * 64 * 1024 + 64usize).saturating_add(properties_max.saturating_mul(2))
}

/// `reason`, if CONNACK can say it.
fn sayable(reason: ReasonCode) -> ReasonCode {
    if reason.is_error() && reason.allowed_in(PacketType::ConnAck) {
        reason
    } else {
        ReasonCode::NotAuthorized
    }
}

const REFUSED_BY_PANIC: Admission = Admission::Refuse(ReasonCode::UnspecifiedError);

const READ_AHEAD_BYTES_MAX: usize = 64 * 1024;
