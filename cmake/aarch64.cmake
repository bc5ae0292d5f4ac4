# Toolchain: cross-compiles for 64-bit ARM with the compilers of Debian and Ubuntu, and has ctest run what they make
# under emulation. `make test-aarch64` uses it.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)

# TensorRT's headers of this machine are not for that one.
set(SERPENT_TENSORRT_PREFIXES "")
