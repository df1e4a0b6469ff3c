/* The receive loop of workloads.sockets for answers in chunks (RFC 9112, 7.1), one epoll for all connections.

   What a token costs in Python is parsing its chunk and keeping its stamp: as much as the kernel takes to bring it. Here
   a read is decoded into the recording's own bytearrays; Python is told of everything else that happens to a file.

   Stamps are the kernel's own where it gives them (SO_TIMESTAMPNS): of the instant at which what was read had arrived,
   however long this process took to come to it. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROUND = 1024, READ_BYTES = 16384, DIGITS_MAX = 15 };
static const int64_t SECOND_NS = 1000000000; /* a stamp further off than this tells of a clock that was set */
enum { GOES_ON = 0, WHOLE = -1, SURPLUS = -2, MALFORMED = -3, FAILED = -4, CLOSED = -1000 };
enum state { SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILERS, NAME, TRAILER, END_LF, OVER };

typedef struct {
    PyObject *target, *body, *reads; /* body and reads: while an answer is decoded here */
    enum state state;
    int digits, delays;
    Py_ssize_t left;
    int64_t calm_until_ns, last_ns;
} Slot;

typedef struct {
    PyObject_HEAD
    int epoll, slots_len;
    Slot *slots; /* by file descriptor */
    char eager, crowded, slow, was_slow;
    long long reads, stamped, late, late_ns, nap_ns, delayed_ns;
    int64_t ahead_ns; /* of the monotonic clock is the one that the kernel stamps with */
    int few, delays_max;
} Reader;

static int64_t in_ns(const struct timespec *t) {
    return t->tv_sec * SECOND_NS + t->tv_nsec;
}

static int64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return in_ns(&t);
}

static int64_t now_ns(void) {
    return clock_ns(CLOCK_MONOTONIC); /* what time.perf_counter_ns reads */
}

static int append(PyObject *array, const void *bytes, Py_ssize_t n) {
    Py_ssize_t had = PyByteArray_GET_SIZE(array);
    if (PyByteArray_Resize(array, had + n) < 0)
        return -1;
    memcpy(PyByteArray_AS_STRING(array) + had, bytes, n);
    return 0;
}

static int hex(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The length of a chunk; one character of it. */
static int sized(Slot *slot, char c) {
    int digit = hex(c);
    if (digit >= 0 && slot->digits < DIGITS_MAX) {
        slot->left = slot->left * 16 + digit;
        slot->digits++;
    } else if (slot->digits && (c == '\r' || c == ';'))
        slot->state = c == '\r' ? SIZE_LF : EXTENSION;
    else
        return MALFORMED;
    return GOES_ON;
}

/* One character that is no data. */
static int framed(Slot *slot, char c) {
    enum state next = slot->state;
    switch (slot->state) {
    case SIZE: return sized(slot, c);
    case EXTENSION: next = c == '\r' ? SIZE_LF : EXTENSION; break;
    case SIZE_LF: next = slot->left ? DATA : TRAILERS; break;
    case DATA_CR: next = DATA_LF; break;
    case DATA_LF: next = SIZE; break;
    case TRAILERS: next = c == '\r' ? END_LF : NAME; break;
    case NAME: next = c == ':' ? TRAILER : NAME; break;
    case TRAILER: next = c == '\n' ? TRAILERS : TRAILER; break;
    default: next = OVER;
    }
    int feed = slot->state == SIZE_LF || slot->state == DATA_LF || slot->state == END_LF;
    int nameless = (next == NAME && c <= ' ') || (slot->state == TRAILERS && c == ':');
    if ((feed && c != '\n') || (slot->state == DATA_CR && c != '\r') || (slot->state == EXTENSION && c == '\n') || nameless)
        return MALFORMED;
    if (next == SIZE)
        slot->left = slot->digits = 0;
    slot->state = next;
    return GOES_ON;
}

static int decode(Slot *slot, const char *p, Py_ssize_t n) {
    while (n && slot->state != OVER) {
        Py_ssize_t took = 1;
        if (slot->state == DATA) {
            took = n < slot->left ? n : slot->left;
            if (append(slot->body, p, took) < 0)
                return FAILED;
            if (!(slot->left -= took))
                slot->state = DATA_CR;
        } else if (framed(slot, *p) == MALFORMED)
            return MALFORMED;
        p += took;
        n -= took;
    }
    return slot->state != OVER ? GOES_ON : n ? SURPLUS : WHOLE;
}

/* As workloads.client.Connection does it, which says why. */
static void acknowledge(Reader *self, Slot *slot, int fd, int64_t at_ns) {
    int on = 1;
    if (at_ns > slot->calm_until_ns) {
        if (slot->calm_until_ns && ++slot->delays >= self->delays_max)
            self->eager = 1;
        if (PyByteArray_GET_SIZE(slot->body) && !self->eager)
            slot->calm_until_ns = at_ns + self->delayed_ns;
        setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    } else
        slot->calm_until_ns = at_ns + self->delayed_ns;
}

static void leave(Slot *slot) {
    Py_CLEAR(slot->body);
    Py_CLEAR(slot->reads);
}

/* Takes what one read gave. */
static int took(Reader *self, Slot *slot, int fd, const char *data, Py_ssize_t n, int64_t at_ns) {
    int code = decode(slot, data, n);
    at_ns = slot->last_ns = at_ns > slot->last_ns ? at_ns : slot->last_ns;
    int64_t row[2] = {at_ns, PyByteArray_GET_SIZE(slot->body)};
    if (code == FAILED || append(slot->reads, row, sizeof row) < 0)
        return FAILED;
    acknowledge(self, slot, fd, at_ns);
    if (code)
        leave(slot);
    return code;
}

/* Reads once; `at_ns` becomes the instant at which the last of it had arrived, where the kernel says so. */
static Py_ssize_t arrived(Reader *self, int fd, char *buffer, int64_t *at_ns) {
    char control[CMSG_SPACE(sizeof(struct timespec))];
    struct iovec part = {buffer, READ_BYTES};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    Py_ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT);
    struct cmsghdr *said = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (said && said->cmsg_level == SOL_SOCKET && said->cmsg_type == SCM_TIMESTAMPNS) {
        struct timespec t;
        memcpy(&t, CMSG_DATA(said), sizeof t);
        int64_t then_ns = in_ns(&t) - self->ahead_ns;
        if (llabs(then_ns - *at_ns) < SECOND_NS) {
            *at_ns = then_ns;
            self->stamped++;
            return n;
        }
    }
    self->late += n > 0 && self->was_slow;
    return n;
}

static int received(Reader *self, Slot *slot, int fd, int64_t *at_ns) {
    static char buffer[READ_BYTES]; /* used under the interpreter's lock */
    Py_ssize_t n = arrived(self, fd, buffer, at_ns);
    if (n > 0)
        return took(self, slot, fd, buffer, n, *at_ns);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return GOES_ON;
    leave(slot);
    return n ? CLOSED - errno : CLOSED;
}

static int tell(PyObject *told, Slot *slot, int what, int64_t at_ns) {
    PyObject *item = Py_BuildValue("(OiL)", slot->target, what, (long long)at_ns);
    int failed = item == NULL || PyList_Append(told, item) < 0;
    Py_XDECREF(item);
    return failed ? -1 : 0;
}

/* One file that is ready. */
static int serve(Reader *self, struct epoll_event *event, PyObject *told, int64_t at_ns) {
    int fd = event->data.fd, code;
    if (fd >= self->slots_len || !self->slots[fd].target)
        return 0;
    Slot *slot = &self->slots[fd];
    if (!slot->body)
        return tell(told, slot, (int)event->events, at_ns);
    if ((event->events & EPOLLOUT) && tell(told, slot, EPOLLOUT, at_ns) < 0)
        return -1;
    if (!(event->events & ~EPOLLOUT))
        return 0;
    code = received(self, slot, fd, &at_ns);
    return code == FAILED ? -1 : code ? tell(told, slot, code, at_ns) : 0;
}

static PyObject *reader_wait(Reader *self, PyObject *once) {
    struct epoll_event events[ROUND];
    PyObject *told = PyList_New(0);
    int n = ROUND;
    while (told && !PyList_GET_SIZE(told)) {
        int64_t at_ns;
        int nap = self->crowded && n < self->few;
        Py_BEGIN_ALLOW_THREADS
        if (nap) {
            struct timespec t = {0, self->nap_ns};
            nanosleep(&t, NULL);
        }
        n = epoll_wait(self->epoll, events, ROUND, -1);
        at_ns = now_ns();
        self->ahead_ns = clock_ns(CLOCK_REALTIME) - at_ns;
        Py_END_ALLOW_THREADS
        int failed = n < 0 && (errno != EINTR || PyErr_CheckSignals() < 0);
        if (n < 0 && failed && !PyErr_Occurred())
            PyErr_SetFromErrno(PyExc_OSError);
        self->was_slow = self->slow;
        for (int i = 0; i < n && !failed; i++)
            failed = serve(self, &events[i], told, at_ns) < 0;
        if (failed) {
            Py_CLEAR(told);
            break;
        }
        self->reads += n > 0 ? n : 0;
        self->slow = now_ns() - at_ns > self->late_ns;
        if (n < 0 || PyObject_IsTrue(once))
            break;
    }
    return told;
}

static Slot *slot_of(Reader *self, int fd) {
    if (fd >= 0 && fd < self->slots_len && self->slots[fd].target)
        return &self->slots[fd];
    PyErr_Format(PyExc_KeyError, "file %d is not watched", fd);
    return NULL;
}

static int control(Reader *self, int op, int fd, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(self->epoll, op, fd, &event) == 0)
        return 0;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

static PyObject *reader_add(Reader *self, PyObject *args) {
    int fd, on = 1;
    PyObject *target;
    if (!PyArg_ParseTuple(args, "iO", &fd, &target) || control(self, EPOLL_CTL_ADD, fd, EPOLLIN) < 0)
        return NULL;
    if (fd >= self->slots_len) {
        int len = 2 * fd + 64;
        Slot *slots = PyMem_Realloc(self->slots, len * sizeof(Slot));
        if (!slots)
            return PyErr_NoMemory();
        memset(slots + self->slots_len, 0, (len - self->slots_len) * sizeof(Slot));
        self->slots = slots;
        self->slots_len = len;
    }
    self->slots[fd].target = Py_NewRef(target);
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on); /* what it refuses is stamped here */
    Py_RETURN_NONE;
}

static PyObject *reader_modify(Reader *self, PyObject *args) {
    int fd;
    unsigned events;
    if (!PyArg_ParseTuple(args, "iI", &fd, &events) || control(self, EPOLL_CTL_MOD, fd, events) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *reader_remove(Reader *self, PyObject *args) {
    int fd;
    Slot *slot;
    if (!PyArg_ParseTuple(args, "i", &fd) || !(slot = slot_of(self, fd)) || control(self, EPOLL_CTL_DEL, fd, 0) < 0)
        return NULL;
    leave(slot);
    Py_CLEAR(slot->target);
    Py_RETURN_NONE;
}

static PyObject *reader_decode(Reader *self, PyObject *args) {
    int fd, code;
    long long at_ns;
    PyObject *body, *reads;
    Py_buffer rest;
    Slot *slot;
    if (!PyArg_ParseTuple(args, "iO!O!y*L", &fd, &PyByteArray_Type, &body, &PyByteArray_Type, &reads, &rest, &at_ns))
        return NULL;
    if (!(slot = slot_of(self, fd))) {
        PyBuffer_Release(&rest);
        return NULL;
    }
    leave(slot);
    slot->body = Py_NewRef(body);
    slot->reads = Py_NewRef(reads);
    slot->state = SIZE;
    slot->digits = slot->delays = slot->left = slot->calm_until_ns = slot->last_ns = 0;
    code = took(self, slot, fd, rest.buf, rest.len, at_ns);
    PyBuffer_Release(&rest);
    return code == FAILED ? NULL : PyLong_FromLong(code);
}

static PyObject *reader_receive(Reader *self, PyObject *args) {
    static char buffer[READ_BYTES];
    int fd;
    long long round_ns;
    if (!PyArg_ParseTuple(args, "iL", &fd, &round_ns))
        return NULL;
    int64_t at_ns = round_ns;
    Py_ssize_t n = arrived(self, fd, buffer, &at_ns);
    return n < 0 ? PyErr_SetFromErrno(PyExc_OSError) : Py_BuildValue("(y#L)", buffer, n, (long long)at_ns);
}

static PyObject *reader_fileno(Reader *self, PyObject *Py_UNUSED(none)) {
    return PyLong_FromLong(self->epoll);
}

static PyObject *reader_close(Reader *self, PyObject *Py_UNUSED(none)) {
    for (int fd = 0; fd < self->slots_len; fd++) {
        leave(&self->slots[fd]);
        Py_CLEAR(self->slots[fd].target);
    }
    if (self->epoll >= 0)
        close(self->epoll);
    self->epoll = -1;
    Py_RETURN_NONE;
}

static void reader_dealloc(Reader *self) {
    Py_XDECREF(reader_close(self, NULL));
    PyMem_Free(self->slots);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int reader_init(Reader *self, PyObject *args, PyObject *named) {
    static char *names[] = {"late_ns", "few", "nap_ns", "delayed_ns", "delays_max", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, named, "LiLLi", names, &self->late_ns, &self->few, &self->nap_ns,
                                     &self->delayed_ns, &self->delays_max))
        return -1;
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (self->epoll < 0)
        PyErr_SetFromErrno(PyExc_OSError);
    return self->epoll < 0 ? -1 : 0;
}

static PyMethodDef methods[] = {
    {"fileno", (PyCFunction)reader_fileno, METH_NOARGS, NULL},
    {"add", (PyCFunction)reader_add, METH_VARARGS, NULL},
    {"modify", (PyCFunction)reader_modify, METH_VARARGS, NULL},
    {"remove", (PyCFunction)reader_remove, METH_VARARGS, NULL},
    {"decode", (PyCFunction)reader_decode, METH_VARARGS, NULL},
    {"receive", (PyCFunction)reader_receive, METH_VARARGS, NULL},
    {"wait", (PyCFunction)reader_wait, METH_O, NULL},
    {"close", (PyCFunction)reader_close, METH_NOARGS, NULL},
    {NULL}};

static PyMemberDef members[] = {
    {"reads", T_LONGLONG, offsetof(Reader, reads), READONLY, NULL},
    {"stamped", T_LONGLONG, offsetof(Reader, stamped), READONLY, NULL},
    {"late", T_LONGLONG, offsetof(Reader, late), READONLY, NULL},
    {"slow", T_BOOL, offsetof(Reader, slow), 0, NULL},
    {"crowded", T_BOOL, offsetof(Reader, crowded), 0, NULL},
    {NULL}};

static PyTypeObject ReaderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "workloads._reads.Reader",
    .tp_basicsize = sizeof(Reader),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)reader_init,
    .tp_dealloc = (destructor)reader_dealloc,
    .tp_methods = methods,
    .tp_members = members,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "workloads._reads", .m_size = -1};

PyMODINIT_FUNC PyInit__reads(void) {
    PyObject *made = PyModule_Create(&module);
    if (made && (PyType_Ready(&ReaderType) < 0 || PyModule_AddObjectRef(made, "Reader", (PyObject *)&ReaderType) < 0))
        Py_CLEAR(made);
    return made;
}
