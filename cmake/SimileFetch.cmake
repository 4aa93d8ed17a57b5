# SimileFetch.cmake - with SIMILE_FETCH=ON, small libraries that are missing are downloaded and compiled in.
#
# -DFETCHCONTENT_SOURCE_DIR_NAME=DIRECTORY (NAME: RANDOM123, XXHASH, JANSSON, YAML) uses a source tree that
# is there already, for machines without a connection.
option(SIMILE_FETCH "download and compile in Random123, xxHash, jansson and libyaml where they are missing" OFF)
include(FetchContent)

# Unpacks a source; its own CMakeLists.txt is not read.
macro(simile_unpack name repository tag)
    FetchContent_Declare(${name} GIT_REPOSITORY ${repository} GIT_TAG ${tag} GIT_SHALLOW ON SOURCE_SUBDIR none)
    FetchContent_MakeAvailable(${name})
endmacro()

# A static library that is compiled without our warnings and becomes part of libsimile.
function(simile_bundle name include)
    add_library(simile_${name} STATIC ${ARGN})
    target_include_directories(simile_${name} SYSTEM PUBLIC ${include})
    set_target_properties(simile_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
    add_library(Simile::${name} ALIAS simile_${name})
    set_property(GLOBAL APPEND PROPERTY SIMILE_BUNDLED ${name})
endfunction()

function(simile_fetch_random123)
    simile_unpack(random123 https://github.com/DEShawResearch/random123.git v1.14.0)
    add_library(Simile::random123 INTERFACE IMPORTED GLOBAL)
    target_include_directories(Simile::random123 SYSTEM INTERFACE ${random123_SOURCE_DIR}/include)
    set_property(GLOBAL APPEND PROPERTY SIMILE_BUNDLED random123)
endfunction()

function(simile_fetch_xxhash)
    simile_unpack(xxhash https://github.com/Cyan4973/xxHash.git v0.8.2)
    simile_bundle(xxhash ${xxhash_SOURCE_DIR} ${xxhash_SOURCE_DIR}/xxhash.c)
endfunction()

function(simile_fetch_yaml)
    simile_unpack(yaml https://github.com/yaml/libyaml.git 0.2.5)
    file(GLOB sources ${yaml_SOURCE_DIR}/src/*.c)
    simile_bundle(yaml ${yaml_SOURCE_DIR}/include ${sources})
    target_compile_definitions(simile_yaml PRIVATE YAML_VERSION_MAJOR=0 YAML_VERSION_MINOR=2 YAML_VERSION_PATCH=5
        "YAML_VERSION_STRING=\"0.2.5\"")
endfunction()

function(simile_fetch_jansson)
    simile_unpack(jansson https://github.com/akheron/jansson.git v2.14.1)
    file(GLOB sources ${jansson_SOURCE_DIR}/src/*.c)
    set(own ${CMAKE_BINARY_DIR}/simile_jansson)
    # What jansson's own build finds out, for Linux with gcc or clang.
    file(WRITE ${own}/jansson_config.h "#define JSON_INLINE inline\n#define JSON_INTEGER_IS_LONG_LONG 1\n"
        "#define JSON_HAVE_LOCALECONV 1\n#define JSON_HAVE_ATOMIC_BUILTINS 1\n#define JSON_HAVE_SYNC_BUILTINS 1\n"
        "#define JSON_PARSER_MAX_DEPTH 2048\n")
    file(WRITE ${own}/jansson_private_config.h "#define HAVE_STDINT_H 1\n#define HAVE_ENDIAN_H 1\n#define HAVE_FCNTL_H 1\n"
        "#define HAVE_SCHED_H 1\n#define HAVE_UNISTD_H 1\n#define HAVE_SYS_PARAM_H 1\n#define HAVE_SYS_STAT_H 1\n"
        "#define HAVE_SYS_TIME_H 1\n#define HAVE_SYS_TYPES_H 1\n#define HAVE_CLOSE 1\n#define HAVE_GETPID 1\n"
        "#define HAVE_GETTIMEOFDAY 1\n#define HAVE_LOCALECONV 1\n#define HAVE_OPEN 1\n#define HAVE_READ 1\n"
        "#define HAVE_SCHED_YIELD 1\n#define HAVE_STRTOLL 1\n#define HAVE_SYNC_BUILTINS 1\n#define HAVE_ATOMIC_BUILTINS 1\n"
        "#define USE_URANDOM 1\n#define INITIAL_HASHTABLE_ORDER 3\n")
    simile_bundle(jansson "${jansson_SOURCE_DIR}/src;${own}" ${sources})
    target_compile_definitions(simile_jansson PRIVATE HAVE_CONFIG_H)
endfunction()
