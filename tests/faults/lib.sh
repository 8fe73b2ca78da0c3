# shellcheck shell=bash
# What both halves share: reads on captured hosts (reads) and everything in the guest (inject.sh).

# injected_path TRACE CALL: the path whose call was made to fail, by `strace -y`; none of a socket
injected_path() {
  case $2 in
    open*|readlink*|mkdir*|unlink*|rename*)
      sed -n '/INJECTED/{s/^[^"]*"\([^"]*\)".*/\1/p; q}' "$1";;
    mount) sed -n '/INJECTED/{s/^[^"]*"[^"]*", "\([^"]*\)".*/\1/p; q}' "$1";;
    *) sed -n '/INJECTED/{s/^[^<]*<\(\/[^>]*\)>.*/\1/p; q}' "$1";;
  esac
}
# names PATH REPORT: the report holds the last part of it
names() { grep -qF -- "${1##*/}" "$2"; }
