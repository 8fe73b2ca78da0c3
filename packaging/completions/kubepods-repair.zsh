#compdef kubepods-repair
# Made by tests/generate from src/cli.rs.
_kubepods_repair_faults() {
  local -a faults
  faults=(${(f)"$(kubepods-repair --explain 2>/dev/null | awk '/^  [a-z]/ {print $1}')"})
  _describe fault faults
}
_arguments \
  '(-n --dry-run)'{-n,--dry-run}'[change nothing]' \
  '(-v --verbose)'{-v,--verbose}'[show settings and controllers]' \
  '--pre-start[as before kubelite]' \
  '--early[as before k8s-dqlite]' \
  '--boot[as at boot]' \
  '--shutdown[note that this boot ends cleanly]' \
  '--no-restart[never restart a unit]' \
  '--root[examine a captured copy]:folder:_directories' \
  '--capture[save what was read]:file:_files' \
  '--json[report as JSON]' \
  '--explain[explain a fault]:fault:_kubepods_repair_faults' \
  '--textfile[also write metrics]:folder:_directories' \
  '(-h --help)'{-h,--help}'[print a summary]' \
  '(-V --version)'{-V,--version}'[print the version]'
