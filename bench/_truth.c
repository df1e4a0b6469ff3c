/* A server that keeps its word: the first token leaves TTFT after the request is whole, the next ones every ITL.

   One thread, epoll, absolute instants. Requests take a slot in the order they came; TTFT counts from then on.
   With a slope, the time between tokens is ITL + SLOPE x sequences running. It counts its own lateness, so that
   what it promises can be checked:  GET /stats,  POST /reset.

   truth TTFT_US ITL_US SLOTS SLOPE_US FAULT FAULT_EVERY      (prints its port)
   FAULT: none, reset, close, unfinished, error, busy, fail, stall */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

typedef int64_t ns;
typedef struct Conn {
    int fd, place, chat, stream, usage, wanted, made, prompt, running, stalled;
    ns due, received, begun;
    char *in, *out;
    size_t in_used, in_size, out_used, out_size;
    struct Conn *next;
} Conn;

static ns ttft, itl, slope, last_token_at;
static int slots, running, fault_every, epfd;
static const char *fault;
static Conn **heap, *queue_head, *queue_tail, *dead;
static int heap_used, heap_size;
static struct { uint64_t requests, tokens, connections, faults; ns first, late_max; double late_sum; int open, open_max,
    running_max; uint32_t late[100000]; } st; /* lateness in us, a histogram */

static ns now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }

static void put(int i, Conn *c) { heap[i] = c; c->place = i; }
static void sift_up(int i) {
    Conn *c = heap[i];
    for (; i && heap[(i - 1) / 2]->due > c->due; i = (i - 1) / 2) put(i, heap[(i - 1) / 2]);
    put(i, c);
}
static void sift_down(int i) {
    Conn *c = heap[i];
    for (int k; (k = 2 * i + 1) < heap_used; i = k) {
        if (k + 1 < heap_used && heap[k + 1]->due < heap[k]->due) k++;
        if (heap[k]->due >= c->due) break;
        put(i, heap[k]);
    }
    put(i, c);
}
static void push(Conn *c) {
    if (heap_used == heap_size) heap = realloc(heap, (heap_size = heap_size * 2 + 64) * sizeof *heap);
    heap[heap_used] = c;
    sift_up(heap_used++);
}
static void drop(Conn *c) {
    if (c->place < 0) return;
    int i = c->place;
    c->place = -1;
    if (i == --heap_used) return;
    heap[i] = heap[heap_used];
    heap[i]->place = i;
    sift_up(i);
    sift_down(heap[i]->place);
}

static void send_all(Conn *c, const char *data, size_t n) {
    if (c->fd < 0) return;
    if (!c->out_used) {
        ssize_t k = send(c->fd, data, n, MSG_NOSIGNAL);
        if (k == (ssize_t)n) return;
        if (k < 0 && errno != EAGAIN) return;
        if (k > 0) { data += k; n -= k; }
    }
    if (c->out_used + n > c->out_size) c->out = realloc(c->out, c->out_size = 2 * (c->out_used + n));
    memcpy(c->out + c->out_used, data, n);
    c->out_used += n;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    epoll_ctl(epfd, EPOLL_CTL_MOD, c->fd, &e);
}

static void plain(Conn *c, const char *status, const char *format, ...) {
    char body[2048], text[2304];
    va_list a;
    va_start(a, format);
    int n = vsnprintf(body, sizeof body, format, a);
    va_end(a);
    int m = snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
                     status, n, body);
    send_all(c, text, m);
}

static char *chunk(char *to, const char *format, ...) {
    char body[512];
    va_list a;
    va_start(a, format);
    int n = vsnprintf(body, sizeof body, format, a);
    va_end(a);
    return to + sprintf(to, "%x\r\n%s\r\n", n, body);
}

static void admit(void);
static void finish(Conn *c) {
    drop(c);
    if (c->running) { c->running = 0; running--; admit(); }
}

static void hang_up(Conn *c, int hard) {
    if (c->fd < 0) return;
    if (hard) {
        struct linger l = {1, 0};
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    }
    for (Conn **p = &queue_head, *before = NULL; *p; before = *p, p = &(*p)->next)
        if (*p == c) { *p = c->next; if (queue_tail == c) queue_tail = before; break; }
    close(c->fd);
    c->fd = -1;
    st.open--;
    finish(c);
    c->next = dead; /* events of this round may still name it */
    dead = c;
}

static void begin(Conn *c, ns at) {
    c->running = 1;
    if (++running > st.running_max) st.running_max = running;
    c->begun = at;
    c->due = at + ttft + (c->stream ? 0 : (c->wanted - 1) * itl);
    push(c);
}

static void admit(void) {
    while (queue_head && (!slots || running < slots)) {
        Conn *c = queue_head;
        queue_head = c->next;
        if (!queue_head) queue_tail = NULL;
        begin(c, now());
    }
}

static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

static void token(Conn *c, ns at) {
    char text[2048], *to = text;
    int last = c->made + 1 >= c->wanted;
    ns late = (at - c->due) / 1000;
    if (late > st.late_max) st.late_max = late;
    st.late_sum += late;
    st.late[late < 99999 ? late : 99999]++;
    st.tokens++;
    c->made++;
    if (!c->stream) {
        const char *said = c->chat ? "\"message\":{\"role\":\"assistant\",\"content\":\" w\"}" : "\"text\":\" w\"";
        plain(c, "200 OK", "{\"id\":\"c\",\"object\":\"text_completion\",\"created\":1,\"model\":\"truth\",\"choices\":[{\"index\":0,%s,"
              "\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d,\"total_tokens\":%d}}",
              said, c->prompt, c->wanted, c->prompt + c->wanted);
        finish(c);
        return;
    }
    to = chunk(to, "data: {\"id\":\"cmpl-0123456789\",\"object\":\"%s\",\"created\":1700000000,\"model\":\"truth\",\"choices\":[{\"index\":0,%s"
               "\"logprobs\":null,\"finish_reason\":%s}]}\n\n", c->chat ? "chat.completion.chunk" : "text_completion",
               c->chat ? "\"delta\":{\"content\":\" word\"}," : "\"text\":\" word\",", last ? "\"length\"" : "null");
    if (last) {
        if (c->usage)
            to = chunk(to, "data: {\"id\":\"cmpl-0123456789\",\"object\":\"chunk\",\"created\":1700000000,\"model\":\"truth\",\"choices\":[],"
                       "\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d,\"total_tokens\":%d}}\n\n",
                       c->prompt, c->wanted, c->prompt + c->wanted);
        to = chunk(to, "data: [DONE]\n\n");
        to += sprintf(to, "0\r\n\r\n");
    }
    send_all(c, text, to - text);
    if (last) { finish(c); return; }
    c->due += itl + slope * running;
    sift_down(c->place);
}

static int broken(Conn *c) { /* every FAULT_EVERY-th request meets the fault */
    if (!fault_every || st.requests % fault_every) return 0;
    char text[512], *to = text;
    st.faults++;
    if (!strcmp(fault, "busy")) plain(c, "429 Too Many Requests", "{\"error\":{\"message\":\"overloaded\"}}");
    else if (!strcmp(fault, "fail")) plain(c, "500 Internal Server Error", "{\"error\":{\"message\":\"broken\"}}");
    else {
        send_all(c, HEAD, sizeof HEAD - 1);
        to = chunk(to, "data: {\"choices\":[{\"index\":0,\"text\":\" w\",\"finish_reason\":null}]}\n\n");
        if (!strcmp(fault, "error")) to = chunk(to, "data: {\"error\":{\"message\":\"out of memory\"}}\n\n");
        if (!strcmp(fault, "unfinished")) to = chunk(to, "data: [DONE]\n\n");
        if (!strcmp(fault, "error") || !strcmp(fault, "unfinished")) to += sprintf(to, "0\r\n\r\n");
        send_all(c, text, to - text);
        if (!strcmp(fault, "reset") || !strcmp(fault, "close")) hang_up(c, fault[0] == 'r');
    }
    return 1;
}

static int number(const char *body, const char *end, const char *key, int otherwise) {
    const char *p = memmem(body, end - body, key, strlen(key));
    if (!p) return otherwise;
    for (p += strlen(key); p < end && (*p == ':' || *p == ' ' || *p == '"'); p++) {}
    return p < end && *p >= '0' && *p <= '9' ? atoi(p) : otherwise;
}

/* Calls each(word, length) for the words of a JSON string, "\n" being one; returns how many there were. */
static int words(const char *p, const char *end, void (*each)(const char *, int, void *), void *with) {
    int n = 0;
    while (p < end && *p != '"') {
        const char *from = p;
        if (*p == ' ') { p++; continue; }
        if (*p == '\\') p += 2;
        else while (p < end && *p != '"' && *p != ' ' && *p != '\\') p++;
        n++;
        if (each) each(from, p - from, with);
    }
    return n;
}

static int prompt_tokens(const char *body, const char *end) {
    static const char *keys[] = {"\"prompt\"", "\"content\""};
    int n = 0;
    for (int k = 0; k < 2; k++)
        for (const char *p = body; (p = memmem(p, end - p, keys[k], strlen(keys[k])));) {
            for (p += strlen(keys[k]); p < end && (*p == ' ' || *p == ':'); p++) {}
            if (p < end && *p == '"') n += words(p + 1, end, NULL, NULL);
            else if (p < end && *p == '[' && !k) for (n++; p < end && *p != ']'; p++) n += *p == ',';
        }
    return n;
}

static void one_id(const char *word, int n, void *with) {
    char **to = with;
    uint32_t h = 2166136261u;
    for (int i = 0; i < n; i++) h = (h ^ (unsigned char)word[i]) * 16777619u;
    *to += sprintf(*to, "%u,", word[0] == '\\' ? 0 : h >> 2 | 1);
}

static void tokenized(Conn *c, const char *body, const char *end) {
    const char *p = memmem(body, end - body, "\"content\"", 9);
    if (p) p = memchr(p + 9, '"', end - p - 9);
    if (!p) { plain(c, "400 Bad Request", "{}"); return; }
    char *text = malloc(12 * (end - p) + 256), *to = text + 128;
    to += sprintf(to, "{\"tokens\":[");
    words(p + 1, end, one_id, &to);
    to -= to[-1] == ',';
    to += sprintf(to, "]}");
    char head[128];
    int n = sprintf(head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", (size_t)(to - text - 128));
    memcpy(text + 128 - n, head, n);
    send_all(c, text + 128 - n, to - text - 128 + n);
    free(text);
}

static void stats(Conn *c) {
    uint64_t seen = 0;
    ns quantile[2] = {0, 0};
    for (int i = 0; i < 100000; i++) {
        seen += st.late[i];
        if (!quantile[0] && seen * 2 >= st.tokens) quantile[0] = i + 1;
        if (!quantile[1] && seen * 100 >= st.tokens * 99) quantile[1] = i + 1;
    }
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    plain(c, "200 OK", "{\"requests\":%lu,\"tokens\":%lu,\"faults\":%lu,\"connections\":%lu,\"open\":%d,\"open_max\":%d,\"running_max\":%d,"
          "\"late_us_p50\":%ld,\"late_us_p99\":%ld,\"late_us_max\":%ld,\"first_request_ns\":%ld,\"last_token_ns\":%ld,\"cpu_s\":%.3f}",
          st.requests, st.tokens, st.faults, st.connections, st.open, st.open_max, st.running_max,
          quantile[0], quantile[1], st.late_max, st.first, last_token_at,
          r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6);
}

static void asked(Conn *c, const char *head, const char *body, const char *end) {
    ns at = now();
    if (!strncmp(head, "GET /stats", 10)) { stats(c); return; }
    if (!strncmp(head, "POST /reset", 11)) {
        int open = st.open;
        memset(&st, 0, sizeof st);
        st.open = st.open_max = open;
        plain(c, "200 OK", "{}");
        return;
    }
    if (!strncmp(head, "GET /v1/models", 14)) {
        plain(c, "200 OK", "{\"object\":\"list\",\"data\":[{\"id\":\"truth\",\"object\":\"model\",\"created\":1,\"owned_by\":\"dyno\",\"max_model_len\":1000000}]}");
        return;
    }
    if (!strncmp(head, "GET /health", 11) || !strncmp(head, "GET / ", 6)) { plain(c, "200 OK", "{\"status\":\"ok\"}"); return; }
    if (!strncmp(head, "POST /tokenize", 14)) { tokenized(c, body, end); return; }
    c->chat = !strncmp(head, "POST /v1/chat/completions", 25);
    if (!c->chat && strncmp(head, "POST /v1/completions", 20)) { plain(c, "404 Not Found", "{\"error\":{\"message\":\"no such path\"}}"); return; }
    c->stream = memmem(body, end - body, "\"stream\":true", 13) || memmem(body, end - body, "\"stream\": true", 14);
    c->usage = !!memmem(body, end - body, "\"include_usage\"", 15);
    c->wanted = number(body, end, "\"max_completion_tokens\"", number(body, end, "\"max_tokens\"", 16));
    if (c->wanted < 1) c->wanted = 1;
    c->prompt = prompt_tokens(body, end);
    c->made = 0;
    c->received = at;
    if (c->stream && c->wanted > 1) { /* one-token questions are not the load */
        st.requests++;
        if (!st.first) st.first = at;
        if (broken(c)) return;
    }
    if (c->stream) send_all(c, HEAD, sizeof HEAD - 1);
    if (!slots || running < slots) { begin(c, at); return; }
    c->next = NULL;
    if (queue_tail) queue_tail->next = c; else queue_head = c;
    queue_tail = c;
}

static void readable(Conn *c) {
    for (;;) {
        if (c->in_size - c->in_used < 4096) c->in = realloc(c->in, c->in_size = 2 * c->in_size + 8192);
        ssize_t k = recv(c->fd, c->in + c->in_used, c->in_size - c->in_used - 1, 0);
        if (k == 0 || (k < 0 && errno != EAGAIN)) { hang_up(c, 0); return; }
        if (k < 0) break;
        c->in_used += k;
        c->in[c->in_used] = 0;
        char *end = memmem(c->in, c->in_used, "\r\n\r\n", 4);
        if (!end) continue;
        char *length = strcasestr(c->in, "\r\ncontent-length:");
        size_t body = length && length < end ? atol(length + 17) : 0, whole = end + 4 - c->in + body;
        char *expect = strcasestr(c->in, "\r\nexpect: 100-continue");
        if (expect && expect < end && c->in_used < whole) send_all(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        if (c->in_used < whole) continue;
        asked(c, c->in, end + 4, c->in + whole);
        if (c->fd < 0) return;
        memmove(c->in, c->in + whole, c->in_used - whole);
        c->in_used -= whole;
        c->in[c->in_used] = 0;
    }
}

static void writable(Conn *c) {
    ssize_t k = send(c->fd, c->out, c->out_used, MSG_NOSIGNAL);
    if (k < 0) return;
    memmove(c->out, c->out + k, c->out_used -= k);
    if (!c->out_used) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epfd, EPOLL_CTL_MOD, c->fd, &e);
    }
}

static void welcome(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Conn *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->place = -1;
        st.connections++;
        if (++st.open > st.open_max) st.open_max = st.open;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &e);
    }
}

int main(int argc, char **argv) {
    if (argc != 7) { fprintf(stderr, "truth TTFT_US ITL_US SLOTS SLOPE_US FAULT FAULT_EVERY\n"); return 2; }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1);
    ttft = atoll(argv[1]) * 1000; itl = atoll(argv[2]) * 1000; slots = atoi(argv[3]); slope = atoll(argv[4]) * 1000;
    fault = argv[5]; fault_every = strcmp(fault, "none") ? atoi(argv[6]) : 0;
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    if (bind(listener, (void *)&a, n) || listen(listener, 16384)) { perror("truth"); return 1; }
    getsockname(listener, (void *)&a, &n);
    printf("%d\n", ntohs(a.sin_port));
    fflush(stdout);
    epfd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, got[512];
    epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        struct timespec wait, *until = NULL;
        if (heap_used) {
            ns left = heap[0]->due - now();
            if (left < 0) left = 0;
            wait = (struct timespec){left / 1000000000, left % 1000000000};
            until = &wait;
        }
        int k = epoll_pwait2(epfd, got, 512, until, NULL);
        for (int i = 0; i < k; i++) {
            Conn *c = got[i].data.ptr;
            if (!c) welcome(listener);
            else {
                if (c->fd >= 0 && got[i].events & EPOLLOUT) writable(c);
                if (c->fd >= 0 && got[i].events & ~EPOLLOUT) readable(c);
            }
        }
        for (int i = 0; i < 64 && heap_used; i++) {
            ns at = now();
            if (heap[0]->due > at) break;
            last_token_at = at;
            token(heap[0], at);
        }
        for (Conn *c; (c = dead);) { dead = c->next; free(c->in); free(c->out); free(c); }
    }
}
