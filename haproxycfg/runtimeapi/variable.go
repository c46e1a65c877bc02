package runtimeapi

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// SetVariable sets the variable "proc."+name of the process to value, and reads it back; it returns
// an error if the value differs. HAProxy also creates a variable that its configuration does not
// use.
//
// s must be the socket of a worker, with an empty field Worker. HAProxy 2.6 to 3.4 need the command
// "experimental-mode on" before "set var", on the same connection. The master process passes only a
// part of such a sequence of commands to a worker.
func (s Socket) SetVariable(ctx context.Context, name string, value int) error {
	set, err := s.commandLine("set var proc." + name + " int(" + strconv.Itoa(value) + ")")
	if err != nil {
		return err
	}
	if s.Worker != "" || strings.ContainsAny(name, " \t()") {
		return fmt.Errorf("%w: SetVariable(%q) through %q", ErrCommand, name, s.Worker)
	}
	answer, err := s.send(ctx, "experimental-mode on; "+set+"; get var proc."+name)
	if err != nil {
		return err
	}
	if !strings.Contains(answer, "value=<"+strconv.Itoa(value)+">") {
		return fmt.Errorf("runtimeapi: set var proc.%s: HAProxy answers %.200q", name, strings.TrimSpace(answer))
	}
	return nil
}

// Variable returns the value of a variable of the process. name is the name without "proc.". In
// contrast to SetVariable, Variable also works through the socket of a master, if Socket.Worker
// names the worker.
func (s Socket) Variable(ctx context.Context, name string) (int, error) {
	answer, err := s.Do(ctx, "get var proc."+name)
	if err != nil {
		return 0, err
	}
	_, value, _ := strings.Cut(answer, "type=sint value=<")
	value, _, _ = strings.Cut(value, ">")
	n, err := strconv.Atoi(value)
	if err != nil {
		return 0, fmt.Errorf("runtimeapi: get var proc.%s: HAProxy answers %.200q", name, strings.TrimSpace(answer))
	}
	return n, nil
}
