#!/bin/bash
# smoke on this machine and on the SLURM of start.sh, where four things go wrong: a step's process
# is killed, a job is cancelled, the node goes down and comes up again, and Snakemake itself is
# killed and started again. Then both must have ended in the same results, byte by byte.
#
#   tests/slurm/trial.sh FOLDER [backbones=alexnet]     as root; half an hour on two cores
#
# What was committed is tried. Python needs .[batch] and snakemake-executor-plugin-slurm. A local
# study that is in FOLDER already is used again.
set -euo pipefail
[ $# -ge 1 ] || { sed -n 2,9p "$0" >&2; exit 2; }
mkdir -p "$1"
root="$(cd "$(dirname "$0")/../.." && pwd)" place="$(cd "$1" && pwd)" node="$(hostname -s)"
config=(profile=smoke "${@:2}")
work="$place/cluster-work"
export JUPYTER_PREFER_ENV_PATH=1 FACES_DATA_DIR="$place/no-faces" TF_CPP_MIN_LOG_LEVEL=3

study() { # local or cluster, options
  cd "$place/$1"
  export PYTHONPATH="$PWD" FACES_WORK_DIR="$place/$1-work"
  exec python -m snakemake --cores 2 "${@:2}" --config "${config[@]}"
}
submit() {
  (study cluster --profile profiles/slurm --slurm-status-command squeue) >>"$place/cluster.log" 2>&1 &
  submitter=$!
}
in_training() { # which run: wait until it has finished an epoch and its job runs; sets `job`
  echo "$(date +%T) waiting for an epoch of $1"
  while true; do
    kill -0 "$submitter" || { echo "error: Snakemake ended; see $place/cluster.log" >&2; exit 1; }
    job="$(find "$place/cluster/.snakemake" -path "*slurm_logs*$1*.log" -printf '%f\n' |
      sort -n | tail -1 | cut -d. -f1)"
    if [ -n "$job" ] && compgen -G "$work/runs/*$1*/resume.json" >/dev/null &&
      [ "$(squeue -h -j "$job" -o %T)" = RUNNING ]; then return; fi
    ! compgen -G "$work/runs/*$1*/metrics.json" >/dev/null || { echo "error: $1 was too fast" >&2; exit 1; }
    sleep 0.5
  done
}

"$root/tests/slurm/start.sh"
if ! [ -e "$place/local/reports/smoke/study/results.csv" ]; then
  git clone -q "$root" "$place/local"
  (study local) >"$place/local.log" 2>&1 || { echo "error: see $place/local.log" >&2; exit 1; }
fi
rm -rf "$place/cluster" "$work" "$place/cluster.log"
git clone -q "$root" "$place/cluster"
mkdir "$place/cluster/.snakemake"
submit
trap 'kill "$submitter" 2>/dev/null || true' EXIT

in_training alexnet-finetune
for pid in $(scontrol listpids "$job" | awk 'NR > 1 {print $1}'); do
  if tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q ipykernel; then
    echo "kernel $pid of job $job: killed"
    kill -9 "$pid"
  fi
done
in_training scratch
echo "job $job: cancelled"
scancel "$job"
in_training regress
echo "node of job $job: down, then up"
scontrol update nodename="$node" state=down reason=trial
sleep 10
scontrol update nodename="$node" state=resume
in_training regress
echo "Snakemake, process $submitter: killed and started again, while job $job runs"
kill -9 "$submitter"
wait "$submitter" || true
(study cluster --unlock) >>"$place/cluster.log" 2>&1
submit
wait "$submitter" || { echo "error: the study failed; see $place/cluster.log" >&2; exit 1; }

cd "$place"
for folder in cluster-work/runs/*/; do
  for file in metrics.json predictions.parquet; do
    cmp "$folder/$file" "local-work/runs/$(basename "$folder")/$file"
  done
done
[ ${#config[@]} -gt 1 ] || cmp cluster/reports/smoke/study/results.csv local/reports/smoke/study/results.csv
echo "$(find cluster-work/runs -name metrics.json | wc -l) runs: the same bytes as on this machine alone"
