# Installs one library, static or shared, the headers, and what finds them: a CMake package and a file for pkg-config.
# Both libraries may be installed into one folder, one after the other. Paths are relative, so the folder can be moved.
include(CMakePackageConfigHelpers)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/microbp)
set(target microbp_${MICROBP_KIND})
install(TARGETS ${target} EXPORT ${target}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(EXPORT ${target} FILE ${target}.cmake NAMESPACE microbp:: DESTINATION ${package})
install(DIRECTORY src/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} PATTERN README.md EXCLUDE)
# cmake --install --strip strips programs and shared libraries only.
if(CMAKE_STRIP AND NOT APPLE AND MICROBP_KIND STREQUAL "static")
  cmake_path(APPEND CMAKE_INSTALL_LIBDIR $<TARGET_FILE_NAME:microbp_static> OUTPUT_VARIABLE archive)
  install(CODE "
    if(CMAKE_INSTALL_DO_STRIP)
      execute_process(COMMAND \"${CMAKE_STRIP}\" --strip-unneeded --remove-section=.comment --remove-section=.llvm_addrsig \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${archive}\"
                      COMMAND_ERROR_IS_FATAL ANY)
    endif()")
endif()

configure_package_config_file(src/cmake/microbpConfig.cmake.in ${PROJECT_BINARY_DIR}/microbpConfig.cmake
  INSTALL_DESTINATION ${package} NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/microbpConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/microbpConfig.cmake ${PROJECT_BINARY_DIR}/microbpConfigVersion.cmake
        DESTINATION ${package})

# The folders of GNUInstallDirs may be absolute; then they stay as they are.
set(folder ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
cmake_path(IS_ABSOLUTE folder MICROBP_PREFIX)
if(MICROBP_PREFIX)
  set(MICROBP_PREFIX ${CMAKE_INSTALL_PREFIX})
else()
  string(REGEX REPLACE "[^/]+" ".." up ${folder})
  set(MICROBP_PREFIX "\${pcfiledir}/${up}")
endif()
cmake_path(APPEND MICROBP_INCLUDEDIR "\${prefix}" ${CMAKE_INSTALL_INCLUDEDIR})
cmake_path(APPEND MICROBP_LIBDIR "\${prefix}" ${CMAKE_INSTALL_LIBDIR})
list(TRANSFORM MICROBP_NEEDS REPLACE "^Threads::Threads$" "-pthread")
list(TRANSFORM MICROBP_NEEDS REPLACE "^m$" "-lm")
string(JOIN " " MICROBP_NEEDS ${MICROBP_NEEDS})
if(MICROBP_KIND STREQUAL "static")
  set(MICROBP_LIBS "Libs: -L\${libdir} -lmicrobp ${MICROBP_NEEDS}")
else()
  set(MICROBP_LIBS "Libs: -L\${libdir} -lmicrobp\nLibs.private: ${MICROBP_NEEDS}")
endif()
configure_file(src/cmake/microbp.pc.in ${PROJECT_BINARY_DIR}/microbp.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/microbp.pc DESTINATION ${folder})
