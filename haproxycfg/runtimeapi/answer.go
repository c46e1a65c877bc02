package runtimeapi

import (
	"context"
	"fmt"
	"strings"
)

// AnswerError means that HAProxy answered a command with an error. HAProxy has not carried out the
// command.
type AnswerError struct {
	// Command is the first line of the command, without the prefix that names a worker ("@!1234").
	Command string
	// Target is the object that the command should have changed: a server as "backend/server", a
	// backend, or the path of a map.
	Target string
	// Answer is the text of HAProxy without white space at its ends. It is empty if HAProxy closed
	// the connection without an answer.
	Answer string
}

// Error returns the command and the answer.
func (e *AnswerError) Error() string {
	answer := e.Answer
	if answer == "" {
		answer = "nothing"
	}
	return fmt.Sprintf("runtimeapi: %s: %.200q: HAProxy answers %.500q", e.Target, e.Command, answer)
}

// change sends a command that changes a server or a map. The argument "target" is the name of this
// server or map in the error. HAProxy reports success with one of the texts in "success", or, if
// "silence" is true, with an empty line.
func (s Socket) change(ctx context.Context, command, target string, silence bool, success ...string) error {
	answer, err := s.Do(ctx, command)
	if err != nil {
		return err
	}
	return judge(command, target, answer, silence, success)
}

// judge returns nil if the answer reports success, and an *AnswerError otherwise. HAProxy always
// ends an answer with a line end, so an answer without one is not complete.
func judge(command, target, answer string, silence bool, success []string) error {
	text := strings.TrimSpace(answer)
	if silence && text == "" && answer != "" {
		return nil
	}
	for _, want := range success {
		if strings.Contains(text, want) {
			return nil
		}
	}
	command, _, _ = strings.Cut(command, "\n")
	return &AnswerError{Command: command, Target: target, Answer: text}
}

// checkWord returns an error if HAProxy would not read s as exactly one word of a command. HAProxy
// ends a word at white space, and a command at ';' or a line end, removes backslashes, and waits
// for a payload after "<<" (management guide, section 9.3). In the error, "what" describes s.
func checkWord(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: %s is empty", ErrCommand, what)
	case len(s) > maxWord:
		return fmt.Errorf("%w: %s %.100q has more than %d bytes", ErrCommand, what, s, maxWord)
	case strings.Contains(s, "<<"):
		return fmt.Errorf("%w: %s %.100q announces a payload", ErrCommand, what, s)
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f || c == ';' || c == '\\' {
			return fmt.Errorf("%w: %s %.100q has white space, a control character, ';' or a backslash", ErrCommand, what, s)
		}
	}
	return nil
}

// maxWord is the largest length of a word of a command, in bytes. HAProxy reads a whole command
// into a buffer of 16 KiB, so a command with several words of this length still fits.
const maxWord = 2000
