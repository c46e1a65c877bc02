package agentcheck

import (
	"fmt"
	"strconv"
)

// State is what an answer says of the server's health. The zero value says nothing. A larger
// State is the worse one for [Reply.Worst].
//
// Stopped, Down and Fail do the same in HAProxy: the server is DOWN until the agent says "up".
// The word only tells the operator, on the statistics page and in the log, what happened.
type State uint8

const (
	KeepState State = iota // says nothing: HAProxy leaves the health as it is
	Up                     // healthy, if the health check agrees
	Stopped                // down on purpose
	Down                   // down
	Fail                   // runs but does not work
)

var stateWords = [...]string{Up: "up", Stopped: "stopped", Down: "down", Fail: "fail"}

// IsDown reports whether s takes the server down.
func (s State) IsDown() bool { return s == Stopped || s == Down || s == Fail }

// String returns the word on the wire, "" for the zero value.
func (s State) String() string {
	if int(s) < len(stateWords) {
		return stateWords[s]
	}
	return "State(" + strconv.Itoa(int(s)) + ")"
}

// MarshalText returns the word on the wire. It fails for a value that has none.
func (s State) MarshalText() ([]byte, error) {
	if int(s) >= len(stateWords) {
		return nil, fmt.Errorf("agentcheck: no word for %v", s)
	}
	return []byte(stateWords[s]), nil
}

// UnmarshalText accepts what HAProxy does: the word in any case; the empty text is the zero value.
func (s *State) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*s = KeepState
		return nil
	}
	v, ok := parseState(text)
	if !ok {
		return &WordError{Word: string(text), Err: errNotState}
	}
	*s = v
	return nil
}

// Admin is the administrative state that an answer asks for. The zero value asks for nothing.
// A larger Admin is the worse one for [Reply.Worst].
type Admin uint8

const (
	KeepAdmin Admin = iota // asks for nothing: HAProxy leaves the administrative state as it is
	Ready                  // ends drain and maintenance, also those that an operator set
	Drain                  // no new clients; those bound to the server by a cookie or a stick table stay
	Maint                  // no clients at all, health checks pause; bound clients move to other servers
)

var adminWords = [...]string{Ready: "ready", Drain: "drain", Maint: "maint"}

// String returns the word on the wire, "" for the zero value.
func (a Admin) String() string {
	if int(a) < len(adminWords) {
		return adminWords[a]
	}
	return "Admin(" + strconv.Itoa(int(a)) + ")"
}

// MarshalText returns the word on the wire. It fails for a value that has none.
func (a Admin) MarshalText() ([]byte, error) {
	if int(a) >= len(adminWords) {
		return nil, fmt.Errorf("agentcheck: no word for %v", a)
	}
	return []byte(adminWords[a]), nil
}

// UnmarshalText accepts what HAProxy does: the word in any case; the empty text is the zero value.
func (a *Admin) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*a = KeepAdmin
		return nil
	}
	v, ok := parseAdmin(text)
	if !ok {
		return &WordError{Word: string(text), Err: errNotAdmin}
	}
	*a = v
	return nil
}
