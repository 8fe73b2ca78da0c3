# bash completion for kubepods-repair. Made by tests/generate from src/cli.rs.
_kubepods_repair() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
  local options faults
  COMPREPLY=()
  case $before in
    --explain)
      faults=$(kubepods-repair --explain 2>/dev/null | awk '/^  [a-z]/ {print $1}')
      mapfile -t COMPREPLY < <(compgen -W "$faults" -- "$word") ;;
    --root|--textfile)
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
    --capture)
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    *)
      options+=" -n --dry-run -v --verbose --pre-start --early --boot --shutdown"
      options+=" --no-restart --root --capture --json --explain --textfile -h --help"
      options+=" -V --version"
      mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word") ;;
  esac
}
complete -F _kubepods_repair kubepods-repair
