//! [`Context`]: what a case knows about the broker and about itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use whimbrel_codec::topic::ByteStr;
use whimbrel_codec::{ConnAckProperties, Packet, ProtocolVersion, QoS};

use crate::target::Target;
use crate::timing::Timing;
use crate::transcript::Transcript;
use crate::verdict::{Failure, Outcome, Stop};

/// What a case is given: the broker's address, what it announces, names of its own, and the time it has.
///
/// Clones are the same context. Client ids and topics are unique to the case, so that cases may run at once and in any
/// order; what a case leaves behind (retained messages, sessions) is cleared away after it, without its doing.
#[derive(Clone, Debug)]
pub struct Context {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    target: Arc<Target>,
    version: ProtocolVersion,
    announced: Arc<Announced>,
    timing: Timing,
    /// Six letters and digits of the run and three of the case.
    token: String,
    transcript: Mutex<Transcript>,
    leftovers: Mutex<Leftovers>,
}

/// What the broker's CONNACK says it can do, asked once in each version.
///
/// A broker of MQTT 3.x announces nothing; the defaults are that everything is there.
#[derive(Clone, Debug)]
pub struct Announced {
    /// The properties of the CONNACK.
    pub properties: ConnAckProperties,
    /// Seconds that a session outlives its connection when 300 are asked for.
    pub session_expiry_secs: u32,
}

impl Announced {
    /// What a CONNACK with these properties means for a client that asked for an expiry of `asked` seconds.
    pub(crate) fn new(properties: ConnAckProperties, asked: u32) -> Announced {
        Announced {
            session_expiry_secs: properties.session_expiry_secs.unwrap_or(asked),
            properties,
        }
    }

    /// One line for a person.
    pub fn describe(&self, version: ProtocolVersion) -> String {
        if !version.is_v5() {
            return "announces nothing, as there is no way to in this version".to_owned();
        }
        let properties = &self.properties;
        let mut words = vec![
            format!("maximum QoS {}", properties.maximum_qos.bits()),
            format!("receive maximum {}", properties.receive_maximum),
            format!("topic alias maximum {}", properties.topic_alias_max),
        ];
        if let Some(size) = properties.packet_size_max {
            words.push(format!("packets up to {size} bytes"));
        }
        if let Some(secs) = properties.server_keep_alive_secs {
            words.push(format!("keep alive {secs} s"));
        }
        if let Some(secs) = properties.session_expiry_secs {
            words.push(format!("session expiry {secs} s"));
        }
        for (available, name) in [
            (properties.retain_available, "retained messages"),
            (properties.wildcard_subscription_available, "wildcards"),
            (
                properties.subscription_id_available,
                "subscription identifiers",
            ),
            (
                properties.shared_subscription_available,
                "shared subscriptions",
            ),
        ] {
            if !available {
                words.push(format!("no {name}"));
            }
        }
        words.join(", ")
    }
}

impl Default for Announced {
    fn default() -> Announced {
        Announced::new(ConnAckProperties::default(), SESSION_EXPIRY_SECS)
    }
}

/// What has to be cleared away after a case.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    pub(crate) client_ids: BTreeSet<ByteStr>,
    pub(crate) topics: BTreeSet<String>,
}

impl Context {
    pub(crate) fn new(
        target: Arc<Target>,
        version: ProtocolVersion,
        announced: Arc<Announced>,
        timing: Timing,
        token: String,
    ) -> Context {
        Context {
            inner: Arc::new(Inner {
                target,
                version,
                announced,
                timing,
                token,
                transcript: Mutex::new(Transcript::new()),
                leftovers: Mutex::default(),
            }),
        }
    }

    /// The broker.
    pub fn target(&self) -> &Target {
        &self.inner.target
    }

    /// The version this run of the case is about.
    pub fn version(&self) -> ProtocolVersion {
        self.inner.version
    }

    /// Whether this is MQTT 5.0.
    pub fn is_v5(&self) -> bool {
        self.inner.version.is_v5()
    }

    /// What the broker says it can do.
    pub fn announced(&self) -> &Announced {
        &self.inner.announced
    }

    /// How long to wait.
    pub fn timing(&self) -> Timing {
        self.inner.timing
    }

    /// A client id of this case: letters and digits, at most 23 with a `name` of up to twelve.
    pub fn client_id(&self, name: &str) -> String {
        format!("wc{}{name}", self.inner.token)
    }

    /// A topic of this case: `conformance/<token>/<name>`. `name` may have levels, and wildcards to make it a filter.
    pub fn topic(&self, name: &str) -> String {
        format!("conformance/{}/{name}", self.inner.token)
    }

    /// A failure: after the last packet sent, `expected` should have happened, and `received` did.
    pub fn fail(&self, expected: impl Into<String>, received: impl Into<String>) -> Stop {
        let sent = self.transcript().last_sent().to_owned();
        Stop::Fail(Box::new(Failure {
            sent,
            expected: expected.into(),
            received: received.into(),
        }))
    }

    /// Fails unless `holds`.
    ///
    /// # Errors
    /// A failure with these words.
    pub fn check(
        &self,
        holds: bool,
        expected: impl Into<String>,
        received: impl Into<String>,
    ) -> Outcome {
        if holds {
            Ok(())
        } else {
            Err(self.fail(expected, received))
        }
    }

    /// Fails unless both are equal, showing both.
    ///
    /// # Errors
    /// A failure that names `what`.
    pub fn check_eq<T: PartialEq + std::fmt::Debug + ?Sized>(
        &self,
        what: &str,
        expected: &T,
        received: &T,
    ) -> Outcome {
        let holds = expected == received;
        self.check(
            holds,
            format!("{what} {expected:?}"),
            format!("{what} {received:?}"),
        )
    }

    /// Skips the case when the broker announces a lower maximum QoS.
    ///
    /// # Errors
    /// The skip.
    pub fn need_qos(&self, qos: QoS) -> Outcome {
        let maximum = self.announced().properties.maximum_qos;
        self.need(
            maximum >= qos,
            &format!("the broker's maximum QoS is {}", maximum.bits()),
        )
    }

    /// Skips the case when the broker keeps no retained messages.
    ///
    /// # Errors
    /// The skip.
    pub fn need_retain(&self) -> Outcome {
        let available = self.announced().properties.retain_available;
        self.need(
            available,
            "the broker announces that it keeps no retained messages",
        )
    }

    /// Skips the case when the broker takes no wildcards.
    ///
    /// # Errors
    /// The skip.
    pub fn need_wildcards(&self) -> Outcome {
        let available = self.announced().properties.wildcard_subscription_available;
        self.need(available, "the broker announces that it takes no wildcards")
    }

    /// Skips the case when the broker has no shared subscriptions, and in 3.x, which does not know them.
    ///
    /// # Errors
    /// The skip.
    pub fn need_shared(&self) -> Outcome {
        let available = self.is_v5() && self.announced().properties.shared_subscription_available;
        self.need(
            available,
            "the broker announces that it has no shared subscriptions",
        )
    }

    /// Skips the case when the broker takes no subscription identifiers, and in 3.x, which does not know them.
    ///
    /// # Errors
    /// The skip.
    pub fn need_subscription_ids(&self) -> Outcome {
        let available = self.is_v5() && self.announced().properties.subscription_id_available;
        self.need(
            available,
            "the broker announces that it takes no subscription identifiers",
        )
    }

    /// Skips the case when the broker takes fewer topic aliases than `count`.
    ///
    /// # Errors
    /// The skip.
    pub fn need_topic_aliases(&self, count: u16) -> Outcome {
        let maximum = self.announced().properties.topic_alias_max;
        self.need(
            maximum >= count,
            &format!("the broker's topic alias maximum is {maximum}"),
        )
    }

    /// Skips the case when the broker does not keep sessions for at least `secs` seconds.
    ///
    /// # Errors
    /// The skip.
    pub fn need_sessions(&self, secs: u32) -> Outcome {
        let expiry = self.announced().session_expiry_secs;
        self.need(
            expiry >= secs,
            &format!("the broker keeps sessions for {expiry} s only"),
        )
    }

    /// Skips the case with `reason` unless `holds`.
    ///
    /// # Errors
    /// The skip.
    pub fn need(&self, holds: bool, reason: &str) -> Outcome {
        if holds {
            Ok(())
        } else {
            Err(Stop::skip(reason))
        }
    }

    /// Has the session of this client id ended after the case. Needed only for a CONNECT sent as bytes.
    pub fn leaves_session(&self, client_id: &str) {
        let mut leftovers = self.leftovers();
        if leftovers.client_ids.len() < LEFTOVERS_MAX {
            leftovers.client_ids.insert(ByteStr::from(client_id));
        }
    }

    /// Has the retained message of this topic deleted after the case. Needed only for a PUBLISH or will sent as bytes.
    pub fn leaves_retained(&self, topic: &str) {
        let mut leftovers = self.leftovers();
        if leftovers.topics.len() < LEFTOVERS_MAX {
            leftovers.topics.insert(topic.to_owned());
        }
    }

    /// Remembers what `packet` will leave behind.
    pub(crate) fn note_leftovers(&self, packet: &Packet) {
        match packet {
            Packet::Connect(connect) => {
                if !connect.clean_start || connect.properties.session_expiry_secs > 0 {
                    self.leaves_session(&connect.client_id);
                }
                if let Some(will) = connect.will.as_ref().filter(|will| will.retain) {
                    self.leaves_retained(will.topic.as_str());
                }
            }
            Packet::Publish(publish) if publish.retain() && !publish.payload().is_empty() => {
                if let Some(topic) = publish.topic() {
                    self.leaves_retained(topic.as_str());
                }
            }
            _ => {}
        }
    }

    pub(crate) fn transcript(&self) -> MutexGuard<'_, Transcript> {
        let transcript = self.inner.transcript.lock();
        transcript.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn leftovers(&self) -> MutexGuard<'_, Leftovers> {
        let leftovers = self.inner.leftovers.lock();
        leftovers.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session expiry that cases ask for when they want a session to last, in seconds.
pub const SESSION_EXPIRY_SECS: u32 = 300;
/// A case that leaves more behind has gone astray.
const LEFTOVERS_MAX: usize = 256;
