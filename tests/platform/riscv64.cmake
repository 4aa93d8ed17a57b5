set(CMAKE_SYSTEM_PROCESSOR riscv64)
set(TRIPLET riscv64-linux-gnu)
include(${CMAKE_CURRENT_LIST_DIR}/cross.cmake)
