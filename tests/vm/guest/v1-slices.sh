# shellcheck shell=bash disable=SC2034,SC2154
# shellcheck disable=SC2086  # $CG, $K and their like have no blanks
# Helpers for scenarios of the systemd driver on cgroup v1, in addition to v1.sh.
OWN="kubepods.slice kubepods.slice/kubepods-burstable.slice"
OWN+=" kubepods.slice/kubepods-besteffort.slice"
# the mount points where slices stay; in the others systemd itself removes empty groups
used_by_slices() { used | grep -Ev '/(blkio|devices)$'; }
made_by_kubelet() {
  kubelet >"$WORK/first" 2>&1 || { cat "$WORK/first"; fail "no kubelet made the slices"; }
}
nowhere() { :; }
by_hand() { make_all $OWN; filled_by_hand; }
gone() {
  made_by_kubelet
  for g in besteffort burstable; do rmdir "$CG1/systemd/kubepods.slice/kubepods-$g.slice"; done
  rmdir $CG1/systemd/kubepods.slice
}
is_whole() {
  local h g
  for h in $(used_by_slices); do
    for g in $OWN; do [ -d "$h/$g" ] || { cat "$WORK/said"; fail "no $h/$g"; }; done
  done
  # shellcheck disable=SC2086  # words
  filled $OWN || fail "cpusets are empty"
  for g in $SLICES; do
    [ "$(systemctl is-active "$g")" = active ] || fail "$g is $(systemctl is-active "$g")"
  done
}
state() { # BROKEN FAULT WITHOUT
  note "$1"
  reset; by_systemd; "$1"
  if [ "$3" = starts ]; then kubelet_starts; else kubelet_dies "$3"; fi
  needs_program
  reset; by_systemd; "$1"
  untouched 3 -n; names_fault "$2"
  repair 0 --pre-start; is_whole
  untouched 0 --pre-start
  kubelet_starts
  systemctl daemon-reload; touch /run/vm/units
  systemd-run -q --wait --unit=kr-nudge -p CPUWeight=50 true
  repair 0; says '^healthy:'
}
