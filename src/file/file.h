/* Floor 8: networks as files. A file is a safetensors file that also has the graph:
 *
 *     8 bytes     N, the length of the header, little-endian
 *     N bytes     the header: JSON on one line, then spaces. N makes 8 + N a multiple of 64, and the whole file at
 *                 least mbp_file_least bytes long.
 *                     {"__metadata__":{"format":"microbp","microbp.format":"1","microbp.graph":"input 4\ndense 0 ...",
 *                      "microbp.seed":"0","microbp.rng":"philox4x32-10/1","microbp.crc32c":"1a2b3c4d",
 *                      "microbp.notes":"...","microbp.trainer":"..."},
 *                      "dense_0.weight":{"dtype":"F32","shape":[out,in],"data_offsets":[begin,end]},
 *                      "dense_0.bias":...}
 *     the rest    the data: the tensors in the order of the layers, without gaps. A matrix is (out, in) row-major,
 *                 the transpose of the one in memory.
 *
 * microbp.crc32c is the checksum of the whole file, computed with zeros in place of its own eight digits.
 * microbp.notes is there if the net has notes, microbp.dtype, as "F64", if a float64 net has no tensors, and
 * microbp.trainer if the file has extras; their vectors follow the tensors, each with the shape [count]. The same net
 * always gives the same bytes.
 *
 * file_write.c writes; file_read.c reads, with file_entry.c and file_extras.c. member_read.c reads files of several. */
#ifndef MBP_FILE_H
#define MBP_FILE_H

#include "file/json.h"
#include "net/graph.h"
#include "net/words.h"
#include "system/disk.h"
#include "system/text.h"

#define MBP_RNG "philox4x32-10/1"

enum {
    MBP_LITTLE_ENDIAN = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
    MBP_LENGTH_BYTES = 8,
    MBP_CRC_DIGITS = 8,
    MBP_FREE_COST = 32 << 10 /* mbp_file_least */
};

#define MBP_DAMAGED(what) "the file is damaged: " what "; restore it from a copy"

/* For mbp_fail_null: what an argument `extras` must point to. */
#define MBP_GETS_EXTRAS "an mbp_extras *, where the extras are stored"

/* Fail with the error of a build for a big-endian processor, and of a failed allocation. */
mbp_status mbp_file_wrong_host(mbp_error *error);
mbp_status mbp_file_no_memory(mbp_error *error, size_t bytes);

size_t mbp_dtype_size(mbp_dtype dtype);
/* The name in safetensors: "F32", "F64". */
const char *mbp_dtype_name(mbp_dtype dtype);

/* Whether a vector of the extras may have this name: like "trainer.slots.m", with at least two dots. */
int mbp_vector_named(const char *name);

/* The least size of a file with this graph. A net that is read from a file of n bytes needs at most 2 n + 32 KiB for
 * its graph (mbp_graph_cost), so a small file cannot cause a large allocation. Only graphs with hundreds of lines and
 * almost no parameters are padded to this size. */
size_t mbp_file_least(const char *graph);

/* The checksum of a whole file whose checksum digits start at `digits`. */
uint32_t mbp_file_checksum(const char *bytes, size_t size, size_t digits);
/* Transposes `from` (rows, cols) into `to` (cols, rows). Neither needs to be aligned. */
void mbp_file_transpose(char *to, const char *from, size_t rows, size_t cols, size_t item);
/* Whether a tensor is in files as it is in memory, (in, out): the rows of an embedding. Others are transposed. */
static inline int mbp_file_keeps(const mbp_net *net, const mbp_tensor *tensor) {
    return net->layer[mbp_find_layer(net, mbp_slice_of(tensor->layer))].kind == MBP_NODE_EMBEDDING;
}

/* Whether these first bytes can be those of a file that put_header began (mbp_disk_begun). */
int mbp_file_begun(const char *bytes, size_t count);

/* ---- shared by the files that read ---- */

/* Reads the caller's options into *own and checks the allocator. */
mbp_status mbp_file_options(mbp_options *own, const mbp_options *options, mbp_error *error);

/* Room for every string of a file except the graph, the notes and the trainer's text. */
enum { MBP_FILE_TEXT = 80 };

/* The entry of one tensor in the header. begin and end are offsets in the data. */
typedef struct mbp_entry {
    char name[MBP_FILE_TEXT], dtype[MBP_FILE_TEXT];
    int64_t shape[2], begin, end;
    int dims;
} mbp_entry;

/* Reads one entry, with the comma before it; returns 0 if there is no valid one. */
int mbp_file_entry(json *j, mbp_entry *entry);

/* Reads a number from 0 to 2^64 - 1 without a sign and without leading zeros; returns 0 if it is something else. */
int mbp_file_whole(mbp_slice text, uint64_t *value);

/* The parts of a file that extras are read from. */
typedef struct mbp_extras_source {
    json text;    /* the value of microbp.trainer, a valid JSON string */
    json entries; /* the rest of the header after the net's tensors */
    const char *data;
    int64_t begin, end; /* of the vectors in the data; end is the end of the file */
    size_t file_bytes;  /* for the error text */
} mbp_extras_source;

/* Reads the extras into a new block, which mbp_extras_free releases. */
mbp_status mbp_file_extras(mbp_extras **extras, const mbp_extras_source *source, const mbp_net *net, mbp_error *error);

#endif
