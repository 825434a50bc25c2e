# Run by scikit-build-core before it packs the sdist, which contains the library as two files too (pyproject.toml).
project(microbp LANGUAGES NONE)
find_package(Python3 REQUIRED COMPONENTS Interpreter)
execute_process(COMMAND ${Python3_EXECUTABLE} src/amalgamate.py amalgamation
                WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} COMMAND_ERROR_IS_FATAL ANY)
