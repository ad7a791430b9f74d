# What every target shares: language, warnings, sanitizers, and the functions that make libraries, programs and tests.

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()
set(RMJOB_SANITIZE "" CACHE STRING "Sanitizers to build with: address,undefined or thread")
option(RMJOB_FUZZ "Build tests/fuzz alone, with the libraries it needs; clang only" OFF)

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_program(RMJOB_CCACHE ccache)
if(RMJOB_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${RMJOB_CCACHE})
endif()

add_library(rmjob_flags INTERFACE)
target_include_directories(rmjob_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
target_compile_definitions(rmjob_flags INTERFACE _GNU_SOURCE)
# -ffp-contract=off: a fused multiply-add changes bits, so it happens only where it is written (promise P3).
target_compile_options(rmjob_flags INTERFACE -Wall -Wextra -Wpedantic -Werror -Wshadow -Wstrict-prototypes
                       -Wmissing-prototypes -Wvla -fno-omit-frame-pointer -ffp-contract=off -O2)
if(RMJOB_SANITIZE)
  target_compile_options(rmjob_flags INTERFACE -fsanitize=${RMJOB_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(rmjob_flags INTERFACE -fsanitize=${RMJOB_SANITIZE})
endif()
if(RMJOB_FUZZ)
  # The tree is written against gcc's warnings; clang's own are not held against it.
  target_compile_options(rmjob_flags INTERFACE -fsanitize=fuzzer-no-link -w)
endif()
target_link_libraries(rmjob_flags INTERFACE Threads::Threads m)

# rmjob_library(NAME SOURCES a.c b.c [DEPENDS rmjob_base PkgConfig::X ...])
function(rmjob_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_DEPENDS} rmjob_flags)
endfunction()

# rmjob_program(NAME SOURCES main.c [DEPENDS ...]): a program that is installed and lands in <build>/bin.
function(rmjob_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} rmjob_flags)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
  install(TARGETS ${name} RUNTIME DESTINATION bin)
endfunction()

# What every test is started with. gRPC is not built with sanitizers: its own reports are left out, by name and with a reason,
# in tests/support.
set(RMJOB_TEST_ENVIRONMENT "RMJOB_BIN=${CMAKE_BINARY_DIR}/bin" "RMJOB_SOURCE=${CMAKE_SOURCE_DIR}")
if(RMJOB_SANITIZE)
  # Many tests kill processes on purpose and go on, so that a report of a child could pass for one more death. All reports
  # therefore go to one folder, and the test sanitizer_reports fails when anything is in it. Undefined behaviour aborts, because
  # its runtime writes to standard error whatever it is told; the abort is then reported.
  set(RMJOB_REPORTS ${CMAKE_BINARY_DIR}/sanitizer-reports)
  set(RMJOB_REPORT_OPTIONS "log_path=${RMJOB_REPORTS}/report log_exe_name=1")
  list(APPEND RMJOB_TEST_ENVIRONMENT
    "ASAN_OPTIONS=${RMJOB_REPORT_OPTIONS} handle_abort=1"
    "UBSAN_OPTIONS=${RMJOB_REPORT_OPTIONS} abort_on_error=1 print_stacktrace=1"
    "LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/support/lsan.supp print_suppressions=0"
    "TSAN_OPTIONS=${RMJOB_REPORT_OPTIONS} suppressions=${CMAKE_SOURCE_DIR}/tests/support/tsan.supp")
  add_test(NAME sanitizer_reports_clear COMMAND ${CMAKE_SOURCE_DIR}/tests/support/sanitizer_reports clear ${RMJOB_REPORTS})
  add_test(NAME sanitizer_reports COMMAND ${CMAKE_SOURCE_DIR}/tests/support/sanitizer_reports check ${RMJOB_REPORTS})
  set_tests_properties(sanitizer_reports_clear PROPERTIES FIXTURES_SETUP reports)
  set_tests_properties(sanitizer_reports PROPERTIES FIXTURES_CLEANUP reports)
endif()

# rmjob_test(NAME SOURCES test_x.c [DEPENDS ...] [LABELS unit|golden|sim|fault|e2e|...] [TIMEOUT seconds] [ARGS ...])
# A cmocka program. Exit code 77 is a visible skip. RMJOB_DATA names the folder of real models and data, if any.
function(rmjob_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPENDS;LABELS;ARGS" ${ARGN})
  pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} PkgConfig::CMOCKA rmjob_flags)
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT} SKIP_RETURN_CODE 77
    ENVIRONMENT "${RMJOB_TEST_ENVIRONMENT}")
  if(RMJOB_SANITIZE)
    set_tests_properties(${name} PROPERTIES FIXTURES_REQUIRED reports)
  endif()
endfunction()

# rmjob_script_test(NAME COMMAND ... [LABELS ...] [TIMEOUT ...]): the same for a script.
function(rmjob_script_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "COMMAND;LABELS" ${ARGN})
  add_test(NAME ${name} COMMAND ${ARG_COMMAND} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT} SKIP_RETURN_CODE 77
    ENVIRONMENT "${RMJOB_TEST_ENVIRONMENT}")
  if(RMJOB_SANITIZE)
    set_tests_properties(${name} PROPERTIES FIXTURES_REQUIRED reports)
  endif()
endfunction()
