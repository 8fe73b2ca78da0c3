# shellcheck shell=bash disable=SC2034,SC2154
# shellcheck disable=SC2086  # $CG, $K and their like have no blanks
# Helpers for scenarios of cgroup v1 and hybrid mode, in addition to lib.sh.
CG1=/sys/fs/cgroup
# used: prints the mount points of the hierarchies in which libcontainer creates groups (not misc)
used() {
  sed -n 's|^[^ ]* [^ ]* [^ ]* / \([^ ]*\) .* - cgroup .*|\1|p' /proc/self/mountinfo |
    grep -v '/misc$'
}
# in_all GROUP...: checks that each exists in all of them
in_all() {
  local h g
  for h in $(used); do for g; do [ -d "$h/$g" ] || { echo "no $h/$g"; return 1; }; done; done
}
make_all() { local h g; for h in $(used); do for g; do mkdir -p "$h/$g"; done; done; }
OWN="kubepods kubepods/burstable kubepods/besteffort"
# filled GROUP...: checks that its cpuset is the same as the root's
filled() {
  local g f
  for g; do for f in cpuset.cpus cpuset.mems; do
    [ "$(cat $CG1/cpuset/$f)" = "$(cat "$CG1/cpuset/$g/$f")" ] || {
      echo "$g/$f: $(cat "$CG1/cpuset/$g/$f")"; return 1
    }
  done; done
}
thawed() { grep -qx 0 "$CG1/freezer/$1/freezer.self_freezing"; }
mounted() { mountpoint -q "$CG1/$1"; }
check_cured() {
  local g
  # shellcheck disable=SC2086  # words
  in_all $OWN && filled $OWN || { cat "$WORK/said"; fail "the tree is not whole"; }
  for g in $OWN; do thawed $g || fail "$g is frozen"; done
  kubelet --check-only >"$WORK/check" || {
    cat "$WORK/check"; fail "a kubelet would not find it valid"
  }
  if declare -F cured >/dev/null; then cured; fi
}
# filled_by_hand: fills the cpusets of kubepods and the groups below as the kubelet's libcontainer
# does
filled_by_hand() {
  local g f
  for g in $OWN; do
    for f in cpuset.cpus cpuset.mems; do cat $CG1/cpuset/$f >"$CG1/cpuset/$g/$f"; done
  done
}
