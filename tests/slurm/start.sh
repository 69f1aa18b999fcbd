#!/bin/bash
# A SLURM of one controller and one node with two slots, on this machine alone, to try
# profiles/slurm on. As root on Debian or Ubuntu, in a container if you like:
#
#   apt-get install --no-install-recommends slurm-wlm munge
#   tests/slurm/start.sh            start it, and wait until the node is idle
#   tests/slurm/start.sh stop       end it
#
# Its files are in /run/slurm-trial, its configuration is /etc/slurm/slurm.conf: Snakemake's jobs do
# not inherit SLURM_CONF. There is no accounting: add --slurm-status-command squeue.
set -euo pipefail
place=/run/slurm-trial conf=/etc/slurm/slurm.conf

if [ "${1:-}" = stop ]; then
  for file in "$place"/*.pid; do
    kill "$(cat "$file")" 2>/dev/null || true
  done
  exit 0
fi
for program in munged slurmctld slurmd; do
  command -v "$program" >/dev/null || { echo "error: $program is missing; see the head of $0" >&2; exit 2; }
done

if [ -e "$conf" ] && ! grep -q ClusterName=trial "$conf"; then
  echo "error: $conf is there: this machine belongs to a cluster; use another" >&2
  exit 2
fi
mkdir -p "$place/state" "$place/spool" "$(dirname "$conf")"
if ! munge -n >/dev/null 2>&1; then
  [ -f /etc/munge/munge.key ] || mungekey --create
  mkdir -p /run/munge
  chown -R munge: /run/munge /etc/munge /var/lib/munge /var/log/munge
  runuser -u munge -- munged --force
fi

cat >"$conf" <<EOF
ClusterName=trial
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.pid
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd.log
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MinJobAge=3600
KillWait=5
SlurmdTimeout=30
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=2 RealMemory=$(free -m | awk '/^Mem/ {print int($2 * 0.8)}')
PartitionName=short Nodes=ALL Default=YES MaxTime=INFINITE
EOF
slurmctld
slurmd
for _ in $(seq 30); do
  [ "$(sinfo -h -o %T)" = idle ] && break
  sleep 1
done
sinfo
