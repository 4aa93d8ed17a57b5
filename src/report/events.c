/*
 * events.c - records of TensorBoard's event files (event.proto).
 *
 * A record is the length of a message (uint64), the masked CRC-32C of these 8 bytes (uint32), the message,
 * and its masked CRC-32C; all little-endian.  The mask, as in TensorFlow's record format, keeps the
 * checksum of data that contain checksums meaningful.
 */
#include "simile/report.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <limits.h>
#include <string.h>

#include <event.pb-c.h>
#include <isa-l/crc.h>

enum { HEAD_BYTES = 12, TAIL_BYTES = 4, MAX_EVENT_BYTES = 1 << 26 };

/* ---- encoding ---- */

static uint32_t masked_crc(const void *data, size_t n)
{
    uint8_t *bytes = NULL;
    memcpy(&bytes, &data, sizeof bytes); /* the function does not write */
    const uint32_t crc = ~crc32_iscsi(bytes, (int)n, ~0u);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

static void store(uint64_t value, size_t n_bytes, uint8_t *out)
{
    for (size_t i = 0; i < n_bytes; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t load(const uint8_t *bytes, size_t n_bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n_bytes; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

static sim_status append_event(sim_events *e, const Tensorboard__Event *event)
{
    sim_status st = SIM_OK;
    const size_t n = tensorboard__event__get_packed_size(event),
                 record = HEAD_BYTES + n + TAIL_BYTES;

    SIM_CHECK(n <= MAX_EVENT_BYTES, SIM_E_IO,
              "an event of %zu bytes is too large for TensorBoard", n);
    SIM_TRY(sim_grow(&e->bytes, e->n_bytes + record, "report/events"));
    uint8_t *head = e->bytes + e->n_bytes, *message = head + HEAD_BYTES;
    store(n, 8, head);
    store(masked_crc(head, 8), 4, head + 8);
    tensorboard__event__pack(event, message);
    store(masked_crc(message, n), 4, message + n);
    e->n_bytes += record;
done:
    return st;
}

sim_status sim_events_begin(sim_events *e, double wall_s, int64_t step)
{
    sim_status st = SIM_OK;
    char version[] = "brain.Event:2";
    Tensorboard__SessionLog start = TENSORBOARD__SESSION_LOG__INIT;
    Tensorboard__Event first = TENSORBOARD__EVENT__INIT,
                       second = TENSORBOARD__EVENT__INIT;

    first.wall_time = second.wall_time = wall_s;
    first.what_case = TENSORBOARD__EVENT__WHAT_FILE_VERSION;
    first.file_version = version;
    start.status = TENSORBOARD__SESSION_LOG__STATUS__START;
    second.step = step + 1;
    second.what_case = TENSORBOARD__EVENT__WHAT_SESSION_LOG;
    second.session_log = &start;
    SIM_TRY(append_event(e, &first));
    SIM_TRY(append_event(e, &second));
done:
    return st;
}

/* A value with the messages that it refers to. */
typedef struct {
    Tensorboard__Summary__Value value;
    Tensorboard__Summary__Image image;
    Tensorboard__Histogram histogram;
    double limits[SIM_HISTOGRAM_BINS], counts[SIM_HISTOGRAM_BINS];
} value_messages;

/* Bins from the first to the last that is not empty: readers draw the outermost ones up to min and max. */
static void fill_histogram(const sim_histogram *h, value_messages *m)
{
    Tensorboard__Histogram *out = &m->histogram;
    const double width = (h->hi - h->lo) / (double)h->n_bins;
    size_t from = 0, to = h->n_bins;

    while (from < to && h->counts[from] == 0)
        from++;
    while (to > from && h->counts[to - 1] == 0)
        to--;
    for (size_t b = from; b < to; b++) {
        m->limits[b - from] = h->lo + width * (double)(b + 1);
        m->counts[b - from] = (double)h->counts[b];
        out->num += (double)h->counts[b];
    }
    out->min = h->lo + width * (double)from;
    out->max = h->lo + width * (double)to;
    out->sum = h->mean * out->num;
    out->sum_squares = (h->std * h->std + h->mean * h->mean) * out->num;
    out->n_bucket_limit = out->n_bucket = to - from;
    out->bucket_limit = m->limits;
    out->bucket = m->counts;
}

static void fill_image(const sim_picture *p, Tensorboard__Summary__Image *out)
{
    out->height = (int32_t)p->h;
    out->width = (int32_t)p->w;
    out->colorspace = 3;
    memcpy(&out->encoded_image_string.data, &p->png, sizeof p->png); /* only read */
    out->encoded_image_string.len = p->n_bytes;
}

static void fill_value(const sim_event_value *v, value_messages *m)
{
    tensorboard__summary__value__init(&m->value);
    tensorboard__summary__image__init(&m->image);
    tensorboard__histogram__init(&m->histogram);
    memcpy(&m->value.tag, &v->tag, sizeof m->value.tag); /* only read */
    if (v->histogram) {
        fill_histogram(v->histogram, m);
        m->value.value_case = TENSORBOARD__SUMMARY__VALUE__VALUE_HISTO;
        m->value.histo = &m->histogram;
    } else if (v->picture) {
        fill_image(v->picture, &m->image);
        m->value.value_case = TENSORBOARD__SUMMARY__VALUE__VALUE_IMAGE;
        m->value.image = &m->image;
    } else {
        m->value.value_case = TENSORBOARD__SUMMARY__VALUE__VALUE_SIMPLE_VALUE;
        m->value.simple_value = (float)v->scalar;
    }
}

sim_status sim_events_add(sim_events *e, double wall_s, int64_t step,
                          const sim_event_value *values, size_t n)
{
    sim_status st = SIM_OK;
    value_messages *messages = NULL;
    Tensorboard__Summary__Value **list = NULL;
    Tensorboard__Summary summary = TENSORBOARD__SUMMARY__INIT;
    Tensorboard__Event event = TENSORBOARD__EVENT__INIT;

    SIM_TRY(sim_alloc(&messages, n, "report/events"));
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers */
    SIM_TRY(sim_alloc(&list, n, "report/events"));
    for (size_t i = 0; i < n; i++) {
        fill_value(&values[i], &messages[i]);
        list[i] = &messages[i].value;
    }
    summary.n_value = n;
    summary.value = list;
    event.wall_time = wall_s;
    event.step = step;
    event.what_case = TENSORBOARD__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    SIM_TRY(append_event(e, &event));
done:
    sim_free(list);
    sim_free(messages);
    return st;
}

/* ---- reading ---- */

/* Length of the message of a record whose head is intact; 0: it is damaged, or too long. */
static size_t message_bytes(const uint8_t head[HEAD_BYTES], uint64_t left)
{
    const uint64_t n = load(head, 8);
    if (load(head + 8, 4) != masked_crc(head, 8) || n > MAX_EVENT_BYTES)
        return 0;
    return n + HEAD_BYTES + TAIL_BYTES <= left ? (size_t)n : 0;
}

/* The step of an event; -1 if the message is damaged.  `message` is followed by its checksum. */
static int64_t step_of(const uint8_t *message, size_t n)
{
    int64_t step = -1;
    if (load(message + n, TAIL_BYTES) != masked_crc(message, n))
        return -1;
    Tensorboard__Event *event = tensorboard__event__unpack(NULL, n, message);
    if (event)
        /* START has the first step that it discards */
        step = event->what_case == TENSORBOARD__EVENT__WHAT_SESSION_LOG ? event->step - 1
                                                                        : event->step;
    tensorboard__event__free_unpacked(event, NULL);
    return step;
}

sim_status sim_events_measure(const char *path, int64_t last_step, uint64_t *intact_bytes)
{
    sim_status st = SIM_OK;
    uint8_t head[HEAD_BYTES], *message = NULL;
    uint64_t at = 0, n_bytes = 0;
    size_t n = 0;
    int fd = -1;

    SIM_TRY(sim_file_open_read(path, &fd, &n_bytes));
    while (n_bytes - at > HEAD_BYTES + TAIL_BYTES) {
        SIM_TRY(sim_file_read_at(fd, path, at, head, sizeof head));
        n = message_bytes(head, n_bytes - at);
        if (n == 0)
            break;
        SIM_TRY(sim_grow(&message, n + TAIL_BYTES, "report/events"));
        SIM_TRY(sim_file_read_at(fd, path, at + HEAD_BYTES, message, n + TAIL_BYTES));
        const int64_t step = step_of(message, n);
        if (step < 0 || step > last_step)
            break;
        at += HEAD_BYTES + n + TAIL_BYTES;
    }
    *intact_bytes = at;
done:
    sim_free(message);
    SIM_IGNORE(sim_file_close(&fd, path));
    return st;
}
