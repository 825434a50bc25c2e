/* Floor 0: what this build of the library has. Each macro is 0 or 1; a compiler's -D sets it, and CMakeLists.txt sets
 * all of them. What is left out is not compiled: no function, no row of a table, no text. */
#ifndef MBP_CONFIG_H
#define MBP_CONFIG_H

/* Pools of threads (system/threads/pool.c). 0: mbp_pool_create and the other functions of pools do not exist. */
#ifndef MICROBP_THREADS
#define MICROBP_THREADS 0
#endif

/* Files (the room file, system/disk.c), which need the file functions of POSIX. */
#ifndef MICROBP_FILES
#if defined(__unix__) || defined(__APPLE__)
#define MICROBP_FILES 1
#else
#define MICROBP_FILES 0
#endif
#endif

/* Trainers (the room train), backward passes, losses, optimizers. 0: networks only predict. */
#ifndef MICROBP_TRAINING
#define MICROBP_TRAINING 1
#endif

/* 1: of the activations, losses, optimizers and initializers of formulas.def, only those that are asked for, such as
 * relu by MICROBP_HAS_relu=1, and those that these need. */
#ifndef MICROBP_FORMULAS
#define MICROBP_FORMULAS 0
#endif

/* The extras: parts of graphs and of training that many programs do not use. 0: what needs one is refused, with a text
 * that names it. FOCAL: losses with gamma. GAPS: weights of single targets, missing targets. JACOBIAN:
 * mbp_net_jacobian. INT8: networks of whole numbers, which need float32. LISTS: parameters of losses with a number for
 * each output. POSITIONS: grids, windows, pools, sequences, recurrent nodes. RANKS: training on several processes.
 * SCALES: outputs with a mean and a standard deviation. SOLVERS: optimizers that use all rows at once, such as lbfgs.
 * SPARSE: inputs in compressed sparse rows, ids and embeddings. The others are statements of graphs. */
#ifndef MICROBP_FOCAL
#define MICROBP_FOCAL 1
#endif
#ifndef MICROBP_GAPS
#define MICROBP_GAPS 1
#endif
#ifndef MICROBP_INT8
#define MICROBP_INT8 1
#endif
#ifndef MICROBP_JACOBIAN
#define MICROBP_JACOBIAN 1
#endif
#ifndef MICROBP_LISTS
#define MICROBP_LISTS 1
#endif
#ifndef MICROBP_POSITIONS
#define MICROBP_POSITIONS 1
#endif
#ifndef MICROBP_RANKS
#define MICROBP_RANKS 1
#endif
#ifndef MICROBP_SCALES
#define MICROBP_SCALES 1
#endif
#ifndef MICROBP_SLICE
#define MICROBP_SLICE 1
#endif
#ifndef MICROBP_SOLVERS
#define MICROBP_SOLVERS 1
#endif
#ifndef MICROBP_SPARSE
#define MICROBP_SPARSE 1
#endif
#ifndef MICROBP_STANDARDIZE
#define MICROBP_STANDARDIZE 1
#endif
#ifndef MICROBP_SUBTRACT
#define MICROBP_SUBTRACT 1
#endif

/* The dtypes of networks. MICROBP_DOUBLE, without a value, is another word for MICROBP_F64=1. */
#ifndef MICROBP_F32
#define MICROBP_F32 1
#endif
#ifndef MICROBP_F64
#ifdef MICROBP_DOUBLE
#define MICROBP_F64 1
#else
#define MICROBP_F64 0
#endif
#endif

/* Prefer small code to the last tenths of speed: fewer sizes of tiles, functions that are not inlined. The results have
 * the same bits. -Os turns it on. */
#ifndef MICROBP_SMALL
#ifdef __OPTIMIZE_SIZE__
#define MICROBP_SMALL 1
#else
#define MICROBP_SMALL 0
#endif
#endif

/* The variants of the kernels (kernels/dispatch.c), each compiled with flags of its own. None: the one that every
 * processor of the architecture can run. */
#if !MICROBP_SSE2 && !MICROBP_AVX2 && !MICROBP_AVX512 && !MICROBP_NEON && !MICROBP_GENERIC
#if defined(__x86_64__)
#define MICROBP_SSE2 1
#elif defined(__aarch64__)
#define MICROBP_NEON 1
#else
#define MICROBP_GENERIC 1
#endif
#endif

#ifdef MICROBP_EXTRAS
#error "MICROBP_EXTRAS is an option of CMake: to compile microbp.c without an extra, use -DMICROBP_GAPS=0 and the like"
#endif

/* Only 0 and 1 have a name here, so MBP_IS_DIGIT(OFF) and that of nothing are 0. */
#define MBP_IS_DIGIT_0 1
#define MBP_IS_DIGIT_1 1
#define MBP_IS_DIGIT(value) MBP_IS_DIGIT_(value)
#define MBP_IS_DIGIT_(value) MBP_IS_DIGIT_##value
#if !(MBP_IS_DIGIT(MICROBP_THREADS) && MBP_IS_DIGIT(MICROBP_FILES) && MBP_IS_DIGIT(MICROBP_TRAINING) && \
      MBP_IS_DIGIT(MICROBP_FORMULAS) && MBP_IS_DIGIT(MICROBP_SMALL) && MBP_IS_DIGIT(MICROBP_F32) && \
      MBP_IS_DIGIT(MICROBP_F64))
#error "MICROBP_THREADS, _FILES, _TRAINING, _FORMULAS, _SMALL, _F32 and _F64 must be 0 or 1, as in -DMICROBP_FILES=0"
#endif
#if !(MBP_IS_DIGIT(MICROBP_FOCAL) && MBP_IS_DIGIT(MICROBP_GAPS) && MBP_IS_DIGIT(MICROBP_JACOBIAN) && \
      MBP_IS_DIGIT(MICROBP_LISTS) && MBP_IS_DIGIT(MICROBP_POSITIONS) && MBP_IS_DIGIT(MICROBP_RANKS) && \
      MBP_IS_DIGIT(MICROBP_SCALES) && MBP_IS_DIGIT(MICROBP_INT8) && MBP_IS_DIGIT(MICROBP_SLICE) && \
      MBP_IS_DIGIT(MICROBP_SOLVERS) && MBP_IS_DIGIT(MICROBP_SPARSE) && MBP_IS_DIGIT(MICROBP_STANDARDIZE) && \
      MBP_IS_DIGIT(MICROBP_SUBTRACT))
#error "an extra (MICROBP_FOCAL, _GAPS, _JACOBIAN, _LISTS, _SCALES, _SLICE, ...) must be 0 or 1, as in -DMICROBP_GAPS=0"
#endif

#if !MICROBP_F32 /* int8 computes in float32 */
#undef MICROBP_INT8
#define MICROBP_INT8 0
#endif
#if !MICROBP_F32 && !MICROBP_F64
#error "no dtype: set MICROBP_F32 or MICROBP_F64 to 1"
#endif

/* MBP_IF(MACRO)(f, arguments) is f(arguments) if the macro is 1, and nothing if it is 0 or not defined; so is
 * MBP_EITHER for two macros. MBP_ONE_1 has a comma, which moves MBP_TAKE to the second place. */
#define MBP_IF(has) MBP_EITHER(has, 0)
#define MBP_EITHER(has, or) MBP_EITHER_(has, or)
#define MBP_EITHER_(has, or) MBP_SECOND(MBP_ONE_##has, MBP_SECOND(MBP_ONE_## or, MBP_LEAVE, ), )
#define MBP_SECOND(...) MBP_SECOND_(__VA_ARGS__)
#define MBP_SECOND_(first, second, ...) second
#define MBP_ONE_1 , MBP_TAKE
#define MBP_TAKE(f, ...) f(__VA_ARGS__)
#define MBP_LEAVE(...)

#endif
