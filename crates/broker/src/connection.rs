//! [`Connection`]: the task of one attached connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use whimbrel_broker_core::session::codec::WriteBuf;
use whimbrel_broker_core::{AuthenticationAnswer, ConnectionKey, ConnectionPump, Env, InputStatus};

use crate::farewell::farewell;
use crate::gate::ConnectionGate;
use crate::shared::ConnectionSlot;
use crate::thread::ThreadTask;
use crate::transport::Transport;

/// Reads, lets the pump work, writes; waits for the socket or a wake from the shard.
///
/// Written by hand and not as an `async fn`, so that a connection costs what its fields cost: it
/// has no buffer, no timer and no channel of its own. Boxed, since the runtime rounds a task with its header up to a
/// multiple of 128 bytes: a pointer makes that 128, these fields would make it 256.
#[derive(Debug)]
pub(crate) struct Connection {
    thread: ThreadTask,
    key: ConnectionKey,
    pump: ConnectionPump,
    gate: ConnectionGate,
    /// `None` once the connection is over.
    line: Option<Line>,
}

#[derive(Debug)]
struct Line {
    transport: Transport,
    slot: ConnectionSlot,
}

/// How a turn ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nothing is left to do until the socket or the shard has something.
    Wait,
    /// There is more, after the others' turn.
    Yield,
    /// The shard is done with the connection; its output is to be written.
    Close,
    /// The peer is gone, or has taken its leave.
    Gone,
}

impl Connection {
    pub(crate) fn new(
        thread: ThreadTask,
        transport: Transport,
        pump: ConnectionPump,
        key: ConnectionKey,
        gate: ConnectionGate,
        slot: ConnectionSlot,
    ) -> Box<Self> {
        Box::new(Self {
            thread,
            key,
            pump,
            gate,
            line: Some(Line { transport, slot }),
        })
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Turn {
        let Self {
            thread,
            key,
            pump,
            gate,
            line,
        } = self;
        let Some(Line { transport, .. }) = line else {
            return Turn::Gone;
        };
        let mut turn = InTurn {
            thread,
            key: *key,
            pump,
            gate,
            transport,
            env: thread.env(),
        };
        turn.run(context)
    }

    /// Lets go of the shard, and writes what is left.
    fn close(&mut self, turn: Turn) {
        let Some(Line { transport, slot }) = self.line.take() else {
            return;
        };
        let env = self.thread.env();
        let output = {
            let mut shard = self.thread.shard.borrow_mut();
            let output = shard.output(self.key).map(std::mem::take);
            self.pump.detach(env, &mut shard);
            output
        };
        self.thread.wakers.borrow_mut().remove(self.key);
        if turn == Turn::Close {
            let task = self.thread.clone();
            let output = output.unwrap_or_default();
            tokio::task::spawn_local(farewell(task, transport, output, Some(slot)));
        }
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut wakers = this.thread.wakers.borrow_mut();
        wakers.register(this.key, context.waker());
        drop(wakers);
        let turn = this.turn(context);
        let poll = match turn {
            Turn::Wait => Poll::Pending,
            Turn::Yield => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Turn::Close | Turn::Gone => {
                this.close(turn);
                Poll::Ready(())
            }
        };
        this.thread.settle();
        poll
    }
}

/// A connection during a turn.
struct InTurn<'a> {
    thread: &'a ThreadTask,
    key: ConnectionKey,
    pump: &'a mut ConnectionPump,
    gate: &'a mut ConnectionGate,
    transport: &'a mut Transport,
    env: Env<'a>,
}

impl InTurn<'_> {
    fn run(&mut self, context: &mut Context<'_>) -> Turn {
        let mut status = self.resume();
        for _ in 0..READS_PER_TURN {
            let mut has_read = false;
            if status == InputStatus::Open {
                match self.read(context) {
                    Poll::Ready(Ok(Some(after))) => {
                        status = after;
                        has_read = true;
                    }
                    Poll::Ready(Ok(None) | Err(_)) => return Turn::Gone,
                    Poll::Pending => {}
                }
            }
            if let Poll::Ready(answer) = self.gate.poll_authentication(context) {
                self.answer(answer);
                // The answer may have ended the connection.
                status = self.resume();
            }
            self.thread.forget_own_wake(self.key);
            let Ok(flushed) = self.flush(context) else {
                return Turn::Gone;
            };
            if status == InputStatus::Blocked && flushed == Flushed::Some {
                // It may have been the output that held the input back.
                status = self.resume();
                has_read |= status == InputStatus::Open;
            }
            match status {
                InputStatus::Closing if has_read && flushed == Flushed::Nothing => {
                    return self.leave();
                }
                InputStatus::Closing => return Turn::Close,
                InputStatus::Open | InputStatus::Blocked if !has_read => return Turn::Wait,
                InputStatus::Open | InputStatus::Blocked => {}
            }
        }
        Turn::Yield
    }

    /// The client's own packet has ended the connection, and was not answered: unless something
    /// older is left for it, it has what it is to have.
    fn leave(&self) -> Turn {
        let mut shard = self.thread.shard.borrow_mut();
        match shard.output(self.key) {
            Some(output) if !output.is_empty() => Turn::Close,
            _ => Turn::Gone,
        }
    }

    /// Answers an AUTH whose step is decided.
    fn answer(&self, answer: AuthenticationAnswer) {
        let mut shard = self.thread.shard.borrow_mut();
        shard.answer_authentication(self.env, self.key, answer);
    }

    /// Goes on with what was read before.
    fn resume(&mut self) -> InputStatus {
        self.pump
            .handle_input(self.env, &self.thread.shard, self.gate, &[])
    }

    /// Reads once and works through it; `None` at the end of the stream.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<InputStatus>>> {
        let mut buffer = self.thread.read_buffer.borrow_mut();
        let count = ready!(self.transport.poll_read(context, &mut buffer))?;
        let Some(input) = buffer.get(..count).filter(|input| !input.is_empty()) else {
            return Poll::Ready(Ok(None));
        };
        self.thread.traffic.count_received(count);
        let status = self
            .pump
            .handle_input(self.env, &self.thread.shard, self.gate, input);
        Poll::Ready(Ok(Some(status)))
    }

    /// Writes until nothing is left or the socket is full. What the queue refills meanwhile goes out
    /// too, a bounded number of times.
    fn flush(&mut self, context: &mut Context<'_>) -> io::Result<Flushed> {
        let mut flushed = Flushed::Nothing;
        for _ in 0..WRITES_PER_TURN {
            let Some(mut output) = self.take_output() else {
                // A pending flush wakes the task; there is nothing else to do about it.
                if let Poll::Ready(Err(error)) = self.transport.poll_flush(context) {
                    return Err(error);
                }
                return Ok(flushed);
            };
            let written = self.transport.poll_write(context, &mut output);
            let mut shard = self.thread.shard.borrow_mut();
            if let Some(place) = shard.output(self.key) {
                *place = output;
            }
            let Poll::Ready(written) = written else {
                return Ok(flushed);
            };
            self.thread.traffic.count_sent(written?);
            if flushed == Flushed::Nothing {
                flushed = Flushed::Some;
                self.thread.warm_up(self.key);
            }
            shard.flushed(self.env, self.key);
        }
        context.waker().wake_by_ref();
        Ok(flushed)
    }

    /// Takes the output off the shard for the time of one write, if there is any: a foreign stream
    /// is an embedder's code, which does not run while the shard is borrowed.
    fn take_output(&self) -> Option<WriteBuf> {
        let mut shard = self.thread.shard.borrow_mut();
        let output = shard.output(self.key)?;
        (!output.is_empty()).then(|| std::mem::take(output))
    }
}

/// Whether a flush got anything out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flushed {
    Nothing,
    Some,
}

/// Full read buffers in a row that a connection may work through before it is others' turn.
const READS_PER_TURN: usize = 4;
/// Writes in a row before it is others' turn.
const WRITES_PER_TURN: usize = 16;

// Every idle connection has one (docs/performance.md, "Memory"). 96 where no crate of the build asks for tokio's
// multi-threaded runtime, which makes a socket larger.
const _: () = assert!(size_of::<Connection>() <= 104);
