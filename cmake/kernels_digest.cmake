# Writes a C++ file that holds the digest of a library's kernels, for tests to find in the finished file:
#   cmake -DARCHIVE=<libserpent_kernels.a> -DOUTPUT=<file.cpp> -P kernels_digest.cmake
cmake_policy(VERSION 3.22)
file(SHA256 "${ARCHIVE}" digest)
file(CONFIGURE OUTPUT "${OUTPUT}" @ONLY CONTENT
"namespace {
[[gnu::used]] const char kernels_digest[] = \"serpent-kernels-sha256:@digest@\";
}
")
