//! What a broker core does for its clients, from bytes to bytes.

use whimbrel_benches::{ClientNumber, Population, Stage, connect_packet, encoded};
use whimbrel_broker_core::session::codec::topic::{ByteStr, TopicNameBuf};
use whimbrel_broker_core::session::codec::{
    Delivery, Packet, PacketId, ProtocolVersion, Publish, QoS, Subscribe, SubscribeFilter,
    SubscriptionOptions, Unsubscribe, UserProperties,
};

use crate::Scene;

/// One operation is one delivery, where messages are delivered; otherwise what the scene is named after.
pub(crate) fn scenes() -> Vec<Scene> {
    let qualities = [
        (QoS::AtMostOnce, "qos0"),
        (QoS::AtLeastOnce, "qos1"),
        (QoS::ExactlyOnce, "qos2"),
    ];
    let mut scenes = Vec::new();
    for (shards, place) in [(1, "same_shard"), (2, "other_shard")] {
        for (qos, name) in qualities {
            scenes.push(Scene::new(format!("core/pair/{place}/{name}"), move || {
                Routing::new(shards, qos, 1, "").run(BATCHES)
            }));
            let name = format!("core/fan_out_100/{place}/{name}");
            scenes.push(Scene::new(name, move || {
                Routing::new(shards, qos, 100, "").run(FAN_OUT_BATCHES)
            }));
        }
        let name = format!("core/shared_10/{place}/qos1");
        scenes.push(Scene::new(name, move || {
            Routing::new(shards, QoS::AtLeastOnce, 10, "$share/group/").run_shared(BATCHES)
        }));
    }
    scenes.extend([
        Scene::new("core/subscribe_unsubscribe", || subscribe_unsubscribe(0)),
        Scene::new("core/subscribe_unsubscribe/filters_100k", || {
            subscribe_unsubscribe(FILTERS)
        }),
        Scene::new("core/connect_disconnect", connect_disconnect),
        Scene::new("core/filters_100k/new_topic", || many_filters(0)),
        Scene::new("core/filters_100k/known_topic", || many_filters(2)),
        Scene::new("core/offline/enqueue", offline_enqueue),
        Scene::new("core/offline/drain", offline_drain),
        Scene::new("core/retained/publish", retained_publish),
        Scene::new("core/retained/scan", retained_scan),
    ]);
    scenes
}

/// One publisher on the first shard, its subscribers on the last.
struct Routing {
    stage: Stage,
    publisher: ClientNumber,
    subscribers: usize,
    qos: QoS,
    batch: Vec<u8>,
}

impl Routing {
    fn new(shards: usize, qos: QoS, subscribers: usize, filter_prefix: &str) -> Routing {
        let mut stage = Stage::new(shards);
        let publisher = stage.client_id_on("publisher", 0);
        let publisher = connect(&mut stage, &publisher);
        for number in 0..subscribers {
            let name = stage.client_id_on(&format!("subscriber-{number}"), shards - 1);
            let subscriber = connect(&mut stage, &name);
            let filter = format!("{filter_prefix}{TOPIC}");
            stage.send(subscriber, &subscribe(&[filter], qos));
        }
        Routing {
            batch: batch_of(qos),
            stage,
            publisher,
            subscribers,
            qos,
        }
    }

    fn run(self, batches: usize) -> usize {
        let deliveries = batches * BATCH * self.subscribers;
        self.deliver(batches, deliveries)
    }

    /// Each message goes to one of the members.
    fn run_shared(self, batches: usize) -> usize {
        self.deliver(batches, batches * BATCH)
    }

    fn deliver(mut self, batches: usize, deliveries: usize) -> usize {
        // Buffers, tables and caches have their sizes after this.
        self.stage.send(self.publisher, &self.batch);
        let tally = self.stage.count(|stage| {
            for _ in 0..batches {
                stage.send(self.publisher, &self.batch);
            }
        });
        assert_eq!(tally.deliveries, deliveries);
        let is_acknowledged = self.qos != QoS::AtMostOnce;
        assert_eq!(
            tally.finished,
            usize::from(is_acknowledged) * batches * BATCH
        );
        self.stage.assert_at_rest();
        deliveries
    }
}

/// A client that subscribes to something new and gives it up again, where others hold `filters` filters.
fn subscribe_unsubscribe(filters: usize) -> usize {
    let mut stage = Stage::new(1);
    hold_filters(&mut stage, Population { size: filters });
    let client = connect(&mut stage, "client");
    let packets: Vec<[Vec<u8>; 2]> = (0..CHANGES)
        .map(|number| {
            let filter = format!("floor/{number}/+/state");
            let subscribe = subscribe(std::slice::from_ref(&filter), QoS::AtLeastOnce);
            [subscribe, unsubscribe(&filter)]
        })
        .collect();
    let tally = stage.count(|stage| {
        for [subscribe, unsubscribe] in &packets {
            stage.send(client, subscribe);
            stage.send(client, unsubscribe);
        }
    });
    assert_eq!(tally.answered, 2 * CHANGES);
    CHANGES
}

fn connect_disconnect() -> usize {
    let mut stage = Stage::new(1);
    let connects: Vec<Packet> = (0..CHANGES)
        .map(|number| connect_packet(VERSION, &format!("client-{number}"), true))
        .collect();
    let tally = stage.count(|stage| {
        for connect in &connects {
            let client = stage.connect(connect, VERSION);
            stage.disconnect(client);
        }
    });
    assert_eq!(tally.accepted, CHANGES);
    CHANGES
}

/// Each message has one of 100,000 filters that it matches, and a topic that was published to `times` times before: the
/// second time makes it known.
fn many_filters(times: usize) -> usize {
    let population = Population { size: FILTERS };
    let mut stage = Stage::new(1);
    hold_filters(&mut stage, population);
    let publisher = connect(&mut stage, "publisher");
    let batches: Vec<Vec<u8>> = population
        .sample(BATCHES * BATCH)
        .map(|index| publish(&population.topic(index), QoS::AtMostOnce, 1, false))
        .collect::<Vec<_>>()
        .chunks(BATCH)
        .map(<[_]>::concat)
        .collect();
    let publish_all = |stage: &mut Stage| {
        for batch in &batches {
            stage.send(publisher, batch);
        }
    };
    for _ in 0..times {
        publish_all(&mut stage);
    }
    let tally = stage.count(publish_all);
    assert_eq!(tally.deliveries, BATCHES * BATCH);
    tally.deliveries
}

/// One operation is one message that waits for a session that is away.
fn offline_enqueue() -> usize {
    let mut stage = Stage::new(1);
    let publisher = leave_a_session(&mut stage);
    let batch = batch_of(QoS::AtLeastOnce);
    let tally = stage.count(|stage| {
        for _ in 0..BATCHES {
            stage.send(publisher, &batch);
        }
    });
    assert_eq!(tally.finished, BATCHES * BATCH);
    BATCHES * BATCH
}

/// One operation is one message that a session that was away gets and acknowledges.
fn offline_drain() -> usize {
    let mut stage = Stage::new(1);
    let publisher = leave_a_session(&mut stage);
    let batch = batch_of(QoS::AtLeastOnce);
    for _ in 0..BATCHES {
        stage.send(publisher, &batch);
    }
    let connect = connect_packet(VERSION, SLEEPER, false);
    let tally = stage.count(|stage| {
        stage.connect(&connect, VERSION);
    });
    assert_eq!(tally.deliveries, BATCHES * BATCH);
    stage.assert_at_rest();
    tally.deliveries
}

/// One operation is one retained message that takes the place of another.
fn retained_publish() -> usize {
    let population = Population { size: RETAINED };
    let mut stage = Stage::new(1);
    let publisher = connect(&mut stage, "publisher");
    let batches = retained_batches(population);
    let publish_all = |stage: &mut Stage| {
        for batch in &batches {
            stage.send(publisher, batch);
        }
    };
    // The second time makes the topics known.
    publish_all(&mut stage);
    publish_all(&mut stage);
    let tally = stage.count(publish_all);
    assert_eq!(tally.finished, RETAINED);
    RETAINED
}

/// One operation is one retained message that a new subscriber gets.
fn retained_scan() -> usize {
    let mut stage = Stage::new(1);
    let publisher = connect(&mut stage, "publisher");
    for batch in retained_batches(Population { size: RETAINED }) {
        stage.send(publisher, &batch);
    }
    let subscriber = connect(&mut stage, "subscriber");
    let subscribe = subscribe(&["#".to_owned()], QoS::AtMostOnce);
    let tally = stage.count(|stage| stage.send(subscriber, &subscribe));
    assert_eq!(tally.deliveries, RETAINED);
    RETAINED
}

/// Clients that hold all filters of a population.
fn hold_filters(stage: &mut Stage, population: Population) {
    let filters: Vec<String> = (0..population.size)
        .map(|index| population.filter(index).as_str().to_owned())
        .collect();
    for (number, filters) in filters.chunks(FILTERS_PER_CLIENT).enumerate() {
        let client = connect(stage, &format!("holder-{number}"));
        stage.send(client, &subscribe(filters, QoS::AtMostOnce));
    }
}

/// A persistent session that is subscribed and away; returns a publisher.
fn leave_a_session(stage: &mut Stage) -> ClientNumber {
    let connect_packet = connect_packet(VERSION, SLEEPER, false);
    let sleeper = stage.connect(&connect_packet, VERSION);
    stage.send(sleeper, &subscribe(&[TOPIC.to_owned()], QoS::AtLeastOnce));
    stage.disconnect(sleeper);
    connect(stage, "publisher")
}

fn retained_batches(population: Population) -> Vec<Vec<u8>> {
    let publications: Vec<Vec<u8>> = (0..population.size)
        .map(|index| {
            let id = index % BATCH + 1;
            publish(&population.topic(index), QoS::AtLeastOnce, id, true)
        })
        .collect();
    publications.chunks(BATCH).map(<[_]>::concat).collect()
}

fn batch_of(qos: QoS) -> Vec<u8> {
    let topic = topic_name(TOPIC);
    let publications = (1..=BATCH).flat_map(|number| publish(&topic, qos, number, false));
    publications.collect()
}

fn connect(stage: &mut Stage, name: &str) -> ClientNumber {
    stage.connect(&connect_packet(VERSION, name, true), VERSION)
}

fn subscribe(filters: &[String], qos: QoS) -> Vec<u8> {
    let filters = filters.iter().map(|filter| SubscribeFilter {
        filter: ByteStr::from(filter.as_str()),
        options: SubscriptionOptions::new(qos),
    });
    let subscribe = Packet::Subscribe(Subscribe {
        id: PacketId::MIN,
        filters: filters.collect(),
        subscription_id: None,
        user_properties: UserProperties::new(),
    });
    encoded(&subscribe, VERSION)
}

fn unsubscribe(filter: &str) -> Vec<u8> {
    let unsubscribe = Packet::Unsubscribe(Unsubscribe {
        id: PacketId::MIN,
        filters: vec![ByteStr::from(filter)],
        user_properties: UserProperties::new(),
    });
    encoded(&unsubscribe, VERSION)
}

fn publish(topic: &TopicNameBuf, qos: QoS, id: usize, retain: bool) -> Vec<u8> {
    let id = u16::try_from(id).ok().and_then(PacketId::new);
    let publish = Publish::builder(topic.clone())
        .payload(vec![b'x'; PAYLOAD_BYTES])
        .delivery(Delivery::first(qos, id.expect("1 to 65,535")))
        .retain(retain)
        .build();
    encoded(&Packet::Publish(publish), VERSION)
}

fn topic_name(name: &str) -> TopicNameBuf {
    TopicNameBuf::try_from(name).expect("a valid topic name")
}

const VERSION: ProtocolVersion = ProtocolVersion::V311;
const TOPIC: &str = "site/12/345/state";
const SLEEPER: &str = "sleeper";
const PAYLOAD_BYTES: usize = 64;
/// Publications that come in one read.
const BATCH: usize = 64;
const BATCHES: usize = 16;
/// Each publication is a hundred deliveries.
const FAN_OUT_BATCHES: usize = 2;
/// Connections or subscriptions that come and go.
const CHANGES: usize = 500;
const FILTERS: usize = 100_000;
const FILTERS_PER_CLIENT: usize = 1_000;
/// A multiple of the batch.
const RETAINED: usize = 4_096;
