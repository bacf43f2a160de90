/// The script that makes a shell complete the arguments of the program. It asks the program with
/// `reeve __complete SHELL WORD…` (see `Completions`).
public enum CompletionScript: String, CaseIterable, Sendable {
    case bash, zsh, fish

    /// The word of the command line that stands for a question of a script.
    public static let command = "__complete"

    public var text: String {
        switch self {
        case .bash: Self.bashText
        case .zsh: Self.zshText
        case .fish: Self.fishText
        }
    }

    private static let bashText = #"""
        # Completion of reeve for Bash. Load it with: source <(reeve completion bash)
        _reeve() {
            local program=${COMP_WORDS[0]/#\~/$HOME} word=${COMP_WORDS[COMP_CWORD]} line
            [[ $word == = ]] && word=
            COMPREPLY=()
            while IFS= read -r line; do
                case $line in
                    :files)
                        compopt -o filenames 2>/dev/null
                        while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$word")
                        ;;
                    :*) ;;
                    *) COMPREPLY+=("${line%%$'\t'*}") ;;
                esac
            done < <("$program" __complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
        }
        complete -F _reeve reeve

        """#

    private static let zshText = #"""
        #compdef reeve
        # Completion of reeve for Zsh. Load it with: source <(reeve completion zsh)
        _reeve() {
            local program=${~words[1]} line
            local -a candidates
            local files=
            for line in "${(@f)$("$program" __complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
                case $line in
                    :files) files=yes ;;
                    :*|'') ;;
                    *$'\t'*) candidates+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
                    *) candidates+=("${line//:/\\:}") ;;
                esac
            done
            (( $#candidates )) && _describe -V reeve candidates
            if [[ -n $files ]]; then
                compset -P 1 '--*='
                _files
            fi
        }
        if [[ ${funcstack[1]} == _reeve ]]; then _reeve "$@"; else compdef _reeve reeve; fi

        """#

    private static let fishText = #"""
        # Completion of reeve for fish. Load it with: reeve completion fish | source
        function __reeve_complete
            set -l words (commandline -opc)
            set -l word (commandline -ct)
            test (count $word) -eq 0; and set word ''
            for line in ($words[1] __complete fish $words[2..-1] $word 2>/dev/null)
                switch $line
                    case ':files'
                        __fish_complete_path $word
                    case ':*'
                    case '*'
                        echo $line
                end
            end
        end
        complete -c reeve -f -a '(__reeve_complete)'

        """#
}
