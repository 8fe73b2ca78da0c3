# shellcheck shell=bash
# shellcheck disable=SC2086  # $CG, $K and their like have no blanks
# A service with CPUAffinity=1 on two CPUs; before kernel 6.2 it loses that when cpuset is enabled
# at the root while it runs.
PINNED=kr-pinned.service
pinned_unit() {
  touch /run/vm/units
  printf \
    '[Service]\nExecStart=sleep infinity\nCPUAffinity=1\n[Install]\nWantedBy=multi-user.target\n' \
    >"/etc/systemd/system/$PINNED"
}
mask() { sed -n 's/^Cpus_allowed_list:\t//p' "/proc/$(main_pid $PINNED)/status"; }
keeps() {
  [ "$(mask)" = 1 ] || { tree --shape; fail "$1: a service has lost its CPU affinity: $(mask)"; }
  note "$1"
}
# untouched_tree WHAT: checks that no group was created and no controller enabled
untouched_tree() {
  keeps "$1"
  [ ! -e $K ] || fail "$1: kubepods was made"
  ! grep -qw cpuset $CG/cgroup.subtree_control || fail "$1: cpuset was enabled"
}
