# shellcheck shell=bash
# Sourced after e2e/common.sh: the job whose weights are compared between builds.

# write_job STEPS: writes job.yaml and its data set train.h5
write_job() {
    data_set train 96 8
    cat >job.yaml <<YAML
run: reference
data: {train: train.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.0625}
batch: 24
block: 4
schedule: {steps: $1}
augment: {preset: digits}
YAML
}
