/* Part of microbp.h: files. A library that is compiled without MICROBP_FILES does not have these functions. */
#ifndef MICROBP_FILE_H
#define MICROBP_FILE_H

#include "microbp_train.h"

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

/* One network of a file of several, as Python's bp.Ensemble.save, bp.fit_table and `microbp train` write: network
 * number `member`, from 0. *members: how many the file has; *weight: how much the network counts in the mean of the
 * predictions, 1 if the file has no weights. Both may be NULL. The prediction of the ensemble is the sum of weight x
 * prediction of all networks, divided by the sum of the weights. A file of one network has one member. MBP_INVALID:
 * there is no such member. The whole file is checked, as mbp_net_load checks it. */
MBP_API mbp_status mbp_net_load_member(mbp_net **net, const char *path, int member, int *members, double *weight,
                                       const mbp_options *options, mbp_error *error);
MBP_API mbp_status mbp_net_read_member(mbp_net **net, const void *bytes, size_t size, int member, int *members,
                                       double *weight, const mbp_options *options, mbp_error *error);

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

/* Trainers: the file of a net that also has its trainer: losses, optimizer, slots, gradients, average, counts, seed.
 * Training goes on bit for bit as if it had not been interrupted. Python's t.save and bp.Trainer.load write and read
 * the same files, so training may go on in the other language. Load makes the net too: free the trainer, then the net.
 * What only Python knows (its history, its schedule, ...) stays with the trainer, and its next file has it again.
 * "epoch" counts the epochs of both languages; the history has records of Python's alone.
 * Save between steps: of a backward pass without its update, the next running statistics of batch_norm are not saved.
 * Set betas before the first step: the bias corrections of Adam and the like are computed again, from the step count
 * and the betas of now. A loss that the caller computes is NULL again; Python reads files whose losses all have names,
 * or none. The trainer of a part (mbp_net_part) gives MBP_UNSUPPORTED, unless the part has all layers of its net in the
 * same order. Loading a file of n bytes allocates less than 6 n + 64 KiB. */
MBP_API mbp_status mbp_trainer_save(const mbp_trainer *trainer, const char *path, mbp_error *error);
MBP_API mbp_status mbp_trainer_load(mbp_trainer **trainer, mbp_net **net, const char *path, const mbp_options *options,
                                    mbp_error *error);
/* In memory, as mbp_net_write and mbp_net_read. */
MBP_API mbp_status mbp_trainer_write(const mbp_trainer *trainer, void *bytes, size_t *size, mbp_error *error);
MBP_API mbp_status mbp_trainer_read(mbp_trainer **trainer, mbp_net **net, const void *bytes, size_t size,
                                    const mbp_options *options, mbp_error *error);
/* The trainer's text in the file (mbp_extras.text) has one KEY=VALUE per line, the version first:
 *     version=3
 *     losses=cross_entropy(label_smoothing=0) none   for each output a SPEC, or none: the caller computes the loss
 *     loss_weights=1 0.5                             a number for each output
 *     optimizer=adam(lr=0.001,beta1=0.9)             a SPEC with the numbers of now; missing ones have their defaults
 *     clip_norm=10                                   the other numbers of mbp_trainer_set that have not their defaults
 *     seed=12
 *     steps=6
 *     epoch=3
 *     loss=0.25
 *     last_loss=nan
 *     average_decay=0.999                            the average, as in mbp_trainer_set_average; the lines are there
 *     average_start=0                                only if there is one
 *     average_every=1
 *     average_count=6
 *     sparse=words 2 ids 40                          sparse layers, each with the number of rows of its gradient
 *     python.history=["loss","lr"]                   what only Python knows; C does not read the values
 * Numbers are decimals with at most 15 digits, or hexadecimal (0x1.8p-3), inf or nan. The vectors are
 * trainer.state.grads (with the gradients of sparse layers), trainer.slots.NAME for each slot of the optimizer,
 * trainer.state.average (parameters, then buffers), trainer.state.sparse (the numbers of the rows of sparse layers: of
 * each row / 65536 and the remainder), and trainer.python.NAME. */

#ifdef __cplusplus
}
#endif

#endif
