# SimileInstall.cmake - what `cmake --install` installs, and the Debian package of cpack.
#
# The program, libsimile (all modules but cli) with headers and files for pkg-config and CMake, jobs,
# Slurm scripts, completion, manual pages.  Nothing contains the prefix: the tree may be moved.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/simile)
set(share ${CMAKE_INSTALL_DATADIR}/simile)
get_property(bundled GLOBAL PROPERTY SIMILE_BUNDLED)

# ---- libsimile ----
add_library(libsimile STATIC)
foreach(module IN LISTS MODULES)
    target_sources(libsimile PRIVATE $<TARGET_OBJECTS:sim_${module}>)
endforeach()
foreach(name onnx event)
    target_sources(libsimile PRIVATE $<TARGET_OBJECTS:${name}_messages>)
endforeach()
foreach(name IN LISTS bundled)
    if(TARGET simile_${name})
        target_sources(libsimile PRIVATE $<TARGET_OBJECTS:simile_${name}>)
    endif()
endforeach()
set_target_properties(libsimile PROPERTIES OUTPUT_NAME simile EXPORT_NAME simile LINKER_LANGUAGE C)
target_include_directories(libsimile INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set(linked xxhash jansson yaml blas hdf5 protobufc isal)
foreach(name jpeg png tiff webp gif)
    string(TOUPPER ${name} upper)
    if(SIMILE_WITH_${upper})
        list(APPEND linked ${name})
    endif()
endforeach()
if(SIMILE_WITH_WEBP)
    list(APPEND linked webpdemux)
endif()
list(REMOVE_ITEM linked ${bundled} none)
list(TRANSFORM linked PREPEND Simile::)
target_link_libraries(libsimile INTERFACE ${linked} MPI::MPI_C OpenMP::OpenMP_C Threads::Threads m)

# ---- simile.pc: libraries that have a .pc file by name, others by path ----
get_property(pc_requires GLOBAL PROPERTY SIMILE_PC_REQUIRES)
list(REMOVE_ITEM pc_requires libarchive cmocka)
list(JOIN pc_requires ", " pc_requires)
get_property(pc_libs GLOBAL PROPERTY SIMILE_PC_LIBS)
list(FILTER pc_libs EXCLUDE REGEX "(archive|cmocka)[^/]*$")
list(APPEND pc_libs ${MPI_C_LIBRARIES} ${OpenMP_C_LIBRARIES} -pthread -lm)
list(JOIN pc_libs " " pc_libs)
file(RELATIVE_PATH up /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
string(REGEX REPLACE "/$" "" up "${up}")
configure_file(cmake/simile.pc.in install/simile.pc @ONLY)

configure_package_config_file(cmake/simileConfig.cmake.in install/simileConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/install/simileConfigVersion.cmake COMPATIBILITY SameMinorVersion)

install(TARGETS simile RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS libsimile EXPORT simileTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT simileTargets NAMESPACE simile:: DESTINATION ${package})
install(FILES ${CMAKE_BINARY_DIR}/install/simileConfig.cmake ${CMAKE_BINARY_DIR}/install/simileConfigVersion.cmake
    cmake/SimileDependencies.cmake cmake/SimileHDF5.cmake cmake/SimileBLAS.cmake DESTINATION ${package})
install(FILES ${CMAKE_BINARY_DIR}/install/simile.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(DIRECTORY include/simile DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

# ---- jobs, scripts, documents ----
install(DIRECTORY jobs/ DESTINATION ${share}/jobs FILES_MATCHING PATTERN "*.yaml" PATTERN "imagenet100.txt" PATTERN "README.md" PATTERN results EXCLUDE)
file(GLOB scripts CONFIGURE_DEPENDS slurm/*.sbatch)
install(PROGRAMS ${scripts} DESTINATION ${share}/slurm)
install(FILES slurm/README.md slurm/environment.yml slurm/simile.def DESTINATION ${share}/slurm)
install(FILES jobs/completion.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME simile)
install(FILES README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)

# Manual pages are made of --help, so the program is started.
find_program(HELP2MAN help2man)
mark_as_advanced(HELP2MAN)
if(HELP2MAN AND NOT CMAKE_CROSSCOMPILING)
    install(CODE "execute_process(COMMAND bash ${CMAKE_SOURCE_DIR}/jobs/man
        \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_MANDIR}\" $<TARGET_FILE:simile> COMMAND_ERROR_IS_FATAL ANY)")
else()
    message(STATUS "No manual pages will be installed: help2man is missing, or this is a cross build")
endif()

# ---- cpack ----
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME simile)
set(CPACK_PACKAGE_CONTACT "the authors of simile <simile@example.org>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "pre-train image encoders by contrastive learning on CPU clusters")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# The launcher; libraries are found by dpkg-shlibdeps.
set(CPACK_DEBIAN_PACKAGE_DEPENDS openmpi-bin)
if(SIMILE_MPI STREQUAL "mpich")
    set(CPACK_DEBIAN_PACKAGE_DEPENDS mpich)
endif()
include(CPack)
