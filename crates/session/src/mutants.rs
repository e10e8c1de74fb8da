//! Planted bugs, to see whether tests bite: only in builds with `--cfg mutants`.
//!
//! Each [`Mutant`] stands for one mistake that a programmer could have made; `mutant!(Name)` at
//! that place asks whether it is the one in force. At most one is, for the whole process, so that
//! what is found is found because of it. The simulator runs through all of them.

use std::sync::atomic::{AtomicUsize, Ordering};

macro_rules! mutants {
    ($($(#[$place:meta])* $name:ident: $breaks:literal,)+) => {
        /// A planted bug, named by what it does wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "`breaks` says it of each, once")]
        pub enum Mutant {
            $($name,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// What it does wrong, in a few words.
            #[must_use]
            pub fn breaks(self) -> &'static str {
                match self {
                    $(Self::$name => $breaks,)+
                }
            }
        }
    };
}

mutants! {
    // Promises.
    AckBeforeStore: "PUBACK leaves before the subscriber's record is committed",
    AckAfterFirstStored: "PUBACK leaves when the first of several shards has stored",
    AckOutOfTurn: "PUBACK leaves before that of an earlier message",
    PubRecBeforeRecord: "PUBREC leaves before the message is recorded",
    OutboundIdNotAwaited: "a QoS 2 PUBLISH leaves before its packet identifier is recorded",
    PubRelBeforeRecord: "PUBREL leaves before the PUBREC is recorded",
    PubCompBeforeRecord: "PUBCOMP leaves before the release is recorded",
    RepeatedPubRelAtOnce: "the PUBCOMP of a repeated PUBREL does not wait for the first one's record",
    RetainedDeleteNotLogged: "the deletion of a retained message is not recorded",
    GroupMessageBeforeRecord: "a shared message is handed out before it is recorded",
    ExchangesNotRecorded: "the record of a session's window leaves its open exchanges out",
    MsgIdForgotten: "a message that is routed again after a restart reaches those who had it",
    PreparedOvertaken: "a message overtakes one that waits for the record of its packet identifier",
    // Restarts and the disk.
    CommittedBeforeSync: "the journal says that a batch is durable before it is",
    HeldIdsNotRestored: "a restart forgets which QoS 2 messages it has received",
    CursorTooFar: "the record of a window says that the first message of the queue is done with",
    DoneWhenSent: "a message counts as done with in the journal when it is sent",
    TakenOverForgotten: "a session that ends releases its QoS 2 messages that are not routed yet",
    KnownNotRestored: "a restart forgets who had a message that it routes again",
    RoutedAgainAtMostOnce: "a message that a restart routes again goes to QoS 0 subscribers again",
    RetainedLogSwapped: "retained messages are logged in another order than they were set",
    DiskFullIgnored: "messages are taken while there is no room for them",
    LoadedIsLost: "a message that was read back from the disk is not put into its queue",
    ExpiryFromStart: "a restart counts the session expiry anew",
    WillNotRestored: "a restart forgets wills",
    WillGraceIgnored: "a restart publishes the wills of all clients at once",
    GroupClaimIgnored: "a restart gives a shared message to another member than the one that has it in flight",
    GroupDoneAlone: "the end of a shared message is recorded by its group only",
    OverdueIsSent: "a message that has expired before it was sent for the first time is sent",
    ConnAckBeforeRecord: "CONNACK leaves before the session is recorded",
    SubAckBeforeRecord: "SUBACK leaves before the subscription is recorded",
    UnsubAckBeforeRecord: "UNSUBACK leaves before the removal is recorded",
    DurabilityNotTold: "a filter does not tell the index of its first subscriber that stores",
    RefusedIsRouted: "a message that a hook refuses is routed",
    // Topic aliases.
    AliasAboveMaximum: "a topic alias is above what the client takes",
    AliasNotWritten: "an alias counts as known though its PUBLISH found no room",
    // Exchanges and windows.
    DupOnFirstSending: "what is sent for the first time has DUP",
    NoDupOnResend: "what is sent again has no DUP",
    SendWindowOffByOne: "one message more in flight than the client allows",
    PacketIdReused: "a packet identifier is given out while it is taken",
    QuotaBackAtPubRec: "PUBREC gives the send quota back, instead of PUBCOMP",
    PubRelNotResent: "a resumed session does not send its PUBRELs again",
    ResendForgotten: "a resumed session does not send its messages again",
    RepeatIsNew: "a repeated QoS 2 PUBLISH counts as a new message",
    ReceiveUnitLeaked: "PUBACK does not give the receive quota back",
    PacketSizeIgnored: "a packet larger than the client accepts is sent",
    KeepAliveWithoutGrace: "the client is closed after one keep alive, not one and a half",
    KeepAliveNever: "a silent client is never closed",
    // Sessions and wills.
    CleanStartIgnored: "a clean start finds the old session",
    SessionPresentForgotten: "CONNACK says that a resumed session is new",
    SubscriptionsOutliveSession: "a session that ends leaves its subscriptions",
    DisconnectExpiryIgnored: "the session expiry in DISCONNECT is ignored",
    TakeoverLosesQueue: "a takeover loses the queue",
    TakeoverLosesInFlight: "a takeover loses what is in flight",
    WillAfterDisconnect: "a clean DISCONNECT publishes the will",
    NoWillOnTakeover: "a takeover does not publish the will that is due",
    WillDelayIgnored: "a will does not wait for its delay",
    WillNotCancelled: "a client that comes back in time does not cancel its will",
    WillNotRetained: "a retained will is not retained",
    // Routing.
    NoLocalIgnored: "No Local is ignored",
    RetainAsPublishedIgnored: "RETAIN is always cleared",
    QosNotCapped: "the granted QoS does not cap that of the message",
    LowestQosOfOverlap: "overlapping subscriptions deliver with the lowest QoS",
    CopyPerSubscription: "overlapping subscriptions get a copy each",
    SubscriptionIdLost: "of overlapping subscriptions one identifier is told",
    StaleMatch: "a new subscriber is not seen in the cache of matches",
    ShardOrderBroken: "messages to another shard overtake each other",
    RecordOvertaken: "a message overtakes one that waits for its record",
    JobOvertaken: "a message overtakes a wide fan-out under way",
    QueueOvertaken: "a message overtakes the queue of its session",
    QueuePutBackBehind: "a queued message that found no room goes back to the end",
    ShardCreditLeaked: "a wide fan-out does not give the window between shards back",
    DropNotCounted: "a drop is not counted",
    QueueUnbounded: "the bound of a queue is ignored",
    IdentityRepeated: "two shards give messages the same identity",
    // Expiry and retained messages.
    ExpiryNotCountedDown: "the forwarded expiry is the published one",
    ExpiredIsDelivered: "a queued message is delivered after its expiry",
    ExpiryAboveGiven: "a clock that is set back makes the forwarded expiry longer than it was",
    ExpiredFanOut: "a wide fan-out goes on with a message that has expired",
    RetainedNotDeleted: "an empty payload does not delete the retained message",
    RetainedOverwritten: "a retained message that was routed late overwrites a newer one",
    RetainedExpiryIgnored: "an expired retained message is delivered",
    DollarTopicsNotSwept: "expired retained messages under $ topics are kept for ever",
    RetainHandlingIgnored: "retained messages are sent whatever Retain Handling says",
    RetainedScanCut: "a retained scan ends after its first step",
    // Shared subscriptions.
    ShareKeptAfterUnsubscribe: "UNSUBSCRIBE from a shared subscription leaves the member in",
    GroupMessageLost: "a message dies with the group member that had it",
    GroupUnsentLost: "what a member was never sent is lost when its connection is",
    GroupCreditLeaked: "a finished message does not give a member's credit back",
    GroupQosNotCapped: "the QoS granted to a group member does not cap that of the message",
    GroupRetainIgnored: "a shared subscription ignores Retain As Published",
    GroupTooLargeUnanswered: "a message too large for a group member uses up its credit",
    EmptyGroupTakes: "a group whose last member has left takes messages",
    GroupInFlightShared: "what a member has in flight goes to others when its connection is lost",
}

/// Puts one mutant in force, or none.
pub fn activate(mutant: Option<Mutant>) {
    let chosen = mutant.map_or(0, |mutant| mutant as usize + 1);
    ACTIVE.store(chosen, Ordering::Relaxed);
}

/// Puts none in force and says which one was.
pub fn suspend() -> Option<Mutant> {
    let active = ACTIVE.swap(0, Ordering::Relaxed).checked_sub(1)?;
    Mutant::ALL.get(active).copied()
}

/// Whether this mutant is in force.
#[must_use]
pub fn is_active(mutant: Mutant) -> bool {
    ACTIVE.load(Ordering::Relaxed) == mutant as usize + 1
}

/// The mutant in force, counted from 1; 0 for none.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);
