#!/usr/bin/env bash
# simile-test: timeout 7200 processors 2 labels long
# MPICH, serial HDF5 and BLIS: builds without warnings, the tests on several ranks, and the same bits as
# this build.  MPICH polls, so where there are more ranks than processors only some tests run.
. "$SIMILE_SOURCE/tests/platform/root.sh"
# shellcheck disable=SC2086 # words
make_root mpich bookworm amd64 $build_packages libmpich-dev mpich libhdf5-dev libblis-dev liblapack-dev python3 python3-numpy python3-h5py python3-pil procps
configure mpich -DBUILD_TESTING=ON -DSIMILE_TIMEOUT_FACTOR=6
grep -q "BLAS: .*blis" configure.log || fail "BLIS was not found: $(grep BLAS: configure.log)"
compile mpich
in_root mpich/simile --version >version.txt
expect_lines 1 "^MPI  *MPICH" version.txt
expect_lines 1 "^BLAS  *BLIS" version.txt
for n in 1 2 3; do train mpich $n mpiexec.mpich; done
few='np[12]$|^(comm|loss)_.*_np[34]$'
[ "$(getconf _NPROCESSORS_ONLN)" -lt 4 ] || few=.
in_root ctest --test-dir mpich -L mpi -R "$few" --output-on-failure || fail "tests under MPICH"
in_root ctest --test-dir mpich -R 'comm_test_launch|e2e_test_(ranks|ranks_differ|hang|guard)$' --output-on-failure || fail "end-to-end tests under MPICH"
echo ok
