# Completion of simile's commands, options, keys of a job and files, for bash:
#   source jobs/completion.bash
# Options are those of `simile COMMAND --help`, keys those of `simile plan --keys`.
_simile() {
    local program=${COMP_WORDS[0]} command=${COMP_WORDS[1]} word=${COMP_WORDS[COMP_CWORD]} list
    if [ "$COMP_CWORD" -eq 1 ]; then
        list=$("$program" --help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
        mapfile -t COMPREPLY < <(compgen -W "$list --help --version" -- "$word")
        return
    fi
    if [[ $word == -* ]]; then
        list=$("$program" "$command" --help 2>/dev/null | sed -n 's/^  \(-[^ ]*, \)\{0,1\} *\(--[a-z0-9-]*\).*/\2/p')
        mapfile -t COMPREPLY < <(compgen -W "$list" -- "$word")
        return
    fi
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
    case $command in
    evaluate) [ "$COMP_CWORD" -gt 2 ] || list="knn linear quality classifier" ;;
    bench) [ "$COMP_CWORD" -gt 2 ] || list="step scaling kernel loss loader checkpoint" ;;
    pretrain | plan | compare)
        list=$("$program" plan --keys 2>/dev/null | sed -n 's/^  \([a-z][a-z0-9_.]*\)  *[^ ]*  *\[.*/\1=/p')
        compopt -o nospace 2>/dev/null
        ;;
    esac
    [ -z "$list" ] || mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "$list" -- "$word")
}
complete -o filenames -o bashdefault -F _simile simile
