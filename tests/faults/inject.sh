# shellcheck shell=bash disable=SC2034,SC2154
# shellcheck disable=SC2086  # $CG, $K and their like have no blanks
# The part that runs in the guest: a scenario sources it after guest/lib.sh. On a broken host, every
# call of a run fails once with every errno that the kernel can give it, or the run is killed there.
# After each of them the promises of README's list must hold, and one undisturbed run must repair
# what a run without the failure would have repaired.
. faults/lib.sh

# The calls and the errnos with which they can fail, without the calls at the start of the C
# library. Calls to the bus are made only if systemd is asked.
declare -A ERRNOS=(
  [openat]="EIO ENOMEM EACCES EMFILE EINTR ENODEV ENOENT EROFS"
  [read]="EIO ENOMEM EINTR EAGAIN ENODEV ESRCH" [readlink]="EIO EACCES"
  [write]="EIO ENOMEM EINTR EBUSY EINVAL ENODEV EACCES ENOSPC EAGAIN ESRCH EOPNOTSUPP EROFS"
  [getdents64]="EIO ENOENT" [close]="EIO EINTR"
  [mkdir]="EIO ENOMEM EAGAIN ENOSPC EROFS EACCES ENOENT EINTR"
  [unlinkat]="EIO EBUSY ENOENT EACCES EROFS" [rename]="EIO ENOSPC EROFS"
  [renameat2]="EIO ENOSPC EROFS EINVAL" [fsync]="EIO ENOSPC EINTR" [flock]="EINTR ENOLCK EAGAIN"
  [statx]=EIO [newfstatat]=EIO
  [mount]="EBUSY ENOENT ENOMEM EPERM EINVAL ENODEV"
  [socket]="EMFILE ENOMEM" [connect]="ECONNREFUSED ENOENT EAGAIN EACCES EINTR"
  [sendmsg]="EPIPE ENOBUFS EINTR" [recvmsg]="ECONNRESET EINTR"
)
# Calls that change the machine: these also fail each time they are repeated, and the run is killed
# there with SIGKILL and with SIGTERM. Of calls that only read, one in READS is enough here, because
# `reads` makes all of them fail on captured hosts.
CHANGING="write mkdir unlinkat rename renameat2 fsync mount" \
  READING="openat read readlink getdents64 close statx newfstatat" READS=25
THIRTEEN="healthy clean-boot bare-kubepods anchor-missing qos-group-missing max-descendants"
THIRTEEN+=" max-depth frozen stray-in-kubepods stray-in-burstable threaded-kubepods"
THIRTEEN+=" threaded-burstable checkpoints"
HOSTS=${HOSTS:-$THIRTEEN}
MADE=0 CLEAN=0 TOLD=0 KILLED=0
declare -A TURNS=([READ]=0 [FAIL]=0 [LAST]=0 [KILL]=0)
# turn KIND EVERY: whether this call is one of those that fail
turn() { TURNS[$1]=$((TURNS[$1] + 1)); [ $((TURNS[$1] % $2)) = 0 ]; }

# quick_reset: undoes what one of these runs can have left; much faster than a reset, and verified
quick_reset() {
  local pids=()
  if [ -e /run/vm/pids ]; then
    mapfile -t pids </run/vm/pids; kill -9 "${pids[@]}" 2>/dev/null || true
    rm /run/vm/pids
  fi
  [ ! -e $K ] || { echo 0 >$K/cgroup.freeze; wait_for 60 empty; }
  rmdir $K/burstable $K/besteffort $K $CG/kubepods-strays 2>/dev/null || true
  rm -rf /run/kubepods-repair* "$SNAP_COMMON"/var/lib/kubelet/*_state*
  echo "-cpuset -cpu -hugetlb -io" >$CG/cgroup.subtree_control
  [ ! -e $K ] && [ ! -e $CG/kubepods-strays ] ||
    fail "the tree cannot be cleared: $(tree --shape kubepods)"
}
empty() {
  local group text
  for group in $K $CG/kubepods-strays; do
    [ ! -e $group ] || {
      text=$(<$group/cgroup.events); [[ $text != *'populated 1'* ]] || return 1
    }
  done
}

# worth: rates the tree by the kubelet's rules with a number, WORTH. Larger is better: first what
# keeps the kubelet from starting, then the controllers that it needs. It starts no process, because
# it is called very often.
worth() {
  local group c text
  WORTH=0
  for group in $K $K/burstable $K/besteffort; do
    [ -e "$group" ] || continue
    read -r text <"$group/cgroup.type"; [ "$text" = domain ] || WORTH=$((WORTH - 100))
    text=; { read -r text <"$group/cgroup.procs" || true; } 2>/dev/null
    [ -z "$text" ] || WORTH=$((WORTH - 100))
  done
  text=; read -r text <$CG/cgroup.subtree_control || true
  for c in $NEEDED; do [[ " $text " != *" $c "* ]] || WORTH=$((WORTH + 1)); done
}

# on_groups: makes strace trace only writes to files of groups, so that the report itself is written
on_groups() {
  local group file
  for group in $CG $K $K/burstable $K/besteffort; do
    for file in subtree_control type freeze max.descendants max.depth procs threads; do
      ONLY+=(-P "$group/cgroup.$file")
    done
  done
  ONLY+=(-P "$CG/kubepods-strays/cgroup.procs")
}

# struck WHAT CALL N HOW: checks the run whose call failed. N+: this call and all that follow fail
struck() {
  local what=$1 call=$2 number=$3 how=$4 filter=--seccomp-bpf ONLY=() before path rc
  [[ $how != signal=* ]] || filter=      # with a filter strace sends no signal
  [[ $call:$number != write:*+ ]] || on_groups
  worth; before=$WORTH
  timeout -k 5 120 strace -f $filter -y -qq -o "$WORK/trace" "${ONLY[@]}" \
    -e "trace=$call" -e "inject=$call:$how:when=$number" \
    kubepods-repair $OCCASION >"$WORK/said" 2>&1 </dev/null && rc=0 || rc=$?
  # the run did not get to this call
  [[ $how:$rc == signal=*:137 || $how:$rc == signal=*:143 ]] || grep -q INJECTED "$WORK/trace" ||
    return 0
  MADE=$((MADE + 1)); what="$what, $call $number, $how: exit $rc"
  case $how:$rc in
    signal=*:137|signal=*:143) KILLED=$((KILLED + 1));;
    *:0) CLEAN=$((CLEAN + 1));;
    *:1) TOLD=$((TOLD + 1))
      path=$(injected_path "$WORK/trace" "$call")
      # It is no failure if a group is already gone; the group above it then is not empty.
      [ "$call:$how" != unlinkat:error=ENOENT ] || path=${path%/*}
      [ -z "$path" ] || names "$path" "$WORK/said" || {
        cat "$WORK/said"; fail "$what: $path is not named"
      };;
    *) cat "$WORK/said"; fail "$what";;
  esac
  note "$what"
  ! grep -q panicked "$WORK/said" || { cat "$WORK/said"; fail "$what: a panic"; }
  ! declare -F also >/dev/null || also "$what"      # what else has to be true after every failure
  worth
  [ $WORTH -ge "$before" ] || {
    cat "$WORK/said"; tree kubepods; fail "$what: the tree is worse than before ($before)"
  }
  kubepods-repair $OCCASION >"$WORK/said" 2>&1 </dev/null && rc=0 || rc=$?
  [ $rc = "$HEALED" ] || {
    cat "$WORK/said"; fail "after $what: the next run ends with $rc, not $HEALED"
  }
  [ "$HEALED" != 0 ] || whole || {
    cat "$WORK/said"; tree kubepods; fail "after $what: not healed"
  }
}
whole() { enabled $K/burstable && anchored $K; }

# strike NAME EVERY EVERY-KILL: makes each EVERY-th of all calls and errnos of this scenario's run
# fail (of those that only read, one in READS of them), and each EVERY-KILL-th lasting failure and
# kill
strike() {
  local name=$1 kind every call number count how hows
  quick_reset; broken
  strace -f -qq -o "$WORK/calls" kubepods-repair $OCCASION >"$WORK/said" 2>&1 </dev/null &&
    HEALED=0 || HEALED=$?
  for call in "${!ERRNOS[@]}"; do
    count=$(grep -c "^[0-9]* *$call(" "$WORK/calls") || true
    # shellcheck disable=SC2086  # words
    hows=$(printf 'error=%s ' ${ERRNOS[$call]})
    kind=FAIL every=$2; [[ " $READING " != *" $call "* ]] || kind=READ every=$(($2 * READS))
    for ((number = 1; number <= count; number++)); do for how in $hows; do
      turn $kind $every || continue
      quick_reset; broken; struck "$name" "$call" "$number" "$how"
    done; done
    [[ " $CHANGING " == *" $call "* ]] || continue
    for ((number = 1; number <= count; number++)); do
      ! turn LAST "$3" || { quick_reset; broken; struck "$name" "$call" "$number+" error=EIO; }
      for how in signal=KILL signal=TERM; do
        turn KILL "$3" || continue
        quick_reset; broken; struck "$name" "$call" "$number" "$how"
      done
    done
  done
  note "$name: $MADE so far"
}

# all_hosts EVERY EVERY-KILL: for the hosts in HOSTS, which are healthy or can be repaired by a run
all_hosts() {
  local host
  OCCASION=--pre-start
  reset; microk8s
  for host in $HOSTS; do
    is_host "$host"; strike "$host" "$1" "$2"
  done
  tally
}
# is_host NAME: defines broken() for this host
is_host() {
  case $1 in
    healthy) broken() { kubepods-repair >"$WORK/said" 2>&1; };;
    qos-group-missing) broken() { kubepods-repair >"$WORK/said" 2>&1; rmdir $K/burstable; };;
    checkpoints)
      broken() {
        : >"$SNAP_COMMON/var/lib/kubelet/cpu_manager_state"
        : >"$SNAP_COMMON/var/lib/kubelet/memory_manager_state"
      };;
    *)
      # shellcheck disable=SC1090  # any of them
      . "scenarios/$1";;
  esac
}
tally() {
  note "$MADE failing calls: $CLEAN runs healed all the same, $TOLD said what failed," \
    "$KILLED were killed; the next run healed each"
  [ $MADE -gt 0 ]
}
