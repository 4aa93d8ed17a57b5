#!/usr/bin/env bash
# Idle threads wait actively for a bounded time only, whoever starts the program; a policy of the user
# is kept, and the arguments are.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
unset OMP_WAIT_POLICY GOMP_SPINCOUNT
spin() { # spin COMMAND...: the count that the OpenMP runtime has read, of the last process
    OMP_DISPLAY_ENV=verbose "$@" 2>&1 >/dev/null | grep -oE "GOMP_SPINCOUNT = '[^']*'" | tail -1 | cut -d"'" -f2
}
[ "$(spin "$simile" --version)" = 300 ] || fail "the count is $(spin "$simile" --version)"
[ "$(spin ranks 2 "$simile" bench step --steps 1 --batch 8)" = 300 ] || fail "under mpirun the count is $(spin ranks 2 "$simile" --version)"
[ "$(GOMP_SPINCOUNT=77 spin "$simile" --version)" = 77 ] || fail "GOMP_SPINCOUNT of the user is replaced"
[ "$(OMP_WAIT_POLICY=passive spin "$simile" --version)" = 0 ] || fail "OMP_WAIT_POLICY of the user is replaced"
cp "$simile" "renamed program"
expect 64 "" "./renamed program" "no such" "a  b"
grep -qF "no such" out.txt || fail "the arguments are lost"
PATH=$(dirname "$simile"):$PATH expect 0 "usage" "$(basename "$simile")" --help
