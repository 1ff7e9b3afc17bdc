// The limit of a UDP server: takes up to 64 datagrams with one recvmmsg, answers each with the same 1024
// bytes with one sendmmsg, looks at nothing. Usage: constant PORT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 64, REQUEST = 1500, REPLY = 1024 };

static char requests[BATCH][REQUEST], reply[REPLY];
static struct sockaddr_in peers[BATCH];
static struct iovec in[BATCH], out[BATCH];
static struct mmsghdr arrivals[BATCH], replies[BATCH];

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: constant PORT\n");
        return 2;
    }
    int socket_ = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (socket_ < 0 || bind(socket_, (struct sockaddr *)&here, sizeof here) != 0) {
        perror("constant");
        return 1;
    }
    memset(reply, 'c', sizeof reply);
    for (int i = 0; i < BATCH; i++) {
        in[i] = (struct iovec){requests[i], REQUEST};
        out[i] = (struct iovec){reply, REPLY};
        arrivals[i].msg_hdr = (struct msghdr){.msg_name = &peers[i], .msg_iov = &in[i], .msg_iovlen = 1};
        replies[i].msg_hdr = (struct msghdr){
            .msg_name = &peers[i], .msg_namelen = sizeof peers[i], .msg_iov = &out[i], .msg_iovlen = 1};
    }
    for (;;) {
        for (int i = 0; i < BATCH; i++)
            arrivals[i].msg_hdr.msg_namelen = sizeof peers[i];
        int count = recvmmsg(socket_, arrivals, BATCH, MSG_DONTWAIT, NULL);
        if (count <= 0) {
            if (errno != EAGAIN && errno != EINTR) {
                perror("constant: recvmmsg");
                return 1;
            }
            struct pollfd ready = {.fd = socket_, .events = POLLIN};
            poll(&ready, 1, -1);
            continue;
        }
        for (int sent = 0; sent < count;) {
            int gone = sendmmsg(socket_, replies + sent, count - sent, 0);
            if (gone > 0) {
                sent += gone;
            } else if (errno == EAGAIN) {
                struct pollfd ready = {.fd = socket_, .events = POLLOUT};
                poll(&ready, 1, -1);
            } else {
                sent++; // the first of them cannot be sent
            }
        }
    }
}
