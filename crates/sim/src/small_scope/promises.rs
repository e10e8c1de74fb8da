//! What applications were promised: at least once, exactly once, and in order.

use whimbrel_broker_core::session::codec::QoS;

use crate::Finding;

/// The messages of one direction, by number, within one life of the receiver's session.
#[derive(Debug)]
pub(crate) struct Promises {
    qos: &'static [QoS],
    messages: Vec<Message>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Message {
    /// Somebody has taken it over.
    taken: bool,
    /// Somebody has taken it over who has to see to its arrival.
    promised: bool,
    /// Earlier messages of its `QoS` that were promised before it was first taken over, one bit each.
    behind: u32,
    /// The receiver's application was shown it.
    seen: bool,
    /// The sender's application knows that it is over.
    settled: bool,
}

impl Promises {
    pub(crate) fn new(qos: &'static [QoS]) -> Self {
        Self {
            qos,
            messages: vec![Message::default(); qos.len()],
        }
    }

    /// A message was taken over, with or without somebody there who is to get it.
    pub(crate) fn taken(&mut self, message: u8, has_receiver: bool) {
        let place = usize::from(message);
        let earlier = (0..place).filter(|&earlier| self.qos[earlier] == self.qos[place]);
        let promised = earlier.filter(|&earlier| self.messages[earlier].promised);
        let behind = promised.fold(0, |behind, earlier| behind | 1 << earlier);
        if let Some(message) = self.messages.get_mut(place) {
            if !std::mem::replace(&mut message.taken, true) {
                message.behind = behind;
            }
            message.promised |= has_receiver;
        }
    }

    /// Whoever has taken messages over has lost all it knew: its promises end, and so does what the
    /// receiver's session was.
    pub(crate) fn begin_life(&mut self) {
        for message in &mut self.messages {
            message.taken = false;
            message.promised = false;
            message.behind = 0;
            message.seen = false;
        }
    }

    /// The receiver's application is shown a message.
    pub(crate) fn seen(&mut self, number: u8, qos: QoS) -> Result<(), Finding> {
        let place = usize::from(number);
        let Some(&expected) = self.qos.get(place) else {
            return broken("a message that nobody published", number);
        };
        if qos != expected {
            return broken("a message arrives with another QoS", number);
        }
        let again = std::mem::replace(&mut self.messages[place].seen, true);
        if again && qos == QoS::ExactlyOnce {
            return broken("a QoS 2 message arrives twice", number);
        }
        // [MQTT-4.6.0-6]: in order among those of one QoS; a repeat may follow later ones.
        let behind = self.messages[place].behind;
        let overtaken =
            (0..place).any(|earlier| behind & 1 << earlier != 0 && !self.messages[earlier].seen);
        if overtaken {
            return broken("a message overtakes an earlier one", number);
        }
        Ok(())
    }

    /// The receiver's application gives a message back: it was not taken.
    pub(crate) fn rejected(&mut self, message: u8) {
        if let Some(message) = self.messages.get_mut(usize::from(message)) {
            message.seen = false;
        }
    }

    /// The sender's application is told that a message is over.
    pub(crate) fn settled(&mut self, message: u8) {
        if let Some(message) = self.messages.get_mut(usize::from(message)) {
            message.settled = true;
        }
    }

    pub(crate) fn is_settled(&self, message: u8) -> bool {
        self.messages
            .get(usize::from(message))
            .is_some_and(|message| message.settled)
    }

    /// Nothing more will happen: whether everything has come true.
    pub(crate) fn check_rest(&self) -> Result<(), Finding> {
        for (number, message) in (0_u8..).zip(&self.messages) {
            if !message.settled {
                return broken("a publisher waits for ever", number);
            }
            if message.promised && !message.seen {
                return broken("an acknowledged message never arrives", number);
            }
        }
        Ok(())
    }
}

fn broken<T>(rule: &'static str, message: u8) -> Result<T, Finding> {
    Err(Finding {
        rule,
        detail: format!("message {message}"),
    })
}
