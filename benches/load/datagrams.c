// Devices that download over UDP: each has a socket of its own and keeps WINDOW requests `GetN,ID` on the
// way. Every reply is compared with the file byte for byte.
//
// Usage: datagrams PORT MESSAGE FILE SOCKETS WINDOW SECONDS
//   MESSAGE  the check that is answered with LUAUPDATE,ID,COUNT,LAST; `-`: the server answers whatever it
//            gets with the same bytes, nothing is compared
//   SECONDS  how long to load it; 0: until each device has the file once
// Prints one JSON object.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    DATA = 1022,
    SOCKETS = 256,
    SLOTS = 64,                // packets with following numbers have slots of their own
    SILENCE = 200 * 1000,      // µs without a reply until everything is asked for again
    PATIENCE = 10 * 1000 * 1000, // µs without any reply until we give up
    SAMPLES = 1 << 20,
};

struct slot {
    uint32_t number; // 0: nothing is on the way
    uint64_t asked;  // µs
};

struct device {
    int socket;
    uint32_t next, waiting, answered;
    uint64_t heard; // µs
    struct slot slots[SLOTS];
};

static struct device devices[SOCKETS];
static struct pollfd polled[SOCKETS];
static unsigned char *file;
static size_t size;
static uint32_t id, count, window;
static int constant, whole;
static uint64_t replies, bad, again, late;
static uint32_t *samples;
static size_t sampled;

static void fail(const char *what) {
    fprintf(stderr, "datagrams: %s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(1);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static int connected(int port) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port)};
    there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&there, sizeof there) != 0)
        fail("socket");
    return fd;
}

static void read_file(const char *path) {
    FILE *in = fopen(path, "rb");
    if (!in)
        fail(path);
    fseek(in, 0, SEEK_END);
    size = ftell(in);
    rewind(in);
    file = malloc(size);
    if (!file || fread(file, 1, size, in) != size)
        fail(path);
    fclose(in);
}

// Asks until there is an offer: the server may still be reading the file.
static void check(int port, const char *message) {
    char reply[1501];
    unsigned last = 0;
    struct pollfd ready = {.fd = connected(port), .events = POLLIN};
    for (int tries = 0; tries < 100; tries++) {
        send(ready.fd, message, strlen(message), 0);
        if (poll(&ready, 1, 1000) <= 0)
            continue;
        ssize_t length = recv(ready.fd, reply, sizeof reply - 1, 0);
        reply[length < 0 ? 0 : length] = 0;
        if (sscanf(reply, "LUAUPDATE,%u,%u,%u", &id, &count, &last) == 3) {
            // The seed's server says 0 for a last packet that is full.
            size_t in_last = last ? last : DATA;
            if (!count || (size_t)(count - 1) * DATA + in_last != size)
                fail("the offer is for another file");
            close(ready.fd);
            return;
        }
        usleep(100 * 1000);
    }
    fprintf(stderr, "datagrams: no offer: %s\n", reply);
    exit(1);
}

// Fills the window, or asks again for what is on the way.
static void ask(struct device *device, int repeat) {
    char texts[SLOTS][32];
    struct iovec parts[SLOTS];
    struct mmsghdr messages[SLOTS];
    unsigned n = 0;
    uint64_t time = now();
    memset(messages, 0, sizeof messages);
    for (unsigned i = 0; i < SLOTS && n < window; i++) {
        uint32_t number;
        if (repeat) {
            number = device->slots[i].number;
            if (!number)
                continue;
            again++;
        } else {
            struct slot *slot = &device->slots[device->next % SLOTS];
            if (device->waiting >= window || slot->number || (whole && device->next > count))
                break;
            number = device->next++;
            if (!whole && device->next > count)
                device->next = 1;
            *slot = (struct slot){number, time};
            device->waiting++;
        }
        int length = snprintf(texts[n], sizeof texts[n], "Get%u,%u", number, id);
        parts[n] = (struct iovec){texts[n], length};
        messages[n].msg_hdr.msg_iov = &parts[n];
        messages[n].msg_hdr.msg_iovlen = 1;
        n++;
    }
    for (unsigned sent = 0; sent < n;) {
        int gone = sendmmsg(device->socket, messages + sent, n - sent, 0);
        sent += gone > 0 ? gone : 1;
    }
}

static void answered(struct device *device, struct slot *slot, uint64_t time) {
    if (sampled < SAMPLES)
        samples[sampled++] = time - slot->asked;
    slot->number = 0;
    device->waiting--;
    device->answered++;
    replies++;
}

static void take(struct device *device, const unsigned char *bytes, size_t length, uint64_t time) {
    device->heard = time;
    if (constant) {
        for (unsigned i = 0; i < SLOTS; i++)
            if (device->slots[i].number) {
                answered(device, &device->slots[i], time);
                return;
            }
        late++;
        return;
    }
    uint32_t number = length < 2 ? 0 : bytes[0] << 8 | bytes[1];
    size_t from = (size_t)(number - 1) * DATA;
    size_t left = number >= 1 && number <= count ? size - from : 0;
    left = left > DATA ? DATA : left;
    if (!left || length != left + 2 || memcmp(bytes + 2, file + from, left) != 0) {
        bad++;
        return;
    }
    struct slot *slot = &device->slots[number % SLOTS];
    if (slot->number == number)
        answered(device, slot, time);
    else
        late++; // it was asked for twice
}

static void receive(struct device *device) {
    static unsigned char bytes[SLOTS][1500];
    struct iovec parts[SLOTS];
    struct mmsghdr messages[SLOTS];
    memset(messages, 0, sizeof messages);
    for (unsigned i = 0; i < window; i++) {
        parts[i] = (struct iovec){bytes[i], sizeof bytes[i]};
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    int n = recvmmsg(device->socket, messages, window, MSG_DONTWAIT, NULL);
    uint64_t time = now();
    for (int i = 0; i < n; i++)
        take(device, bytes[i], messages[i].msg_len, time);
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "usage: datagrams PORT MESSAGE FILE SOCKETS WINDOW SECONDS\n");
        return 2;
    }
    int port = atoi(argv[1]), sockets = atoi(argv[4]);
    window = atoi(argv[5]);
    double seconds = atof(argv[6]);
    if (sockets < 1 || sockets > SOCKETS || window < 1 || window > SLOTS)
        fail("too many sockets or too large a window");
    samples = malloc(SAMPLES * sizeof *samples);
    read_file(argv[3]);
    whole = seconds == 0;
    constant = strcmp(argv[2], "-") == 0;
    if (constant)
        count = (size + DATA - 1) / DATA;
    else
        check(port, argv[2]);
    uint64_t began = now(), end = began + (uint64_t)(seconds * 1e6), heard = began;
    for (int i = 0; i < sockets; i++) {
        devices[i].socket = connected(port);
        // They do not all ask for the same packet at the same time.
        devices[i].next = whole ? 1 : 1 + (uint64_t)i * count / sockets;
        devices[i].heard = began;
        polled[i] = (struct pollfd){.fd = devices[i].socket, .events = POLLIN};
        ask(&devices[i], 0);
    }
    for (;;) {
        int ready = poll(polled, sockets, 50);
        uint64_t time = now();
        int done = whole;
        for (int i = 0; i < sockets; i++) {
            struct device *device = &devices[i];
            if (polled[i].revents) {
                receive(device);
                ask(device, 0);
                heard = time;
            } else if (ready == 0 && device->waiting && time - device->heard > SILENCE) {
                ask(device, 1);
                device->heard = time;
            }
            done = done && device->answered >= count;
        }
        if (whole ? done : time >= end)
            break;
        if (time - heard > PATIENCE) {
            errno = 0;
            fail("the server answers nothing any more");
        }
    }
    double took = (now() - began) / 1e6;
    qsort(samples, sampled, sizeof *samples, by_size);
    printf("{\"replies\": %llu, \"bad\": %llu, \"asked_again\": %llu, \"late\": %llu, \"seconds\": %.6f, "
           "\"p50_us\": %u, \"p99_us\": %u}\n",
           (unsigned long long)replies, (unsigned long long)bad, (unsigned long long)again,
           (unsigned long long)late, took, sampled ? samples[sampled / 2] : 0,
           sampled ? samples[sampled * 99 / 100] : 0);
    return bad != 0;
}
