# shellcheck shell=bash disable=SC2154
# Pulls one piece of a healthy version 1 tree after the other: hierarchies, directories, contents of files.

# its_turn: of all that is generated every STRIDEth is pulled
its_turn() { TURN=$((TURN + 1)); [ $((TURN % STRIDE)) = 0 ]; }
# heals WHAT: noticed by -n, mended by a run, and then nothing is left to do
heals() {
  timeout 100 kubepods-repair -n >"$WORK/said" 2>&1 && RC=0 || RC=$?
  [ $RC = 3 ] || { cat "$WORK/said"; fail "$1 pulled: -n says $RC"; }
  repair 0 >/dev/null
  repair 0 >/dev/null; says '^healthy:'
  HEALED=$((HEALED + 1))
}
report() { note "$HEALED $1 pulled and healed"; [ "$HEALED" -gt 0 ] || fail "no $1 were pulled"; HEALED=0; }

pull_directories() {
  local h g
  for h in $(used); do
    for g in kubepods/burstable kubepods/besteffort kubepods; do
      its_turn || continue
      find "$h/$g" -depth -type d -exec rmdir {} +; heals "$h/$g"; [ -d "$h/$g" ] || fail "not made: $h/$g"
    done
  done
  report directories
}
pull_hierarchies() {
  local h
  for h in $(used); do
    its_turn || continue
    umount "$h"; heals "$h"; mountpoint -q "$h" || fail "not mounted: $h"
    # shellcheck disable=SC2086  # words
    in_all $OWN || fail "not whole after $h"
  done
  report hierarchies
}
# emptied FILE: what it held is in $BEFORE; false where it cannot be emptied, or holds what it did
emptied() {
  BEFORE=$(timeout 5 cat "$1" 2>/dev/null) || return 1
  timeout 5 bash -c 'echo >"$1"' bash "$1" 2>/dev/null || return 1
  [ "$(timeout 5 cat "$1")" != "$BEFORE" ]
}
# Not pulled: what is an order to the kernel and no setting; peaks, which any write sets back; and reservations of huge pages, which
# newer kubelets set with the limits themselves and the stand-in does not.
pull_files() {
  local h g f
  kubelet_starts
  for h in $(used); do for g in $OWN; do for f in "$h/$g"/*; do
    [ -f "$f" ] && [ -w "$f" ] && [ -r "$f" ] || continue
    case ${f##*/} in *.force_empty | *event_control | *max_usage_in_bytes | *.rsvd.*) continue;; esac
    its_turn && emptied "$f" || continue
    timeout 100 kubepods-repair -n >"$WORK/said" 2>&1 && RC=0 || RC=$?
    if [ $RC = 3 ]; then heals "$f"; continue; fi
    # told is enough where it may be somebody's intent, and nothing need be said of what the kubelet sets again
    if grep -q leftover-limits "$WORK/said"; then TOLD+=" $f"; echo "$BEFORE" >"$f"; continue; fi
    kubelet >"$WORK/kubelet" 2>&1 || fail "$f emptied: the kubelet does not start, and nobody noticed"
    [ "$(timeout 5 cat "$f")" = "$BEFORE" ] || { UNNOTICED+=" $f"; echo "$BEFORE" >"$f"; }
  done; done; done
  note "$HEALED files emptied and healed; told:$TOLD"
  [ -z "$UNNOTICED" ] || fail "unnoticed:$UNNOTICED"
}
# pull_each STRIDE
pull_each() {
  needs_program
  STRIDE=$1 TURN=0 HEALED=0 TOLD='' UNNOTICED=''
  reset; microk8s; healthy; repair 0; says '^healthy:'
  pull_directories
  pull_hierarchies
  pull_files
}
