//! [`Client`]: a client that keeps the rules, for all that is not the point of a case.

use std::num::{NonZeroU16, NonZeroU32};
use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use whimbrel_codec::topic::{ByteStr, TopicNameBuf};
use whimbrel_codec::{
    Ack, ConnAck, Connect, Delivery, Disconnect, MessageProperties, Packet, PacketId, Publish, QoS,
    ReasonCode, SubAck, Subscribe, SubscribeFilter, SubscriptionId, SubscriptionOptions, UnsubAck,
    Unsubscribe, UserProperties, Will,
};

use crate::context::{Context, SESSION_EXPIRY_SECS};
use crate::link::{Event, Link};
use crate::verdict::Outcome;
use crate::wire;

/// A connected client. It is also its [`Link`], for all that the link can do.
///
/// Dropping it cuts the connection without DISCONNECT.
#[derive(Debug)]
pub struct Client {
    link: Link,
    /// What the broker said to CONNECT.
    pub connack: ConnAck,
    next_id: u16,
}

impl Deref for Client {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.link
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl Client {
    /// Connects with a clean start and nothing special. The client id is `context.client_id(name)`.
    ///
    /// # Errors
    /// A failure when the broker does not accept it.
    pub async fn connect(context: &Context, name: &str) -> Outcome<Client> {
        Client::options(context, name).connect().await
    }

    /// Options for a connection, which start as those of [`connect`](Client::connect).
    pub fn options(context: &Context, name: &str) -> ConnectOptions {
        let mut connect = Connect::new(context.version(), context.client_id(name));
        wire::authenticate(&mut connect, context);
        ConnectOptions {
            context: context.clone(),
            name: name.to_owned(),
            connect,
        }
    }

    /// A packet identifier this client has not used yet.
    pub fn packet_id(&mut self) -> PacketId {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        PacketId::new(self.next_id).unwrap_or(PacketId::MIN)
    }

    /// Subscribes to one filter; returns the granted QoS.
    ///
    /// # Errors
    /// A failure when it is not granted.
    pub async fn subscribe(&mut self, filter: &str, qos: QoS) -> Outcome<ReasonCode> {
        self.subscribe_with(filter, SubscriptionOptions::new(qos), None)
            .await
    }

    /// Subscribes to one filter with options and perhaps a subscription identifier; returns the granted QoS.
    ///
    /// # Errors
    /// A failure when it is not granted.
    pub async fn subscribe_with(
        &mut self,
        filter: &str,
        options: SubscriptionOptions,
        subscription_id: Option<SubscriptionId>,
    ) -> Outcome<ReasonCode> {
        let suback = self
            .subscribe_all(&[(filter, options)], subscription_id)
            .await?;
        match suback.codes.as_slice() {
            [code] if !code.is_error() => Ok(*code),
            codes => Err(self.fail("SUBACK that grants the filter", format!("{codes:?}"))),
        }
    }

    /// Subscribes to some filters in one packet; returns the SUBACK, whatever it says.
    ///
    /// # Errors
    /// A failure when none comes.
    pub async fn subscribe_all(
        &mut self,
        filters: &[(&str, SubscriptionOptions)],
        subscription_id: Option<SubscriptionId>,
    ) -> Outcome<SubAck> {
        let id = self.packet_id();
        let filters = filters.iter().map(|(filter, options)| SubscribeFilter {
            filter: ByteStr::from(*filter),
            options: *options,
        });
        let subscribe = Subscribe {
            id,
            filters: filters.collect(),
            subscription_id,
            user_properties: UserProperties::new(),
        };
        self.send(&Packet::Subscribe(subscribe)).await?;
        self.expect_suback(id).await
    }

    /// Unsubscribes; returns the UNSUBACK.
    ///
    /// # Errors
    /// A failure when none comes.
    pub async fn unsubscribe(&mut self, filters: &[&str]) -> Outcome<UnsubAck> {
        let id = self.packet_id();
        let unsubscribe = Unsubscribe {
            id,
            filters: filters
                .iter()
                .map(|filter| ByteStr::from(*filter))
                .collect(),
            user_properties: UserProperties::new(),
        };
        self.send(&Packet::Unsubscribe(unsubscribe)).await?;
        self.expect_unsuback(id).await
    }

    /// Publishes with all that its QoS demands, to the end; returns the code of PUBACK or PUBREC.
    ///
    /// # Errors
    /// A failure when an acknowledgement does not come or is negative.
    pub async fn publish(&mut self, message: &Message) -> Outcome<ReasonCode> {
        let id = self.packet_id();
        self.send(&message.packet(id)).await?;
        let ack = match message.qos {
            QoS::AtMostOnce => return Ok(ReasonCode::Success),
            QoS::AtLeastOnce => self.expect_puback(id).await?,
            QoS::ExactlyOnce => self.expect_pubrec(id).await?,
        };
        if ack.reason.is_error() {
            return Err(self.fail("a positive acknowledgement", ack.reason.to_string()));
        }
        if message.qos == QoS::ExactlyOnce {
            self.send(&Packet::PubRel(Ack::success(id))).await?;
            self.expect_pubcomp(id).await?;
        }
        Ok(ack.reason)
    }

    /// The next PUBLISH, acknowledged to the end as its QoS demands.
    ///
    /// # Errors
    /// A failure when none comes, or a QoS 2 exchange is not finished.
    pub async fn receive(&mut self) -> Outcome<Publish> {
        let publish = self.expect_publish().await?;
        self.acknowledge(&publish).await?;
        Ok(publish)
    }

    /// The next PUBLISH, which has to be on `topic`, acknowledged.
    ///
    /// # Errors
    /// As [`receive`](Client::receive), or when it is on another topic.
    pub async fn receive_on(&mut self, topic: &str) -> Outcome<Publish> {
        let expected = format!("PUBLISH on {topic:?}");
        self.receive_if(&expected, |publish| is_on(publish, topic))
            .await
    }

    /// The next PUBLISH, which has to have this topic and payload, acknowledged.
    ///
    /// # Errors
    /// As [`receive_on`](Client::receive_on), or when it has another payload.
    pub async fn receive_message(&mut self, topic: &str, payload: &str) -> Outcome<Publish> {
        let expected = format!("PUBLISH on {topic:?} with payload {payload:?}");
        let wanted =
            |publish: &Publish| is_on(publish, topic) && publish.payload() == payload.as_bytes();
        self.receive_if(&expected, wanted).await
    }

    /// The next PUBLISH, which has to be a `wanted` one, acknowledged.
    async fn receive_if(
        &mut self,
        expected: &str,
        wanted: impl FnOnce(&Publish) -> bool,
    ) -> Outcome<Publish> {
        let take = |packet: &Packet| match packet {
            Packet::Publish(publish) => Some(publish.clone()),
            _ => None,
        };
        let publish = self.expect(expected, take).await?;
        if !wanted(&publish) {
            let event = Event::Packet(Packet::Publish(publish));
            return Err(self.fail_with(expected, &event));
        }
        self.acknowledge(&publish).await?;
        Ok(publish)
    }

    /// Acknowledges a PUBLISH to the end.
    ///
    /// # Errors
    /// A failure when the broker does not finish a QoS 2 exchange.
    pub async fn acknowledge(&mut self, publish: &Publish) -> Outcome {
        match publish.delivery() {
            Delivery::AtMostOnce => Ok(()),
            Delivery::AtLeastOnce { id, .. } => self.send(&Packet::PubAck(Ack::success(id))).await,
            Delivery::ExactlyOnce { id, .. } => {
                self.send(&Packet::PubRec(Ack::success(id))).await?;
                self.expect_pubrel(id).await?;
                self.send(&Packet::PubComp(Ack::success(id))).await
            }
        }
    }

    /// Sends a normal DISCONNECT and waits for the end of the connection.
    ///
    /// # Errors
    /// A failure when the broker does not close. In 3.x and 5.0 it only should, so that this closes itself then.
    pub async fn disconnect(self) -> Outcome {
        self.disconnect_with(Disconnect::default()).await
    }

    /// Sends this DISCONNECT and closes.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub async fn disconnect_with(mut self, disconnect: Disconnect) -> Outcome {
        self.send(&Packet::Disconnect(Box::new(disconnect))).await?;
        // The broker should close first: then it has certainly taken notice. Whether it does is for a case to say.
        let silence = self.context().timing().silence;
        while let Event::Packet(_) = self.next(silence).await {}
        Ok(())
    }

    /// Cuts the connection without DISCONNECT.
    pub fn cut(self) {}
}

fn is_on(publish: &Publish, topic: &str) -> bool {
    publish.topic().is_some_and(|name| name.as_str() == topic)
}

/// How to connect.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    context: Context,
    name: String,
    connect: Connect,
}

impl ConnectOptions {
    /// Clean Start, Clean Session before 5.0.
    #[must_use]
    pub fn clean_start(mut self, clean_start: bool) -> Self {
        self.connect.clean_start = clean_start;
        self
    }

    /// Seconds that the session outlives the connection (5.0).
    #[must_use]
    pub fn session_expiry_secs(mut self, secs: u32) -> Self {
        self.connect.properties.session_expiry_secs = secs;
        self
    }

    /// A session that outlives the connection and is resumed if there: no clean start, and in 5.0 an expiry of
    /// [`SESSION_EXPIRY_SECS`].
    #[must_use]
    pub fn persistent(self) -> Self {
        self.clean_start(false)
            .session_expiry_secs(SESSION_EXPIRY_SECS)
    }

    /// The keep alive in seconds, 0 for none.
    #[must_use]
    pub fn keep_alive_secs(mut self, secs: u16) -> Self {
        self.connect.keep_alive_secs = secs;
        self
    }

    /// A will.
    #[must_use]
    pub fn will(mut self, will: Will) -> Self {
        self.connect.will = Some(will);
        self
    }

    /// How many QoS 1 and 2 messages the client takes at a time (5.0).
    #[must_use]
    pub fn receive_maximum(mut self, maximum: u16) -> Self {
        self.connect.properties.receive_maximum =
            NonZeroU16::new(maximum).unwrap_or(NonZeroU16::MAX);
        self
    }

    /// The largest packet in bytes that the client takes (5.0).
    #[must_use]
    pub fn packet_size_max(mut self, bytes: u32) -> Self {
        self.connect.properties.packet_size_max = NonZeroU32::new(bytes);
        self
    }

    /// The highest topic alias the client takes (5.0).
    #[must_use]
    pub fn topic_alias_max(mut self, maximum: u16) -> Self {
        self.connect.properties.topic_alias_max = maximum;
        self
    }

    /// Changes anything of the CONNECT.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Connect)) -> Self {
        change(&mut self.connect);
        self
    }

    /// The CONNECT.
    pub fn packet(&self) -> Packet {
        Packet::Connect(Box::new(self.connect.clone()))
    }

    /// Connects.
    ///
    /// # Errors
    /// A failure when the broker does not accept it.
    pub async fn connect(&self) -> Outcome<Client> {
        let mut link = self.send().await?;
        let connack = link.expect_accepted().await?;
        Ok(Client {
            link,
            connack,
            next_id: 0,
        })
    }

    /// Opens a connection and sends the CONNECT; what comes back is for the case to see.
    ///
    /// # Errors
    /// A failure when there is no connection.
    pub async fn send(&self) -> Outcome<Link> {
        let mut link = Link::open(&self.context, &self.name).await?;
        link.send(&self.packet()).await?;
        Ok(link)
    }
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub topic: TopicNameBuf,
    /// What.
    pub payload: Bytes,
    /// How surely.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Its properties (5.0).
    pub properties: MessageProperties,
}

impl Message {
    /// A message of QoS 0.
    ///
    /// # Panics
    /// When `topic` is no topic name: what is illegal is built with [`wire`](crate::wire).
    pub fn new(topic: &str, payload: impl Into<Bytes>) -> Message {
        Message {
            topic: TopicNameBuf::new(topic.into()).expect("cases name valid topics"),
            payload: payload.into(),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: MessageProperties::new(),
        }
    }

    /// Sets the QoS.
    #[must_use]
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Makes it retained.
    #[must_use]
    pub fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    /// Sets the properties (5.0).
    #[must_use]
    pub fn properties(mut self, properties: MessageProperties) -> Self {
        self.properties = properties;
        self
    }

    /// Its first PUBLISH; `id` is not used with QoS 0.
    pub fn packet(&self, id: PacketId) -> Packet {
        Packet::Publish(self.publish(Delivery::first(self.qos, id)))
    }

    /// Its PUBLISH with this delivery.
    pub fn publish(&self, delivery: Delivery) -> Publish {
        Publish::builder(self.topic.clone())
            .payload(self.payload.clone())
            .delivery(delivery)
            .retain(self.retain)
            .properties(&self.properties)
            .build()
    }

    /// The message as a will.
    pub fn will(&self, delay_secs: u32) -> Will {
        Will {
            topic: self.topic.clone(),
            payload: self.payload.clone(),
            qos: self.qos,
            retain: self.retain,
            delay_secs,
            properties: self.properties.clone(),
        }
    }
}
