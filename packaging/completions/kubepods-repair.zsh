#compdef kubepods-repair
# Made by tests/generate from src/cli.rs.
_kubepods_repair_faults() {
  local -a faults
  faults=(${(f)"$(kubepods-repair --explain 2>/dev/null | awk '/^  [a-z]/ {print $1}')"})
  _describe fault faults
}
_arguments \
  '(-n --dry-run)'{-n,--dry-run}'[show repairs without making them]' \
  '(-v --verbose)'{-v,--verbose}'[show settings and controllers]' \
  '--pre-start[run as kubelite's ExecStartPre=]' \
  '--early[run as k8s-dqlite's ExecStartPre=]' \
  '--boot[run as kubepods-repair.service]' \
  '--shutdown[run as kubepods-repair-shutdown.service]' \
  '--no-restart[never restart a unit]' \
  '--root[examine a captured copy]:folder:_directories' \
  '--capture[save the examined data for a bug report]:file:_files' \
  '--json[print the report as JSON]' \
  '--explain[explain a fault]:fault:_kubepods_repair_faults' \
  '--textfile[also write metrics]:folder:_directories' \
  '(-h --help)'{-h,--help}'[show help]' \
  '(-V --version)'{-V,--version}'[show the version]'
