# shellcheck shell=bash disable=SC2034,SC2154
# shellcheck disable=SC2086  # $CG, $K and their like have no blanks
# The parts of inject.sh that differ on cgroup v1: how to reset the host, to rate its tree, and to
# break it.
HOSTS=${HOSTS:-"healthy unmounted missing partial cpuset-empty frozen stale-pods"}
. guest/v1.sh
. faults/inject.sh
STALE=kubepods/besteffort/pod00000001-0000-4000-8000-000000000000

# Starts few processes, because it is called very often
quick_reset() {
  local h
  mounted cpuset || mount -t cgroup -o nosuid,nodev,noexec,cpuset cgroup $CG1/cpuset
  [ ! -e $CG1/freezer/kubepods ] || echo THAWED >$CG1/freezer/kubepods/freezer.state
  # shellcheck disable=SC2046  # words
  rmdir \
    $(for h in $(used); do printf "$h/%s " $STALE/container $STALE kubepods/{besteffort,burstable} \
    kubepods; done) 2>/dev/null || true
  rm -rf /run/kubepods-repair*
  for h in $(used); do [ ! -e "$h/kubepods" ] || fail "$h/kubepods cannot be cleared"; done
}
whole() {
  local g
  # shellcheck disable=SC2086  # words
  mounted cpuset && in_all $OWN && filled $OWN && [ ! -e "$CG1/pids/$STALE" ] || return 1
  for g in $OWN; do thawed $g || return 1; done
}
# Each hierarchy, group and setting that a kubelet needs on cgroup v1 counts one.
worth() {
  local h g f
  WORTH=0
  for h in $(used); do
    WORTH=$((WORTH + 1))
    for g in $OWN; do [ ! -d "$h/$g" ] || WORTH=$((WORTH + 1)); done
  done
  for g in $OWN; do
    for f in cpuset.cpus cpuset.mems; do
      [ ! -s "$CG1/cpuset/$g/$f" ] || [ -z "$(<"$CG1/cpuset/$g/$f")" ] || WORTH=$((WORTH + 1))
    done
    ! thawed $g 2>/dev/null || WORTH=$((WORTH + 1))
  done
}
on_groups() {
  local g
  for g in $OWN; do
    ONLY+=(-P "$CG1/cpuset/$g/cpuset.cpus" -P "$CG1/cpuset/$g/cpuset.mems" \
      -P "$CG1/freezer/$g/freezer.state")
  done
}
# shellcheck disable=SC2086  # words
is_host() {
  case $1 in
    healthy) broken() { make_all $OWN; filled_by_hand; };;
    unmounted) broken() { umount $CG1/cpuset; ! mounted cpuset; };;
    missing) broken() { :; };;
    partial)
      broken() {
        make_all $OWN; filled_by_hand
        rmdir $CG1/pids/kubepods/burstable $CG1/memory/kubepods/{burstable,besteffort} \
          $CG1/memory/kubepods
      };;
    cpuset-empty) broken() { make_all $OWN; };;
    frozen)
      broken() { make_all $OWN; filled_by_hand; echo FROZEN >$CG1/freezer/kubepods/freezer.state; }
      ;;
    stale-pods) broken() { make_all $OWN $STALE/container; filled_by_hand; };;
  esac
}
