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
target_compile_options(_core PRIVATE ${MICROBP_NO_UNWIND} $<$<CONFIG:Release>:-O2>) # Cython's code is no faster with -O3
target_link_libraries(_core PRIVATE microbp_static)
install(TARGETS _core LIBRARY DESTINATION core)
