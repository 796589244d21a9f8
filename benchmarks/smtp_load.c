/* Load generator and next hop of the benchmarks, one thread for each connection, with STARTTLS.
 *
 *   smtp_load source PORT SESSIONS MAILS OCTETS KEEP TLS [FILE]
 *       Sends MAILS mails of about OCTETS octets, or of the content in FILE (wire form without its final dot), to 127.0.0.1:PORT over SESSIONS sessions at a time, a command after
 *       the reply to the one before it, as smtp-source does. KEEP 1: a session's connection serves all its mails; 0:
 *       one mail a connection. TLS 1: STARTTLS without verification and without resumption. Wherever FILE has the octets
 *       NUMBER0000, each mail has its own number, so that no two are equal. Exits with 0 when all are acknowledged, with
 *       1 at the first reply that is no success.
 *
 *   smtp_load sink PORT CERTIFICATE KEY COUNTS
 *       Takes all mail on 127.0.0.1:PORT and offers STARTTLS. Counts in the file COUNTS, which the benchmark maps; its
 *       layout is `struct counts`. Replies wait until no further command of the client is at hand, as with servers
 *       that do PIPELINING. Ends with the benchmark.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define INPUT 65536

struct counts {
    _Atomic uint64_t ready, connections, mails, under_tls, last_ns;
};

struct wire {
    int fd;
    SSL *tls;
    int from, to, pending;
    char input[INPUT + 1], output[4096];
};

static SSL_CTX *context;
static struct counts *counts;

static _Noreturn void die(const char *what, const char *detail) {
    fprintf(stderr, "%s: %s\n", what, detail);
    exit(1);
}

static int put(struct wire *w, const char *octets, size_t length) {
    while (length) {
        int chunk = length > (1 << 20) ? 1 << 20 : (int)length;
        ssize_t done = w->tls ? SSL_write(w->tls, octets, chunk) : write(w->fd, octets, chunk);
        if (done <= 0) return 0;
        octets += done;
        length -= done;
    }
    return 1;
}

static int flush(struct wire *w) {
    int done = put(w, w->output, w->pending);
    w->pending = 0;
    return done;
}

/* Puts a reply in line behind the ones not yet sent. */
static int reply(struct wire *w, const char *text) {
    size_t length = strlen(text);
    if (w->pending + length > sizeof w->output && !flush(w)) return 0;
    memcpy(w->output + w->pending, text, length);
    w->pending += length;
    return 1;
}

/* Reads more behind what is unread; what waits to be sent goes first. 0 at the end of the stream or a full buffer. */
static int fill(struct wire *w) {
    if (w->pending && !flush(w)) return 0;
    memmove(w->input, w->input + w->from, w->to - w->from);
    w->to -= w->from;
    w->from = 0;
    if (w->to == INPUT) return 0;
    int room = INPUT - w->to;
    ssize_t got = w->tls ? SSL_read(w->tls, w->input + w->to, room) : read(w->fd, w->input + w->to, room);
    if (got <= 0) return 0;
    w->to += got;
    return 1;
}

/* The next line, its newline replaced; NULL at the end of the stream. Valid until the next call. */
static char *line(struct wire *w) {
    for (;;) {
        char *end = memchr(w->input + w->from, '\n', w->to - w->from);
        if (end) {
            char *found = w->input + w->from;
            *end = 0;
            w->from = end + 1 - w->input;
            return found;
        }
        if (!fill(w)) return NULL;
    }
}

static int open_tls(struct wire *w, int server) {
    w->tls = SSL_new(context);
    SSL_set_fd(w->tls, w->fd);
    return (server ? SSL_accept(w->tls) : SSL_connect(w->tls)) == 1;
}

static void close_wire(struct wire *w) {
    if (w->tls) {
        SSL_shutdown(w->tls);
        SSL_free(w->tls);
        ERR_clear_error();
    }
    close(w->fd);
    w->tls = NULL;
    w->from = w->to = w->pending = 0;
}

/* --- The next hop ------------------------------------------------------------------------------------------------ */

/* Reads content to its final dot. It has a header section, so the dot is never its first line. */
static int content(struct wire *w) {
    for (;;) {
        char *end = memmem(w->input + w->from, w->to - w->from, "\r\n.\r\n", 5);
        if (end) {
            w->from = end + 5 - w->input;
            return 1;
        }
        if (w->to - w->from > 4) w->from = w->to - 4;
        if (!fill(w)) return 0;
    }
}

static void count_mail(struct wire *w) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    counts->last_ns = now.tv_sec * 1000000000ull + now.tv_nsec;
    if (w->tls) counts->under_tls++;
    counts->mails++;
}

static int answer(struct wire *w, const char *command) {
    if (!strncasecmp(command, "EHLO", 4)) {
        const char *rest = "250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 104857600\r\n250 ENHANCEDSTATUSCODES\r\n";
        return reply(w, w->tls ? "250-sink\r\n" : "250-sink\r\n250-STARTTLS\r\n") && reply(w, rest);
    }
    if (!strncasecmp(command, "STARTTLS", 8)) {
        if (w->tls || w->from != w->to) return 0;
        return reply(w, "220 2.0.0 go\r\n") && flush(w) && open_tls(w, 1);
    }
    if (!strncasecmp(command, "DATA", 4)) {
        if (!reply(w, "354 go\r\n") || !content(w)) return 0;
        count_mail(w);
        return reply(w, "250 2.0.0 taken\r\n");
    }
    if (!strncasecmp(command, "QUIT", 4)) {
        if (reply(w, "221 2.0.0 bye\r\n")) flush(w);
        return 0;
    }
    return reply(w, "250 2.0.0 ok\r\n");
}

static void *serve(void *argument) {
    struct wire *w = argument;
    char *command;
    if (reply(w, "220 sink ESMTP\r\n"))
        while ((command = line(w)) && answer(w, command)) {
        }
    close_wire(w);
    free(w);
    return NULL;
}

static struct sockaddr_in address(const char *port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return to;
}

static _Noreturn void sink(char **arguments) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    context = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(context, arguments[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, arguments[2], SSL_FILETYPE_PEM) != 1)
        die("certificate", arguments[1]);
    int file = open(arguments[3], O_RDWR | O_CREAT, 0644);
    if (file < 0 || ftruncate(file, sizeof *counts)) die(arguments[3], strerror(errno));
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (counts == MAP_FAILED) die(arguments[3], strerror(errno));
    int listening = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in at = address(arguments[0]);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listening, (void *)&at, sizeof at) || listen(listening, 4096)) die("bind", strerror(errno));
    counts->ready = 1;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    for (;;) {
        int fd = accept(listening, NULL, NULL);
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        counts->connections++;
        struct wire *w = calloc(1, sizeof *w);
        w->fd = fd;
        pthread_t thread;
        if (pthread_create(&thread, &attributes, serve, w)) die("thread", strerror(errno));
    }
}

/* --- The load generator ------------------------------------------------------------------------------------------ */

static const char *port;
static int keep, tls;
static _Atomic long left;
static char *mail;
static size_t mail_length;

#define MARK "NUMBER0000"
#define MARKS 16
static size_t marks[MARKS];
static int marked;
static _Atomic long number;

/* Reads one reply, which must begin with `code`. */
static void expect(struct wire *w, const char *code) {
    for (;;) {
        char *got = line(w);
        if (!got || strncmp(got, code, strlen(code))) die(code, got ? got : "connection lost");
        if (got[3] != '-') return;
    }
}

static void command(struct wire *w, const char *text, const char *code) {
    if (!put(w, text, strlen(text))) die(text, "connection lost");
    expect(w, code);
}

static void open_session(struct wire *w) {
    struct sockaddr_in to = address(port);
    int on = 1;
    w->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(w->fd, (void *)&to, sizeof to)) die("connect", strerror(errno));
    expect(w, "220");
    command(w, "EHLO source.invalid\r\n", "250");
    if (!tls) return;
    command(w, "STARTTLS\r\n", "220");
    if (!open_tls(w, 0)) die("handshake", ERR_error_string(ERR_get_error(), NULL));
    command(w, "EHLO source.invalid\r\n", "250");
}

static void close_session(struct wire *w) {
    command(w, "QUIT\r\n", "221");
    close_wire(w);
}

/* Writes the next number at every mark of a session's own copy. */
static void number_mail(char *own) {
    char digits[sizeof MARK];
    snprintf(digits, sizeof digits, "%010ld", ++number % 10000000000);
    for (int each = 0; each < marked; each++) memcpy(own + marks[each], digits, sizeof MARK - 1);
}

static void *send_mails(void *unused) {
    struct wire *w = calloc(1, sizeof *w);
    int opened = 0;
    char *content = mail;
    if (marked) content = memcpy(malloc(mail_length), mail, mail_length);
    while (left-- > 0) {
        if (marked) number_mail(content);
        if (!opened) open_session(w);
        opened = 1;
        command(w, "MAIL FROM:<from@bench.invalid>\r\n", "250");
        command(w, "RCPT TO:<to@bench.invalid>\r\n", "250");
        command(w, "DATA\r\n", "354");
        if (!put(w, content, mail_length)) die("content", "connection lost");
        expect(w, "250");
        if (!keep) {
            close_session(w);
            opened = 0;
        }
    }
    if (opened) close_session(w);
    free(w);
    return unused;
}

static void make_mail(size_t octets) {
    const char *header = "From: <from@bench.invalid>\r\nTo: <to@bench.invalid>\r\nSubject: load\r\n"
                         "Date: Wed, 25 Nov 2026 12:00:00 +0000\r\nMessage-Id: <load@bench.invalid>\r\n\r\n";
    mail = malloc(octets + 1024);
    size_t at = strlen(header);
    memcpy(mail, header, at);
    while (at < octets) {
        memset(mail + at, 'X', 78);
        memcpy(mail + at + 78, "\r\n", 2);
        at += 80;
    }
    memcpy(mail + at, ".\r\n", 3);
    mail_length = at + 3;
}

static void read_mail(const char *name) {
    FILE *file = fopen(name, "rb");
    if (!file || fseek(file, 0, SEEK_END)) die(name, strerror(errno));
    size_t octets = ftell(file);
    rewind(file);
    mail = malloc(octets + 3);
    if (fread(mail, 1, octets, file) != octets) die(name, "cannot be read");
    fclose(file);
    memcpy(mail + octets, ".\r\n", 3);
    mail_length = octets + 3;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    number = now.tv_sec * 1000000l + now.tv_nsec / 1000;  /* not those of another run */
    char *at = mail, *end = mail + mail_length;
    while (marked < MARKS && (at = memmem(at, end - at, MARK, sizeof MARK - 1))) {
        marks[marked++] = at - mail;
        at++;
    }
}

static int source(char **arguments, const char *file) {
    port = arguments[0];
    int sessions = atoi(arguments[1]);
    left = atol(arguments[2]);
    if (file)
        read_mail(file);
    else
        make_mail(atol(arguments[3]));
    keep = atoi(arguments[4]);
    tls = atoi(arguments[5]);
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    pthread_t threads[1024];
    if (sessions < 1 || sessions > 1024) die("sessions", arguments[1]);
    for (int each = 0; each < sessions; each++)
        if (pthread_create(&threads[each], NULL, send_mails, NULL)) die("thread", strerror(errno));
    for (int each = 0; each < sessions; each++) pthread_join(threads[each], NULL);
    return 0;
}

int main(int count, char **arguments) {
    signal(SIGPIPE, SIG_IGN);
    if ((count == 8 || count == 9) && !strcmp(arguments[1], "source")) return source(arguments + 2, arguments[8]);
    if (count == 6 && !strcmp(arguments[1], "sink")) sink(arguments + 2);
    die("usage", "smtp_load source PORT SESSIONS MAILS OCTETS KEEP TLS [FILE] | sink PORT CERTIFICATE KEY COUNTS");
}
