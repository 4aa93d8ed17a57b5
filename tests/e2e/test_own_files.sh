#!/usr/bin/env bash
# simile-test: timeout 600
# Files of the user in a run directory: none is replaced or changed.  Files of a run that are damaged
# or of another program are reported, kept, and rebuilt; the weights do not change.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
data_set train 64 8
write_job() { # write_job RUN: in the form that people write
    cat <<YAML
# my notes
run: $1
data: {train: $scratch/train.h5}
method: {name: simclr}
encoder: {width: 0.0625}
batch: 16
block: 8
schedule: {steps: 4}
augment: {preset: digits}
log: {every_steps: 1}
checkpoint: {every_steps: 2}
YAML
}
unchanged() { cmp -s "$1" "$2" || { diff "$1" "$2" >&2 || true; fail "$2 was changed"; }; }
resolved() { # resolved FILE TEXT: FILE is a resolved job with TEXT
    grep -q "^# Resolved job, written by simile" "$1" || fail "$1 is not a resolved job"
    grep -q -- "$2" "$1" || { cat "$1"; fail "$1 does not have: $2"; }
}
write_job reference >job.yaml
expect 0 "" "$simile" pretrain job.yaml
resolved reference/config.yaml "batch: 16"
[ ! -e reference/config.resolved.yaml ] || fail "two resolved jobs"

# ---- the job file of this start, by several spellings of its path ----
i=0
for spelling in own/config.yaml ./own/../own/config.yaml "$scratch/own/config.yaml" link.yaml hard.yaml; do
    i=$((i + 1))
    rm -rf own link.yaml hard.yaml
    mkdir own
    write_job own >own/config.yaml
    cp own/config.yaml kept.yaml
    ln -s own/config.yaml link.yaml
    ln own/config.yaml hard.yaml
    expect 75 "config.resolved.yaml" "$simile" pretrain "$spelling" optimizer.lr=0.25 schedule.steps=8 --stop-after 2
    unchanged kept.yaml own/config.yaml
    unchanged kept.yaml hard.yaml
    resolved own/config.resolved.yaml "lr: 0.25"
done
expect 75 "config.resolved.yaml" ranks 2 "$simile" pretrain own/config.yaml optimizer.lr=0.25 schedule.steps=8 log.every_steps=2 --stop-after 3 # resumed
unchanged kept.yaml own/config.yaml
resolved own/config.resolved.yaml "every_steps: 2"
for command in "inspect own" "plan own/config.yaml" "embed own --data train.h5 --out own.h5" "evaluate knn own --train train.h5 --test train.h5 --k 3"; do
    # shellcheck disable=SC2086
    expect 0 "" "$simile" $command
done
unchanged kept.yaml own/config.yaml
# the user's file is removed: the resolved job returns to its name
rm own/config.yaml
expect 75 "" "$simile" pretrain job.yaml run=own optimizer.lr=0.25 schedule.steps=8 --stop-after 4
resolved own/config.yaml "lr: 0.25"
[ ! -e own/config.resolved.yaml ] || fail "a stale resolved job is left"
# a resolved job that is the job file: kept too, also if it comes from another run
cp own/config.yaml kept.yaml
expect 75 "config.resolved.yaml" "$simile" pretrain own/config.yaml log.every_steps=3 --stop-after 5
unchanged kept.yaml own/config.yaml
resolved own/config.resolved.yaml "every_steps: 3"
# both names are the user's
mkdir both && write_job both >both/config.yaml && cp both/config.yaml both/config.resolved.yaml && cp both/config.yaml kept.yaml
expect_match 0 "warning: .*both/config\.yaml.*config\.resolved\.yaml" "$simile" pretrain both/config.yaml
unchanged kept.yaml both/config.yaml
unchanged kept.yaml both/config.resolved.yaml

# ---- a config.yaml that is not the job file ----
mkdir -p foreign edited linked directory/config.yaml
printf 'model: {layers: 3}\n' >foreign/config.yaml
{ cat reference/config.yaml; echo "# a note"; } >edited/config.yaml
write_job elsewhere >elsewhere.yaml && ln -s ../elsewhere.yaml linked/config.yaml
for run in foreign edited linked; do
    cp "$run/config.yaml" kept.yaml
    for stop in 2 3; do # a start, and a resumed one
        expect 75 "config.resolved.yaml" "$simile" pretrain job.yaml run=$run --stop-after $stop
        unchanged kept.yaml "$run/config.yaml"
    done
    resolved "$run/config.resolved.yaml" "run: .*$run"
done
[ -L linked/config.yaml ] || fail "the link was replaced"
expect 75 "config.resolved.yaml" "$simile" pretrain job.yaml run=directory --stop-after 2
# a run of an earlier version, whose config.yaml has no first line: replaced
cp -r "$SIMILE_SOURCE/tests/golden/0.1.0" golden
(
    cd golden
    xz -d run/checkpoints/*.xz
    expect 0 "" "$simile" pretrain job.yaml --accept arithmetic
    resolved run/config.yaml "batch: 16"
    [ ! -e run/config.resolved.yaml ] || fail "the config.yaml of an earlier version was not recognized"
    ! compgen -G "run/*.old-*" || fail "files of an earlier version were set aside"
)

# ---- other files of this name: kept under another name, with a warning ----
mkdir -p theirs/results
printf 'hello\n' | tee theirs/{metrics.jsonl,segments.json,log.txt,trace-hash.txt,results/pretrain.json,stop} >/dev/null
expect 0 "" "$simile" pretrain job.yaml run=theirs --trace-hash
for name in metrics.jsonl segments.json log.txt trace-hash.txt results/pretrain.json; do
    expect_lines 1 "warning: .*theirs/$name: .*theirs/$name\.old-1"
    [ "$(cat "theirs/$name.old-1")" = hello ] || fail "$name of the user is gone"
done
[ "$(cat theirs/stop)" = hello ] || fail "stop of the user is gone"
expect_match 66 "no job is running" "$simile" stop theirs
same_run reference theirs
expect 0 "" "$simile" inspect theirs

# ---- damaged files of a run: rebuilt, and the history of the checkpoints stays ----
expect 75 "" "$simile" pretrain job.yaml run=stopped checkpoint.every_steps=100 --stop-after 2 --trace-hash
n=$(stat -c %s stopped/segments.json)
valid='[{"id":"a","start":"s","end":"e","nodes":1,"hosts":["h"],"ranks":1,"threads":1,"kernels":"k","build":"b","batch":16,"from_step":0,"to_step":2,"images_per_s":1.0,"slowest_checkpoint_s":0.1,"ended":"killed"}]'
{
    for cut in 0 1 2 $((n / 2)) $((n - 3)); do head -c "$cut" stopped/segments.json | base64 -w0; echo; done
    for text in '{}' '{"segments": []}' '[1, "two", null]' '[{}]' '[[]]' "${valid/\"to_step\":2/\"to_step\":\"2\"}" \
        "${valid/\"from_step\":0/\"from_step\":-7}" "${valid/\"batch\":16/\"batch\":0}" "${valid/\"ended\":\"killed\"/\"ended\":3}" \
        "${valid/\"from_step\":0/\"from_step\":9}" '[{"name": "epoch1", "loss": 0.5}]' $'\x89HDF\r\n\x1a\n' "$valid trailing"; do
        printf '%s' "$text" | base64 -w0
        echo
    done
} >cases.txt
[ "$(wc -l <cases.txt)" = 18 ] || fail "$(wc -l <cases.txt) cases"
cp -r stopped damaged # the figures contain the path
want=$("$simile" inspect damaged --json 2>/dev/null)
while read -r text; do
    rm -rf damaged && cp -r stopped damaged
    base64 -d <<<"$text" >damaged/segments.json
    cp damaged/segments.json kept.json
    expect_match 0 "warning: .*damaged/segments\.json: " "$simile" inspect damaged --json
    [ "$(grep '^{' out.txt)" = "$want" ] || fail "inspect shows other figures for: $(cat kept.json)"
    unchanged kept.json damaged/segments.json
done <cases.txt
for text in $(sed -n '1p;4p;8p;11p;17p' cases.txt); do
    rm -rf damaged && cp -r stopped damaged
    base64 -d <<<"$text" >damaged/segments.json
    cp damaged/segments.json kept.json
    expect_match 0 "warning: .*damaged/segments\.json: .*segments\.json\.old-1" "$simile" pretrain job.yaml run=damaged
    unchanged kept.json damaged/segments.json.old-1
    same_run reference damaged
    expect 0 "" "$simile" inspect damaged --json
    expect_lines 0 "warning"
    grep -q '"to_step":2' out.txt && grep -q '"to_step":4' out.txt || fail "a segment is missing"
done
# a line in the middle of metrics or trace is damaged: the other lines are kept
rm -rf damaged && cp -r stopped damaged
sed -i '1s/.*/{"loss": 1}/' damaged/metrics.jsonl
sed -i '3s/.*/garbage/' damaged/trace-hash.txt
expect_match 0 "warning: .*damaged/metrics\.jsonl: line 1\b.*metrics\.jsonl\.old-1" "$simile" pretrain job.yaml run=damaged --trace-hash
expect_lines 1 "warning: .*damaged/trace-hash\.txt: line 3\b.*trace-hash\.txt\.old-1"
[ "$(metric_steps damaged | tr '\n' ' ')" = "2 3 4 " ] || fail "metrics: $(metric_steps damaged)"
same_weights reference damaged
# truncated: the missing steps are named; within a line of a step that is recomputed, as by a kill: no warning
for size in 0 20 50%; do
    rm -rf damaged && cp -r stopped damaged
    [ $size != 50% ] || size=$(($(stat -c %s damaged/metrics.jsonl) - 5))
    truncate -s "$size" damaged/metrics.jsonl
    expect_match 0 "warning: .*damaged/metrics\.jsonl: .*steps [12] to 2 " "$simile" pretrain job.yaml run=damaged
    expect_lines 0 "old-"
done
rm -rf damaged && cp -r stopped damaged
printf '{"step":3,"epo' >>damaged/metrics.jsonl
expect 0 "" "$simile" pretrain job.yaml run=damaged
expect_lines 0 "metrics.jsonl"
same_run reference damaged
# a stop within a log interval, of which the first steps only filled the queue: no line is missing
expect 75 "" "$simile" pretrain job.yaml run=filled method.name=mocov2 method.queue_size=32 method.queue.warm=prefill \
    batchnorm.group=8 schedule.steps=12 log.every_steps=8 --stop-after 6
expect 0 "" "$simile" pretrain job.yaml run=filled method.name=mocov2 method.queue_size=32 method.queue.warm=prefill \
    batchnorm.group=8 schedule.steps=12 log.every_steps=8
expect_lines 0 "metrics.jsonl"
# a complete last line without a line break is kept
rm -rf damaged && cp -r stopped damaged
truncate -s -1 damaged/metrics.jsonl
expect 0 "" "$simile" pretrain job.yaml run=damaged
expect_lines 0 "metrics.jsonl"
same_run reference damaged
head -n 2 stopped/metrics.jsonl | cmp -n "$(stat -c %s stopped/metrics.jsonl)" - damaged/metrics.jsonl || fail "metrics.jsonl was changed"
# checkpoints are removed, as by the purge of a scratch disk: the metrics of the lost run are kept
rm -rf damaged && cp -r stopped damaged
rm -r damaged/checkpoints
expect_match 0 "warning: .*damaged/metrics\.jsonl: .*no checkpoint.*metrics\.jsonl\.old-1" "$simile" pretrain job.yaml run=damaged
unchanged stopped/metrics.jsonl damaged/metrics.jsonl.old-1
same_run reference damaged
for name in metrics.jsonl log.txt trace-hash.txt; do # binary
    rm -rf damaged && cp -r stopped damaged
    head -c 3000 /dev/zero >damaged/$name
    expect_match 0 "warning: .*damaged/$name: " "$simile" pretrain job.yaml run=damaged --trace-hash
    same_weights reference damaged
done
echo ok
