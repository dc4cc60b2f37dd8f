#!/usr/bin/env bash
# A real Slurm of two nodes on this machine, for as long as a command runs: cluster.sh [--accounting] FOLDER COMMAND...
#
# Everything lives in namespaces of its own: its mounts (our configuration lies over /etc/slurm there only), its
# processes (all of them end with the command) and its network (no port is taken from the machine). Files of the
# cluster are written into FOLDER. Needs root, and Debian's slurmctld, slurmd, slurm-client and munge; with
# --accounting also slurmdbd and mariadb-server.
set -euo pipefail

if [ -z "${CLUSTER_INSIDE:-}" ]; then
    exec env CLUSTER_INSIDE=1 unshare --mount --pid --net --fork --kill-child --mount-proc "$0" "$@"
fi
unset CLUSTER_INSIDE

accounting=
if [ "$1" = --accounting ]; then
    accounting=1
    shift
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
host=$(hostname -s)

# the resolver wants an address that isn't the loopback's
ip address add 192.0.2.1/32 dev lo
ip link set lo up
mkdir -p "$folder"/{etc,run,log,state,munge,database}
chmod 700 "$folder/munge"
mount --bind "$folder/etc" /etc/slurm

# try SECONDS COMMAND...: run it until it succeeds
try() {
    local tries=$(($1 * 5))
    shift
    until "$@" > /dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || {
            echo "the cluster doesn't start: $*" >&2
            tail -n 5 "$folder"/log/*.log >&2
            exit 90
        }
        sleep 0.2
    done
}

head -c 128 /dev/urandom > "$folder/munge/key"
chmod 400 "$folder/munge/key"
munged --force --socket="$folder/run/munge" --key-file="$folder/munge/key" --pid-file="$folder/run/munged.pid" \
    --log-file="$folder/log/munged.log" --seed-file="$folder/munge/seed"

storage=accounting_storage/none
if [ -n "$accounting" ]; then
    storage=accounting_storage/slurmdbd
    chmod 755 "$folder/database"
    mariadb-install-db --no-defaults --user=root --auth-root-authentication-method=normal --skip-test-db \
        --datadir="$folder/database" > "$folder/log/install.log" 2>&1
    mariadbd --no-defaults --user=root --datadir="$folder/database" --socket="$folder/run/mariadb" --bind-address=127.0.0.1 \
        --port=3306 --pid-file="$folder/run/mariadbd.pid" > "$folder/log/mariadbd.log" 2>&1 &
    try 30 mariadb --no-defaults --socket="$folder/run/mariadb" --execute="select 1"
    mariadb --no-defaults --socket="$folder/run/mariadb" --execute="
        create database accounts; create user slurm@'127.0.0.1' identified by 'slurm';
        grant all on accounts.* to slurm@'127.0.0.1'"
    install -m 600 /dev/stdin "$folder/etc/slurmdbd.conf" << CONF
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge
DbdHost=localhost
DbdAddr=127.0.0.1
SlurmUser=root
LogFile=$folder/log/slurmdbd.log
PidFile=$folder/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=3306
StorageUser=slurm
StoragePass=slurm
StorageLoc=accounts
CONF
fi

# Nodes have the size that stands here, whatever the machine has. Memory is a thing that jobs are given, and a job that takes more is killed when its memory is looked at, each second.
# A node that doesn't answer for five seconds is down.
cat > "$folder/etc/slurm.conf" << CONF
ClusterName=convkit
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=$storage
${accounting:+AccountingStorageHost=127.0.0.1}
${accounting:+AccountingStoragePass=$folder/run/munge}
${accounting:+AccountingStorageEnforce=associations}
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=5
MessageTimeout=5
BatchStartTimeout=10
KillWait=2
MinJobAge=3600
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd-%n.pid
SlurmdSpoolDir=$folder/spool-%n
StateSaveLocation=$folder/state
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=8 RealMemory=32000 State=UNKNOWN
PartitionName=batch Nodes=n[1-2] Default=YES MaxTime=INFINITE DefMemPerNode=100 State=UP
CONF

if [ -n "$accounting" ]; then
    slurmdbd
    try 30 sacctmgr --noheader show cluster
    sacctmgr --immediate add cluster convkit > /dev/null
    sacctmgr --immediate add account models > /dev/null
    sacctmgr --immediate add user root account=models > /dev/null
fi
slurmctld
for node in n1 n2; do
    # by this variable the daemon of a node is recognised
    CLUSTER_NODE=$node slurmd -N $node
done
idle() { [ "$(sinfo --noheader --states=idle --format=%D)" = 2 ]; }
try 30 idle

"$@"
