// Package usage describes the command line of a program as values: its commands, their flags and
// their exit codes. From these values, it makes the text of -h, the reference page of all flags,
// and suggestions for mistyped names:
//
//	p := usage.Program{Name: "tool", Commands: []usage.Command{{Example: "tool -size 3", Groups: groups}}}
//	os.Stdout.WriteString(usage.Help(p, p.Commands[0], 80))
//
// Package cli makes the values from the flag sets of a program.
package usage

import "strings"

// Program is the command line of a program.
type Program struct {
	Name    string
	Summary string // what the program does, as a sentence
	// Commands are the commands. A command without a name is what the program does if its first
	// argument names no command.
	Commands []Command
}

// Command is one command of a program.
type Command struct {
	Name    string // first argument; "" if the command needs none
	Args    string // form of the arguments that are no flags, such as "NODE …"; "" if there are none
	Summary string // what the command does, as a sentence
	Example string // command lines, separated by line feeds
	Groups  []Group
	Exits   []Exit
}

// Group is a list of flags with one purpose.
type Group struct {
	Title string
	Flags []Flag
}

// Flag is one flag.
type Flag struct {
	Name    string // without "-"
	Value   string // what the value is, such as "file"; "" if the flag needs no value
	Text    string // what the flag does
	Default string // "" if the value is empty by default; Text then says what this means
	Env     string // variable of the environment that sets the flag; "" for none
}

// Exit is an exit code.
type Exit struct {
	Code    int
	Meaning string
}

// line returns the words that begin a command line of c.
func (p Program) line(c Command) string { return strings.TrimSuffix(p.Name+" "+c.Name, " ") }

// Flags returns the flags of all groups.
func (c Command) Flags() (list []Flag) {
	for _, g := range c.Groups {
		list = append(list, g.Flags...)
	}
	return list
}
