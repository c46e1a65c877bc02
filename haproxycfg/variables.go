package haproxycfg

import (
	"math"
	"slices"
	"strconv"
)

// Variable is a number that belongs to the whole HAProxy process. A controller can change it at run
// time with runtimeapi.Socket.SetVariable, so a new value needs no reload.
type Variable struct {
	// Name consists of letters, digits, "_" and ".", and has at most 64 bytes. The name in HAProxy
	// is "proc." followed by Name.
	Name string
	// Value is the value of the variable from the start of the process until a command changes it.
	// It is a number from 0 to 2,147,483,647.
	Value int
}

func (v Variable) append(t *text) {
	t.line("set-var proc." + v.Name + " int(" + strconv.Itoa(v.Value) + ")")
}

const maxVariableName = 64

func (v *validator) variables(all []Variable) {
	for i, x := range all {
		if !validVariable(x.Name) {
			v.addf(`variable %q: a name is made of 1 to %d letters, digits, "_" and "."`, x.Name, maxVariableName)
		}
		v.number("variable "+x.Name, x.Value, 0, math.MaxInt32)
		if slices.ContainsFunc(all[:i], func(o Variable) bool { return o.Name == x.Name }) {
			v.addf("variable %q occurs twice", x.Name)
		}
	}
}

// The method "variable" adds a fault if g has no variable with this name. The argument "what" is a
// part of the text of the fault: it says which setting contains the name of the variable.
func (v *validator) variable(g *Global, what, name string) {
	if !slices.ContainsFunc(g.Variables, func(o Variable) bool { return o.Name == name }) {
		v.addf("%s names variable %q, which does not exist", what, name)
	}
}

func validVariable(name string) bool {
	for i := 0; i < len(name); i++ {
		if !nameByte[name[i]] || name[i] == '-' || name[i] == ':' {
			return false
		}
	}
	return name != "" && len(name) <= maxVariableName
}
