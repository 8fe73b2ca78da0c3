# shellcheck shell=bash disable=SC2154
# shellcheck disable=SC2086  # $CG, $K and their like have no blanks
# Removes the pieces of a healthy cgroup v1 tree one by one: hierarchies, directories, contents of
# files.

# its_turn: whether this piece is removed: every STRIDEth one is
its_turn() { TURN=$((TURN + 1)); [ $((TURN % STRIDE)) = 0 ]; }
# heals WHAT: checks that -n finds the fault, that a run repairs it, and that a second run finds
# nothing
heals() {
  timeout 100 kubepods-repair -n >"$WORK/said" 2>&1 && RC=0 || RC=$?
  [ $RC = 3 ] || { cat "$WORK/said"; fail "$1 pulled: -n says $RC"; }
  repair 0 >/dev/null
  repair 0 >/dev/null; says '^healthy:'
  HEALED=$((HEALED + 1))
}
report() {
  note "$HEALED $1 pulled and healed"; [ "$HEALED" -gt 0 ] || fail "no $1 were pulled"; HEALED=0
}

# pulled: the mount points of which pieces are removed; a scenario may use fewer
pulled() { used; }

pull_directories() {
  local h g groups=()
  # the groups below come last in $OWN
  for g in $OWN; do groups=("$g" ${groups[@]+"${groups[@]}"}); done
  for h in $(pulled); do
    for g in "${groups[@]}"; do
      its_turn || continue
      find "$h/$g" -depth -type d -exec rmdir {} +; heals "$h/$g"
      [ -d "$h/$g" ] || fail "not made: $h/$g"
    done
  done
  report directories
}
pull_hierarchies() {
  local h g
  for h in $(pulled); do
    its_turn || continue
    umount "$h" 2>/dev/null || umount -l "$h"      # in legacy mode systemd uses its own hierarchy
    heals "$h"; mountpoint -q "$h" || fail "not mounted: $h"
    for g in $OWN; do [ -d "$h/$g" ] || fail "not whole after $h"; done
  done
  report hierarchies
}
# Values that a file may accept instead of its present one.
values() {
  local devices=(/sys/class/block/*)
  printf '%s\n' '' 0 1 500 8192 1048576 FROZEN "$(cat "${devices[0]}/dev") 1048576" "lo 1"
}
# changed FILE: changes the file, with its old content in $BEFORE; fails if it cannot be read or
# changed
changed() {
  local value
  BEFORE=$(timeout 5 cat "$1" 2>/dev/null) || return 1
  while IFS= read -r value; do
    # shellcheck disable=SC2016  # for the inner bash
    timeout 5 bash -c 'echo "$2" >"$1"' bash "$1" "$value" 2>/dev/null || continue
    [ "$(timeout 5 cat "$1")" = "$BEFORE" ] || return 0
  done < <(values)
  return 1
}
# minds_not FILE: whether the change harms neither the kubelet's start nor any pod
minds_not() {
  case ${1##*/} in
    # no agent is started when these groups end; for a new cpuset libcontainer fills the rest
    notify_on_release | cgroup.clone_children) ;;
    *max_usage_in_bytes) ;;                            # a past maximum, which any write resets
    cpu.cfs_period_us | cpu.cfs_burst_us) ;;           # parts of a quota, which is reported
    # cgroup v1 throttles only processes directly in the group, and there are none
    blkio.throttle.*) ;;
    # newer kubelets set it together with the limit, the stand-in does not
    hugetlb.*.rsvd.*) ;;
    # a mode of operation, not a limit
    memory.swappiness | memory.move_charge_at_immigrate | net_cls.classid | net_prio.ifpriomap) ;;
    # likewise
    cpuset.*_exclusive | cpuset.mem_hardwall | cpuset.memory_* | cpuset.sched_*) ;;
    *) return 1;;
  esac
}
# starts the kubelet, which writes its limits once more
kubelet_again() {
  kubelet-rules --version "$KUBELET_VERSION" --args-file "$SNAP_DATA/args/kubelet" --refresh \
    >"$WORK/kubelet" 2>&1
}
# cured_as_told FILE: checks that the reported command undoes the change
cured_as_told() {
  local how
  grep -q leftover-limits "$WORK/said" || return 1
  how=$(grep -o "echo [^ ]* > $1" "$WORK/said") ||
    fail "$1 changed: it does not say how to undo that"
  eval "$how"
  kubelet_again && repair 0 >/dev/null && says '^healthy:'
}
pull_files() {
  local h g f told=0 back=0 harmless=0
  kubelet_again || fail "the kubelet does not start"
  for h in $(pulled); do for g in $OWN; do for f in "$h/$g"/*; do
    case ${f##*/} in cgroup.procs | tasks) continue;; esac
    [ -f "$f" ] && [ -w "$f" ] && its_turn && changed "$f" || continue
    timeout 100 kubepods-repair -n >"$WORK/said" 2>&1 && RC=0 || RC=$?
    if [ $RC = 3 ]; then heals "$f"; continue; fi
    if cured_as_told "$f"; then told=$((told + 1)); continue; fi
    kubelet_again || {
      cat "$WORK/kubelet"; fail "$f changed: the kubelet does not start, and no fault was found"
    }
    if [ "$(timeout 5 cat "$f")" = "$BEFORE" ]; then back=$((back + 1)); continue; fi
    if minds_not "$f"; then harmless=$((harmless + 1)); else UNNOTICED+=" $f"; fi
    echo "$BEFORE" >"$f" 2>/dev/null || true
  done; done; done
  note "files changed: $HEALED healed, $told told, $back set back by the kubelet," \
    "$harmless that nobody minds"
  [ -z "$UNNOTICED" ] || fail "unnoticed:$UNNOTICED"
}
# pull_each STRIDE STRIDE-OF-FILES [ARG...]: for a tree of a kubelet with these arguments
pull_each() {
  needs_program
  STRIDE=$1 TURN=0 HEALED=0 UNNOTICED=''
  reset; microk8s "${@:3}"; kubelet_starts; repair 0; repair 0; says '^healthy:'
  pull_directories
  pull_hierarchies
  STRIDE=$2 pull_files
}
