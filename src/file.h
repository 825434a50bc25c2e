/* Floor 5: networks as files. A file is a safetensors file that also carries the graph:
 *
 *     8 bytes        N, the header's length, little-endian
 *     N bytes        JSON, padded with spaces until 8 + N is a multiple of 64 and the file has the least size below:
 *                    {"__metadata__":{"format":"microbp","microbp.format":"1","microbp.graph":"input 4\ndense 0 ...","microbp.seed":"0",
 *                     "microbp.rng":"philox4x32-10/1","microbp.crc32c":"1a2b3c4d","microbp.notes":"...","microbp.trainer":"..."},
 *                     "dense_0.weight":{"dtype":"F32","shape":[out,in],"data_offsets":[begin,end]},"dense_0.bias":...}
 *     the rest       the tensors, in layer order and without gaps; a matrix is (out, in) row-major, the transpose of what memory holds
 *
 * The checksum is of the whole file with its own eight digits taken as zeros. The notes are there if the net has some; the trainer's text
 * if the file has extras, whose vectors then follow the tensors, each with the shape [count]. The same net always gives the same bytes.
 * file.c writes, reader.c reads.
 *
 * The least size bounds what a reader needs by what it is given: a graph may cost (mbp_graph_cost) twice the file and 32 KiB, no more. Only
 * graphs of hundreds of lines with hardly a parameter come near it. */
#ifndef MBP_FILE_H
#define MBP_FILE_H

#include "disk.h"
#include "net.h"

#define MBP_RNG "philox4x32-10/1"

enum { MBP_LITTLE_ENDIAN = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, MBP_LENGTH_BYTES = 8, MBP_CRC_DIGITS = 8, MBP_FREE_COST = 32 << 10 };

/* How a build for a big-endian processor answers. */
mbp_status mbp_file_wrong_host(mbp_error *error);
mbp_status mbp_file_no_memory(mbp_error *error, size_t bytes);

size_t mbp_dtype_size(mbp_dtype dtype);
const char *mbp_dtype_name(mbp_dtype dtype); /* as safetensors calls it */

/* Whether a vector among the extras may have this name. */
int mbp_vector_named(const char *name);

/* The least size of a file of this graph. */
size_t mbp_file_least(const char *graph);

/* Of a whole file whose own digits begin at `digits`. */
uint32_t mbp_file_checksum(const char *bytes, size_t size, size_t digits);
/* Where a tensor stands in memory. */
char *mbp_file_tensor(const mbp_net *net, const mbp_tensor *tensor);
/* Between memory (in, out) and file (out, in): `from` is (rows, cols); neither side need be aligned. */
void mbp_file_transpose(char *to, const char *from, size_t rows, size_t cols, size_t item);

#endif
