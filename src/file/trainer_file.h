/* Floor 8: the files of trainers. microbp_file.h describes their text and vectors.
 *
 * trainer_write.c writes them, trainer_read.c reads them. Both use the extras of a net's file (file.h). Python's
 * trainer_file.py writes and reads the same text independently, for both of its backends. */
#ifndef MBP_TRAINER_FILE_H
#define MBP_TRAINER_FILE_H

#include "file/file.h"
#include "train/trainer.h"

#define MBP_TRAINER_VERSION "3"
#define MBP_GRADS "trainer.state.grads"
#define MBP_AVERAGE "trainer.state.average"
#define MBP_ROWS "trainer.state.sparse"
#define MBP_SLOT "trainer.slots."
/* How the lines and vectors begin that only Python reads. A trainer keeps them for its next file. */
#define MBP_PYTHON_LINE "python."
#define MBP_PYTHON_VECTOR "trainer.python."

enum { MBP_PYTHON_LINES_MAX = 64 };

/* The name of the vector of the optimizer's i-th slot. */
void mbp_slot_name(const mbp_trainer *trainer, int i, char name[MBP_NAME_SIZE]);

#endif
