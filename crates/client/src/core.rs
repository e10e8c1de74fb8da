//! [`Core`]: the client's whole state, without I/O. Handles and the driver share it under one lock.

mod admission;
mod inbox;
mod journal;
mod link;
mod publications;
mod requests;
#[cfg(feature = "outbox")]
mod restore;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{AckProperties, Disconnect, FanOutBuffer, PacketType, ReasonCode};
use whimbrel_session::{
    AckToken, ClientConnection, Epoch, PublishOptions, Redeliver, Refused, RequestRefused,
    ResendRefused, Resent, SessionState, SubscribeRequest, Tick, UnsubscribeRequest,
};

use crate::authenticator::Authentication;
use crate::{
    Closed, ConnectionError, DisconnectError, Message, Options, PublishError, ReauthenticateError,
    SubscribeError,
};

use self::admission::Admission;
use self::inbox::{Finished, Inbox};
use self::journal::{Journal, Step as Kept};
use self::publications::{Outcome, Publications};
use self::requests::{Request, Requests};

pub(crate) use self::admission::Ticket;
pub(crate) use self::inbox::{AckKey, SubscriptionKey, Taken, Verdict, Wanted};
pub(crate) use self::link::{Ended, Step};
pub(crate) use self::publications::{Publication, PublicationKey};
pub(crate) use self::requests::AnswerKey;

/// Everything the client knows.
///
/// No method blocks, and each that leaves something to be written or decided wakes the driver.
pub(crate) struct Core {
    pub(crate) options: Options,
    /// From CONNECT to the end of the link.
    connection: Option<ClientConnection<PublicationKey>>,
    /// CONNACK has accepted the connection, and nothing has ended it.
    is_open: bool,
    epoch: Epoch,
    /// Of the first connection of the session that goes on.
    session_epoch: Epoch,
    /// Between connections. `None` until one was accepted.
    session: Option<SessionState<PublicationKey>>,
    /// A connection was accepted once.
    has_begun: bool,
    /// What the server assigned.
    client_id: Option<ByteStr>,
    takes_subscription_ids: bool,
    publications: Publications,
    admission: Admission,
    /// Accepted and not sent, in order.
    queue: VecDeque<PublicationKey>,
    /// QoS 0 messages that are in the output or being written, and where each ends.
    unwritten: VecDeque<(u64, PublicationKey)>,
    /// Bytes of this connection's output that were handed to the driver.
    handed_out: u64,
    /// The link can have acknowledged what it was sent while it sends nothing itself.
    may_hold_back: bool,
    fan_out: FanOutBuffer,
    inbox: Inbox,
    requests: Requests,
    journal: Journal,
    authentication: Option<Box<dyn Authentication>>,
    /// Who waits for a new authentication.
    reauthentication: Option<Reauthentication>,
    closing: Option<Closing>,
    disconnected: Option<Result<(), DisconnectError>>,
    closed: Option<Closed>,
    /// Clients, subscriptions and receipts. At 0 nobody can ask for anything any more.
    handles: usize,
    driver: Option<Waker>,
}

#[derive(Debug)]
struct Closing {
    disconnect: Disconnect,
    /// When the client ends, whatever is still open.
    due: Tick,
}

#[derive(Debug, Default)]
struct Reauthentication {
    waker: Option<Waker>,
    result: Option<Result<(), ConnectionError>>,
}

impl Reauthentication {
    fn finish(&mut self, result: Result<(), ConnectionError>) {
        self.result.get_or_insert(result);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Core {
    pub(crate) fn new(options: Options) -> Self {
        let owed_max = usize::from(options.connect.properties.receive_maximum.get());
        Self {
            connection: None,
            is_open: false,
            epoch: Epoch(0),
            session_epoch: Epoch(0),
            session: None,
            has_begun: false,
            client_id: None,
            takes_subscription_ids: false,
            publications: Publications::default(),
            admission: Admission::new(options.queue_bytes_max),
            queue: VecDeque::new(),
            unwritten: VecDeque::new(),
            handed_out: 0,
            may_hold_back: false,
            fan_out: FanOutBuffer::new(),
            inbox: Inbox::new(options.receive_bytes_max, owed_max),
            requests: Requests::default(),
            journal: Journal::default(),
            authentication: None,
            reauthentication: None,
            closing: None,
            disconnected: None,
            closed: None,
            handles: 0,
            driver: None,
            options,
        }
    }

    // ---- handles -------------------------------------------------------------------------------------------------

    pub(crate) fn add_handle(&mut self) {
        self.handles += 1;
    }

    /// The last one out turns off the light.
    pub(crate) fn remove_handle(&mut self, now: Tick) {
        self.handles -= 1;
        if self.handles == 0 {
            self.close(now, Disconnect::new(ReasonCode::Success));
        }
    }

    pub(crate) fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref()
    }

    /// Takes nothing new, and ends when what was accepted is acknowledged.
    pub(crate) fn close(&mut self, now: Tick, disconnect: Disconnect) {
        if self.closed.is_none() && self.closing.is_none() {
            let timeout_ms = self.options.disconnect_timeout.as_millis();
            let timeout_ms = u64::try_from(timeout_ms).unwrap_or(u64::MAX);
            self.closing = Some(Closing {
                disconnect,
                due: now.saturating_add(timeout_ms),
            });
            self.admission.wake_all();
            self.wake_driver();
        }
    }

    /// How an orderly end went.
    pub(crate) fn disconnected(&self) -> Option<&Result<(), DisconnectError>> {
        self.disconnected.as_ref()
    }

    // ---- publishing ----------------------------------------------------------------------------------------------

    /// Accepts a message if there is room and nobody waits for it; else gives it back.
    pub(crate) fn try_publish(&mut self, now: Tick, publication: Publication) -> Admitted {
        if self.journal.is_full_for(&publication) || !self.admission.try_take(publication.cost()) {
            return Admitted::NotYet(publication);
        }
        self.accept(now, publication)
    }

    /// Why no message is taken any more.
    pub(crate) fn refuses(&self) -> Option<PublishError> {
        if let Some(closed) = &self.closed {
            return Some(closed.clone().into());
        }
        self.closing.as_ref().map(|_| Closed::Disconnected.into())
    }

    pub(crate) fn wait_for_room(&mut self, waker: &Waker) -> Ticket {
        self.admission.wait(waker)
    }

    /// Like [`try_publish`](Self::try_publish), for one whose turn may have come.
    pub(crate) fn publish_in_turn(
        &mut self,
        now: Tick,
        ticket: Ticket,
        publication: Publication,
        waker: &Waker,
    ) -> Admitted {
        if self.journal.is_full_for(&publication) {
            self.admission.stay(ticket, waker);
            return Admitted::NotYet(publication);
        }
        if !self
            .admission
            .take_in_turn(ticket, publication.cost(), waker)
        {
            return Admitted::NotYet(publication);
        }
        self.accept(now, publication)
    }

    pub(crate) fn leave_queue(&mut self, ticket: Ticket) {
        self.admission.leave(ticket);
    }

    pub(crate) fn poll_outcome(&mut self, key: PublicationKey, waker: &Waker) -> Poll<Outcome> {
        self.publications.poll(key, waker)
    }

    pub(crate) fn abandon_outcome(&mut self, key: PublicationKey) {
        self.publications.abandon(key);
    }

    /// Messages that were accepted and are not done with.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.publications.open_count()
    }

    fn accept(&mut self, now: Tick, mut publication: Publication) -> Admitted {
        match self.journal.accept(now, &publication) {
            Ok(sequence) => publication.sequence = sequence,
            Err(failure) => {
                self.admission.give_back(publication.cost());
                return Admitted::Failed(PublishError::Outbox(failure));
            }
        }
        let key = self.publications.insert(publication);
        if !self.queue.is_empty() || !self.send(now, key) {
            self.queue.push_back(key);
        }
        self.wake_driver();
        Admitted::Accepted(key)
    }

    /// Writes a message, or ends it where it can't be sent; `false` if it has to wait.
    fn send(&mut self, now: Tick, key: PublicationKey) -> bool {
        let Some(connection) = self.connection.as_mut().filter(|_| self.is_open) else {
            return false;
        };
        let Some(publication) = self.publications.message(key) else {
            return true;
        };
        if publication.is_expired(now) {
            self.complete(key, Err(PublishError::Expired));
            return true;
        }
        let options = PublishOptions {
            qos: publication.qos,
            retain: publication.retain,
        };
        let mut fan_out = publication.fan_out(now, &mut self.fan_out);
        match connection.publish(now, &mut fan_out, options, key) {
            Ok(Some(packet_id)) => {
                if let Some(sequence) = publication.sequence {
                    self.journal.note(Kept::Sent(sequence, packet_id));
                }
                true
            }
            Ok(None) => {
                let end = self.handed_out + connection.output().len() as u64;
                self.unwritten.push_back((end, key));
                true
            }
            Err(refused) => {
                let error = match refused {
                    Refused::TooLarge(_) => PublishError::TooLarge,
                    Refused::QosNotSupported(_) => PublishError::QosNotSupported,
                    Refused::RetainNotSupported(_) => PublishError::RetainNotSupported,
                    _ => return false,
                };
                self.complete(key, Err(error));
                true
            }
        }
    }

    fn complete(&mut self, key: PublicationKey, outcome: Outcome) {
        let message = self.publications.message(key);
        if let Some(sequence) = message.and_then(|message| message.sequence) {
            self.journal.note(Kept::Done(sequence));
        }
        self.let_go(key, outcome);
    }

    /// Ends a message for its receipt; an outbox still has it.
    fn let_go(&mut self, key: PublicationKey, outcome: Outcome) {
        let cost = self.publications.complete(key, outcome);
        if cost > 0 {
            self.admission.give_back(cost);
        }
    }

    // ---- subscribing ---------------------------------------------------------------------------------------------

    pub(crate) fn subscribe(&mut self, wanted: Wanted) -> Result<SubscriptionKey, SubscribeError> {
        if let Some(error) = self.refuses_subscriptions() {
            return Err(error);
        }
        let key = self.inbox.subscribe(wanted)?;
        self.requests.subscribe(key);
        self.add_handle();
        self.wake_driver();
        Ok(key)
    }

    pub(crate) fn hold_unclaimed(&mut self) -> Option<SubscriptionKey> {
        let key = self.inbox.hold_unclaimed()?;
        self.add_handle();
        Some(key)
    }

    pub(crate) fn unclaimed_dropped(&self) -> u64 {
        self.inbox.unclaimed_dropped()
    }

    pub(crate) fn poll_granted(
        &mut self,
        key: SubscriptionKey,
        waker: &Waker,
    ) -> Poll<Result<Vec<ReasonCode>, SubscribeError>> {
        self.inbox.poll_granted(key, waker)
    }

    pub(crate) fn poll_next(&mut self, key: SubscriptionKey, waker: &Waker) -> Poll<Option<Taken>> {
        let polled = self.inbox.poll_next(key, waker);
        if let Poll::Ready(Some(taken)) = &polled
            && taken.made_room
        {
            self.wake_driver();
        }
        polled
    }

    pub(crate) fn ended(&self, key: SubscriptionKey) -> Option<SubscribeError> {
        self.inbox.ended(key)
    }

    pub(crate) fn dropped(&self, key: SubscriptionKey) -> u64 {
        self.inbox.dropped(key)
    }

    /// Ends a subscription. The server is asked to, unless `keep` says that it goes on there.
    pub(crate) fn unsubscribe(
        &mut self,
        now: Tick,
        key: SubscriptionKey,
        keep: Keep,
    ) -> Option<AnswerKey> {
        let was_asked = self.requests.forget(key);
        if keep == Keep::AtServer {
            self.inbox.detach(key, now.saturating_add(CLAIM_MS));
            self.wake_driver();
            return None;
        }
        let (filters, acks) = self.inbox.remove(key);
        for ack in acks {
            self.finish(now, ack, Verdict::Accept);
        }
        let is_awaited = match keep {
            Keep::AtServer => return None,
            Keep::Nothing { is_awaited } => is_awaited,
        };
        let filters: Vec<_> = filters.into_iter().map(|filter| filter.filter).collect();
        let is_known = self.has_begun && was_asked && self.closed.is_none();
        if filters.is_empty() || !is_known {
            return None;
        }
        let answer = self.requests.unsubscribe(filters, is_awaited);
        self.wake_driver();
        answer
    }

    /// Ends a subscription that only the server knows of. The answer bounds the request: whoever asks waits for it.
    pub(crate) fn unsubscribe_unheld(
        &mut self,
        filter: ByteStr,
    ) -> Result<AnswerKey, SubscribeError> {
        if let Some(error) = self.refuses_subscriptions() {
            return Err(error);
        }
        if self.inbox.has_filter(&filter) {
            return Err(SubscribeError::AlreadySubscribed { filter });
        }
        let answer = self.requests.unsubscribe_unheld(filter);
        self.wake_driver();
        Ok(answer)
    }

    pub(crate) fn poll_answer(
        &mut self,
        key: AnswerKey,
        waker: &Waker,
    ) -> Poll<Result<(), SubscribeError>> {
        self.requests.poll_answer(key, waker)
    }

    pub(crate) fn abandon_answer(&mut self, key: AnswerKey) {
        self.requests.abandon(key);
    }

    /// A message that was taken is done with.
    pub(crate) fn finish(&mut self, now: Tick, key: AckKey, verdict: Verdict) {
        let Some(finished) = self.inbox.finish(key, verdict) else {
            return;
        };
        if finished.epoch == self.epoch && self.connection.is_some() {
            self.acknowledge(now, finished.token, finished.verdict);
        } else {
            self.acknowledge_late(&finished);
        }
    }

    /// Answers a message of the live connection.
    fn acknowledge(&mut self, now: Tick, token: AckToken, verdict: Verdict) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let reason = match verdict {
            Verdict::Withhold => {
                connection.withhold(now, token);
                self.wake_driver();
                return;
            }
            Verdict::Accept => ReasonCode::Success,
            Verdict::Reject(reason) => reason,
        };
        if token.acknowledged_by() == PacketType::PubRec && !reason.is_error() {
            self.journal.note(Kept::Held(token.packet_id()));
        }
        // The reason was checked when it was given.
        let acknowledged = connection.ack(now, token, reason);
        debug_assert!(acknowledged.is_ok(), "{acknowledged:?}");
        self.wake_driver();
    }

    /// Notes what became of a message whose connection is gone. QoS 1 comes again whatever it was; QoS 2 does not where it is
    /// accepted, as long as the session lasts.
    fn acknowledge_late(&mut self, finished: &Finished) {
        let token = &finished.token;
        let is_of_session = finished.epoch.0 >= self.session_epoch.0;
        if !is_of_session || token.acknowledged_by() != PacketType::PubRec {
            return;
        }
        let is_accepted = finished.verdict == Verdict::Accept;
        match (&mut self.connection, &mut self.session) {
            // Resumed: what nobody had finished with was let go.
            (Some(_), _) if self.is_open && !(is_accepted && finished.is_expected) => {}
            (Some(connection), _) if self.is_open => {
                connection.hold_received(token.packet_id());
                self.journal.note(Kept::Held(token.packet_id()));
            }
            // The session counts it as taken since its connection ended.
            (Some(_), _) | (None, Some(_)) if is_accepted => {
                self.journal.note(Kept::Held(token.packet_id()));
            }
            (None, Some(session)) => session.forget_received(token.packet_id()),
            _ => {}
        }
    }

    /// A message that was taken is to come again: from the server, or from here where its connection is gone.
    pub(crate) fn return_message(
        &mut self,
        now: Tick,
        subscription: SubscriptionKey,
        key: AckKey,
        message: &Message,
    ) {
        let is_live = self.connection.is_some() && self.inbox.epoch(key) == Some(self.epoch);
        if is_live || !self.inbox.put_back(subscription, message, key) {
            self.finish(now, key, Verdict::Withhold);
        }
    }

    fn refuses_subscriptions(&self) -> Option<SubscribeError> {
        if let Some(closed) = &self.closed {
            return Some(closed.clone().into());
        }
        self.closing.as_ref().map(|_| Closed::Disconnected.into())
    }

    // ---- authentication ------------------------------------------------------------------------------------------

    /// Begins a new authentication on the live connection.
    pub(crate) fn reauthenticate(&mut self, now: Tick) -> Result<(), ReauthenticateError> {
        let by = self.options.authenticator.clone();
        let by = by.ok_or(ReauthenticateError::NoAuthenticator)?;
        if self.reauthentication.is_some() {
            return Err(ReauthenticateError::UnderWay);
        }
        let connection = self.connection.as_mut().filter(|_| self.is_open);
        let connection = connection.ok_or(ReauthenticateError::NotConnected)?;
        let mut exchange = by.begin();
        let data = exchange.first().map_err(|reason| {
            ReauthenticateError::Failed(ConnectionError::Authentication(reason.into()))
        })?;
        connection
            .reauthenticate(now, data, AckProperties::new())
            .map_err(|error| {
                ReauthenticateError::Failed(ConnectionError::Connect(Arc::new(error)))
            })?;
        self.authentication = Some(exchange);
        self.reauthentication = Some(Reauthentication::default());
        self.wake_driver();
        Ok(())
    }

    pub(crate) fn poll_reauthenticated(
        &mut self,
        waker: &Waker,
    ) -> Poll<Result<(), ConnectionError>> {
        let Some(reauthentication) = &mut self.reauthentication else {
            return Poll::Ready(Err(ConnectionError::Closed));
        };
        match reauthentication.result.take() {
            Some(result) => {
                self.reauthentication = None;
                Poll::Ready(result)
            }
            None => {
                reauthentication.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    /// Nobody waits for it any more; the server's answer is heeded all the same.
    pub(crate) fn abandon_reauthentication(&mut self) {
        self.reauthentication = None;
    }

    // ---- what the connection can take --------------------------------------------------------------------------

    /// Sends what may be sent now: requests, what a resumed session has open, then the queue.
    fn advance(&mut self, now: Tick) {
        if !self.is_open {
            return;
        }
        self.send_requests(now);
        if !self.resend(now) || self.waits_for_credit() {
            return;
        }
        while let Some(&key) = self.queue.front() {
            if !self.send(now, key) {
                break;
            }
            self.queue.pop_front();
        }
    }

    /// Whether to let more acknowledgements come before more is sent: where the window holds the queue back, a message for each
    /// acknowledgement would cost both sides a system call each. What is in flight brings the rest, so nothing waits for ever.
    pub(crate) fn waits_for_credit(&self) -> bool {
        let Some(connection) = self.connection.as_ref().filter(|_| self.may_hold_back) else {
            return false;
        };
        let credit = connection.send_credit();
        let window = connection.in_flight() + credit;
        window >= WINDOW_HELD_BACK_MIN
            && credit < self.queue.len()
            && credit < window / CREDIT_SHARE
    }

    fn send_requests(&mut self, now: Tick) {
        while let Some(request) = self.requests.next() {
            let Some(connection) = &mut self.connection else {
                self.requests.put_back(request);
                return;
            };
            let sent = match &request {
                Request::Subscribe(key) => {
                    let Some(wanted) = self.inbox.wanted(*key) else {
                        continue;
                    };
                    connection.subscribe(
                        now,
                        SubscribeRequest {
                            filters: wanted.filters.clone(),
                            subscription_id: key.id().filter(|_| self.takes_subscription_ids),
                            ..SubscribeRequest::default()
                        },
                    )
                }
                Request::GivenUp => continue,
                Request::Unsubscribe { filters, .. } => connection.unsubscribe(
                    now,
                    UnsubscribeRequest {
                        filters: filters.clone(),
                        ..UnsubscribeRequest::default()
                    },
                ),
            };
            match sent {
                Ok(packet_id) => self.requests.note_sent(packet_id, request),
                Err(RequestRefused::WindowFull | RequestRefused::NotConnected) => {
                    self.requests.put_back(request);
                    return;
                }
                Err(refused) => match request {
                    Request::GivenUp => {}
                    Request::Subscribe(key) => self.inbox.note_ended(key, refused.into()),
                    Request::Unsubscribe { answer, .. } => {
                        self.requests.answer(answer, Err(refused.into()));
                    }
                },
            }
        }
    }

    /// Sends again what the session had open; `false` while some of it waits.
    fn resend(&mut self, now: Tick) -> bool {
        loop {
            let Some(connection) = &mut self.connection else {
                return false;
            };
            let Some(next) = connection.next_resend(now) else {
                return !connection.is_resending();
            };
            let (key, packet_id) = (*next.item, next.packet_id);
            let Some(publication) = self.publications.message(key) else {
                // It ended otherwise, so that its exchange has nothing left to say.
                let _ = connection.abandon_resend(now);
                continue;
            };
            let redeliver = Redeliver {
                retain: publication.retain,
                subscription_ids: &[],
            };
            let mut fan_out = publication.fan_out(now, &mut self.fan_out);
            match connection.resend(now, &mut fan_out, redeliver) {
                Ok(Resent::Sent) => {}
                Ok(Resent::Released) => self.journal.note(Kept::Received(packet_id)),
                Ok(Resent::Dropped(key)) => self.complete(key, Err(PublishError::TooLarge)),
                Err(ResendRefused::OutputFull) => return false,
                Err(_) => return true,
            }
        }
    }

    fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

/// What became of a message that is to be published.
pub(crate) enum Admitted {
    Accepted(PublicationKey),
    Failed(PublishError),
    /// There is no room, or others wait for it.
    NotYet(Publication),
}

/// What is left of a subscription that the application lets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The server goes on with it.
    AtServer,
    Nothing {
        /// Somebody waits for UNSUBACK.
        is_awaited: bool,
    },
}

/// The part of the window that is to be free before a queue it holds back goes on.
const CREDIT_SHARE: usize = 8;

/// Smaller windows would run dry.
const WINDOW_HELD_BACK_MIN: usize = 64;

/// Milliseconds that messages of a resumed session wait for somebody to subscribe to them.
const CLAIM_MS: u64 = 10_000;
