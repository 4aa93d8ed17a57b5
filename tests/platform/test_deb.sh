#!/usr/bin/env bash
# simile-test: timeout 3600 processors 2 labels long
# cpack's package of this build installs on a clean Debian root and runs the quickstart's job there, with
# the bits of this build.
. "$SIMILE_SOURCE/tests/platform/root.sh"
command -v dpkg-shlibdeps >/dev/null || skip "${0##*/}, dpkg-dev is not installed"
(cd "$SIMILE_BUILD" && cpack -G DEB -B "$scratch/package") >cpack.log 2>&1 || { tail -n 30 cpack.log && fail "cpack"; }
package=$(echo package/simile_*.deb)
dpkg-deb --contents "$package" >contents.txt
for file in usr/bin/simile usr/lib.*/libsimile.a usr/include/simile/loss.h usr/share/simile/jobs/quickstart.yaml \
    usr/share/simile/slurm/pretrain.sbatch usr/share/man/man1/simile.1 usr/share/doc/simile/copyright; do
    grep -qE "\./$file$" contents.txt || fail "the package has no $file"
done

make_root clean "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$(dpkg --print-architecture)" ca-certificates
cp -a "$root" clean # packages are installed in a copy
root=$scratch/clean
[ ! -e "$root/usr/bin/mpirun" ] || fail "the root is not clean"
cp "$package" "$root/build/simile.deb"
in_root bash -c "apt-get -qq update && apt-get -qq install -y --no-install-recommends ./simile.deb" >apt.log 2>&1 || { tail -n 20 apt.log && fail "the package does not install"; }
cmp <("$simile" --version) <(in_root simile --version) || fail "the installed program differs"

# the quickstart's job, on digits instead of MNIST
data_set digits 600 28
few=(data.train=digits.h5 data.test=digits.h5 schedule.steps=4)
expect 0 "" in_root bash -c "cd /scratch && mpirun -np 2 --oversubscribe simile pretrain /usr/share/simile/jobs/quickstart.yaml ${few[*]} run=run"
expect 0 "" ranks 2 "$simile" pretrain "$SIMILE_SOURCE/jobs/quickstart.yaml" "${few[@]}" run=reference
same_weights reference run
expect 0 "top-1" in_root bash -c "cd /scratch && simile evaluate knn run --train digits.h5 --test digits.h5"
in_root apt-get -qq remove -y simile >apt.log 2>&1 || fail "the package cannot be removed"
[ ! -e "$root/usr/share/simile" ] || fail "files of the package are left"
echo ok
