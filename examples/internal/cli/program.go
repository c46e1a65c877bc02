package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/headgate/headgate/examples/internal/usage"
)

// Program describes the command line of a binary. Package usage makes the text of -h and the
// reference page examples/FLAGS.md from the commands of the Program:
//
//	var program = cli.Program{Name: "tool", Summary: "Makes things.", Readme: readme, Commands: []cli.Command{
//		{Example: "tool -size 3", Run: runTool},
//		{Name: "show", Args: "THING", Summary: "Shows a thing.", Example: "tool show x", Run: runShow},
//	}}
//
//	func main() { cli.Main(program.Run) }
type Program struct {
	Name    string
	Summary string // what the binary does, as a sentence
	// Readme is the text of a page with a table whose header is "| purpose | flags |". -h shows each
	// row of the table as a group of flags. A flag belongs to the first row that contains its name,
	// such as `-out`.
	Readme string
	// Commands are the commands. The command without a name runs if the first argument names no
	// command. If all commands have names, the first argument must be one of them.
	Commands []Command
}

// Command is one command of a binary.
type Command struct {
	Name    string // first argument
	Args    string // form of the arguments that are no flags, such as "NODE …"; "" if there are none
	Summary string // what the command does, as a sentence; without a name, that of the Program
	Example string // command lines, separated by line feeds
	// Exits has the meanings of exit codes of this command. ExitOK, ExitFailed and ExitUsage have a
	// default meaning, so they need no entry. -h lists ExitDiffer only if Exits contains it.
	Exits map[int]string
	// Run must call Invocation.Parse with all flags of the command before it does anything else.
	Run Run
}

// exits are the meanings of the exit codes that every command has.
var exits = map[int]string{
	ExitOK:     "success, or a clean stop after SIGTERM",
	ExitFailed: "the work or a check failed, or a file cannot be read",
	ExitUsage:  "a flag is wrong, or a program that the binary needs is missing",
}

// Run runs the command that the first argument names.
func (p Program) Run(ctx context.Context, inv Invocation) int {
	first, args := cutName(inv.Args)
	if first == "help" { // "help NAME" is the same as "NAME -h"
		first, _ = cutName(args)
		args = []string{"-h"}
	}
	p.Commands = append(slices.Clip(p.Commands), completion)
	inv.program, inv.Args = &p, args
	for _, c := range p.Commands {
		if c.Name == first {
			inv.command = c
			return inv.listed(c.Run(ctx, inv))
		}
	}
	if first == "" {
		inv.command = Command{Example: p.Commands[0].Example}
		return inv.overview()
	}
	var names []string
	for _, c := range p.Commands {
		if c.Name != "" {
			names = append(names, c.Name)
		}
	}
	if len(names) == 1 { // only the command completion
		return inv.Fail(ExitUsage, p.Name, "unexpected argument %q (-h shows the flags)", first)
	}
	return inv.Fail(ExitUsage, p.Name, "unknown command %q%s (-h shows the commands)", first, usage.DidYouMean("", first, names))
}

// meanings returns the meanings of all exit codes of c.
func (c Command) meanings() map[int]string {
	meanings := maps.Clone(exits)
	maps.Copy(meanings, c.Exits)
	return meanings
}

// listed returns code if the help of the running command lists this exit code. Otherwise listed
// prints an error and returns ExitFailed, because a script may rely on the list in the help.
func (inv Invocation) listed(code int) int {
	if inv.command.meanings()[code] == "" {
		return inv.Fail(ExitFailed, inv.program.Name, "fault in this program: the help does not list the exit code %d", code)
	}
	return code
}

// completion is the command "completion". All programs have it. [Program.Describe] leaves it out,
// because it is the same in all programs.
var completion = Command{
	Name: "completion", Args: strings.Join(usage.Shells, "|"), Summary: "Prints a script that completes commands and flags in a shell.",
	Example: "source <(PROGRAM completion bash)",
	Run:     runCompletion,
}

// runCompletion is the command "completion".
func runCompletion(_ context.Context, inv Invocation) int {
	fs := flag.NewFlagSet(inv.program.Name+" completion", flag.ContinueOnError)
	defineVersion(fs)
	var shell string
	shell, inv.Args = CutArgument(fs, inv.Args)
	if code, done := inv.Parse(fs); done {
		return code
	}
	script, err := usage.Completion(inv.program.Describe(), shell)
	if err != nil {
		return inv.Fail(ExitUsage, fs.Name(), "%v (-h shows the flags)", err)
	}
	fmt.Fprint(inv.Stdout, script)
	return ExitOK
}

// cutName returns the first argument if it can be the name of a command, and the arguments after it.
// Otherwise it returns "" and all arguments.
func cutName(args []string) (name string, others []string) {
	if len(args) == 0 || args[0] == "" || strings.HasPrefix(args[0], "-") {
		return "", args
	}
	return args[0], args[1:]
}

// overview runs if the first argument must be the name of a command, and is not. It accepts the
// flags -h and -version, and otherwise fails.
func (inv Invocation) overview() int {
	fs := flag.NewFlagSet(inv.program.Name, flag.ContinueOnError)
	defineVersion(fs)
	if code, done := inv.Parse(fs); done {
		return code
	}
	return inv.Fail(ExitUsage, inv.program.Name, "the first argument must be a command (-h shows the commands)")
}

// Describe returns the description of all commands.
func (p Program) Describe() usage.Program {
	d := usage.Program{Name: p.Name, Summary: p.Summary}
	for _, c := range p.Commands {
		inv := Invocation{Stdout: io.Discard, Stderr: io.Discard, program: &p, command: c}
		inv.describe = func(fs *flag.FlagSet) { d.Commands = append(d.Commands, inv.description(fs)) }
		c.Run(context.Background(), inv)
	}
	return d
}

// description returns the description of the command that runs. fs contains the flags of the
// command.
func (inv Invocation) description(fs *flag.FlagSet) usage.Command {
	c := inv.command
	d := usage.Command{Name: c.Name, Args: c.Args, Summary: c.Summary, Example: c.Example}
	if inv.program != nil {
		d.Example = strings.ReplaceAll(d.Example, "PROGRAM", inv.program.Name)
	}
	var titles []string
	var names [][]string
	if inv.program != nil {
		titles, names = purposes(inv.program.Readme)
	}
	d.Groups = usage.GroupFlags(flagsOf(fs), append(titles, general), append(names, []string{"config", "version"}))
	meanings := c.meanings()
	for _, code := range slices.Sorted(maps.Keys(meanings)) {
		d.Exits = append(d.Exits, usage.Exit{Code: code, Meaning: meanings[code]})
	}
	return d
}

// general is the title of the flags that every command has.
const general = "general"

// help returns the text of -h.
func (inv Invocation) help(fs *flag.FlagSet) string {
	p := usage.Program{Name: fs.Name()}
	if inv.program != nil {
		p.Name, p.Summary = inv.program.Name, inv.program.Summary
		for _, c := range inv.program.Commands {
			p.Commands = append(p.Commands, usage.Command{Name: c.Name, Summary: c.Summary})
		}
	}
	return usage.Help(p, inv.description(fs), inv.width())
}

// width returns the number of columns of the terminal: the variable COLUMNS, or the real width of the
// terminal, or 0 if standard output is no terminal.
func (inv Invocation) width() int {
	if inv.LookupEnv != nil {
		if text, ok := inv.LookupEnv("COLUMNS"); ok {
			if n, err := strconv.Atoi(text); err == nil && n > 0 {
				return n
			}
		}
	}
	if f, ok := inv.Stdout.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil {
			return n
		}
	}
	return 0
}

var (
	flagTable = regexp.MustCompile(`(?m)^\| ([^|]+) \| (.*) \|$`)
	flagName  = regexp.MustCompile("`-([a-z0-9-]+)`")
)

// purposes returns the rows of the table "purpose, flags" in the text of a page: the title of each
// group, and the names of its flags.
func purposes(readme string) (titles []string, names [][]string) {
	_, table, _ := strings.Cut(readme, "| purpose | flags |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	for _, row := range flagTable.FindAllStringSubmatch(table, -1) {
		var group []string
		for _, name := range flagName.FindAllStringSubmatch(row[2], -1) {
			group = append(group, name[1])
		}
		titles, names = append(titles, strings.ReplaceAll(row[1], "`", "")), append(names, group)
	}
	return titles, names
}

// flagsOf returns the description of the flags of fs.
func flagsOf(fs *flag.FlagSet) (list []usage.Flag) {
	fs.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		if g, ok := f.Value.(flag.Getter); ok {
			if _, ok := g.Get().(time.Duration); ok {
				value = "duration" // all binaries use one word for this unit
			}
		}
		d := usage.Flag{Name: f.Name, Value: value, Text: text, Default: f.DefValue}
		if !onlyArgument(f.Name) {
			d.Env = variable(f.Name)
		} else {
			d.Default = ""
		}
		list = append(list, d)
	})
	return list
}

// variable returns the name of the environment variable for a flag.
func variable(name string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// unknownFlag returns an error for a flag that fs does not have.
func unknownFlag(fs *flag.FlagSet, name string) error {
	return fmt.Errorf("unknown flag -%s%s", name, usage.DidYouMean("-", name, flagNames(fs)))
}

func flagNames(fs *flag.FlagSet) (names []string) {
	fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	return names
}

// warnOfVariables prints a warning for each variable of the environment that is probably a mistyped
// variable for a flag of fs. The warning is no error: Kubernetes sets variables such as
// HEADGATE_ROUTER_SERVICE_HOST for a Service with the name headgate-router, and several binaries may
// have the same environment.
func (inv Invocation) warnOfVariables(fs *flag.FlagSet) {
	var known []string
	for _, name := range flagNames(fs) {
		known = append(known, variable(name))
	}
	for _, entry := range inv.Environ {
		name, _, _ := strings.Cut(entry, "=")
		rest, ok := strings.CutPrefix(name, EnvPrefix)
		if !ok || slices.Contains(known, name) || inv.otherCommandHas(name) {
			continue
		}
		names := make([]string, len(known))
		for i, k := range known {
			names[i] = strings.TrimPrefix(k, EnvPrefix)
		}
		if hint := usage.DidYouMean(EnvPrefix, rest, names); hint != "" {
			fmt.Fprintf(inv.Stderr, "%s: warning: no flag has the variable %s%s\n", fs.Name(), name, hint)
		}
	}
}

// otherCommandHas reports whether any command of the program has a flag that this environment
// variable sets.
func (inv Invocation) otherCommandHas(variable string) bool {
	if inv.program == nil {
		return false
	}
	return slices.ContainsFunc(inv.program.Describe().Commands, func(c usage.Command) bool {
		return slices.ContainsFunc(c.Flags(), func(f usage.Flag) bool { return f.Env == variable })
	})
}

// readable replaces an error of package flag by an error with a suggestion.
func readable(fs *flag.FlagSet, err error) error {
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		return unknownFlag(fs, name)
	}
	return err
}

// unexpected returns the error for an argument that is no flag.
func (inv Invocation) unexpected(argument string) error {
	if inv.program != nil && argument != "" && slices.ContainsFunc(inv.program.Commands, func(c Command) bool { return c.Name == argument }) {
		return fmt.Errorf("the command %q must be the first argument", argument)
	}
	return fmt.Errorf("unexpected argument %q", argument)
}
