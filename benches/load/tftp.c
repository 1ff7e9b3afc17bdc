// One device that fetches a file over TFTP (RFC 1350, blksize of RFC 2348), block by block.
// Usage: tftp PORT NAME FILE BLKSIZE; the bytes must be FILE's. Prints one JSON object.
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

static void fail(const char *what) {
    fprintf(stderr, "tftp: %s\n", what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc != 5)
        fail("usage: tftp PORT NAME FILE BLKSIZE");
    size_t blksize = atoi(argv[4]);
    FILE *in = fopen(argv[3], "rb");
    if (!in)
        fail("no such file");
    fseek(in, 0, SEEK_END);
    size_t size = ftell(in);
    rewind(in);
    unsigned char *file = malloc(size), packet[4 + 65464];
    if (!file || blksize > sizeof packet - 4 || fread(file, 1, size, in) != size)
        fail("the file cannot be read");

    int socket_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    double began = now();
    int length = snprintf((char *)packet, sizeof packet, "%c%c%s%coctet%cblksize%c%zu", 0, 1, argv[2], 0, 0, 0,
                          blksize) + 1;
    if (sendto(socket_, packet, length, 0, (struct sockaddr *)&there, sizeof there) != length)
        fail("the request cannot be sent");

    // The transfer has a port of its own, which its first packet tells.
    size_t have = 0;
    uint16_t next = 0;
    int is_connected = 0;
    for (;;) {
        struct pollfd ready = {.fd = socket_, .events = POLLIN};
        if (poll(&ready, 1, 5000) <= 0)
            fail("no answer for five seconds");
        socklen_t room = sizeof there;
        ssize_t got = recvfrom(socket_, packet, sizeof packet, 0, (struct sockaddr *)&there, &room);
        if (got < 4)
            fail("a packet without a head");
        if (!is_connected && connect(socket_, (struct sockaddr *)&there, sizeof there) != 0)
            fail("connect");
        is_connected = 1;
        uint16_t number = packet[2] << 8 | packet[3];
        if (packet[1] == 6) // OACK: begin
            number = 0;
        else if (packet[1] != 3)
            fail("the server says no");
        if (number != next)
            continue;
        size_t data = packet[1] == 3 ? (size_t)got - 4 : 0;
        if (data > size - have || memcmp(packet + 4, file + have, data) != 0)
            fail("other bytes");
        have += data;
        unsigned char acknowledgement[4] = {0, 4, number >> 8, number & 255};
        if (send(socket_, acknowledgement, 4, 0) != 4)
            fail("an acknowledgement cannot be sent");
        next++;
        if (packet[1] == 3 && data < blksize)
            break;
    }
    if (have != size)
        fail("the file is too short");
    printf("{\"replies\": %zu, \"bad\": 0, \"seconds\": %.6f}\n", size / blksize + 1, now() - began);
}
