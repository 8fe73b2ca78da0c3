# shellcheck shell=bash disable=SC2034,SC2154
# shellcheck disable=SC2086  # $CG, $K and their like have no blanks
# What scenarios of version 1 and hybrid mode are written with, beside lib.sh.
CG1=/sys/fs/cgroup
# used: the mount points of the hierarchies that libcontainer makes groups in (misc is none of its)
used() {
  sed -n 's|^[^ ]* [^ ]* [^ ]* / \([^ ]*\) .* - cgroup .*|\1|p' /proc/self/mountinfo |
    grep -v '/misc$'
}
# in_all GROUP...: each is in all of them
in_all() {
  local h g
  for h in $(used); do for g; do [ -d "$h/$g" ] || { echo "no $h/$g"; return 1; }; done; done
}
make_all() { local h g; for h in $(used); do for g; do mkdir -p "$h/$g"; done; done; }
OWN="kubepods kubepods/burstable kubepods/besteffort"
# filled GROUP...: its cpuset has what the root's has
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
# filled_by_hand: kubepods' cpuset and those below, as the kubelet's libcontainer leaves them
filled_by_hand() {
  local g f
  for g in $OWN; do
    for f in cpuset.cpus cpuset.mems; do cat $CG1/cpuset/$f >"$CG1/cpuset/$g/$f"; done
  done
}
