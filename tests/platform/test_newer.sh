#!/usr/bin/env bash
# simile-test: timeout 7200 processors 2 labels long
# Debian 13: gcc 14, Open MPI 5 and HDF5 1.14 build without warnings and train to the same bits.
. "$SIMILE_SOURCE/tests/platform/root.sh"
# shellcheck disable=SC2086 # words
make_root newer trixie amd64 $build_packages libopenmpi-dev openmpi-bin libhdf5-dev libopenblas-dev python3 procps
configure newer -DBUILD_TESTING=ON -DSIMILE_TIMEOUT_FACTOR=4
compile newer
in_root newer/simile --version >version.txt
expect_lines 1 "^MPI  *Open MPI v5" version.txt
expect_lines 1 "^HDF5  *HDF5 1\.14" version.txt
for n in 1 2 3; do train newer $n mpiexec --oversubscribe --bind-to none; done
in_root ctest --test-dir newer -L 'unit|mpi' -LE long -E check_ --output-on-failure || fail "unit tests"
echo ok
