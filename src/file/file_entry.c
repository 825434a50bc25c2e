#include "file/file.h"

static int read_shape(json *j, mbp_entry *e) {
    e->dims = 1;
    if (!json_take(j, '[') || !json_integer(j, &e->shape[0]))
        return 0;
    if (json_take(j, ',')) {
        e->dims = 2;
        if (!json_integer(j, &e->shape[1]))
            return 0;
    }
    return json_take(j, ']');
}

/* The members must be in the order in which put_tensor writes them. */
int mbp_file_entry(json *j, mbp_entry *e) {
    return json_take(j, ',') && json_string(j, e->name, MBP_FILE_TEXT) >= 0 && json_take(j, ':') && json_take(j, '{') &&
           json_key(j, "dtype") && json_string(j, e->dtype, MBP_FILE_TEXT) >= 0 && json_take(j, ',') &&
           json_key(j, "shape") && read_shape(j, e) && json_take(j, ',') && json_key(j, "data_offsets") &&
           json_take(j, '[') && json_integer(j, &e->begin) && json_take(j, ',') && json_integer(j, &e->end) &&
           json_take(j, ']') && json_take(j, '}');
}
