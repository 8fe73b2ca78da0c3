# shellcheck shell=bash
# Helpers for scenarios. `driver` sources this file in the guest, in a separate bash for each
# scenario; a helper that fails ends the scenario. $WORK is the scenario's own folder. $KUBELET_ONLY
# is set if there is no program to test.
# shellcheck disable=SC2034,SC2154  # used, or set, by the scenarios
# shellcheck disable=SC2119,SC2120  # functions whose arguments only scenarios give
# shellcheck disable=SC2086  # $CG, $K and their like have no blanks
set -eEu
trap 'echo "FAILED: line $LINENO of ${BASH_SOURCE[0]##*/}: $BASH_COMMAND"' ERR
CG=/sys/fs/cgroup K=$CG/kubepods
# the controllers that a kubelet's libcontainer requests, without those that no test needs
LINE="+cpuset +cpu +io +memory +hugetlb +pids"
NEEDED="cpu cpuset hugetlb memory pids"
SNAP_DATA=/var/snap/microk8s/1234 SNAP_COMMON=/var/snap/microk8s/common SNAP=/snap/microk8s/1234
PODS=$SNAP_COMMON/var/lib/kubelet/pods
UNIT=snap.microk8s.daemon-kubelite.service
ENABLED=/etc/systemd/system/multi-user.target.wants/$UNIT      # snapd's link
DQLITE=snap.microk8s.daemon-k8s-dqlite.service
STAMP=/run/kubepods-repair.restarted.$DQLITE
MARKER=/var/lib/kubepods-repair/boot
C=/run/kr-container
export SNAP_DATA SNAP_COMMON SNAP
# the report does not wrap its lines
export COLUMNS=10000

fail() { echo "FAILED: $*"; exit 1; }
note() { printf -- '-- %6d ms  %s\n' $(( (${EPOCHREALTIME/./} - T0) / 1000 )) "$*"; }
T0=${EPOCHREALTIME/./}

# wait_for SECONDS COMMAND...: waits until the command succeeds. The seconds are a limit for a
# broken run, not the expected time.
wait_for() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || fail "never came true: $*"; sleep 0.1
  done
}

# ---- the host ------------------------------------------------------------------------------------

reset_host() {
  if [ -e /run/vm/units ]; then
    systemctl stop 'kr-*' "$UNIT" "$DQLITE" 'kubepods-repair*' 2>/dev/null || true
    rm -rf /etc/systemd/system/snap.microk8s.* /etc/systemd/system/kr-* \
      /etc/systemd/system/*.wants/{kr-,snap.microk8s.,kubepods-repair}* \
      /run/systemd/system/kr-* /usr/lib/systemd/system/snap.microk8s.* \
        /usr/lib/systemd/catalog/kubepods-repair.catalog /usr/lib/systemd/system/kubepods-repair*
    systemctl daemon-reload; systemctl reset-failed
    rm /run/vm/units
  fi
  # with the systemd driver: the kubelet's slices and everything that changed them
  if compgen -G "$CG/*kubepods*.slice" >/dev/null ||
    compgen -G '/run/systemd/transient/*kubepods*' >/dev/null || [ -e $CG/foo.slice ]; then
    systemctl stop '*kubepods*.slice' foo.slice 2>/dev/null || true
    find $CG/*kubepods*.slice $CG/foo.slice -depth -type d -exec rmdir {} + 2>/dev/null || true
  fi
  if compgen -G '/etc/systemd/system*/*kubepods*' >/dev/null ||
    compgen -G '/run/systemd/system*/*kubepods*' >/dev/null; then
    rm -rf /{etc,run}/systemd/system{,.control}/*kubepods*; systemctl daemon-reload
    systemctl reset-failed
  fi
  if [ -e $C ]; then
    lxc-stop -k -n node -P $C 2>/dev/null || true; umount $C/root $C/rw 2>/dev/null || true
  fi
  reset-cgroups || return 1
  rm -rf /var/snap /snap /run/kubepods-repair* /var/lib/kubepods-repair /var/lib/kubelet /run/kr-* \
    "$ENABLED"
}
reset() { reset_host || fail "the reset did not work"; journal_from_here; note "reset"; }

# microk8s [LINE...]: installs MicroK8s and enables kubelite, with its own args file followed by
# these lines
microk8s() {
  mkdir -p "${ENABLED%/*}"; ln -sfn "/etc/systemd/system/$UNIT" "$ENABLED"
  mkdir -p "$SNAP_DATA/args" "$PODS" "$SNAP/meta"
  ln -sfn 1234 /var/snap/microk8s/current; ln -sfn 1234 /snap/microk8s/current
  printf 'name: microk8s\nversion: v%s.0\nconfinement: classic\n' "$KUBELET_VERSION" \
    >"$SNAP/meta/snap.yaml"
  # shellcheck disable=SC2016  # the file really holds ${...}
  printf '%s\n' '--kubeconfig=${SNAP_DATA}/credentials/kubelet.config' \
    '--cert-dir=${SNAP_DATA}/certs' '--client-ca-file=${SNAP_DATA}/certs/ca.crt' \
    '--anonymous-auth=false' '--root-dir=${SNAP_COMMON}/var/lib/kubelet' '--fail-swap-on=false' \
    '--eviction-hard="memory.available<100Mi,nodefs.available<1Gi,imagefs.available<1Gi"' \
    '--container-runtime-endpoint=${SNAP_COMMON}/run/containerd.sock' \
      '--containerd=${SNAP_COMMON}/run/containerd.sock' \
    '--authentication-token-webhook=true' '--read-only-port=0' '--serialize-image-pulls=false' \
      "$@" >"$SNAP_DATA/args/kubelet"
}

# kubelite_unit: creates MicroK8s' service as snapd writes it, with the stand-in as the kubelet;
# everything that it needs is on the disk
kubelite_unit() {
  local kubelet="--args-file $SNAP_DATA/args/kubelet --stay"
  touch /run/vm/units
  install -m 755 /run/vm/guest/bin/kubelet-rules /usr/local/sbin/kubelet-rules
  cat >"/etc/systemd/system/$UNIT" <<UNIT
[Unit]
Description=Service for snap application microk8s.daemon-kubelite
Wants=network.target
After=snap.microk8s.daemon-containerd.service network.target
X-Snappy=yes

[Service]
Environment=SNAP_DATA=$SNAP_DATA SNAP_COMMON=$SNAP_COMMON SNAP=$SNAP
ExecStart=/usr/local/sbin/kubelet-rules --version $KUBELET_VERSION $kubelet
SyslogIdentifier=microk8s.daemon-kubelite
Restart=on-failure
WorkingDirectory=$SNAP_DATA
TimeoutStopSec=30
Type=simple

[Install]
WantedBy=multi-user.target
UNIT
  systemctl daemon-reload
}
kubelite_said() { journal -u "$UNIT" | grep -q -- "$1"; }
# journal ARG...: prints messages of this boot since journal_from_here, which a reset calls. From an
# entry of our own on, which no selection matches: after a cursor, journalctl of systemd 252 leaves
# out the first entry that is selected.
journal() { journalctl -b -q -o cat ${CURSOR:+--cursor="$CURSOR"} "$@"; }
journal_from_here() {
  systemd-cat -t from-here -p debug echo 'from here'; journalctl --sync
  CURSOR=$(journalctl -b -q -t from-here -n 1 -o export | sed -n 's/^__CURSOR=//p')
}
CURSOR=

# install_units: installs the project's systemd folder as the package does
install_units() {
  touch /run/vm/units
  cp -r /run/vm/systemd/. /usr/lib/systemd/
}

# ---- rings, boots and power ----------------------------------------------------------------------

FAMOUS="root container \[kubepods\] doesn't exist|error validating root container \[kubepods\]"

# The program that ring_unit's service runs, with its arguments: `sqpoll`, or dqlite itself (see
# vm/dqlite) in a scenario that says `# dqlite: yes`.
OPENS_RING=sqpoll
REAL_DQLITE="dqlite-node $SNAP_DATA/dqlite"
# ring_unit UNIT [SECONDS]: creates a service that opens an io_uring with a polling thread, as
# k8s-dqlite does, these many seconds after its start (MicroK8s' own wrapper sleeps 6). Each start
# adds a line to /run/kr-starts.UNIT
ring_unit() {
  touch /run/vm/units
  install -m 755 "/run/vm/guest/bin/${OPENS_RING%% *}" /usr/local/sbin/
  cat >"/etc/systemd/system/$1" <<UNIT
[Unit]
Description=Service for snap application ${1%.service}
Wants=network.target
After=network.target

[Service]
ExecStart=/bin/sh -c 'echo >>"/run/kr-starts.%n"; sleep ${2:-0}; exec /usr/local/sbin/$OPENS_RING'
Restart=on-failure
TimeoutStopSec=30
Type=simple

[Install]
WantedBy=multi-user.target
UNIT
  systemctl daemon-reload
}
main_pid() { systemctl show -P MainPID "$1"; }
starts() { wc -l <"/run/kr-starts.$1"; }
# ring_of PID: prints the thread that polls for this process
ring_of() {
  local comm
  for comm in /proc/"$1"/task/*/comm; do
    case $(cat "$comm" 2>/dev/null) in iou-sqp-*) comm=${comm%/comm}; echo "${comm##*/}"
      return 0;; esac
  done
  return 1
}
has_ring() { ring_of "$(main_pid "$1")"; }
# start_ring UNIT: starts it and waits until its thread blocks cpuset; sets PID and RING
start_ring() {
  systemctl start "$1"; wait_for 120 has_ring "$1"
  PID=$(main_pid "$1") RING=$(ring_of "$PID")
  note "$1 runs: process $PID, thread $RING"
}
# still_runs UNIT: checks that the unit still runs since start_ring, and was started only once
still_runs() {
  [ "$(main_pid "$1")" = "$PID" ] || fail "$1: process $PID is now $(main_pid "$1")"
  [ "$(starts "$1")" = 1 ] || fail "$1 was started $(starts "$1") times"
  [ ! -e "$STAMP" ] || fail "there is a stamp"
}
# switch_off CONTROLLER: disables it in all groups, from the deepest one up
switch_off() {
  local file
  find $CG -depth -name cgroup.subtree_control | while read -r file; do
    ! grep -qw "$1" "$file" || echo "-$1" >"$file"
  done
}
# lose_controllers: disables the controllers that systemd and the kubelet had enabled, and removes
# the kubelet's groups, as after a boot
lose_controllers() {
  local c
  rmdir $K/burstable $K/besteffort 2>/dev/null || true
  [ ! -e $K ] || rmdir $K
  for c in cpuset cpu hugetlb io; do switch_off $c; done
}

# block: makes kubelite crash-loop: k8s-dqlite's ring exists, and k8s-dqlite's pre-start was
# installed only after k8s-dqlite had started
block() {
  systemctl stop "$UNIT" "$DQLITE"; systemctl reset-failed "$UNIT" "$DQLITE" 2>/dev/null || true
  lose_controllers; rm -f "$STAMP" "/run/kr-starts.$DQLITE"
  mv "/usr/lib/systemd/system/$DQLITE.d" /run/kr-drop-in; systemctl daemon-reload
  start_ring "$DQLITE"
  mv /run/kr-drop-in "/usr/lib/systemd/system/$DQLITE.d"; systemctl daemon-reload
}

restarts() { systemctl show -P NRestarts "$UNIT"; }
gave_up() { [ "$(restarts)" -ge 3 ]; }
kubelite_up() { kubelite_said 'Starting Kubelet Plugin Manager'; }
decided() { kubelite_up || [ "$(restarts)" -gt 0 ]; }
# Checks that the service is running and that its first start succeeded.
came_up_at_once() {
  wait_for 240 decided
  systemctl is-active -q "$UNIT" || fail "kubelite is $(systemctl is-active "$UNIT")"
  [ "$(restarts)" = 0 ] || { journal -u "$UNIT"; fail "kubelite needed $(restarts) restarts"; }
  enabled $K && enabled $K/burstable && enabled $K/besteffort ||
    fail "kubepods: $(cat $K/cgroup.controllers)"
}
no_ordering_cycle() {
  if journalctl -b -q -o cat | grep -i 'ordering cycle'; then
    fail "systemd found an ordering cycle"
  fi
}
# previous_shutdown clean|unclean|unknown: checks what the program reports
previous_shutdown() {
  kubepods-repair -n --json >"$WORK/json" || true
  grep -Eq "\"previous_shutdown\": ?\"$1\"" "$WORK/json" || {
    cat "$WORK/json" $MARKER; fail "the previous shutdown was not $1"
  }
}
marker_readable() {
  [ "$(sed -n 1p $MARKER)" = "kubepods-repair-boot 1" ] && [ "$(tail -n 1 $MARKER)" = end ] &&
    grep -qx "boot-id $(cat /proc/sys/kernel/random/boot_id)" $MARKER ||
    { cat $MARKER; journalctl -b -q | grep kubepods-repair; fail "the marker is not this boot's"; }
}
# keep_of_ours all|service|dqlite|kubelite: installs all of the project's units, or only this one
keep_of_ours() {
  install_units
  local units=/usr/lib/systemd/system drop=20-kubepods-repair.conf
  case $1 in
    all) return 0;;
    # their After= is the service's
    service) sed -i '/^\[Service\]/,$d' "$units/$UNIT.d/$drop" "$units/$DQLITE.d/$drop";;
    dqlite) rm -r "$units/$UNIT.d" $units/kubepods-repair*.service;;
    kubelite) rm -r "$units/$DQLITE.d" $units/kubepods-repair*.service;;
  esac
}
# ring_first: makes kubelite start only after k8s-dqlite's ring blocks cpuset, or after the
# controllers are anchored, so that the ring does no harm
ring_first() {
  printf '#!/bin/sh\nuntil grep -qs ^iou-sqp /proc/[0-9]*/task/*/comm; do sleep 0.1; done\n' \
    >/usr/local/sbin/wait-for-ring
  chmod 755 /usr/local/sbin/wait-for-ring
  mkdir -p "/etc/systemd/system/$UNIT.d"
  printf '[Service]\nExecStartPre=/usr/local/sbin/wait-for-ring\n' \
    >"/etc/systemd/system/$UNIT.d/10-ring-first.conf"
}
# flow_cold_boot WHAT: three boots of one disk, the second of which ends in a power cut. WHAT is as
# in keep_of_ours
flow_cold_boot() {
  needs_program
  if [ "$PHASE" = 1 ]; then
    reset; microk8s; kubelite_unit; ring_unit "$DQLITE"; keep_of_ours "$1"
    # Nothing anchors the controllers while k8s-dqlite restarts, so the repair has only the time of
    # the wrapper's sleep.
    [ "$1" != kubelite ] || { ring_first; ring_unit "$DQLITE" 6; }
    systemctl daemon-reload
    systemctl -q enable "$UNIT" "$DQLITE"
    [ ! -e /usr/lib/systemd/system/kubepods-repair.service ] ||
      systemctl -q enable kubepods-repair.service kubepods-repair-shutdown.service
    sync
    return 0
  fi
  came_up_at_once; anchored $K || fail "no anchor: $(cat $K/cgroup.subtree_control)"
  wait_for 120 has_ring "$DQLITE"
  local want=1; [ "$1" != kubelite ] || want=2
  [ "$(starts "$DQLITE")" = $want ] ||
    fail "k8s-dqlite was started $(starts "$DQLITE") times, not $want"
  note "kubelite is up at its first start"
  no_ordering_cycle
  if [ "$1" = all ]; then
    [ "$PHASE" = 2 ] && previous_shutdown unknown || previous_shutdown unclean
    marker_readable
  fi
  # the anchor keeps the controllers enabled
  systemctl daemon-reload; systemd-run -q --wait --unit=kr-nudge -p CPUWeight=50 true
  enabled $K || fail "lost at a daemon-reload: $(cat $K/cgroup.controllers)"
  journal_from_here; systemctl restart "$UNIT"; came_up_at_once
  [ "$(starts "$DQLITE")" = $want ] || fail "k8s-dqlite was started once more"
  note "and again after a daemon-reload"
  [ "$PHASE" = 3 ] || { sync; vm-cut; }
}

# ---- the kubelet ---------------------------------------------------------------------------------

kubelet() {
  if [ -n "${REAL_KUBELET:-}" ]; then kubelet-real --args-file "$SNAP_DATA/args/kubelet" "$@"
  else kubelet-rules --version "$KUBELET_VERSION" --args-file "$SNAP_DATA/args/kubelet" "$@"; fi
}
kubelet_starts() {
  kubelet >"$WORK/kubelet" 2>&1 || { cat "$WORK/kubelet"; fail "the kubelet does not start"; }
  note "the kubelet starts"
}
kubelet_dies() { # PATTERN
  if kubelet >"$WORK/kubelet" 2>&1; then
    cat "$WORK/kubelet"; fail "the kubelet starts; it should die: $1"
  fi
  grep -Eq -- "$1" "$WORK/kubelet" || { cat "$WORK/kubelet"; fail "the kubelet did not say: $1"; }
  note "the kubelet dies: $1"
}
# healthy: creates a tree as a kubelet does
healthy() { kubelet_starts; }
# enabled GROUP-DIR: checks that it has every needed controller
enabled() { local c; for c in $NEEDED; do grep -qw "$c" "$1/cgroup.controllers" || return 1; done; }
anchored() {
  local c; for c in $NEEDED; do grep -qw "$c" "$1/cgroup.subtree_control" || return 1; done
}

# ---- the systemd driver --------------------------------------------------------------------------

S=$CG/kubepods.slice QOS_SLICES=(kubepods-burstable.slice kubepods-besteffort.slice)
SLICES="kubepods.slice ${QOS_SLICES[*]}"
by_systemd() { KUBELET_VERSION=${1:-$KUBELET_VERSION}; microk8s --cgroup-driver=systemd "${@:2}"; }
# slices_hold: checks that systemd has all three slices, with every needed controller
slices_hold() {
  local slice
  for slice in $SLICES; do
    [ "$(systemctl is-active $slice)" = active ] || {
      echo "$slice is $(systemctl is-active $slice)"; return 1
    }
  done
  enabled "$S" && enabled "$S/${QOS_SLICES[0]}" && enabled "$S/${QOS_SLICES[1]}"
}
check_slices() {
  slices_hold || {
    cat "$WORK/said"; tree kubepods.slice
    systemctl show $SLICES -p Id,LoadState,ActiveState,AllowedCPUs,CPUWeight
    fail "the slices do not hold${1:+ $1}"
  }
}
# nudge: makes systemd write controllers again; nudge_hard: in every possible way
nudge() {
  touch /run/vm/units
  systemctl daemon-reload; systemd-run -q --wait --unit=kr-nudge -p CPUWeight=50 true
  check_slices "after a daemon-reload"
}
nudge_hard() {
  nudge
  systemctl set-property --runtime system.slice CPUWeight=90
  systemctl set-property --runtime system.slice CPUWeight=; check_slices "after set-property"
  systemctl daemon-reexec; systemd-run -q --wait --unit=kr-nudge -p AllowedCPUs=0 true
  check_slices "after a daemon-reexec"
}
# A fault that is repaired through systemd; as flow_repaired. versions=(...): versions of the
# kubelet, each with the message with which it ends if nothing is repaired: `1.29:MESSAGE`
flow_slices() {
  local each version without
  for each in "${versions[@]}"; do
    version=${each%%:*} without=${each#*:}
    note "kubelet $version"
    reset; by_systemd "$version"; broken
    if [ "$without" = starts ]; then kubelet_starts; else kubelet_dies "$without"; fi
    needs_program
    reset; by_systemd "$version"; broken
    untouched 3 -n; names_fault "$fault"
    repair 0 --pre-start; check_slices
    if declare -F cured >/dev/null; then cured; fi
    untouched 0 --pre-start
    kubelet_starts
    "${nudge:-nudge}"
    repair 0 --pre-start; says '^healthy'
  done
}

# ---- the program ---------------------------------------------------------------------------------

# repair EXIT [ARG...]: runs it and expects this exit status; what it said is in $WORK/said
repair() {
  local want=$1 rc; shift
  local t0=${EPOCHREALTIME/./}
  timeout -k 5 100 kubepods-repair "$@" >"$WORK/said" 2>&1 </dev/null && rc=0 || rc=$?
  TOOK_MS=$(( (${EPOCHREALTIME/./} - t0) / 1000 ))
  note "kubepods-repair $* -> $rc in $TOOK_MS ms"
  [ $rc = "$want" ] || { cat "$WORK/said"; fail "kubepods-repair $*: exit $rc, expected $want"; }
  [ "$*" != -n ] || round_trip
}
# round_trip [COMMAND...]: captures a dry run (under this command), unpacks it, and checks that a
# run on the copy has the same output and exit status
round_trip() {
  local copy=/tmp/kr-copy rc=0 again=0
  rm -rf $copy $copy.tar; mkdir $copy
  "$@" kubepods-repair --capture $copy.tar >$copy/stdout 2>&1 </dev/null || rc=$?
  tar -xf $copy.tar -C $copy || fail "the capture is no tar"
  # shellcheck disable=SC2046  # arguments
  kubepods-repair --root $copy/root $(cat $copy/args) >$copy/again 2>&1 </dev/null || again=$?
  diff -U 3 $copy/stdout $copy/again || fail "the captured copy gives another report"
  [ $rc = $again ] || fail "the captured copy ends with $again, the host with $rc"
}
# says PATTERN: in a line, or in the whole text as if it were one line; says_not PATTERN: in no line
says() {
  grep -Eq -- "$1" "$WORK/said" || tr -s ' \n' ' ' <"$WORK/said" | grep -Eq -- "$1" || {
    cat "$WORK/said"; fail "it did not say: $1"
  }
}
says_not() { if grep -Eq -- "$1" "$WORK/said"; then cat "$WORK/said"; fail "it said: $1"; fi; }

# Ends the scenario here if there is no program to test: as passed if it has checked something so
# far, otherwise as skipped.
needs_program() {
  [ -n "${KUBELET_ONLY:-}" ] || return 0; [ -e "$WORK/kubelet" ] && exit 0; exit 77
}

# traced EXIT [ARG...]: the same under strace; fails if it changed anything, started anything or
# asked a bus
CHANGES='?open,openat,?openat2,?creat,?open_by_handle_at,write,pwrite64,writev,pwritev'
CHANGES+=',?pwritev2,sendto,sendmsg,sendmmsg,sendfile,splice,copy_file_range,?mkdir,mkdirat'
CHANGES+=',?rmdir,?unlink,unlinkat,?rename,renameat,renameat2,?link,linkat,?symlink,symlinkat'
CHANGES+=',?mknod,mknodat,truncate,ftruncate,fallocate,?chmod,fchmod,fchmodat,?chown,fchown'
CHANGES+=',fchownat,?utime,?utimes,utimensat,setxattr,fsetxattr,removexattr,mount,umount2'
CHANGES+=',?move_mount,?open_tree,?fsmount,pivot_root,unshare,setns,kill,tkill,tgkill'
CHANGES+=',?pidfd_send_signal,clone,?clone3,?fork,?vfork,connect'
traced() {
  local want=$1 rc; shift
  timeout -k 5 200 strace -f --seccomp-bpf -y -qq -o "$WORK/strace" -e "trace=$CHANGES" -- \
    kubepods-repair "$@" >"$WORK/said" 2>&1 </dev/null && rc=0 || rc=$?
  note "kubepods-repair $* -> $rc (traced)"
  [ $rc = "$want" ] || { cat "$WORK/said"; fail "kubepods-repair $*: exit $rc, expected $want"; }
  strace-writes <"$WORK/strace" || {
    cat "$WORK/said"; fail "kubepods-repair $* made the calls above"
  }
}
# unchanged EXIT [ARG...]: runs it, expects this exit status, and checks that the tree is unchanged
unchanged() {
  picture >"$WORK/before"; repair "$@"; picture >"$WORK/after"
  same "kubepods-repair ${*:2} changed the tree"
}
# untouched EXIT [ARG...]: the same, and checks that it made no call that could change anything
untouched() {
  picture >"$WORK/before"; traced "$@"; picture >"$WORK/after"
  same "kubepods-repair ${*:2} changed the tree"
  [ "${*:2}" != -n ] || round_trip
}
picture() { tree; }      # a scenario may compare something else, or less
same() { diff -U 3 "$WORK/before" "$WORK/after" || fail "$1"; }

names_fault() {
  says "(^|[^a-z-])$1([^a-z-]|\$)"
}
names_fault_json() {
  grep -Eq "\"fault\": ?\"$1\"" "$WORK/said" || {
    cat "$WORK/said"; fail "the JSON names no fault $1"
  }
}

# in_namespace COMMAND...: runs the scenario's `inside` under this command (unshare ...)
in_namespace() {
  # shellcheck disable=SC2016  # for the inner bash
  "$@" bash -c '. guest/lib.sh; . "scenarios/$SCENARIO"; inside' || fail "inside of $*"
}

# container PART COMMAND...: runs the scenario's `inside` with $PART in a container, which this
# command starts from $C/root, a copy of this system's files. `inside` is the container's init, or
# systemd starts it after it has booted
container() {
  local part=$1 unit; shift
  mkdir -p $C/root $C/rw
  mountpoint -q $C/rw || { modprobe overlay; mount -t tmpfs tmpfs $C/rw; mkdir $C/rw/up $C/rw/work
    mount -t overlay overlay -o lowerdir=/,upperdir=$C/rw/up,workdir=$C/rw/work $C/root
    cp -r /run/vm $C/root/opt/; }
  for unit in lxc lxc-net lxc-monitord; do
    ln -sfn /dev/null "$C/root/etc/systemd/system/$unit.service"
  done
  printf '[Unit]\nAfter=multi-user.target\n[Service]\nExecStart=/opt/vm/inside\n' \
    >$C/root/etc/systemd/system/vm-agent.service
  cat >$C/root/opt/vm/inside <<INSIDE
#!/bin/bash
ln -sfn /opt/vm /run/vm; cd /run/vm; mkdir -p "$WORK"
[ -e /dev/kmsg ] || ln -s null /dev/kmsg      # the kubelet opens it
export PATH=/run/vm/guest/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LC_ALL=C.UTF-8
export COLUMNS=$COLUMNS
export PART=$part SCENARIO=$SCENARIO WORK=$WORK KUBELET_VERSION=$KUBELET_VERSION
bash -c '. guest/lib.sh; . "scenarios/\$SCENARIO"; inside' >said 2>&1; echo \$? >ended
INSIDE
  chmod 755 $C/root/opt/vm/inside; rm -f $C/root/opt/vm/ended
  # The kernel parameters that have to be set outside of a container for its kubelet, because in
  # most containers /proc/sys is read-only.
  sysctl -qw vm.overcommit_memory=1 vm.panic_on_oom=0 kernel.panic=10 kernel.panic_on_oops=1 \
    kernel.keys.root_maxkeys=1000000 kernel.keys.root_maxbytes=25000000
  "$@"
  wait_for 300 test -s $C/root/opt/vm/ended
  sed 's/^/   | /' $C/root/opt/vm/said
  [ "$(cat $C/root/opt/vm/ended)" = 0 ] || fail "$part, in the container"
}

# container_heals MANAGER: a part of `inside`: checks that the units repair the container as they do
# a host, without help from outside
container_heals() {
  [ "$(cat $CG/cgroup.type)" = domain ] || fail "this is no container"
  microk8s; kubelite_unit; install_units; systemctl daemon-reload
  repair 3 -n; says "$1 container"; names_fault root-missing
  systemctl start "$UNIT"; came_up_at_once
  anchored $K || fail "no anchor: $(cat $K/cgroup.subtree_control)"
  wait_for 60 kubelite_said 'repaired: after'
  untouched 0 --pre-start
  systemctl daemon-reload; systemd-run -q --wait --unit=kr-nudge -p CPUWeight=50 true
  enabled $K || fail "lost at a daemon-reload: $(cat $K/cgroup.controllers)"
  systemctl start kubepods-repair.service; previous_shutdown unknown
}

# busy_heals WORDS: a part of `inside`, with a shell as process 1, no bus and no journal: checks
# that the fault is reported with these words, and that everything is repaired after the processes
# have left the root, as the fix for Docker says
busy_heals() {
  [ "$(cat /proc/1/comm)" = inside ] || fail "process 1 is $(cat /proc/1/comm)"
  microk8s; only_told 1 nested-root-busy; repair 1 -n; says "contains .*: 1 \(inside\)"; says "$1"
  # the process that moved itself has ended by then
  mkdir $CG/init; xargs -rn1 <$CG/cgroup.procs >$CG/init/cgroup.procs || true
  traced 3 -n; repair 0 --pre-start
  enabled $K && anchored $K ||
    fail "kubepods: $(cat $K/cgroup.controllers), anchored $(cat $K/cgroup.subtree_control)"
  traced 0 --pre-start
  kubelet_starts
}

# background COMMAND...: runs it until the next reset
background() { "$@" >"$WORK/background" 2>&1 & disown; echo $! >>/run/vm/pids; }

# storm: daemon-reloads, and in between starts of units that make systemd enable the controllers
# that they need, and disable all others. Never two of these units at once: systemd would disable
# for one what the other needs.
storm() {
  touch /run/vm/units; echo 0 >"$WORK/rounds"
  background storm_loop
}
storm_loop() {
  local i=0
  while i=$((i + 1)); do
    gust CPUWeight=50; gust AllowedCPUs=0
    echo $i >"$WORK/rounds"
  done
}
gust() { # PROPERTY
  systemctl daemon-reload || true
  sleep 0.1
  timeout 60 systemd-run -q --wait --collect -p "$1" true || true
}
# waits for N complete rounds from now on, not counting the current one
storm_rounds() {
  local from; from=$(cat "$WORK/rounds"); wait_for 600 rounds_done $((from + $1 + 1))
}
rounds_done() { [ "$(cat "$WORK/rounds")" -ge "$1" ]; }

# only_told EXIT FAULT: checks that the program names the fault and changes nothing, however it is
# called
only_told() {
  untouched "$1" -n; names_fault "$2"
  unchanged "$1"; names_fault "$2"
  unchanged "$1" --pre-start; names_fault "$2"
  repair "$1" -n --json; names_fault_json "$2"
}

# ---- the flows -----------------------------------------------------------------------------------

# A fault that is repaired. The scenario defines: fault, without (`starts`, or the message with
# which the kubelet ends), broken(); and if they differ from the default: dry (exit status of -n:
# 3), args=(lines of the args file), cured() (what must be true after the repair), by_hand=no (needs
# --pre-start)
broken_host() { reset; microk8s ${args[@]+"${args[@]}"}; broken; }
flow_repaired() {
  broken_host
  if [ "$without" = starts ]; then kubelet_starts; else kubelet_dies "$without"; fi
  needs_program

  broken_host
  untouched "${dry:-3}" -n; names_fault "$fault"
  repair "${dry:-3}" -n --json; names_fault_json "$fault"
  repair 0 --pre-start
  check_cured
  untouched 0 --pre-start
  kubelet_starts

  [ "${by_hand:-yes}" = yes ] || return 0
  broken_host
  repair 0
  check_cured
  kubelet_starts
}
check_cured() {
  local root=${cgroup_root:-}
  enabled "$CG$root/kubepods" || {
    cat "$WORK/said"; tree
    fail "kubepods lacks controllers: $(cat "$CG$root/kubepods/cgroup.controllers")"
  }
  anchored "$CG$root/kubepods" || {
    cat "$WORK/said"
    fail "kubepods holds no anchor: $(cat "$CG$root/kubepods/cgroup.subtree_control")"
  }
  [ ! -e $CG/kubepods-strays ] || [ -n "${strays_live:-}" ] || {
    tree kubepods-strays; fail "kubepods-strays is still there"
  }
  if declare -F cured >/dev/null; then cured; fi
}

# A fault that is only reported, without any change. `told`: the exit status of a run (0 or 1),
# also with -n. The rest is as above.
flow_told() {
  broken_host
  if [ "$without" = starts ]; then kubelet_starts; else kubelet_dies "$without"; fi
  needs_program
  broken_host
  only_told "$told" "$fault"
}
