#!/bin/bash
# An extraction as an array of Slurm jobs: each task encodes its share of the units into one cache.
#
#     sbatch --array=0-7 slurm-array.sh CORPUS --data DIR --cache DIR --encoder NAME ...
#
# Tasks count from 0, as in --array=0-7. One that is stopped stores what it has finished, and is queued again.
#SBATCH --job-name=emocache
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# To this script alone, before the time is up: minutes for what is under way on a slow file system.
#SBATCH --signal=B:TERM@60
set -u

stopped=
child=
# shellcheck disable=SC2317 # called by the trap
stop() {
    stopped=yes
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
}
trap stop TERM

emocache extract "$@" --workers "${SLURM_CPUS_PER_TASK:-1}" \
    --shard "$((SLURM_ARRAY_TASK_ID + 1))/$SLURM_ARRAY_TASK_COUNT" &
child=$!
[ -z "$stopped" ] || kill -TERM "$child" 2>/dev/null # it came before there was a child

# A signal ends the waiting, and not what is waited for.
while
    wait "$child"
    status=$?
    [ "$status" -gt 128 ] && kill -0 "$child" 2>/dev/null
do :; done

if [ -n "$stopped" ] && [ "$status" -gt 128 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$status"
