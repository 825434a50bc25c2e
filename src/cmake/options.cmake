# What the library has. An option leaves code out: no function, no row of a table, no text. Sets
#   MICROBP_ISAS, MICROBP_DTYPES   the variants of the kernels
#   MICROBP_SOURCES                the sources, without those of the kernels
#   MICROBP_HAS                    the definitions of src/config/config.h

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set(isas sse2 avx2 avx512) # every processor of the architecture has the first one
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64|ARM64")
  set(isas neon)
else()
  set(isas generic)
endif()
set(MICROBP_ISAS "${isas}" CACHE STRING "Instruction sets; the best that the processor has is chosen when the program runs. generic: any processor")
set(MICROBP_DTYPES "f32;f64" CACHE STRING "Types of the numbers in networks")
set(MICROBP_FORMULAS "" CACHE STRING "Names of activations, losses, optimizers and initializers; empty: all. What they need is added")
set(extras focal gaps int8 jacobian lists positions ranks scales slice solvers sparse standardize subtract)
set(MICROBP_EXTRAS "${extras}" CACHE STRING "Parts of graphs and of training that small programs may not need; empty: none of them")
option(MICROBP_TRAINING "Trainers; OFF: networks only predict" ON)
option(MICROBP_FILES "Networks as safetensors files" ON)
option(MICROBP_THREADS "Threads that share the work of large calls" ON)

# microbp_check_words(OPTION VALID...): every word of the option is one of the others.
function(microbp_check_words option)
  foreach(word IN LISTS ${option})
    if(NOT word IN_LIST ARGN)
      list(JOIN ARGN ", " valid)
      message(FATAL_ERROR "${option}: unknown \"${word}\"; valid, with ; between them: ${valid}")
    endif()
  endforeach()
endfunction()

set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS src/formulas/formulas.def src/kernels/dispatch.c)
file(READ src/formulas/formulas.def text)
string(REGEX MATCHALL "\nROW\\([A-Z_]+, [a-z0-9_]+" names "${text}")
list(TRANSFORM names REPLACE ".* " "")
list(REMOVE_DUPLICATES names)
list(APPEND isas generic)
microbp_check_words(MICROBP_ISAS ${isas})
microbp_check_words(MICROBP_DTYPES f32 f64)
microbp_check_words(MICROBP_FORMULAS ${names})
microbp_check_words(MICROBP_EXTRAS ${extras})
if(NOT MICROBP_ISAS OR NOT MICROBP_DTYPES)
  message(FATAL_ERROR "MICROBP_ISAS and MICROBP_DTYPES must name at least one")
endif()

# microbp_has(NAME CONDITION...): MICROBP_NAME is 1 or 0.
set(MICROBP_HAS "")
macro(microbp_has name)
  if(${ARGN})
    list(APPEND MICROBP_HAS MICROBP_${name}=1)
  else()
    list(APPEND MICROBP_HAS MICROBP_${name}=0)
  endif()
endmacro()
microbp_has(F32 f32 IN_LIST MICROBP_DTYPES)
microbp_has(F64 f64 IN_LIST MICROBP_DTYPES)
microbp_has(THREADS MICROBP_THREADS)
microbp_has(FILES MICROBP_FILES)
microbp_has(TRAINING MICROBP_TRAINING)
microbp_has(FORMULAS MICROBP_FORMULAS)
if(NOT f32 IN_LIST MICROBP_DTYPES)
  list(REMOVE_ITEM MICROBP_EXTRAS int8) # it computes in float32
endif()
foreach(extra IN LISTS extras)
  string(TOUPPER ${extra} name)
  microbp_has(${name} extra IN_LIST MICROBP_EXTRAS)
endforeach()
foreach(isa IN LISTS MICROBP_ISAS)
  string(TOUPPER ${isa} name)
  list(APPEND MICROBP_HAS MICROBP_${name}=1)
endforeach()
foreach(name IN LISTS MICROBP_FORMULAS)
  list(APPEND MICROBP_HAS MICROBP_HAS_${name}=1)
endforeach()

set(MICROBP_SOURCES
  src/formulas/hash.c src/formulas/meanings.c src/formulas/random.c
  src/kernels/catalog.c src/kernels/dispatch.c src/kernels/pooling/pooling.c src/kernels/pooling/patches.c
  src/system/floats.c src/system/memory.c src/system/text.c src/system/spec.c src/system/cpus.c
  src/net/words.c src/net/statements.c src/net/graph.c src/net/properties.c src/net/reshape.c src/net/workspace.c
  src/net/net.c src/net/idle.c src/net/lock/lock.c src/net/states/states.c src/net/states/length.c
  src/arrays/array.c src/arrays/ids.c src/arrays/sparse_array.c
  src/passes/apart.c src/passes/inputs.c src/passes/norms.c src/passes/passes.c src/passes/predict.c src/passes/sparse.c
  src/passes/plan/products.c src/passes/positions/positions.c src/passes/positions/windows.c src/passes/positions/lengths.c
  src/passes/positions/recurrent.c)
if(int8 IN_LIST MICROBP_EXTRAS)
  list(APPEND MICROBP_SOURCES src/int8/dots.c src/int8/int8_create.c src/int8/int8_predict.c)
endif()
if(MICROBP_THREADS)
  list(APPEND MICROBP_SOURCES src/system/threads/clock.c src/system/threads/place.c src/system/threads/pool.c)
endif()
if(MICROBP_TRAINING)
  list(APPEND MICROBP_SOURCES
    src/formulas/focal.c src/passes/plan/plan.c src/passes/backward.c src/passes/derivatives/jacobian.c
    src/train/batch.c src/train/loss.c src/train/update.c src/train/trainer.c src/train/state.c src/train/solving.c
    src/train/sparse_layers.c src/train/sparse/lazy.c src/train/steps/step.c src/train/steps/gradients.c src/train/steps/parts.c
    src/train/steps/iterate.c src/train/steps/own_loss.c src/train/steps/least_squares.c
    src/train/solvers/solvers.c src/train/solvers/trials.c src/train/solvers/line_search.c src/train/solvers/lbfgs.c
    src/train/solvers/scg.c src/train/solvers/cholesky.c src/train/solvers/levenberg_marquardt.c
    src/train/solvers/minimize.c
    src/train/fitting/ends.c src/train/fitting/epoch.c src/train/fitting/fit.c src/train/fitting/measure.c
    src/train/fitting/standardize.c src/train/fitting/targets.c)
  if(ranks IN_LIST MICROBP_EXTRAS)
    list(APPEND MICROBP_SOURCES
      src/passes/joint_norms.c src/train/steps/reduce.c src/train/steps/join_rows.c src/train/steps/means.c)
  endif()
endif()
if(MICROBP_FILES)
  list(APPEND MICROBP_SOURCES src/system/disk.c
    src/file/file_write.c src/file/file_entry.c src/file/file_extras.c src/file/file_read.c
    src/file/member_read.c)
  if(MICROBP_TRAINING)
    list(APPEND MICROBP_SOURCES src/file/trainer_write.c src/file/trainer_read.c)
  endif()
endif()
