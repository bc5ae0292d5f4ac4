# find_package(serpent) for C and C++ projects, in the installed package: targets serpent::scan (libserpent, the kernels)
# and, on Linux, serpent::engine (libserpent_engine, plans). `python -m serpent --cmake-dir` prints the folder.
set_target_properties(serpent PROPERTIES EXPORT_NAME scan)
if(TARGET serpent_engine)
  set_target_properties(serpent_engine PROPERTIES EXPORT_NAME engine)
endif()
# The same names for projects that add this one to their own build.
add_library(serpent::scan ALIAS serpent)
if(TARGET serpent_engine)
  add_library(serpent::engine ALIAS serpent_engine)
endif()
set(package_dir ${library_dir}/cmake/serpent)
install(EXPORT serpent NAMESPACE serpent:: FILE serpentTargets.cmake DESTINATION ${package_dir})

include(CMakePackageConfigHelpers)
# Before 1.0 a new minor version may change an interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/serpentConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_SOURCE_DIR}/cmake/serpentConfig.cmake ${PROJECT_BINARY_DIR}/serpentConfigVersion.cmake
  DESTINATION ${package_dir}
)
