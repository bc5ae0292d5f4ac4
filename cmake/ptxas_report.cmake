# Runs one CUDA compilation and writes what `ptxas -v` says of its kernels beside the object, as <object>.ptxas:
#   cmake -P ptxas_report.cmake -- nvcc ... -o <object> ...
# Registers and spills of a kernel are known only here; the tests read these files.
cmake_policy(VERSION 3.22)
set(command "")
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(index RANGE 4 ${last})
  list(APPEND command "${CMAKE_ARGV${index}}")
endforeach()
list(FIND command -o index)
math(EXPR index "${index} + 1")
list(GET command ${index} object)

execute_process(COMMAND ${command} ERROR_VARIABLE said RESULT_VARIABLE status)
file(WRITE "${object}.ptxas" "${said}")
# Warnings and errors still reach the terminal.
string(REGEX REPLACE "ptxas info[^\n]*\n|    [0-9]+ bytes stack frame[^\n]*\n" "" said "${said}")
if(said)
  message("${said}")
endif()
if(NOT status EQUAL 0)
  message(FATAL_ERROR "nvcc failed (${status})")
endif()
