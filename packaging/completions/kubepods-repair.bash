# bash completion for kubepods-repair
_kubepods_repair() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
  COMPREPLY=()
  case $before in
    --explain) mapfile -t COMPREPLY < <(compgen -W "$(kubepods-repair --explain 2>/dev/null | sed '/^$/,$d; s/ .*//')" -- "$word") ;;
    --root|--textfile) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
    --capture) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "-n --dry-run --pre-start --early --boot --shutdown --no-restart --root --capture --json
         --explain --textfile -h --help -V --version" -- "$word") ;;
  esac
}
complete -F _kubepods_repair kubepods-repair
