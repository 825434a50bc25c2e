# The libraries, made of the same objects: microbp::microbp_static and microbp::microbp_shared. microbp::microbp is the
# static one, or the shared one if BUILD_SHARED_LIBS is on. Only that one is built unless the other is asked for.

set(MICROBP_NEEDS)
if(NOT WIN32)
  list(APPEND MICROBP_NEEDS m)
endif()
if(MICROBP_THREADS)
  list(APPEND MICROBP_NEEDS Threads::Threads)
  set(THREADS_PREFER_PTHREAD_FLAG ON)
  if(NOT TARGET Threads::Threads)
    find_package(Threads REQUIRED)
    set_property(TARGET Threads::Threads PROPERTY IMPORTED_GLOBAL TRUE) # for the projects around this one, which link it
  endif()
  target_link_libraries(microbp_objects PRIVATE Threads::Threads)
endif()

# PRIVATE: those who link a library get no flags of ours for their own files.
function(microbp_library kind type)
  add_library(microbp_${kind} ${type} EXCLUDE_FROM_ALL ${MICROBP_OBJECTS})
  add_library(microbp::microbp_${kind} ALIAS microbp_${kind})
  target_include_directories(microbp_${kind} INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src/include>
                                                       $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(microbp_${kind} PRIVATE ${MICROBP_NEEDS})
  set_target_properties(microbp_${kind} PROPERTIES OUTPUT_NAME microbp LINKER_LANGUAGE C)
endfunction()

microbp_library(static STATIC)
if(MICROBP_CAN_SHARE)
  microbp_library(shared SHARED)
  # Before 1.0, a minor version may change the interface, so programs are linked to one minor version.
  set_target_properties(microbp_shared PROPERTIES
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
endif()

if(BUILD_SHARED_LIBS AND MICROBP_CAN_SHARE)
  set(MICROBP_KIND shared)
else()
  set(MICROBP_KIND static)
endif()
add_library(microbp::microbp ALIAS microbp_${MICROBP_KIND})
set_target_properties(microbp_${MICROBP_KIND} PROPERTIES EXCLUDE_FROM_ALL FALSE)
