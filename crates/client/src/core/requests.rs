//! SUBSCRIBE and UNSUBSCRIBE: what is to be asked, and what is asked.

use std::collections::VecDeque;
use std::task::{Poll, Waker};

use slab::Slab;
use whimbrel_session::codec::PacketId;
use whimbrel_session::codec::topic::ByteStr;

use super::inbox::SubscriptionKey;
use crate::SubscribeError;

/// Requests in their order, sent and unsent.
///
/// Bounded: a subscription has one SUBSCRIBE here at most, an UNSUBSCRIBE comes from a subscription that was asked for, and one
/// that comes from none ends with the future that waits for it.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    unsent: VecDeque<Request>,
    /// In the order of sending.
    sent: VecDeque<(PacketId, Request)>,
    answers: Slab<Answer>,
}

/// One packet to be sent.
#[derive(Debug)]
pub(crate) enum Request {
    Subscribe(SubscriptionKey),
    Unsubscribe {
        filters: Vec<ByteStr>,
        /// Who waits for UNSUBACK, if anybody does.
        answer: Option<AnswerKey>,
        /// It is to be sent though nobody waits.
        is_owed: bool,
    },
    /// A SUBSCRIBE that is sent, for a subscription that is gone: its answer is for nobody.
    GivenUp,
}

/// Somebody who waits for UNSUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnswerKey(usize);

#[derive(Debug)]
enum Answer {
    Awaited(Option<Waker>),
    Given(Result<(), SubscribeError>),
}

impl Requests {
    pub(crate) fn subscribe(&mut self, key: SubscriptionKey) {
        self.unsent.push_back(Request::Subscribe(key));
    }

    /// Asks for the end of subscriptions of this client; with `is_awaited` there is an answer to be polled.
    pub(crate) fn unsubscribe(
        &mut self,
        filters: Vec<ByteStr>,
        is_awaited: bool,
    ) -> Option<AnswerKey> {
        let answer = is_awaited.then(|| self.await_answer());
        self.unsent.push_back(Request::Unsubscribe {
            filters,
            answer,
            is_owed: true,
        });
        answer
    }

    /// Asks for the end of a subscription that is none of this client's, as long as somebody waits for the answer.
    pub(crate) fn unsubscribe_unheld(&mut self, filter: ByteStr) -> AnswerKey {
        let answer = self.await_answer();
        self.unsent.push_back(Request::Unsubscribe {
            filters: vec![filter],
            answer: Some(answer),
            is_owed: false,
        });
        answer
    }

    /// A subscription is gone: says whether the server may have been asked for it.
    pub(crate) fn forget(&mut self, gone: SubscriptionKey) -> bool {
        let is_for_it =
            |request: &Request| matches!(request, Request::Subscribe(key) if *key == gone);
        let before = self.unsent.len();
        self.unsent.retain(|request| !is_for_it(request));
        // Its key may be another subscription's when the answer comes.
        let mut sent = self.sent.iter_mut().map(|(_, request)| request);
        if let Some(request) = sent.find(|request| is_for_it(request)) {
            *request = Request::GivenUp;
        }
        before == self.unsent.len()
    }

    /// The next to be sent.
    pub(crate) fn next(&mut self) -> Option<Request> {
        self.unsent.pop_front()
    }

    /// It could not be sent now.
    pub(crate) fn put_back(&mut self, request: Request) {
        self.unsent.push_front(request);
    }

    pub(crate) fn note_sent(&mut self, packet_id: PacketId, request: Request) {
        self.sent.push_back((packet_id, request));
    }

    /// The answer to the request of this id has come.
    pub(crate) fn answered(&mut self, packet_id: PacketId) -> Option<Request> {
        let index = self.sent.iter().position(|(id, _)| *id == packet_id)?;
        self.sent.remove(index).map(|(_, request)| request)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unsent.is_empty() && self.sent.is_empty()
    }

    /// The connection is gone, and unanswered requests with it: they are sent again.
    pub(crate) fn note_lost(&mut self) {
        while let Some((_, request)) = self.sent.pop_back() {
            if !matches!(request, Request::GivenUp) {
                self.unsent.push_front(request);
            }
        }
    }

    /// The server has begun a new session: it is to have exactly these subscriptions.
    pub(crate) fn begin_anew(&mut self, wanted: Vec<SubscriptionKey>) {
        for request in std::mem::take(&mut self.unsent) {
            if let Request::Unsubscribe { answer, .. } = request {
                self.answer(answer, Ok(()));
            }
        }
        self.unsent
            .extend(wanted.into_iter().map(Request::Subscribe));
    }

    pub(crate) fn answer(&mut self, key: Option<AnswerKey>, result: Result<(), SubscribeError>) {
        let Some(answer) = key.and_then(|key| self.answers.get_mut(key.0)) else {
            return;
        };
        if let Answer::Awaited(Some(waker)) = std::mem::replace(answer, Answer::Given(result)) {
            waker.wake();
        }
    }

    pub(crate) fn poll_answer(
        &mut self,
        key: AnswerKey,
        waker: &Waker,
    ) -> Poll<Result<(), SubscribeError>> {
        match self.answers.get_mut(key.0) {
            Some(Answer::Awaited(known)) => {
                *known = Some(waker.clone());
                Poll::Pending
            }
            Some(Answer::Given(result)) => {
                let result = result.clone();
                self.answers.remove(key.0);
                Poll::Ready(result)
            }
            None => Poll::Pending,
        }
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn abandon(&mut self, gone: AnswerKey) {
        self.answers.try_remove(gone.0);
        self.unsent.retain(|request| {
            let Request::Unsubscribe {
                answer, is_owed, ..
            } = request
            else {
                return true;
            };
            *is_owed || *answer != Some(gone)
        });
        let sent = self.sent.iter_mut().map(|(_, request)| request);
        for request in self.unsent.iter_mut().chain(sent) {
            if let Request::Unsubscribe {
                answer, is_owed, ..
            } = request
                && *answer == Some(gone)
            {
                *answer = None;
                // It was sent: should it be again, it is for its effect.
                *is_owed = true;
            }
        }
    }

    /// The client is closed.
    pub(crate) fn end_all(&mut self, error: &SubscribeError) {
        self.unsent.clear();
        self.sent.clear();
        for (_, answer) in &mut self.answers {
            let ended = Answer::Given(Err(error.clone()));
            if let Answer::Awaited(Some(waker)) = std::mem::replace(answer, ended) {
                waker.wake();
            }
        }
    }

    fn await_answer(&mut self) -> AnswerKey {
        AnswerKey(self.answers.insert(Answer::Awaited(None)))
    }
}
