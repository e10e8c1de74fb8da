//! [`Removal`]: `--remove-retained`.

use std::collections::{HashSet, VecDeque};

use whimbrel_client::Receipt;
use whimbrel_client::codec::QoS;
use whimbrel_client::codec::topic::{TopicName, TopicNameBuf};

use super::connection::Connection;
use crate::failure::Failure;

/// Removes retained messages as they come, and knows its own hand when it sees what came of that.
#[derive(Debug, Default)]
pub(crate) struct Removal {
    /// Bounded by [`RECEIPTS_MAX`].
    receipts: VecDeque<(TopicNameBuf, Receipt)>,
    /// Removed, and the empty message that tells so has not come back. Bounded by [`ECHOES_MAX`].
    expected: HashSet<TopicNameBuf>,
}

impl Removal {
    /// Asks the server to forget the message of a topic.
    pub(crate) async fn remove(
        &mut self,
        connection: &Connection,
        topic: &TopicName,
    ) -> Result<(), Failure> {
        // With QoS 0: a client that waits for acknowledgements has to read on, and messages would give way.
        let empty = connection.client.publish(topic, "");
        let enqueued = empty.qos(QoS::AtMostOnce).retain(true).enqueue().await;
        let receipt = enqueued.map_err(|error| connection.not_published(topic.as_str(), &error))?;
        self.receipts.push_back((topic.to_owned(), receipt));
        if self.expected.len() < ECHOES_MAX {
            self.expected.insert(topic.to_owned());
        }
        while self.receipts.len() > RECEIPTS_MAX {
            self.settle_next(connection).await?;
        }
        Ok(())
    }

    /// Whether a message tells of a removal of one's own, and others are still to be told of.
    pub(crate) fn is_echo_before_the_last(&mut self, topic: &TopicName, payload: &[u8]) -> bool {
        payload.is_empty() && self.expected.remove(topic) && !self.expected.is_empty()
    }

    /// Waits until all of it is written.
    pub(crate) async fn settle(&mut self, connection: &Connection) -> Result<(), Failure> {
        while !self.receipts.is_empty() {
            self.settle_next(connection).await?;
        }
        Ok(())
    }

    async fn settle_next(&mut self, connection: &Connection) -> Result<(), Failure> {
        let Some((_, receipt)) = self.receipts.front_mut() else {
            return Ok(());
        };
        let outcome = receipt.await;
        let Some((topic, _)) = self.receipts.pop_front() else {
            return Ok(());
        };
        let failed = outcome.map_err(|error| connection.not_published(topic.as_str(), &error));
        failed.map(|_| ())
    }
}

/// Removals that are not written yet, at a time.
const RECEIPTS_MAX: usize = 1_024;

/// Topics that are remembered: beyond it the command may take its own removal for the first fresh message.
const ECHOES_MAX: usize = 100_000;
