#!/usr/bin/env bash
# The real services that `make test-services` needs, on this machine only: PostgreSQL, SLURM and Ray (two nodes each).
#
#   tests/services/services.sh start    installs (Debian, as root) and starts what is missing; `make services`
#   tests/services/services.sh stop     ends what it started, by process id; `make services-stop`
#   tests/services/services.sh status   says what runs; code 0 if something does
#
# Everything is in one folder, $SEQJAX_SERVICES: data, logs, generated secrets, and `env`, which says where each service
# is. The folder is not in the checkout: sockets need short paths, and the user of PostgreSQL must reach its data.
set -uo pipefail

HERE=$(cd "$(dirname "$0")/../.." && pwd)
STATE=${SEQJAX_SERVICES:-/tmp/seqjax-services-$(id -u)}
POSTGRES_PORT=46432 SLURMCTLD_PORT=46817 SLURMD_PORTS=(46818 46819) RAY_PORT=46379
BIN=$HERE/.venv/bin
failures=0

say() { printf '%-11s %s\n' "$1" "$2"; }
fail() { say "$1" "FAILED: $2" >&2; failures=$((failures + 1)); return 1; }
secret() { [ -s "$2" ] || (umask 077 && head -c "$1" /dev/urandom | od -An -tx1 | tr -d ' \n' > "$2"); }

# started NAME COMMAND...: runs it in the background and notes its process id.
started() {
  local name=$1
  shift
  setsid "$@" < /dev/null >> "$STATE/$name.log" 2>&1 &
  echo $! > "$STATE/$name.pid"
}

# running NAME: whether the process that `started` noted lives. A number alone may belong to another process by now.
running() {
  [ -s "$STATE/$1.pid" ] && grep -qzF -- "$STATE" "/proc/$(cat "$STATE/$1.pid")/environ" 2> /dev/null
}

within() { # within SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@" > /dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}

need() { # need SERVICE PROGRAM PACKAGE...
  local service=$1 program=$2
  shift 2
  command -v "$program" > /dev/null && return
  command -v apt-get > /dev/null || { fail "$service" "$program is missing and there is no apt-get: install $*"; return; }
  [ "$(id -u)" -eq 0 ] || { fail "$service" "$program is missing: as root, apt-get install $*"; return; }
  say "$service" "installs $*"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } \
    >> "$STATE/apt.log" 2>&1 || fail "$service" "apt-get install $*: $(tail -n 1 "$STATE/apt.log")"
}

postgres_ready() { PGPASSWORD=$(cat "$STATE/postgres.secret") psql -h 127.0.0.1 -p $POSTGRES_PORT -U seqjax seqjax -c 'select 1'; }
slurm_ready() { [ "$(sinfo --noheader --partition=normal --format '%T %D')" = 'idle 2' ]; }
ray_ready() { # ray_ready NODES
  "$BIN/python" -c "
import sys, ray
ray.init('127.0.0.2:$RAY_PORT', log_to_driver=False, logging_level='error')
sys.exit(sum(node['Alive'] for node in ray.nodes()) < $1)"
}

postgres_start() {
  running postgres && { say postgres "runs already"; return; }
  PATH=$PATH:$(printf '%s:' /usr/lib/postgresql/*/bin)
  need postgres initdb postgresql || return
  local data=$STATE/postgres as=()
  [ "$(id -u)" -eq 0 ] && as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
  if [ ! -d "$data" ]; then
    secret 16 "$STATE/postgres.secret"
    mkdir "$data" && cp -p "$STATE/postgres.secret" "$STATE/initdb.secret"
    [ ${#as[@]} -eq 0 ] || chown postgres: "$data" "$STATE/initdb.secret"
    "${as[@]}" "$(command -v initdb)" -D "$data" -U seqjax --auth=scram-sha-256 --pwfile="$STATE/initdb.secret" \
      > "$STATE/initdb.log" 2>&1 || { rm -rf "$data"; fail postgres "$STATE/initdb.log"; return; }
  fi
  started postgres "${as[@]}" "$(command -v postgres)" -D "$data" -p $POSTGRES_PORT -h 127.0.0.1 -k ''
  within 30 env PGPASSWORD="$(cat "$STATE/postgres.secret")" \
    psql -h 127.0.0.1 -p $POSTGRES_PORT -U seqjax postgres -c 'select 1' || { fail postgres "$STATE/postgres.log"; return; }
  postgres_ready > /dev/null 2>&1 || PGPASSWORD=$(cat "$STATE/postgres.secret") \
    createdb -h 127.0.0.1 -p $POSTGRES_PORT -U seqjax seqjax || { fail postgres "cannot create the database"; return; }
  say postgres "started on 127.0.0.1:$POSTGRES_PORT, $(postgres --version)"
}

slurm_start() {
  running munge && running slurmctld && running slurmd1 && running slurmd2 && { say slurm "runs already"; return; }
  PATH=$PATH:/usr/sbin
  need slurm munged munge || return
  need slurm slurmctld slurm-wlm || return
  local name
  name=$(hostname -s)
  mkdir -p "$STATE"/slurm/{state,spool}
  secret 64 "$STATE/munge.secret"
  # Two nodes, whose names both mean this machine. Each claims eight CPUs and four GPUs that do not exist, as nothing
  # binds a job to them. A requeued job waits until the credentials of its first start have expired: five seconds, not
  # two minutes. Jobs of the partition `urgent` preempt others.
  touch "$STATE"/slurm/gpu{0,1,2,3}
  echo "Name=gpu File=$STATE/slurm/gpu[0-3]" > "$STATE/slurm/gres.conf"
  cat > "$STATE/slurm/slurm.conf" << END
ClusterName=seqjax
SlurmctldHost=$name(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthInfo=socket=$STATE/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort=$SLURMCTLD_PORT
StateSaveLocation=$STATE/slurm/state
SlurmdSpoolDir=$STATE/slurm/spool/%n
SlurmctldPidFile=$STATE/slurm/slurmctld.pid
SlurmdPidFile=$STATE/slurm/slurmd-%n.pid
SlurmctldLogFile=$STATE/slurm/slurmctld.log
SlurmdLogFile=$STATE/slurm/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=2,bf_interval=2
GresTypes=gpu
NodeName=$name NodeHostname=$name NodeAddr=127.0.0.1 Port=${SLURMD_PORTS[0]} CPUs=8 RealMemory=4000 Gres=gpu:4 State=UNKNOWN
NodeName=localhost NodeHostname=$name NodeAddr=127.0.0.1 Port=${SLURMD_PORTS[1]} CPUs=8 RealMemory=4000 Gres=gpu:4 State=UNKNOWN
PartitionName=normal Nodes=$name,localhost Default=YES GraceTime=30 PriorityTier=1
PartitionName=urgent Nodes=$name,localhost PriorityTier=2 PreemptMode=OFF
END
  running munge || started munge munged --foreground --force --key-file="$STATE/munge.secret" \
    --socket="$STATE/munge.socket" --pid-file="$STATE/munge.number" --seed-file="$STATE/munge.seed"
  within 10 munge --no-input --socket="$STATE/munge.socket" || { fail slurm "munged: $STATE/munge.log"; return; }
  running slurmctld || started slurmctld slurmctld -D -c
  running slurmd1 || started slurmd1 slurmd -D -N "$name"
  running slurmd2 || started slurmd2 slurmd -D -N localhost
  within 30 slurm_ready || { fail slurm "$STATE/slurmctld.log, $STATE/slurmd1.log, $STATE/slurmd2.log"; return; }
  say slurm "started two nodes on 127.0.0.1:$SLURMCTLD_PORT, $(sbatch --version)"
}

ray_start() {
  running ray1 && running ray2 && { say ray "runs already"; return; }
  [ -x "$BIN/ray" ] || { fail ray "$BIN/ray is missing: pip install -e '.[ray]'"; return; }
  secret 32 "$RAY_AUTH_TOKEN_PATH"
  local node=(--num-cpus=2 --num-gpus=0 --object-store-memory=100000000 --disable-usage-stats --block)
  running ray1 || started ray1 "$BIN/ray" start --head --port=$RAY_PORT --include-dashboard=false --temp-dir="$STATE/ray" --node-ip-address=127.0.0.2 "${node[@]}"
  within 60 ray_ready 1 || { fail ray "$STATE/ray1.log"; return; }
  running ray2 || started ray2 "$BIN/ray" start --address=127.0.0.2:$RAY_PORT --node-ip-address=127.0.0.3 "${node[@]}"
  within 60 ray_ready 2 || { fail ray "$STATE/ray2.log"; return; }
  say ray "started two nodes on 127.0.0.2:$RAY_PORT, $("$BIN/ray" --version)"
}

stop() { # stop NAME: ends the process, and waits for it
  running "$1" || return
  local pid
  pid=$(cat "$STATE/$1.pid")
  kill "$pid"
  within 20 bash -c "! kill -0 $pid" || { kill -KILL "$pid"; say "$1" "did not end in 20 s: killed"; }
  rm -f "$STATE/$1.pid"
  say "$1" "stopped"
}

umask 022
[ -d "$STATE" ] || [ "${1:-}" != start ] || mkdir "$STATE" || exit 1
[ ! -d "$STATE" ] || [ -O "$STATE" ] || { echo "$STATE belongs to another user: set SEQJAX_SERVICES." >&2; exit 1; }
export SEQJAX_SERVICES=$STATE SLURM_CONF=$STATE/slurm/slurm.conf 
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$STATE/ray.secret
case ${1:-} in
  start)
    postgres_start
    slurm_start
    ray_start
    [ $failures -eq 0 ]
    ;;
  stop) for name in ray2 ray1 slurmd2 slurmd1 slurmctld munge postgres; do stop $name; done ;;
  status)
    any=1
    running postgres && say postgres "runs" && any=0
    running slurmctld && running slurmd1 && running slurmd2 && say slurm "runs" && any=0
    running ray1 && running ray2 && say ray "runs" && any=0
    exit $any
    ;;
  *)
    echo "usage: $0 start|stop|status" >&2
    exit 2
    ;;
esac
