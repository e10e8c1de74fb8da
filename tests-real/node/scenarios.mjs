// MQTT.js scenarios: node scenarios.mjs PORT VERSION TOPIC_PREFIX SCENARIO
//
// Exits 0 when the scenario passes; otherwise 1, with the reason on standard error.

import assert from "node:assert/strict";
import mqtt from "mqtt";

const PATIENCE_MS = 30_000;
const QOS = [0, 1, 2];
// MQTT.js sends past the server's receive maximum when asked to, and mosquitto's is 20.
const WINDOW = 15;

const [port, versionText, prefix, scenario] = process.argv.slice(2);
const version = Number(versionText);
let clients = 0;

/** A connected client whose messages are awaited one by one. */
class Client {
  static async connect(options = {}) {
    clients += 1;
    const client = new Client();
    client.waiting = [];
    client.arrived = [];
    const all = {
      host: "127.0.0.1",
      port: Number(port),
      protocolVersion: version,
      protocolId: version === 3 ? "MQIsdp" : "MQTT",
      clientId: `js${clients}-${process.pid}`,
      reconnectPeriod: 0,
      connectTimeout: PATIENCE_MS,
      ...options,
    };
    client.id = all.clientId;
    client.mqtt = mqtt.connect(all);
    client.mqtt.on("message", (topic, payload, packet) => {
      const waiter = client.waiting.shift();
      if (waiter) waiter({ topic, payload, packet });
      else client.arrived.push({ topic, payload, packet });
    });
    client.connack = await within(
      new Promise((resolve, reject) => {
        client.mqtt.once("connect", resolve);
        client.mqtt.once("error", reject);
      }),
      "CONNACK",
    );
    // A connection that ends is seen by what does not arrive; unheard, the event would end the process.
    client.mqtt.on("error", () => {});
    return client;
  }

  next() {
    if (this.arrived.length > 0) return Promise.resolve(this.arrived.shift());
    return within(new Promise((resolve) => this.waiting.push(resolve)), "message");
  }

  async take(count) {
    const messages = [];
    while (messages.length < count) messages.push(await this.next());
    return messages;
  }

  subscribe(filter, options) {
    return within(this.mqtt.subscribeAsync(filter, options), "SUBACK");
  }

  publish(topic, payload, options) {
    return within(this.mqtt.publishAsync(topic, payload, options), "acknowledgement");
  }

  end() {
    return within(this.mqtt.endAsync(), "end");
  }

  drop() {
    this.mqtt.stream.destroy();
  }
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const texts = (messages) => messages.map(({ payload }) => payload.toString());
const numbers = (count) => Array.from({ length: count }, (_, index) => String(index));
const keepSession = version === 5 ? { clean: false, properties: { sessionExpiryInterval: 300 } } : { clean: false };

const scenarios = {
  async sizes() {
    const client = await Client.connect();
    for (const qos of QOS) {
      const topic = `${prefix}/${qos}`;
      await client.subscribe(topic, { qos });
      for (const size of [0, 1, 127, 128, 16_383, 16_384, 200_000]) {
        const payload = Buffer.from(Array.from({ length: size }, (_, index) => (index * 13) % 256));
        await client.publish(topic, payload, { qos });
        const message = await client.next();
        assert.ok(message.payload.equals(payload), `${size} bytes at QoS ${qos} came as ${message.payload.length}`);
        assert.equal(message.packet.qos, qos);
      }
    }
    await client.end();
  },

  async order() {
    const subscriber = await Client.connect();
    const publisher = await Client.connect();
    for (const qos of QOS) {
      const topic = `${prefix}/${qos}`;
      await subscriber.subscribe(topic, { qos });
      const all = numbers(300);
      for (let start = 0; start < all.length; start += WINDOW) {
        const window = all.slice(start, start + WINDOW);
        await Promise.all(window.map((text) => publisher.publish(topic, text, { qos })));
      }
      assert.deepEqual(texts(await subscriber.take(300)), numbers(300));
    }
    await publisher.end();
    await subscriber.end();
  },

  async retained() {
    const client = await Client.connect();
    await client.publish(prefix, "kept", { qos: 1, retain: true });
    await client.subscribe(prefix, { qos: 1 });
    const message = await client.next();
    assert.equal(message.payload.toString(), "kept");
    assert.equal(message.packet.retain, true);
    await client.publish(prefix, "", { qos: 1, retain: true });
    assert.equal((await client.next()).payload.length, 0);
    const late = await Client.connect();
    await late.subscribe(prefix, { qos: 1 });
    await client.publish(prefix, "marker", { qos: 1 });
    assert.equal((await late.next()).payload.toString(), "marker");
    await late.end();
    await client.end();
  },

  async will() {
    const watcher = await Client.connect();
    await watcher.subscribe(prefix, { qos: 1 });
    const dying = await Client.connect({ will: { topic: prefix, payload: Buffer.from("gone"), qos: 1, retain: false } });
    dying.drop();
    assert.equal((await watcher.next()).payload.toString(), "gone");
    const leaving = await Client.connect({ will: { topic: prefix, payload: Buffer.from("no"), qos: 1, retain: false } });
    await leaving.end();
    await watcher.publish(prefix, "marker", { qos: 1 });
    assert.equal((await watcher.next()).payload.toString(), "marker");
    await watcher.end();
  },

  async session() {
    const first = await Client.connect(keepSession);
    assert.ok(!first.connack.sessionPresent);
    await first.subscribe(prefix, { qos: 2 });
    await first.end();
    const publisher = await Client.connect();
    for (const text of numbers(50)) await publisher.publish(prefix, text, { qos: 2 });
    await publisher.end();
    const again = await Client.connect({ ...keepSession, clientId: first.id });
    if (version !== 3) assert.ok(again.connack.sessionPresent);
    assert.deepEqual(texts(await again.take(50)), numbers(50));
    await again.end();
    const fresh = await Client.connect({ clientId: first.id, clean: true });
    assert.ok(!fresh.connack.sessionPresent);
    await fresh.end();
  },

  async shared() {
    const members = [await Client.connect(), await Client.connect()];
    for (const member of members) await member.subscribe(`$share/js/${prefix}`, { qos: 1 });
    const publisher = await Client.connect();
    const total = new Promise((resolve) => {
      let seen = 0;
      for (const member of members) member.mqtt.on("message", () => (seen += 1) === 100 && resolve());
    });
    for (const text of numbers(100)) await publisher.publish(prefix, text, { qos: 1 });
    await within(total, "100 messages");
    const parts = members.map((member) => texts(member.arrived));
    assert.ok(parts.every((part) => part.length > 0), "a member got nothing");
    assert.deepEqual(parts.flat().map(Number).sort((a, b) => a - b), numbers(100).map(Number));
    for (const client of [...members, publisher]) await client.end();
  },

  async unsubscribe() {
    const client = await Client.connect();
    await client.subscribe([`${prefix}/a`, `${prefix}/b`], { qos: 1 });
    await within(client.mqtt.unsubscribeAsync(`${prefix}/a`), "UNSUBACK");
    await client.publish(`${prefix}/a`, "lost", { qos: 1 });
    await client.publish(`${prefix}/b`, "seen", { qos: 1 });
    assert.equal((await client.next()).payload.toString(), "seen");
    await client.end();
  },

  async properties() {
    const client = await Client.connect();
    await client.subscribe(prefix, { qos: 1, properties: { subscriptionIdentifier: 21 } });
    const properties = {
      payloadFormatIndicator: true,
      messageExpiryInterval: 60,
      responseTopic: `${prefix}/answer`,
      correlationData: Buffer.from([0, 1, 255]),
      contentType: "text/plain",
      userProperties: { one: "1", many: ["a", "b"] },
    };
    await client.publish(prefix, "x", { qos: 1, properties });
    const got = (await client.next()).packet.properties;
    assert.equal(got.payloadFormatIndicator, true);
    assert.ok(got.messageExpiryInterval > 0 && got.messageExpiryInterval <= 60);
    assert.equal(got.responseTopic, properties.responseTopic);
    assert.ok(got.correlationData.equals(properties.correlationData));
    assert.equal(got.contentType, "text/plain");
    assert.deepEqual({ ...got.userProperties }, { one: "1", many: ["a", "b"] });
    assert.equal(got.subscriptionIdentifier, 21);
    await client.end();
  },

  async request() {
    const responder = await Client.connect();
    await responder.subscribe(`${prefix}/question`, { qos: 1 });
    responder.mqtt.on("message", (_topic, payload, packet) => {
      const { responseTopic, correlationData } = packet.properties;
      responder.publish(responseTopic, String(Number(payload) ** 2), { qos: 1, properties: { correlationData } });
    });
    const asker = await Client.connect();
    const responseTopic = `${prefix}/answer`;
    await asker.subscribe(responseTopic, { qos: 1 });
    for (const text of numbers(10)) {
      const properties = { responseTopic, correlationData: Buffer.from([Number(text)]) };
      await asker.publish(`${prefix}/question`, text, { qos: 1, properties });
    }
    for (const { payload, packet } of await asker.take(10)) {
      assert.equal(Number(payload), packet.properties.correlationData[0] ** 2);
    }
    await asker.end();
    await responder.end();
  },
};

scenarios[scenario]().then(
  () => process.exit(0),
  (error) => {
    console.error(error.stack);
    process.exit(1);
  },
);
