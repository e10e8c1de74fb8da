//! The driver: the one task of a thread that carries out what its shard asks for.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};
use whimbrel_broker_core::session::Tick;
use whimbrel_broker_core::{
    ConnectionKey, Effects, Env, Event, Forward, LocalOutcome, ShardMessage,
};

use crate::drop_log::DropLog;
use crate::gate::caught;
use crate::handshake::greet;
use crate::hooks::EventMask;
use crate::inbox::{Command, LocalAction, LocalReply, LocalRequest, Mail};
use crate::listening;
use crate::mailbox::fill_mailbox;
use crate::thread::Thread;

/// Drives the shard of `thread` until it is told to stop.
pub(crate) async fn drive(thread: Rc<Thread>) {
    let mut driver = Driver::new(thread);
    poll_fn(|context| driver.poll(context)).await;
}

#[derive(Debug)]
struct Driver {
    thread: Rc<Thread>,
    /// Empty between turns; kept for its memory.
    mail: Mail,
    /// Empty between turns; kept for its memory.
    effects: Effects,
    /// Per shard; empty between turns; kept for its memory.
    outgoing: Box<[Vec<ShardMessage>]>,
    /// Requests of in-process clients that wait for a window. Bounded by the permits of the clients.
    stalled: VecDeque<LocalRequest>,
    requests: Requests,
    sleep: Pin<Box<Sleep>>,
    /// What `sleep` is set to; `NEVER` once it has fired.
    armed: Tick,
    sweep_due: Tick,
    interest: EventMask,
    drops: DropLog,
    shut_down: Option<ShutDown>,
}

/// Requests of in-process clients whose outcome is not known yet.
#[derive(Debug, Default)]
struct Requests {
    last: u64,
    waiting: HashMap<u64, (ConnectionKey, LocalReply)>,
}

#[derive(Debug)]
struct ShutDown {
    due: Tick,
    replies: Vec<oneshot::Sender<()>>,
}

impl Driver {
    fn new(thread: Rc<Thread>) -> Self {
        let observer = thread.shared.hooks.observer.as_ref();
        let interest = observer.and_then(|observer| caught("observer", || observer.interest()));
        let outgoing = thread.shared.shards().map(|_| Vec::new()).collect();
        Self {
            mail: Mail::default(),
            effects: Effects::default(),
            outgoing,
            stalled: VecDeque::new(),
            requests: Requests::default(),
            sleep: Box::pin(sleep_until(Instant::now())),
            armed: Tick::NEVER,
            sweep_due: Tick::NEVER,
            interest: interest.unwrap_or(EventMask::NONE),
            drops: DropLog::default(),
            shut_down: None,
            thread,
        }
    }

    /// One turn: what came in, what is due, what is left over; then what all of it asks for.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let thread = Rc::clone(&self.thread);
        let env = thread.env();
        let now = env.now.tick;
        let inbox = thread.shared.inbox(thread.id);
        inbox.take(&mut self.mail, context.waker());
        if self.receive(env).is_break() {
            self.last_word(env);
            return Poll::Ready(());
        }
        {
            let mut shard = thread.shard.borrow_mut();
            if shard.poll_timeout().is_some_and(|due| due <= now) {
                shard.handle_timeout(env);
            }
            if shard.has_backlog() {
                shard.run_backlog(env);
            }
        }
        self.run_stalled(env);
        self.drain(env);
        self.keep_house(now);
        self.finish_shut_down(now);
        self.rest(context);
        Poll::Pending
    }

    fn receive(&mut self, env: Env<'_>) -> ControlFlow<()> {
        if !self.mail.messages.is_empty() {
            let mut shard = self.thread.shard.borrow_mut();
            for (from, message) in self.mail.messages.drain(..) {
                shard.handle_message(env, from, message);
            }
        }
        self.hear_journal(env);
        let mut commands = std::mem::take(&mut self.mail.commands);
        for command in commands.drain(..) {
            self.execute(env, command)?;
        }
        self.mail.commands = commands;
        ControlFlow::Continue(())
    }

    /// Takes what the journal says; without one it says nothing.
    fn hear_journal(&mut self, env: Env<'_>) {
        let committed = std::mem::take(&mut self.mail.committed);
        if committed > 0 {
            let mut shard = self.thread.shard.borrow_mut();
            shard.handle_committed(env, committed);
        }
        if !self.mail.loaded.is_empty() {
            let mut shard = self.thread.shard.borrow_mut();
            for (session, messages) in self.mail.loaded.drain(..) {
                shard.handle_loaded(env, session, messages);
            }
        }
        if let Some(is_full) = self.mail.disk_full.take() {
            self.thread.shard.borrow_mut().set_disk_full(is_full);
        }
    }

    fn execute(&mut self, env: Env<'_>, command: Command) -> ControlFlow<()> {
        let thread = &self.thread;
        match command {
            Command::Listen {
                address,
                options,
                reply,
            } => {
                let opening = listening::open(Rc::clone(thread), address, options);
                thread.spawn(async move {
                    // Nobody to tell: then a stop is on its way.
                    let _ = reply.send(opening.await);
                });
            }
            Command::Greet {
                parcel,
                peer,
                permit,
            } => {
                if let Some(transport) = Thread::unpack(parcel)
                    && !thread.is_stopping()
                {
                    thread.spawn(greet(Rc::clone(thread), transport, peer, permit));
                }
            }
            Command::Adopt(arrival) => thread.receive(*arrival),
            Command::AttachLocal {
                client_id,
                mailbox,
                reply,
            } => {
                if !thread.is_stopping() {
                    let key = thread.shard.borrow_mut().attach_local(
                        env,
                        &client_id,
                        LOCAL_MAILBOX_MESSAGES_MAX,
                    );
                    thread.spawn(fill_mailbox(Rc::clone(thread), key, mailbox));
                    if reply.send(key).is_err() {
                        thread.shard.borrow_mut().detach(env, key);
                    }
                }
            }
            Command::Local(request) => self.stalled.push_back(request),
            Command::DetachLocal(key) => {
                thread.shard.borrow_mut().detach(env, key);
                thread.wakers.borrow_mut().wake(key);
                self.requests.forget(key);
            }
            // Nobody waits any more: nothing is lost.
            Command::Stats(reply) => {
                let _ = reply.send(thread.traffic.stats(thread.shard.borrow().stats()));
            }
            Command::ShutDown(reply) => self.begin_shut_down(env, reply),
            Command::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    /// Carries out requests of in-process clients in order, as long as there is room for what they
    /// publish. Whoever publishes over the network is held back in the same way.
    fn run_stalled(&mut self, env: Env<'_>) {
        let mut shard = self.thread.shard.borrow_mut();
        while !shard.is_congested()
            && let Some(LocalRequest { key, action, reply }) = self.stalled.pop_front()
        {
            if !shard.local_is_attached(key) {
                // The dropped reply says so.
                continue;
            }
            let request = self.requests.begin(key, reply);
            match action {
                LocalAction::Publish(publish) => {
                    shard.local_publish(env, key, &publish, request);
                }
                LocalAction::Subscribe(filters) => {
                    shard.local_subscribe(env, key, &filters, request);
                }
                LocalAction::Unsubscribe(filters) => {
                    shard.local_unsubscribe(env, key, &filters, request);
                }
            }
        }
    }

    /// Carries out what the shard asks for.
    fn drain(&mut self, env: Env<'_>) {
        let shared = &self.thread.shared;
        {
            let mut shard = self.thread.shard.borrow_mut();
            if shared.outbox.is_some() {
                shard.seal(env);
            }
            std::mem::swap(shard.effects(), &mut self.effects);
            let mut wakers = self.thread.wakers.borrow_mut();
            for key in self.effects.wake.drain(..) {
                shard.woken(key);
                wakers.wake(key);
            }
        }
        let Effects { append, load, .. } = &mut self.effects;
        if let Some(outbox) = &shared.outbox
            && !(append.is_empty() && load.is_empty())
        {
            outbox.post(self.thread.id, append, load);
        }
        if !self.effects.forward.is_empty() {
            for Forward { to, message } in self.effects.forward.drain(..) {
                self.outgoing[to.index()].push(message);
            }
            for (to, messages) in shared.shards().zip(&mut self.outgoing) {
                if !messages.is_empty() {
                    shared.inbox(to).post(self.thread.id, messages);
                }
            }
        }
        for outcome in self.effects.local.drain(..) {
            self.requests.finish(outcome);
        }
        if !self.effects.events.is_empty() {
            self.observe();
        }
        debug_assert!(self.effects.is_empty());
    }

    /// What the shard has for the journal before it ends, unless something is wrong with the broker.
    fn last_word(&mut self, env: Env<'_>) {
        if self.thread.shared.outbox.is_some() && !self.thread.shared.is_failing() {
            self.drain(env);
        }
    }

    fn observe(&mut self) {
        let events = &mut self.effects.events;
        for event in events.iter() {
            tracing::debug!(shard = %self.thread.id, ?event, "client event");
            if let Event::Dropping { client_id, cause } = event {
                self.drops.note(client_id, *cause);
            }
        }
        if let Some(observer) = &self.thread.shared.hooks.observer {
            events.retain(|event| self.interest.contains(event));
            if !events.is_empty() {
                caught("observer", || observer.on_events(events));
            }
        }
        events.clear();
    }

    /// Gives back memory of connections that turned idle, and reports drops.
    fn keep_house(&mut self, now: Tick) {
        let mut wakers = self.thread.wakers.borrow_mut();
        if wakers.has_warm() && self.sweep_due == Tick::NEVER {
            self.sweep_due = now.saturating_add(SWEEP_MS);
        }
        if self.sweep_due <= now {
            let mut shard = self.thread.shard.borrow_mut();
            wakers.sweep(|key| shard.release_memory(key));
            self.sweep_due = if wakers.has_warm() {
                now.saturating_add(SWEEP_MS)
            } else {
                Tick::NEVER
            };
        }
        if self.drops.due().is_some_and(|due| due <= now) {
            let dropped = self.thread.shard.borrow().stats().dropped_total();
            self.drops.report(now, dropped);
        }
    }

    fn begin_shut_down(&mut self, env: Env<'_>, reply: oneshot::Sender<()>) {
        self.thread.begin_stop(env);
        let patience = self.thread.shared.config.close_timeout;
        let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let due = env.now.tick.saturating_add(patience);
        self.shut_down
            .get_or_insert(ShutDown {
                due,
                replies: Vec::new(),
            })
            .replies
            .push(reply);
    }

    fn finish_shut_down(&mut self, now: Tick) {
        let is_over = |shut_down: &mut ShutDown| shut_down.due <= now || self.thread.is_quiet();
        if let Some(shut_down) = self.shut_down.take_if(is_over) {
            for reply in shut_down.replies {
                // Who does not wait need not know.
                let _ = reply.send(());
            }
        }
    }

    /// Sleeps until something is due, or goes on after the others' turn.
    fn rest(&mut self, context: &mut Context<'_>) {
        let shard = self.thread.shard.borrow();
        if shard.has_backlog() {
            self.thread.driver_sleeps(context.waker(), Tick(0));
            context.waker().wake_by_ref();
            return;
        }
        let due = [
            shard.poll_timeout(),
            Some(self.sweep_due),
            self.drops.due(),
            self.shut_down.as_ref().map(|shut_down| shut_down.due),
        ];
        let due = due.into_iter().flatten().min().unwrap_or(Tick::NEVER);
        // A timer that fires too early costs a turn; setting it anew costs more.
        if due < self.armed
            && let Some(instant) = self.thread.shared.clock.instant(due)
        {
            self.sleep.as_mut().reset(instant);
            self.armed = due;
        }
        if self.armed != Tick::NEVER && self.sleep.as_mut().poll(context).is_ready() {
            self.armed = Tick::NEVER;
            context.waker().wake_by_ref();
        }
        self.thread.driver_sleeps(context.waker(), self.armed);
    }
}

impl Requests {
    fn begin(&mut self, key: ConnectionKey, reply: LocalReply) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, (key, reply));
        self.last
    }

    fn finish(&mut self, outcome: LocalOutcome) {
        if let Some((_, reply)) = self.waiting.remove(&outcome.request) {
            // Who does not wait need not know.
            let _ = reply.sender.send(outcome.reasons);
        }
    }

    fn forget(&mut self, key: ConnectionKey) {
        self.waiting.retain(|_, (asked_by, _)| *asked_by != key);
    }
}

/// Messages for an in-process client that its shard holds beside the client's own mailbox.
const LOCAL_MAILBOX_MESSAGES_MAX: usize = 64;
/// Idle twice as long, a connection's output memory is given back.
const SWEEP_MS: u64 = Duration::from_secs(2).as_millis() as u64;
