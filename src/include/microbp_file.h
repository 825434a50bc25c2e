/* Part of microbp.h: files. */
#ifndef MICROBP_FILE_H
#define MICROBP_FILE_H

#include "microbp_net.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Files: safetensors with the graph in the metadata and a CRC-32C of the whole file. A save writes all or nothing. A
 * loaded net has the dtype and the seed of the file, not those of `options`. Loading a file of n bytes allocates less
 * than 4 n + 64 KiB, even if the file is damaged. */
MBP_API mbp_status mbp_net_save(const mbp_net *net, const char *path, mbp_error *error);
MBP_API mbp_status mbp_net_load(mbp_net **net, const char *path, const mbp_options *options, mbp_error *error);
/* Like save and load, but in memory. *size: on entry the size of the buffer `bytes`, on return the size needed.
 * MBP_INVALID if the buffer is too small. */
MBP_API mbp_status mbp_net_write(const mbp_net *net, void *bytes, size_t *size, mbp_error *error);
MBP_API mbp_status mbp_net_read(mbp_net **net, const void *bytes, size_t size, const mbp_options *options,
                                mbp_error *error);

/* Extras: data that a file may have besides the net, such as the state of a trainer: a UTF-8 text, and flat vectors in
 * the net's dtype. The name of a vector has at least three parts with dots between them ("trainer.slots.m"), so it is
 * never the name of a tensor. The parts consist of letters, digits, _ and -. The name has at most 63 characters. The
 * functions above load only the net of such a file, but they check the whole file. */
typedef struct mbp_vector {
    const char *name;
    const void *data;
    int64_t count;
} mbp_vector;

typedef struct mbp_extras {
    const char *text; /* not empty, and shorter than MBP_NOTES_MAX bytes */
    const mbp_vector *vector;
    int count; /* at most MBP_VECTORS_MAX */
} mbp_extras;
enum { MBP_VECTORS_MAX = 64 };

/* Like the four functions above, with extras (NULL: none). Load and read set *extras to NULL if the file has none;
 * otherwise the caller frees it. */
MBP_API mbp_status mbp_net_save_with(const mbp_net *net, const mbp_extras *extras, const char *path, mbp_error *error);
MBP_API mbp_status mbp_net_load_with(mbp_net **net, mbp_extras **extras, const char *path, const mbp_options *options,
                                     mbp_error *error);
MBP_API mbp_status mbp_net_write_with(const mbp_net *net, const mbp_extras *extras, void *bytes, size_t *size,
                                      mbp_error *error);
MBP_API mbp_status mbp_net_read_with(mbp_net **net, mbp_extras **extras, const void *bytes, size_t size,
                                     const mbp_options *options, mbp_error *error);
MBP_API void mbp_extras_free(mbp_extras *extras);

#ifdef __cplusplus
}
#endif

#endif
