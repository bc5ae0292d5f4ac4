# Decides whether the CUDA kernels are built, and enables the CUDA language for them.
#   in   SERPENT_CUDA  AUTO (build them where a usable nvcc is found), ON (insist) or OFF
#   out  serpent_cuda  ON or OFF
include("${CMAKE_CURRENT_LIST_DIR}/find_nvcc.cmake")

# Machine code for each generation, and PTX of the newest for what comes after.
set(SERPENT_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90-real 100-real 120-real 120-virtual)

if(NOT SERPENT_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "SERPENT_CUDA is ${SERPENT_CUDA}; expected AUTO, ON or OFF")
endif()
set(serpent_cuda OFF)
set(state "not asked for")
if(NOT SERPENT_CUDA STREQUAL "OFF")
  # Looked for once per build folder: the answer stays in the cache, as that of every compiler does.
  if(NOT SERPENT_NVCC OR NOT SERPENT_NVCC STREQUAL CMAKE_CUDA_COMPILER)
    serpent_find_nvcc(nvcc problems)
    set(SERPENT_NVCC "${nvcc}" CACHE INTERNAL "The nvcc that was tried and works")
  endif()
  if(SERPENT_NVCC)
    set(serpent_cuda ON)
    set(CMAKE_CUDA_COMPILER "${SERPENT_NVCC}" CACHE FILEPATH "nvcc" FORCE)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
      set(CMAKE_CUDA_ARCHITECTURES ${SERPENT_CUDA_ARCHITECTURES})
    endif()
    enable_language(CUDA)
    set(state "built by nvcc ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
  else()
    set(state "not built, they need nvcc >= ${SERPENT_NVCC_MINIMUM} (${problems}); install the CUDA toolkit or its \
wheels (pip install '.[cuda-build]', and build again), or name a host compiler with CUDAHOSTCXX, an nvcc with CUDACXX")
    # Asked for, or with a compiler of the caller's choice: nothing else takes its place.
    if(SERPENT_CUDA STREQUAL "ON" OR CMAKE_CUDA_COMPILER OR NOT "$ENV{CUDACXX}" STREQUAL "")
      message(FATAL_ERROR "CUDA kernels: ${state}")
    endif()
  endif()
endif()
message(STATUS "CUDA kernels: ${state}")
set(SERPENT_CUDA_STATE "${state}" CACHE INTERNAL "What became of SERPENT_CUDA; the tests read it")
