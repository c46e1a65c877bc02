package usage

import (
	"fmt"
	"slices"
	"strings"
)

// Shells are the shells for which Completion makes scripts.
var Shells = []string{"bash", "zsh", "fish"}

// Completion returns a script for one of Shells that makes the Tab key complete the commands of p,
// their flags, and values that are files. The names in p must consist of letters, digits and "-".
// For another shell, Completion returns an error.
func Completion(p Program, shell string) (string, error) {
	switch shell {
	case "bash":
		return bashCompletion(p), nil
	case "zsh":
		return zshCompletion(p), nil
	case "fish":
		return fishCompletion(p), nil
	}
	return "", fmt.Errorf("want one of the shells %s", strings.Join(Shells, ", "))
}

// IsFile reports whether the value of f is the path of a file, a directory or a socket.
func (f Flag) IsFile() bool {
	return slices.Contains([]string{"file", "directory", "file or directory", "path", "socket", "FILE[:CONTEXT]"}, f.Value)
}

// brief returns the first part of the text of f, up to the first semicolon or sentence.
func (f Flag) brief() string {
	text, _, _ := strings.Cut(f.Text, "; ")
	text, _, _ = strings.Cut(text, ". ")
	return text
}

// commandNames returns the names of all commands of p. A command without a name is left out.
func (p Program) commandNames() (names []string) {
	for _, c := range p.Commands {
		if c.Name != "" {
			names = append(names, c.Name)
		}
	}
	return names
}

// flagWords returns the flags for which choose returns true, as words of a shell: "-a -b".
func flagWords(flags []Flag, choose func(Flag) bool) string {
	var words []string
	for _, f := range flags {
		if choose(f) {
			words = append(words, "-"+f.Name)
		}
	}
	return strings.Join(words, " ")
}

// bashCompletion returns a script for bash 3.2 and later. Before bash 4.0, there is no compopt, and
// the script completes no files.
func bashCompletion(p Program) string {
	var b strings.Builder
	function := "_" + strings.ReplaceAll(p.Name, "-", "_")
	names := strings.Join(p.commandNames(), " ")
	fmt.Fprintf(&b, `# Completion of %[1]s for bash. To use it: source <(%[1]s completion bash)
%[2]s() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= flags= values= files=
    COMPREPLY=()
    # bash splits -flag=value into three words.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = && $COMP_CWORD -ge 2 ]]; then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    [[ $prev == --* ]] && prev=${prev#-}
    [[ $COMP_CWORD -gt 1 && ${COMP_WORDS[1]} != -* ]] && command=${COMP_WORDS[1]}
    case $command in
`, p.Name, function)
	for _, c := range p.Commands {
		flags := c.Flags()
		fmt.Fprintf(&b, "    '%s')\n        flags='%s'\n        values=' %s '\n        files=' %s '\n        ;;\n", c.Name,
			flagWords(flags, func(Flag) bool { return true }),
			flagWords(flags, func(f Flag) bool { return f.Value != "" }),
			flagWords(flags, Flag.IsFile))
	}
	fmt.Fprintf(&b, `    esac
    if [[ $values == *" $prev "* ]]; then
        [[ $files == *" $prev "* ]] && compopt -o default 2>/dev/null
    elif [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "${cur/#--/-}"))
    elif [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W '%s' -- "$cur"))
    elif [[ $command == completion ]]; then
        COMPREPLY=($(compgen -W '%s' -- "$cur"))
    fi
}
complete -F %s %s
`, names, strings.Join(Shells, " "), function, p.Name)
	return b.String()
}

func zshCompletion(p Program) string {
	var b strings.Builder
	function := "_" + p.Name
	fmt.Fprintf(&b, "#compdef %[1]s\n# Completion of %[1]s for zsh. To use it: source <(%[1]s completion zsh), after compinit\n%[2]s() {\n", p.Name, function)
	b.WriteString("  local -a commands=(\n")
	for _, c := range p.Commands {
		if c.Name != "" {
			fmt.Fprintf(&b, "    %s\n", single(strings.ReplaceAll(c.Name+":"+c.Summary, "\n", " ")))
		}
	}
	b.WriteString("  )\n  local command=\n" +
		"  if (( CURRENT > 2 )) && [[ $words[2] != -* ]]; then\n" +
		"    command=$words[2]\n    shift words\n    (( CURRENT-- ))\n" +
		"  elif (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then\n" +
		"    _describe command commands\n    return\n  fi\n" +
		"  case $command in\n")
	special := strings.NewReplacer("[", `\[`, "]", `\]`, ":", `\:`)
	for _, c := range p.Commands {
		fmt.Fprintf(&b, "  (%s)\n    _arguments", single(c.Name))
		for _, f := range c.Flags() {
			spec := "*-" + f.Name + "[" + special.Replace(f.brief()) + "]"
			switch {
			case f.IsFile():
				spec += ":" + special.Replace(f.Value) + ":_files"
			case f.Value != "":
				spec += ":" + special.Replace(f.Value) + ": "
			}
			fmt.Fprintf(&b, " \\\n      %s", single(spec))
		}
		if c.Name == "completion" {
			fmt.Fprintf(&b, " \\\n      '1:shell:(%s)'", strings.Join(Shells, " "))
		}
		b.WriteString("\n    ;;\n")
	}
	fmt.Fprintf(&b, "  esac\n}\nif [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n  %[1]s \"$@\"\nelse\n  compdef %[1]s %[2]s\nfi\n", function, p.Name)
	return b.String()
}

func fishCompletion(p Program) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Completion of %[1]s for fish. To use it: %[1]s completion fish | source\ncomplete -c %[1]s -f\n", p.Name)
	names := strings.Join(p.commandNames(), " ")
	for _, c := range p.Commands {
		when := "__fish_seen_subcommand_from " + c.Name
		if c.Name == "" {
			when = "not __fish_seen_subcommand_from " + names
		} else {
			fmt.Fprintf(&b, "complete -c %s -n %s -a %s -d %s\n", p.Name, fishQuote("test (count (commandline -opc)) -eq 1"), c.Name, fishQuote(c.Summary))
		}
		for _, f := range c.Flags() {
			value := ""
			switch {
			case f.IsFile():
				value = " -r -F"
			case f.Value != "":
				value = " -x"
			}
			fmt.Fprintf(&b, "complete -c %s -n %s -o %s%s -d %s\n", p.Name, fishQuote(when), f.Name, value, fishQuote(f.brief()))
		}
		if c.Name == "completion" {
			fmt.Fprintf(&b, "complete -c %s -n %s -a %s\n", p.Name, fishQuote(when), fishQuote(strings.Join(Shells, " ")))
		}
	}
	return b.String()
}

// single returns a text in single quotes for bash and zsh.
func single(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// fishQuote returns a text in single quotes for fish.
func fishQuote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}
