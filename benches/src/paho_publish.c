/*
 * The peer of client-publish: paho-mqtt (C), its asynchronous client, as its manual has it.
 *
 * usage: paho-publish HOST:PORT QOS MESSAGES [PAYLOAD_BYTES]
 */
#include <MQTTAsync.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define IN_FLIGHT 1000
#define TOPIC "bench/client"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long done, open_count;
static int is_connected, has_failed;

static void tell(int *flag) {
    pthread_mutex_lock(&lock);
    *flag = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void on_connect(void *context, MQTTAsync_successData *data) {
    (void)context;
    (void)data;
    tell(&is_connected);
}

static void on_failure(void *context, MQTTAsync_failureData *data) {
    (void)context;
    (void)data;
    tell(&has_failed);
}

static void on_done(void *context, MQTTAsync_successData *data) {
    (void)context;
    (void)data;
    pthread_mutex_lock(&lock);
    done++;
    open_count--;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static double seconds(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int count, char **arguments) {
    if (count < 4) {
        fprintf(stderr, "usage: paho-publish HOST:PORT QOS MESSAGES [PAYLOAD_BYTES]\n");
        return 2;
    }
    char address[300];
    snprintf(address, sizeof address, "tcp://%s", arguments[1]);
    int qos = atoi(arguments[2]);
    long messages = atol(arguments[3]);
    int payload_bytes = count > 4 ? atoi(arguments[4]) : 64;
    char *payload = malloc((size_t)payload_bytes + 1);
    memset(payload, 'x', (size_t)payload_bytes);

    MQTTAsync client;
    MQTTAsync_createOptions create = MQTTAsync_createOptions_initializer;
    create.maxBufferedMessages = IN_FLIGHT;
    if (MQTTAsync_createWithOptions(&client, address, "client-publish", MQTTCLIENT_PERSISTENCE_NONE, NULL, &create)) {
        return 1;
    }
    MQTTAsync_connectOptions connect = MQTTAsync_connectOptions_initializer;
    connect.maxInflight = IN_FLIGHT;
    connect.onSuccess = on_connect;
    connect.onFailure = on_failure;
    if (MQTTAsync_connect(client, &connect)) {
        return 1;
    }
    pthread_mutex_lock(&lock);
    while (!is_connected && !has_failed) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);

    double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), began = seconds(CLOCK_MONOTONIC);
    for (long sent = 0; sent < messages && !has_failed; sent++) {
        pthread_mutex_lock(&lock);
        while (open_count >= IN_FLIGHT && !has_failed) {
            pthread_cond_wait(&changed, &lock);
        }
        open_count++;
        pthread_mutex_unlock(&lock);
        MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
        options.onSuccess = on_done;
        options.onFailure = on_failure;
        if (MQTTAsync_send(client, TOPIC, payload_bytes, payload, qos, 0, &options) != MQTTASYNC_SUCCESS) {
            tell(&has_failed);
        }
    }
    pthread_mutex_lock(&lock);
    while (done < messages && !has_failed) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
    double elapsed = seconds(CLOCK_MONOTONIC) - began;
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    if (has_failed) {
        fprintf(stderr, "paho-publish: failed after %ld messages\n", done);
        return 1;
    }
    printf("paho-c QoS %d: %.0f messages/s, %.2f µs CPU a message\n", qos, (double)messages / elapsed,
           cpu * 1e6 / (double)messages);
    MQTTAsync_destroy(&client);
    return 0;
}
