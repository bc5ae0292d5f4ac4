# Installed: what find_package(serpent) reads.
include("${CMAKE_CURRENT_LIST_DIR}/serpentTargets.cmake")
