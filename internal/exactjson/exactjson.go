// Package exactjson decodes JSON objects by the exact names of their members, and refuses a name
// that occurs twice (RFC 8259 section 4, RFC 7493 section 2.3). Package encoding/json is less
// strict: it accepts "ENDPOINT" for "endpoint", and of two members with the same name it uses the
// last. So two programs may read the same document differently.
package exactjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Fields maps the name of each member of an object to a pointer. Object stores the value of the
// member there, as json.Unmarshal does.
type Fields map[string]any

// A MemberError is an error in one member of an object.
type MemberError struct {
	Name string
	Err  error
}

func (e *MemberError) Error() string { return e.Name + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *MemberError) Unwrap() error { return e.Err }

var errTwice = errors.New("member comes twice")

// Object decodes the JSON object in the argument "data". For each member in the argument "fields",
// it stores the value through the pointer. It ignores all other members of the object. If a member
// is missing or null, Object does not change its value.
//
// A name that occurs twice in an object at any depth is an error. An error in one member is a
// MemberError. After any error, some of the values may have changed.
func Object(data []byte, fields Fields) error {
	var members map[string]json.RawMessage
	err := json.Unmarshal(data, &members) // Unlike a json.Decoder, Unmarshal limits the depth.
	if _, syntax := errors.AsType[*json.SyntaxError](err); syntax {
		return err
	}
	if what := kind(data); what != "an object" {
		return fmt.Errorf("%s where an object belongs", what)
	}
	if err != nil {
		return err
	}
	// A colon belongs to each member at any depth. So without a difference, no name comes twice.
	if colons(data) != len(members) {
		if err := checkNames(data); err != nil {
			return err
		}
	}
	for name, field := range fields {
		member, ok := members[name]
		if !ok {
			continue
		}
		if err := json.Unmarshal(member, field); err != nil {
			if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
				err = fmt.Errorf("%s does not belong here", kind(member))
				if _, isString := field.(*string); isString {
					err = fmt.Errorf("%s where a string belongs", kind(member))
				}
			}
			return &MemberError{name, err}
		}
	}
	return nil
}

// colons returns the number of colons outside strings. data must be valid JSON.
func colons(data []byte) (n int) {
	inString := false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			inString = !inString
		case c == '\\' && inString:
			i++ // skip the escaped byte, which may be a quotation mark
		case c == ':' && !inString:
			n++
		}
	}
	return n
}

// checkNames returns an error if an object at any depth in data has two members with the same name.
// data must be valid JSON.
func checkNames(data []byte) error {
	type level struct {
		names map[string]bool // nil in an array
		value bool            // the next token is the value of a member
	}
	var levels []level
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber() // a number may be too large for a float64
	for {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		if token == json.Delim('}') || token == json.Delim(']') {
			levels = levels[:len(levels)-1]
			if len(levels) == 0 {
				return nil
			}
			continue
		}
		if len(levels) > 0 {
			top := &levels[len(levels)-1]
			if name, ok := token.(string); ok && top.names != nil && !top.value {
				if top.names[name] {
					return &MemberError{name, errTwice}
				}
				top.names[name], top.value = true, true
				continue
			}
			top.value = false
		}
		switch token {
		case json.Delim('{'):
			levels = append(levels, level{names: map[string]bool{}})
		case json.Delim('['):
			levels = append(levels, level{})
		}
	}
}

// kind returns the type of a JSON value in words, such as "an object".
func kind(data []byte) string {
	data = bytes.TrimLeft(data, " \t\r\n")
	switch data[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}
