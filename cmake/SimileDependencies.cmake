# SimileDependencies.cmake - finds the libraries that simile links, as targets Simile::NAME.
#
# Used by CMakeLists.txt, and installed for projects that link libsimile.  A library is searched with
# pkg-config, then by header and library file; NAME_ROOT (a CMake or environment variable) is a prefix
# that is searched first and alone.  What is required and missing ends in an error that names the
# packages and the option.
#
# In:  SIMILE_WITH_JPEG, _PNG, _TIFF, _WEBP and _GIF, SIMILE_BUNDLED (names of libraries that were compiled into
#      libsimile)
# Out: Simile::NAME; the global properties SIMILE_PC_REQUIRES and SIMILE_PC_LIBS, for simile.pc
include(CheckCSourceCompiles)
include(${CMAKE_CURRENT_LIST_DIR}/SimileHDF5.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/SimileBLAS.cmake)

find_package(PkgConfig QUIET)

# Ends with what is missing, and how to get it.
function(simile_missing what debian rhel options)
    message(FATAL_ERROR "${what} was not found.\n"
        "  Debian, Ubuntu:  apt-get install ${debian}\n"
        "  Rocky, RHEL:     dnf install ${rhel}   (with EPEL and CRB)\n"
        "  elsewhere:       ${options}\n"
        "README.md, section Install, has the packages of other systems.")
endfunction()

# Searches one of the pkg-config modules; in a prefix only, if one is given.
macro(simile_pkg_search name root)
    set(saved_path "$ENV{PKG_CONFIG_LIBDIR}")
    if(NOT "${root}" STREQUAL "")
        set(ENV{PKG_CONFIG_LIBDIR} "${root}/lib/pkgconfig:${root}/lib64/pkgconfig:${root}/lib/${CMAKE_LIBRARY_ARCHITECTURE}/pkgconfig:${root}/share/pkgconfig")
    endif()
    if(PKG_CONFIG_FOUND)
        pkg_search_module(SIMILE_${name} QUIET IMPORTED_TARGET GLOBAL ${ARGN})
    endif()
    if(saved_path STREQUAL "")
        unset(ENV{PKG_CONFIG_LIBDIR})
    else()
        set(ENV{PKG_CONFIG_LIBDIR} "${saved_path}")
    endif()
endmacro()

# The prefix that the user gave for a library; empty if none.
function(simile_root out)
    set(${out} "" PARENT_SCOPE)
    foreach(name IN LISTS ARGN)
        if(DEFINED ${name}_ROOT)
            set(${out} "${${name}_ROOT}" PARENT_SCOPE)
            return()
        elseif(DEFINED ENV{${name}_ROOT})
            set(${out} "$ENV{${name}_ROOT}" PARENT_SCOPE)
            return()
        endif()
    endforeach()
endfunction()

# simile_find(NAME HEADER h [LIBRARY names] PKG modules DEBIAN package RHEL package): without LIBRARY, headers only.
function(simile_find name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "HEADER;DEBIAN;RHEL" "LIBRARY;PKG")
    string(TOLOWER ${name} lower)
    if(TARGET Simile::${lower})
        return()
    endif()
    if(lower IN_LIST SIMILE_BUNDLED)
        add_library(Simile::${lower} INTERFACE IMPORTED GLOBAL)
        return()
    endif()
    simile_root(root ${name} ${lower})
    if(arg_PKG)
        simile_pkg_search(${name} "${root}" ${arg_PKG})
    endif()
    if(SIMILE_${name}_FOUND)
        add_library(Simile::${lower} INTERFACE IMPORTED GLOBAL)
        target_link_libraries(Simile::${lower} INTERFACE PkgConfig::SIMILE_${name})
        if(arg_LIBRARY)
            set_property(GLOBAL APPEND PROPERTY SIMILE_PC_REQUIRES ${SIMILE_${name}_MODULE_NAME})
        endif()
        return()
    endif()
    set(where "")
    if(root)
        set(where PATHS ${root} NO_DEFAULT_PATH)
    endif()
    find_path(SIMILE_${name}_INCLUDE ${arg_HEADER} ${where} PATH_SUFFIXES include)
    mark_as_advanced(SIMILE_${name}_INCLUDE)
    set(found ${SIMILE_${name}_INCLUDE})
    if(arg_LIBRARY)
        find_library(SIMILE_${name}_LIBRARY NAMES ${arg_LIBRARY} ${where} PATH_SUFFIXES lib lib64 lib/${CMAKE_LIBRARY_ARCHITECTURE})
        mark_as_advanced(SIMILE_${name}_LIBRARY)
        if(NOT SIMILE_${name}_LIBRARY)
            set(found "")
        endif()
    endif()
    if(NOT found AND SIMILE_FETCH AND COMMAND simile_fetch_${lower})
        cmake_language(CALL simile_fetch_${lower})
        return()
    endif()
    if(NOT found)
        set(fetch "")
        if(COMMAND simile_fetch_${lower})
            set(fetch ", or let CMake download it: -DSIMILE_FETCH=ON")
        endif()
        simile_missing("${lower} (${arg_HEADER})" "${arg_DEBIAN}" "${arg_RHEL}" "its prefix: -D${name}_ROOT=DIRECTORY${fetch}")
    endif()
    add_library(Simile::${lower} INTERFACE IMPORTED GLOBAL)
    target_include_directories(Simile::${lower} SYSTEM INTERFACE ${SIMILE_${name}_INCLUDE})
    if(arg_LIBRARY)
        target_link_libraries(Simile::${lower} INTERFACE ${SIMILE_${name}_LIBRARY})
        set_property(GLOBAL APPEND PROPERTY SIMILE_PC_LIBS ${SIMILE_${name}_LIBRARY})
    endif()
endfunction()

# Which MPI the headers are of: openmpi, mpich (also Intel's and Cray's), or other.
function(simile_mpi_kind out)
    set(CMAKE_REQUIRED_LIBRARIES MPI::MPI_C)
    check_c_source_compiles("#include <mpi.h>
        #ifndef OPEN_MPI
        #error
        #endif
        int main(void) { return 0; }" SIMILE_MPI_IS_OPENMPI)
    check_c_source_compiles("#include <mpi.h>
        #ifndef MPICH_VERSION
        #error
        #endif
        int main(void) { return 0; }" SIMILE_MPI_IS_MPICH)
    if(SIMILE_MPI_IS_OPENMPI)
        set(${out} openmpi PARENT_SCOPE)
    elseif(SIMILE_MPI_IS_MPICH)
        set(${out} mpich PARENT_SCOPE)
    else()
        set(${out} other PARENT_SCOPE)
    endif()
endfunction()

# ---- MPI, OpenMP, threads ----
find_package(MPI QUIET COMPONENTS C)
if(NOT MPI_C_FOUND)
    simile_missing("MPI (mpi.h)" "libopenmpi-dev openmpi-bin (or: libmpich-dev mpich)"
        "openmpi-devel && module load mpi/openmpi-x86_64 (or: mpich-devel && module load mpi/mpich-x86_64)"
        "load its module, or give its compiler: -DMPI_C_COMPILER=/PREFIX/bin/mpicc")
endif()
simile_mpi_kind(SIMILE_MPI)
find_package(OpenMP QUIET COMPONENTS C)
if(NOT OpenMP_C_FOUND)
    string(REGEX MATCH "^[0-9]+" major "${CMAKE_C_COMPILER_VERSION}")
    simile_missing("OpenMP for ${CMAKE_C_COMPILER}" "libgomp1 (gcc) or libomp-${major}-dev (clang)" "libgomp (gcc) or libomp-devel (clang)"
        "another compiler: -DCMAKE_C_COMPILER=gcc")
endif()
find_package(Threads REQUIRED)

# ---- HDF5 and BLAS ----
simile_find_hdf5()
simile_find_blas()

# ---- small libraries ----
simile_find(RANDOM123 HEADER Random123/philox.h DEBIAN librandom123-dev RHEL random123-devel)
simile_find(XXHASH PKG libxxhash HEADER xxhash.h LIBRARY xxhash DEBIAN libxxhash-dev RHEL xxhash-devel)
simile_find(JANSSON PKG jansson HEADER jansson.h LIBRARY jansson DEBIAN libjansson-dev RHEL jansson-devel)
simile_find(YAML PKG yaml-0.1 HEADER yaml.h LIBRARY yaml DEBIAN libyaml-dev RHEL libyaml-devel)
simile_find(PROTOBUFC PKG libprotobuf-c HEADER protobuf-c/protobuf-c.h LIBRARY protobuf-c
    DEBIAN "libprotobuf-c-dev protobuf-c-compiler" RHEL protobuf-c-devel)
simile_find(ISAL PKG libisal HEADER isa-l/crc.h LIBRARY isal DEBIAN libisal-dev RHEL isa-l-devel)
if(SIMILE_WITH_JPEG)
    simile_find(JPEG PKG libjpeg HEADER jpeglib.h LIBRARY jpeg DEBIAN libjpeg62-turbo-dev RHEL libjpeg-turbo-devel)
endif()
if(SIMILE_WITH_PNG)
    simile_find(PNG PKG libpng HEADER png.h LIBRARY png DEBIAN libpng-dev RHEL libpng-devel)
endif()
if(SIMILE_WITH_TIFF)
    simile_find(TIFF PKG libtiff-4 HEADER tiffio.h LIBRARY tiff DEBIAN libtiff-dev RHEL libtiff-devel)
endif()
if(SIMILE_WITH_WEBP)
    simile_find(WEBP PKG libwebp HEADER webp/decode.h LIBRARY webp DEBIAN libwebp-dev RHEL libwebp-devel)
    simile_find(WEBPDEMUX PKG libwebpdemux HEADER webp/demux.h LIBRARY webpdemux DEBIAN libwebp-dev RHEL libwebp-devel)
endif()
if(SIMILE_WITH_GIF) # giflib has no file of pkg-config
    simile_find(GIF HEADER gif_lib.h LIBRARY gif DEBIAN libgif-dev RHEL giflib-devel)
endif()
