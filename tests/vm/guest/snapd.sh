# shellcheck shell=bash
# For scenarios in the guest `snapd`, where Debian's snapd has installed a snap microk8s whose
# services are the stand-ins. Sourced by them after lib.sh. They never call `reset`, so each has a
# boot of its own.
# shellcheck disable=SC2034,SC2154  # used, or set, by the scenarios or lib.sh
# shellcheck disable=SC2086  # $K has no blanks
SNAPS=/usr/local/share/snaps
CONTAINERD=snap.microk8s.daemon-containerd.service
SNAP_UNITS=("$UNIT" "$DQLITE" "$CONTAINERD")
PATH=$PATH:/snap/bin

# stand_ins: what the snap's services wait for: kubelite for kubelet-rules, k8s-dqlite for sqpoll.
# They stay on the disk.
stand_ins() { stand_in kubelet-rules; stand_in sqpoll; }
# complete when its name appears
stand_in() {
  install -m 755 "/run/vm/guest/bin/$1" "/usr/local/sbin/$1.new"
  mv "/usr/local/sbin/$1.new" "/usr/local/sbin/$1"
}
# snapd ARG...: a `snap` command and how long it took; what it said is in $WORK/snap
snapd() {
  local t0=${EPOCHREALTIME/./}
  timeout -k 5 300 snap "$@" >"$WORK/snap" 2>&1 </dev/null || {
    cat "$WORK/snap"; snap changes; fail "snap $*"
  }
  note "snap $*: $(( (${EPOCHREALTIME/./} - t0) / 1000 )) ms"
}
refresh_to() { snapd install --dangerous --classic "$SNAPS/microk8s-$1.snap"; }
# install_package FOLDER: packages/new, which `run` makes where a scenario names it
install_package() {
  local t0=${EPOCHREALTIME/./}
  dpkg -i "$1"/*.deb >"$WORK/said" 2>&1 || {
    cat "$WORK/said"; fail "it cannot be installed"
  }
  note "installed the package: $(( (${EPOCHREALTIME/./} - t0) / 1000 )) ms"
}
revision() { readlink /var/snap/microk8s/current; }
# Whatever snapd has done or undone on the snap ended as it should. Its own device cannot be
# initialized without a network.
changes() { snap changes 2>/dev/null | grep -vE 'Initialize device|configuration of "core" snap'; }
changes_end_done() {
  changes | awk 'NR > 1 && NF && $2 != "Done"' >"$WORK/changes"
  [ ! -s "$WORK/changes" ] || { cat "$WORK/changes"; fail "a change of snapd's did not end Done"; }
}
changes_settle() { wait_for 300 no_change_doing; changes_end_done; }
no_change_doing() {
  changes >"$WORK/changes" || return 1
  ! grep -qE ' (Do|Doing|Undo|Undoing|Wait|Abort) ' "$WORK/changes"
}
# drop_ins: systemd has read our drop-ins of these units
drop_ins() {
  local unit
  for unit in "$UNIT" "$DQLITE"; do
    systemctl show -P ExecStartPre "$unit" | grep -q /usr/sbin/kubepods-repair ||
      fail "$unit has no pre-start of ours"
    systemctl show -P After "$unit" | grep -q kubepods-repair.service || fail "$unit: no After="
    [ "$(systemctl show -P NeedDaemonReload "$unit")" = no ] || fail "$unit: systemd was not told"
  done
}
# runs: all three services run, kubelite came up at its first start, behind our pre-start, and the
# report says that all is well. Since journal_from_here. With a REVISION, it is this one.
# `early_ends`: the exit statuses that k8s-dqlite's pre-start may have (0)
runs() { # [REVISION]
  local unit
  [ -z "${1:-}" ] || [ "$(revision)" = "$1" ] || fail "the revision is $(revision), not $1"
  came_up_at_once; anchored $K || fail "no anchor: $(cat $K/cgroup.subtree_control)"
  for unit in "${SNAP_UNITS[@]}"; do
    systemctl is-active -q "$unit" || fail "$unit is $(systemctl is-active "$unit")"
  done
  drop_ins
  # ExecStartPre's status is lost at a daemon-reload, so only a failure shows there.
  pre_start_said pre-start '(healthy|repaired)' && pre_start_said early '[a-z-]+' || {
    grep OCCASION "$WORK/journal"; fail "they were started without our pre-start"
  }
  ended "$UNIT" 0; ended "$DQLITE" "${early_ends:-0}"
  changes_end_done
  reports healthy
}
# pre_start_said OCCASION OUTCOME: an entry since journal_from_here
pre_start_said() {
  journalctl --sync; journal -o json >"$WORK/journal"
  grep "\"OCCASION\":\"$1\"" "$WORK/journal" | grep -Eq "\"MESSAGE\":\"$2:"
}
# ended UNIT STATUS: its pre-start, as far as systemd still knows
ended() {
  systemctl show -P ExecStartPre "$1" >"$WORK/ended"
  grep -q "; status=[$2][ /]" "$WORK/ended" || { cat "$WORK/ended"; fail "the pre-start of $1"; }
}
# reports OUTCOME [WORDS]: what a run by hand that changes nothing says
reports() {
  local rc=0
  kubepods-repair -n --json >"$WORK/json" 2>&1 || rc=$?
  [ "$(outcome)" = "$1" ] || { cat "$WORK/json"; fail "the outcome is $(outcome), not $1"; }
  kubepods-repair -n >"$WORK/said" 2>&1 </dev/null || true
  [ -z "${2:-}" ] || says "$2"
  note "reports $1${2:+: $2} (exit $rc)"
}
outcome() { sed -n 's/^ *"outcome": *"\([a-z-]*\)".*/\1/p' "$WORK/json" | tail -n 1; }

# begin ARG...: a `snap` command in the background
begin() {
  SNAPD_PID=$(main_pid snapd.service)
  snap "$@" >"$WORK/snap" 2>&1 </dev/null & SNAP_PID=$!
}
# hold MOMENT: waits for it without a pause, since it may be a short one, and stops snapd in it
hold() {
  local end=$((SECONDS + 300))
  until "$1"; do
    kill -0 "$SNAP_PID" 2>/dev/null && [ $SECONDS -lt $end ] || {
      cat "$WORK/snap"; fail "never came true: $1"
    }
  done
  kill -s STOP "$SNAPD_PID"; "$1" || fail "too late: $1"
  note "snapd is held: $1"
}
let_go() { kill -s CONT "$SNAPD_PID"; }
ends_well() { wait "$SNAP_PID" || { cat "$WORK/snap"; fail "snap: $?"; }; note "snap is done"; }
no_units() { [ ! -e "/etc/systemd/system/$UNIT" ] && [ -e /var/snap/microk8s/current ]; }
no_current() { [ ! -L /var/snap/microk8s/current ]; }
# no_alarm: what the timer's check writes would wake nobody up
no_alarm() {
  mkdir -p "$WORK/metrics"; kubepods-repair -n --textfile "$WORK/metrics" >/dev/null 2>&1 || true
  cat "$WORK"/metrics/* >"$WORK/said"
  says 'last_run_outcome\{outcome="inactive"\} 1'; says_not 'severity="(fatal|degraded)"'
}
# boot_said PATTERN: by the boot service
boot_said() {
  journalctl --sync
  journalctl -b -q -o cat -t kubepods-repair OCCASION=boot >"$WORK/said"; says "$1"
}
