# The kernels of a wheel in the order of ordered.ld, if the linker can do it: then MICROBP_ORDERED are the flags that it needs, and
# microbp_order_kernels() joins the objects MICROBP_KERNELS. In other builds they stay as they are.
set(join ${CMAKE_C_COMPILER} -r -nostdlib -Wl,-T,${PROJECT_SOURCE_DIR}/src/cmake/ordered.ld)
set(empty ${PROJECT_BINARY_DIR}/empty.c)
file(WRITE ${empty} "")
execute_process(COMMAND ${join} -o ${empty}.o ${empty} RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
if(failed EQUAL 0)
  set(MICROBP_ORDERED -ffunction-sections)
  find_package(Python REQUIRED COMPONENTS Interpreter)
endif()

macro(microbp_order_kernels)
  set(kernels ${PROJECT_BINARY_DIR}/kernels.o)
  set(constants ${PROJECT_SOURCE_DIR}/src/cmake/constants.py)
  add_custom_command(OUTPUT ${kernels} COMMAND ${join} -o ${kernels} ${MICROBP_KERNELS}
                     COMMAND Python::Interpreter ${constants} ${kernels} COMMAND_EXPAND_LISTS VERBATIM
                     DEPENDS ${MICROBP_KERNELS} src/cmake/ordered.ld ${constants})
  set_source_files_properties(${kernels} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  set(MICROBP_KERNELS ${kernels})
endmacro()
