# shellcheck shell=bash
# Shared by `reads`, which works on captured hosts, and inject.sh, which works in the guest.

# injected_path TRACE CALL: prints the path of the call that was made to fail, from `strace -y`;
# nothing for a socket
injected_path() {
  case $2 in
    open*|readlink*|mkdir*|unlink*|rename*)
      sed -n '/INJECTED/{s/^[^"]*"\([^"]*\)".*/\1/p; q}' "$1";;
    mount) sed -n '/INJECTED/{s/^[^"]*"[^"]*", "\([^"]*\)".*/\1/p; q}' "$1";;
    *) sed -n '/INJECTED/{s/^[^<]*<\(\/[^>]*\)>.*/\1/p; q}' "$1";;
  esac
}
# names PATH REPORT: whether the report contains the last part of the path
names() { grep -qF -- "${1##*/}" "$2"; }
