#!/usr/bin/env bash
# Small Ceph clusters for tests: one monitor, one manager and one OSD on
# loopback, all files in one directory, nothing of the system's touched.
#   cluster.sh up DIR        make a cluster in DIR, which must not be there, and start it
#   cluster.sh start DIR     start again those of its daemons that don't run, on the bytes that are there
#   cluster.sh kill DIR [D]  kill -9 of all its daemons, or of one: mon, osd, mgr
#   cluster.sh pause DIR [D] SIGSTOP of all its daemons, or of one: a cluster that hangs
#   cluster.sh resume DIR    SIGCONT
#   cluster.sh mirror DIR    start rbd-mirror, which fetches from the peers that were told to it
#   cluster.sh wipe DIR      stop it and remove DIR
# DIR/ceph.conf is what clients need; the pool is called rbd.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1 CEPH_ARGS=
do=${1:-} dir=${2:-}
[ -n "$dir" ] || { sed -n '2,13p' "$0" >&2; exit 2; }
conf=$dir/ceph.conf
daemons=${3:-mirror mgr osd mon}

ceph_() { ceph --connect-timeout 20 -c "$conf" "$@"; }
fail() { echo "cluster.sh: $*" >&2; exit 1; }

# A process that nobody waited for yet is gone all the same.
running() {
  local state
  state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null)
  [ -n "$state" ] && [ "$state" != Z ]
}

pid_of() { [ -s "$dir/run/$1.pid" ] && cat "$dir/run/$1.pid"; }

launch() { # NAME COMMAND...
  local name=$1
  shift
  setsid "$@" >"$dir/log/$name.out" 2>&1 </dev/null &
  echo $! >"$dir/run/$name.pid"
}

await() { # SECONDS WHAT COMMAND...
  local until=$(($(date +%s) + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$(date +%s)" -lt "$until" ] || fail "$what did not come up; see $dir/log"
    sleep 0.1
  done
}

osd_up() { ceph_ osd stat -f json | grep -q '"num_up_osds":1'; }
figures() { ceph_ df -f json | grep -q '"name":"rbd"'; }

# A port that nobody listens at, below those that clients are given.
free_port() {
  local p
  for _ in $(seq 100); do
    p=$((20000 + RANDOM % 6000 * 2))
    (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || (exec 3<>"/dev/tcp/127.0.0.1/$((p + 1))") 2>/dev/null || {
      echo $p
      return
    }
  done
  fail "no free port"
}

write_conf() {
  local port fsid
  port=$(free_port) fsid=$(cat /proc/sys/kernel/random/uuid)
  cat >"$conf" <<CONF
[global]
fsid = $fsid
mon initial members = a
mon host = [v2:127.0.0.1:$port/0,v1:127.0.0.1:$((port + 1))/0]
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = $dir/keyring
run dir = $dir/run
admin socket = $dir/run/\$name.\$pid.asok
log file = $dir/log/\$name.log
log to stderr = false
err to stderr = true
crash dir = $dir/crash
public network = 127.0.0.0/8
ms bind ipv6 = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
[mon]
mon data = $dir/mon
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
mon data avail crit = 1
mon data avail warn = 2
auth allow insecure global id reclaim = false
paxos propose interval = 0.05
paxos min wait = 0.01
mon osd full ratio = 0.97
mon cluster log file = $dir/log/cluster.log
[mgr]
mgr data = $dir/mgr
mgr stats period = 2
mgr disabled modules = alerts balancer crash devicehealth diskprediction_local influx insights iostat localpool mds_autoscaler mirroring nfs orchestrator osd_perf_query osd_support progress prometheus restful selftest snap_schedule stats status telegraf telemetry test_orchestrator volumes zabbix
[osd]
osd data = $dir/osd
osd objectstore = bluestore
bluestore block size = 21474836480
bluestore block create = true
bluestore cache autotune = false
bluestore cache size = 134217728
bluefs buffered io = true
osd client watch timeout = 10
osd max object name len = 460
osd op num shards = 2
[client]
admin socket =
log file =
rbd mirror pool replayers refresh interval = 2
rbd mirror image state check interval = 2
rbd mirror leader heartbeat interval = 1
rbd mirror leader max missed heartbeats = 2
rbd mirror leader max acquire attempts before break = 2
CONF
}

make_keys() {
  ceph-authtool -C "$dir/keyring" --gen-key -n mon. --cap mon 'allow *'
  ceph-authtool "$dir/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
  ceph-authtool "$dir/keyring" --gen-key -n mgr.x --cap mon 'allow profile mgr' --cap osd 'allow *'
  ceph-authtool "$dir/keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap mgr 'allow profile osd' --cap osd 'allow *'
} >/dev/null

up() {
  [ ! -e "$dir" ] || fail "$dir is there already"
  mkdir -p "$dir"/{mon,mgr,osd,run,log,crash}
  echo $$ >"$dir/run/up.pid" # who wipes it meanwhile ends this first
  write_conf
  make_keys
  local host uuid
  host=$(sed -n 's/^mon host = //p' "$conf")
  monmaptool --create --fsid "$(sed -n 's/^fsid = //p' "$conf")" --addv a "$host" "$dir/monmap" >/dev/null
  ceph-mon -c "$conf" -i a --mkfs --monmap "$dir/monmap" --keyring "$dir/keyring"
  launch mon ceph-mon -f -c "$conf" -i a
  await 60 "the monitor" ceph_ mon stat
  uuid=$(cat /proc/sys/kernel/random/uuid)
  ceph_ osd new "$uuid" 0 >/dev/null
  ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$uuid" >>"$dir/log/osd.mkfs" 2>&1
  launch osd ceph-osd -f -c "$conf" -i 0
  launch mgr ceph-mgr -f -c "$conf" -i x
  await 120 "the OSD" osd_up
  ceph_ osd pool create rbd 8 8 replicated >/dev/null 2>&1
  rbd -c "$conf" pool init rbd
  await 120 "the manager" figures
  rm "$dir/run/up.pid"
}

runs() {
  local pid
  pid=$(pid_of "$1") && running "$pid"
}

start() {
  runs mon || launch mon ceph-mon -f -c "$conf" -i a
  if ! runs osd; then
    # The OSD that died held a lease on reads, for which the next one would wait.
    ceph_ osd down 0 --definitely-dead >/dev/null 2>&1 || true
    launch osd ceph-osd -f -c "$conf" -i 0
  fi
  runs mgr || launch mgr ceph-mgr -f -c "$conf" -i x
  await 120 "the OSD" osd_up
  await 120 "the pool" timeout 20 rbd -c "$conf" ls rbd
}

# It connects by what is in its environment, whatever it is told.
mirror() { launch mirror env CEPH_CONF="$conf" rbd-mirror -f -c "$conf" --id admin; }

each() { # SIGNAL
  local name pid
  for name in $daemons; do
    pid=$(pid_of "$name") && running "$pid" && kill -"$1" "$pid"
  done
  true
}

stop() {
  local name pid
  if pid=$(pid_of up) && running "$pid"; then kill -KILL "$pid"; fi
  each CONT
  each "$1"
  for name in $daemons; do
    pid=$(pid_of "$name") || continue
    for _ in $(seq 200); do running "$pid" || break; sleep 0.1; done
    ! running "$pid" || kill -KILL "$pid"
    rm -f "$dir/run/$name.pid"
  done
}

resume() {
  each CONT
  # An OSD that was still for longer than its lease has to be looked at anew.
  ceph_ osd down 0 >/dev/null 2>&1 || true
}

case $do in
  up) up ;;
  start) start ;;
  kill) stop KILL ;;
  pause) each STOP ;;
  resume) resume ;;
  mirror) mirror ;;
  wipe) stop KILL; rm -rf "$dir" ;;
  *) fail "no command $do" ;;
esac
