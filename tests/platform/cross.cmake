# Included by the toolchain files of other architectures, which set CMAKE_SYSTEM_PROCESSOR and TRIPLET: Debian's cross
# compiler and libraries; programs run under qemu.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_C_COMPILER ${TRIPLET}-gcc)
set(CMAKE_LIBRARY_ARCHITECTURE ${TRIPLET})
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-${CMAKE_SYSTEM_PROCESSOR}-static)
set(ENV{PKG_CONFIG_LIBDIR} /usr/lib/${TRIPLET}/pkgconfig:/usr/share/pkgconfig)
# mpicc of that architecture does not run here, so the results of FindMPI are set here.
set(MPI_C_COMPILER_INCLUDE_DIRS /usr/lib/${TRIPLET}/openmpi/include)
set(MPI_C_HEADER_DIR /usr/lib/${TRIPLET}/openmpi/include)
set(MPI_C_LIB_NAMES mpi)
set(MPI_mpi_LIBRARY /usr/lib/${TRIPLET}/openmpi/lib/libmpi.so)
