/* Floor 6: reads the extras of a file (file.h). A file's extras are checked like its net: no length is used
 * before it is compared with the bytes that the file has. */
#include "file/file.h"

#include "file/json.h"
#include "system/memory.h"
#include "system/text.h"

#include <string.h>

/* Extras and everything they point at, in one block: this structure, the vectors' data, the text. */
typedef struct kept_extras {
    mbp_extras extras;
    mbp_allocator allocator;
    int own; /* 1: the block is from `allocator`; 0: from malloc */
    size_t bytes;
    mbp_vector vector[MBP_VECTORS_MAX];
    char names[MBP_VECTORS_MAX][MBP_NAME_SIZE];
} kept_extras;

static kept_extras *make_extras(const mbp_extras_source *s, const mbp_allocator *allocator) {
    json j = s->text;
    const size_t text_size = (size_t)json_string(&j, NULL, 0) + 1, data = (size_t)(s->end - s->begin);
    const size_t bytes = mbp_aligned(sizeof(kept_extras)) + data + MBP_VECTORS_MAX * MBP_ALIGNMENT + text_size;
    kept_extras *kept = mbp_allocate(allocator, bytes);
    if (!kept)
        return NULL;
    memset(kept, 0, sizeof *kept);
    if (allocator)
        kept->allocator = *allocator;
    kept->own = allocator != NULL;
    kept->bytes = bytes;
    kept->extras.vector = kept->vector;
    j = s->text;
    json_string(&j, (char *)kept + bytes - text_size, text_size);
    kept->extras.text = (char *)kept + bytes - text_size;
    return kept;
}

void mbp_extras_free(mbp_extras *extras) {
    kept_extras *kept = (kept_extras *)extras;
    if (!kept)
        return;
    const mbp_allocator allocator = kept->allocator;
    mbp_release(kept->own ? &allocator : NULL, kept, kept->bytes);
}

/* Adds the next vector to the list, without its data. Its data must start where the data of the vector before it
 * ends. */
static mbp_status read_vector(kept_extras *kept, const mbp_extras_source *s, json *j, mbp_dtype dtype, int64_t begin,
                              int64_t *end, mbp_error *error) {
    const int i = kept->extras.count;
    const int64_t item = (int64_t)mbp_dtype_size(dtype);
    mbp_entry e;
    if (i == MBP_VECTORS_MAX || !mbp_file_entry(j, &e) || !mbp_vector_named(e.name) || e.dims != 1 ||
        strcmp(e.dtype, mbp_dtype_name(dtype)) != 0 || e.begin != begin || e.end < begin || e.end > s->end ||
        (e.end - begin) % item || e.shape[0] != (e.end - begin) / item)
        return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("entry %d after the tensors is not a valid vector"), i);
    for (int k = 0; k < i; k++)
        if (strcmp(kept->names[k], e.name) == 0)
            return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("two vectors are named \"%s\""), e.name);
    memcpy(kept->names[i], e.name, strlen(e.name) + 1);
    kept->vector[i] = (mbp_vector){kept->names[i], NULL, e.shape[0]};
    kept->extras.count++;
    *end = e.end;
    return MBP_OK;
}

static mbp_status read_vectors(kept_extras *kept, const mbp_extras_source *s, mbp_dtype dtype, mbp_error *error) {
    char *to = (char *)kept + mbp_aligned(sizeof *kept);
    json entries = s->entries;
    int64_t begin = s->begin;
    while (!json_take(&entries, '}')) {
        int64_t end = begin;
        mbp_status status = read_vector(kept, s, &entries, dtype, begin, &end, error);
        if (status != MBP_OK)
            return status;
        const size_t bytes = (size_t)(end - begin);
        kept->vector[kept->extras.count - 1].data = memcpy(to, s->data + begin, bytes);
        to += mbp_aligned(bytes);
        begin = end;
    }
    if (!json_done(&entries) || begin != s->end)
        return mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("its header does not describe all of the data"));
    return MBP_OK;
}

mbp_status mbp_file_extras(mbp_extras **extras, const mbp_extras_source *source, const mbp_net *net, mbp_error *error) {
    kept_extras *kept = make_extras(source, mbp_net_allocator(net));
    if (!kept)
        return mbp_file_no_memory(error, source->file_bytes);
    mbp_status status = read_vectors(kept, source, mbp_net_dtype(net), error);
    const size_t length = strlen(kept->extras.text);
    if (status == MBP_OK && (!length || length >= MBP_NOTES_MAX || !mbp_is_utf8(kept->extras.text)))
        status = mbp_fail(error, MBP_CORRUPT, MBP_DAMAGED("its microbp.trainer is not a valid text"));
    if (status == MBP_OK)
        *extras = &kept->extras;
    else
        mbp_extras_free(&kept->extras);
    return status;
}
