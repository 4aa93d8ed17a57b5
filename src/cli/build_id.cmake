# Writes the file OUT with what identifies a build: the commit, and a digest of the compiled sources
# and flags.  cmake -DSOURCE=... -DOUT=... -DFLAGS=... -P build_id.cmake
#
# The digest is the SHA-256 of the lines "SHA-256 of the file, two spaces, path", in the order of the
# paths, followed by FLAGS and a newline.
file(GLOB_RECURSE files RELATIVE ${SOURCE} ${SOURCE}/src/* ${SOURCE}/include/*
    ${SOURCE}/data-prep/*)
list(FILTER files INCLUDE REGEX "\\.(c|h|def|proto|py)$")
file(GLOB cmake_files RELATIVE ${SOURCE} ${SOURCE}/cmake/*.cmake)
list(APPEND files ${cmake_files} CMakeLists.txt slurm/pretrain.sbatch)
list(SORT files)
set(lines "")
foreach(name IN LISTS files)
    file(SHA256 ${SOURCE}/${name} digest)
    string(APPEND lines "${digest}  ${name}\n")
endforeach()
string(SHA256 digest "${lines}${FLAGS}\n")
string(SUBSTRING ${digest} 0 12 digest)

execute_process(COMMAND git -C ${SOURCE} rev-parse --short=12 HEAD
    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT commit)
    set(commit "no commit")
endif()
execute_process(COMMAND git -C ${SOURCE} status --porcelain -- ${files}
    OUTPUT_VARIABLE changes OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(changes)
    string(APPEND commit "+changes")
endif()

set(content "#define SIM_COMMIT \"${commit}\"\n#define SIM_SOURCES \"${digest}\"\n")
if(EXISTS ${OUT})
    file(READ ${OUT} old)
endif()
if(NOT content STREQUAL "${old}")
    file(WRITE ${OUT} "${content}")
endif()
