//! How a connection is closed so that its last packet arrives.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use tokio::time::timeout;
use whimbrel_broker_core::session::codec::WriteBuf;

use crate::shared::ConnectionSlot;
use crate::thread::{Thread, ThreadTask};
use crate::transport::Transport;

/// Writes what is left, ends our side, and reads the other side out before the socket is closed.
///
/// Closing with unread input makes TCP send a reset, and a reset makes the peer throw away what it
/// has not read: the very DISCONNECT or CONNACK that says why [MQTT-4.13.1-1].
///
/// All of it is bounded: what is left by the limit of output, the time by the close timeout and
/// [`LINGER`], the connection counts until the end.
pub(crate) async fn farewell(
    thread: ThreadTask,
    mut transport: Transport,
    mut output: WriteBuf,
    _slot: Option<ConnectionSlot>,
) {
    let written = timeout(
        thread.shared.config.close_timeout,
        write_last(&thread, &mut transport, &mut output),
    );
    if !matches!(written.await, Ok(Ok(()))) {
        return;
    }
    drop(output);
    let linger = if thread.is_stopping() {
        LINGER_STOPPING
    } else {
        LINGER
    };
    // Whether the peer closed in time or not, now it is over.
    let _ = timeout(linger, read_out(&thread, &mut transport)).await;
}

/// Writes all of `output`.
pub(crate) async fn write_out(
    thread: &Thread,
    transport: &mut Transport,
    output: &mut WriteBuf,
) -> io::Result<()> {
    while !output.is_empty() {
        let written = poll_fn(|context| transport.poll_write(context, output)).await?;
        thread.traffic.count_sent(written);
    }
    poll_fn(|context| transport.poll_flush(context)).await
}

async fn write_last(
    thread: &Thread,
    transport: &mut Transport,
    output: &mut WriteBuf,
) -> io::Result<()> {
    write_out(thread, transport, output).await?;
    poll_fn(|context| transport.poll_shutdown(context)).await
}

async fn read_out(thread: &Thread, transport: &mut Transport) -> io::Result<()> {
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        let count = poll_fn(|context| {
            let mut buffer = thread.read_buffer.borrow_mut();
            transport.poll_read(context, &mut buffer)
        })
        .await?;
        if count == 0 {
            break;
        }
        left = left.saturating_sub(count);
    }
    Ok(())
}

/// A round trip and a client's reaction, on any link that is not broken.
const LINGER: Duration = Duration::from_secs(2);
/// The same when the process is about to end and somebody waits for that.
const LINGER_STOPPING: Duration = Duration::from_millis(250);
/// What a fast link brings in that time; who sends more does not mean to stop.
const LINGER_BYTES_MAX: usize = 64 << 20;
