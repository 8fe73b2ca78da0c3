# shellcheck shell=bash disable=SC2034  # the lists are for those that source this
# What the tests need of this machine. Each entry is COMMAND-OR-FILE:PACKAGE of Debian and Ubuntu.
TOOLS=(strace:strace cc:gcc git:git jq:jq shellcheck:shellcheck
  /usr/include/linux/io_uring.h:libc6-dev)
PACKAGE_TOOLS=(lintian:lintian man:man-db mandoc:mandoc zsh:zsh fish:fish readelf:binutils)
GUEST_TOOLS=(qemu-system-x86_64:qemu-system-x86 mmdebstrap:mmdebstrap mke2fs:e2fsprogs
  mkfs.xfs:xfsprogs cpio:cpio busybox:busybox-static xz:xz-utils zstd:zstd lz4:lz4
  python3:python3 depmod:kmod
  /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring)
RT_KERNEL_TOOLS=(flex:flex bison:bison bc:bc make:make gcc:gcc xz:xz-utils
  /usr/include/libelf.h:libelf-dev /usr/include/openssl/ssl.h:libssl-dev)
DQLITE_TOOLS=(gcc:gcc pip3:python3-pip debugfs:e2fsprogs
  /usr/lib/x86_64-linux-gnu/libsqlite3.a:libsqlite3-dev
  /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring)
ARM64_TOOLS=(qemu-system-aarch64:qemu-system-arm debootstrap:debootstrap qemu-aarch64:qemu-user
  aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu
  /usr/aarch64-linux-gnu/lib/libc.a:libc6-dev-arm64-cross)
# Debian's own cross toolchain, where the one at hand has no standard library for arm64.
ARM64_RUST=(/usr/bin/rustc:rustc-web
  /usr/lib/rustlib/aarch64-unknown-linux-gnu:libstd-rust-web-dev:arm64)

# has COMMAND-OR-FILE
has() {
  case $1 in
    /*) [ -e "$1" ];;
    # a dynamic one cannot be the initrd's only file
    busybox) has_command busybox && ! ldd "$(command -v busybox)" >/dev/null 2>&1;;
    *) has_command "$1";;
  esac
}
has_command() { command -v "$1" >/dev/null; }

# missing ENTRY...: the packages of those that are not there, one a line
missing() {
  local entry
  for entry; do has "${entry%%:*}" || echo "${entry#*:}"; done | sort -u
}

# install_missing ENTRY...: with apt, without a question, and says so before. With KR_NO_INSTALL in
# the environment it fails with the list instead.
install_missing() {
  local packages as_root=()
  mapfile -t packages < <(missing "$@")
  [ ${#packages[@]} -gt 0 ] || return 0
  if [ -n "${KR_NO_INSTALL:-}" ]; then
    echo "missing, and not to be installed: ${packages[*]}" >&2
    return 1
  fi
  echo "installing with apt-get: ${packages[*]}" >&2
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  [[ "${packages[*]}" != *:arm64* ]] || "${as_root[@]}" dpkg --add-architecture arm64 || return 1
  local get=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
    apt-get -q -o DPkg::Lock::Timeout=600)
  "${get[@]}" update >&2 || return 1
  "${get[@]}" install -y --no-install-recommends "${packages[@]}" >&2 </dev/null
}

# debian_mirror: DEBIAN_MIRROR, or the mirror from which this machine's apt takes Debian; empty on
# another distribution, for which mmdebstrap and debootstrap know one
debian_mirror() {
  local mirror=${DEBIAN_MIRROR:-}
  # shellcheck disable=SC2016  # apt's own
  [ -n "$mirror" ] || mirror=$(
    apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 2>/dev/null |
      awk '$1 == "Debian" && $2 !~ /-/ && !found++ { print $3 }'
  )
  echo "${mirror%/}"
}
