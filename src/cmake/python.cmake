# The Python module, which scikit-build-core builds. The wheel also has all that install.cmake installs: its folder
# microbp is a prefix like /usr/local.
find_package(Python REQUIRED COMPONENTS Interpreter Development.Module ${SKBUILD_SABI_COMPONENT})
find_package(Cython MODULE REQUIRED VERSION 3.1)
include(UseCython)
cython_transpile(microbp/core/_core.pyx LANGUAGE C OUTPUT_VARIABLE core_c)
if(SKBUILD_SABI_COMPONENT)
  python_add_library(_core MODULE WITH_SOABI USE_SABI ${SKBUILD_SABI_VERSION} "${core_c}")
else()
  python_add_library(_core MODULE WITH_SOABI "${core_c}")
endif()
target_compile_options(_core PRIVATE ${MICROBP_NO_UNWIND} $<$<CONFIG:Release>:$<IF:$<C_COMPILER_ID:Clang>,-Oz,-O2>>) # no slower than -O3
target_link_libraries(_core PRIVATE microbp_static)
if(NOT APPLE) # the module has no function of the library that it does not call, and few that others see
  set(visible ${PROJECT_SOURCE_DIR}/src/cmake/python.map)
  target_link_options(_core PRIVATE -Wl,--version-script=${visible} -Wl,--gc-sections -Wl,--hash-style=gnu)
  set_target_properties(_core PROPERTIES LINK_DEPENDS ${visible})
endif()
install(TARGETS _core LIBRARY DESTINATION core)
# The formulas that exported C files contain
set(formulas formulas.h formulas.def rows.h random.h hash.c optimizers.h)
list(TRANSFORM formulas PREPEND ${PROJECT_SOURCE_DIR}/src/formulas/)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${formulas} src/cmake/formula_text.py)
execute_process(COMMAND ${Python_EXECUTABLE} ${PROJECT_SOURCE_DIR}/src/cmake/formula_text.py ${PROJECT_BINARY_DIR}/formulas.txt
                COMMAND_ERROR_IS_FATAL ANY)
install(FILES ${PROJECT_BINARY_DIR}/formulas.txt DESTINATION exchange/c)
