//! Enhanced authentication: exchanges of several steps, before CONNACK and anew.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use whimbrel_broker_core::AuthenticationAnswer;
use whimbrel_broker_core::session::codec::{PacketType, ReasonCode};

use crate::admission::Admission;
use crate::gate::caught;

/// One enhanced authentication of one client, step by step, as
/// [`Authenticator::begin_exchange`](crate::Authenticator::begin_exchange) begins it.
///
/// ```
/// use std::future::ready;
///
/// use whimbrel_broker::bytes::Bytes;
/// use whimbrel_broker::{Admission, AuthenticationExchange, AuthenticationStep, Deciding, ReasonCode};
///
/// /// Asks for a number and wants its double.
/// struct Doubling;
///
/// impl AuthenticationExchange for Doubling {
///     fn step(&mut self, data: Option<Bytes>) -> Deciding<'_> {
///         let step = match data.as_deref() {
///             None => AuthenticationStep::Continue(Some(Bytes::from_static(b"21"))),
///             Some(b"42") => AuthenticationStep::Decide(Admission::Accept),
///             Some(_) => AuthenticationStep::Decide(Admission::Refuse(ReasonCode::NotAuthorized)),
///         };
///         Box::pin(ready(step))
///     }
/// }
/// ```
pub trait AuthenticationExchange: Send + 'static {
    /// Takes what the client says, and decides how to go on: first the Authentication Data of its CONNECT or of
    /// the AUTH that begins a new authentication, then that of each further AUTH.
    ///
    /// The future is dropped when the client goes, or takes longer than the CONNECT timeout in all. It runs on a
    /// thread that serves connections: what blocks or computes for long belongs on a thread pool.
    fn step(&mut self, data: Option<Bytes>) -> Deciding<'_>;
}

/// A step that is being decided.
pub type Deciding<'a> = Pin<Box<dyn Future<Output = AuthenticationStep> + Send + 'a>>;

/// How an [`AuthenticationExchange`] goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthenticationStep {
    /// AUTH 0x18 with this data: the client is to say more [MQTT-4.12.0-2].
    Continue(Option<Bytes>),
    /// It is over. Of a new authentication that is accepted only the data are told, in AUTH 0x00; one that is
    /// refused ends the connection with a DISCONNECT that says all of the refusal [MQTT-4.12.1-2].
    Decide(Admission),
}

/// Asks an exchange for its next step; one that panics refuses.
pub(crate) async fn step(
    exchange: &mut dyn AuthenticationExchange,
    data: Option<Bytes>,
) -> AuthenticationStep {
    let Some(mut deciding) = caught("authenticator", || exchange.step(data)) else {
        return refused_by_panic();
    };
    poll_fn(|context| {
        caught("authenticator", || deciding.as_mut().poll(context))
            .unwrap_or_else(|| Poll::Ready(refused_by_panic()))
    })
    .await
}

fn refused_by_panic() -> AuthenticationStep {
    AuthenticationStep::Decide(Admission::Refuse(ReasonCode::UnspecifiedError))
}

/// A new authentication of a connected client.
pub(crate) enum Renewal {
    /// A step is being decided.
    Deciding(Pin<Box<dyn Future<Output = Decided> + Send>>),
    /// The client is to say more.
    Waiting(Box<dyn AuthenticationExchange>),
    /// There was none, or it is over.
    Over,
}

/// A step, with the exchange it is of.
pub(crate) struct Decided {
    exchange: Box<dyn AuthenticationExchange>,
    step: AuthenticationStep,
}

impl Renewal {
    /// Begins to decide the next step of `exchange`.
    pub(crate) fn begin(
        mut exchange: Box<dyn AuthenticationExchange>,
        data: Option<Bytes>,
    ) -> Self {
        Self::Deciding(Box::pin(async move {
            let step = step(&mut *exchange, data).await;
            Decided { exchange, step }
        }))
    }

    /// The answer to the client's last AUTH, once it is decided.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<AuthenticationAnswer> {
        let Self::Deciding(deciding) = self else {
            return Poll::Pending;
        };
        let Poll::Ready(Decided { exchange, step }) = deciding.as_mut().poll(context) else {
            return Poll::Pending;
        };
        let (next, answer) = match step {
            AuthenticationStep::Continue(data) => (
                Self::Waiting(exchange),
                AuthenticationAnswer::Continue(data),
            ),
            AuthenticationStep::Decide(admission) => (Self::Over, answer(admission)),
        };
        *self = next;
        Poll::Ready(answer)
    }
}

fn answer(admission: Admission) -> AuthenticationAnswer {
    match admission.into_result() {
        Ok(acceptance) => AuthenticationAnswer::Confirm(acceptance.authentication_data),
        Err(refusal) => {
            // CONNACK and DISCONNECT have different codes; 0x8C is in one of DISCONNECT's two tables only.
            let is_sayable = refusal.reason.allowed_in(PacketType::Disconnect)
                && refusal.reason != ReasonCode::BadAuthenticationMethod;
            let mut disconnect = refusal.into_disconnect();
            if !is_sayable {
                disconnect.reason = ReasonCode::NotAuthorized;
            }
            AuthenticationAnswer::Refuse(Box::new(disconnect))
        }
    }
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deciding(_) => "Deciding",
            Self::Waiting(_) => "Waiting",
            Self::Over => "Over",
        })
    }
}
