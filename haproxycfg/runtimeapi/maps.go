package runtimeapi

import (
	"context"
	"fmt"
	"strings"
)

// MapEntry is an entry of a map: a key and its value.
type MapEntry struct {
	Key, Value string
}

// SetMap sets the value of a key in a map, and adds the key if it is missing. path is the path in
// haproxy.cfg, or "#ID" with a number that "show map" prints. HAProxy does not write the change to
// the file, so the next reload brings back the entries of the file.
//
// The path, the key and the value have 1 to 2,000 bytes without white space, control characters,
// ';', backslashes and "<<". The key must not begin with '#'. For other words, SetMap returns
// [ErrCommand] and changes nothing. HAProxy 2.6 does not check that a value is a number.
func (s Socket) SetMap(ctx context.Context, path, key, value string) error {
	if err := checkEntry(path, key, value); err != nil {
		return err
	}
	err := s.change(ctx, "set map "+path+" "+key+" "+value, path, true)
	if !isAnswer(err, "entry not found") {
		return err
	}
	return s.change(ctx, "add map "+path+" "+key+" "+value, path, true)
}

// DeleteMapKey removes a key from a map. If the map does not have the key, DeleteMapKey does
// nothing. See [Socket.SetMap] for the rules for path and key.
func (s Socket) DeleteMapKey(ctx context.Context, path, key string) error {
	if err := checkEntry(path, key, "x"); err != nil {
		return err
	}
	err := s.change(ctx, "del map "+path+" "+key, path, true)
	if isAnswer(err, "Key not found") || isAnswer(err, "entry not found") {
		return nil
	}
	return err
}

// ReplaceMap replaces all entries of a map in one step: each request sees either all old entries or
// all new entries. After an error, the map has its old entries. See [Socket.SetMap] for the rules
// for path, keys and values. After two concurrent calls for one map, the map contains all entries
// of one call, and the other call may return an error.
func (s Socket) ReplaceMap(ctx context.Context, path string, entries []MapEntry) error {
	if err := checkEntry(path, "x", "x"); err != nil {
		return err
	}
	for _, e := range entries {
		if err := checkEntry(path, e.Key, e.Value); err != nil {
			return err
		}
	}
	answer, err := s.Do(ctx, "prepare map "+path)
	if err != nil {
		return err
	}
	var version uint64
	if _, err := fmt.Sscanf(strings.TrimSpace(answer), "New version created: %d", &version); err != nil {
		return &AnswerError{Command: "prepare map " + path, Target: path, Answer: strings.TrimSpace(answer)}
	}
	at := fmt.Sprintf("map @%d %s", version, path)
	if err := s.addEntries(ctx, at, path, entries); err != nil {
		// Remove the new version of the map, even if ctx has ended. Otherwise HAProxy would keep in
		// memory the entries that addEntries has added to this version.
		_, _ = s.Do(context.WithoutCancel(ctx), "clear "+at)
		return err
	}
	return s.change(ctx, "commit "+at, path, true)
}

// addEntries adds the entries to a version of a map. The argument "at" is the text "map @VERSION
// PATH".
func (s Socket) addEntries(ctx context.Context, at, path string, entries []MapEntry) error {
	for len(entries) > 0 {
		var b strings.Builder
		b.WriteString("add " + at + " <<\n")
		n := 0
		for ; n < len(entries) && b.Len() < maxPayload; n++ {
			b.WriteString(entries[n].Key + " " + entries[n].Value + "\n")
		}
		entries = entries[n:]
		command := b.String() // send adds a second line end, which ends the payload
		if s.Worker != "" {
			command = s.Worker + " " + command
		}
		answer, err := s.send(ctx, command)
		if err != nil {
			return err
		}
		if err := judge("add "+at+" <<", path, answer, true, nil); err != nil {
			return err
		}
	}
	return nil
}

// maxPayload is the size in bytes after which addEntries sends a command and begins the next one.
// HAProxy reads a command with its payload into one buffer. In a configuration of package
// haproxycfg, this buffer has at least 16 KiB.
const maxPayload = 8 << 10

// Map returns the entries of a map in HAProxy's order. The rules for path are those of
// [Socket.SetMap].
func (s Socket) Map(ctx context.Context, path string) ([]MapEntry, error) {
	if err := checkEntry(path, "x", "x"); err != nil {
		return nil, err
	}
	answer, err := s.Do(ctx, "show map "+path)
	if err != nil {
		return nil, err
	}
	entries, ok := parseMap(answer)
	if !ok {
		return nil, &AnswerError{Command: "show map " + path, Target: path, Answer: strings.TrimSpace(answer)}
	}
	return entries, nil
}

// parseMap parses the answer to "show map PATH". Each line has an address, a key and a value:
//
//	0x55dc233442c0 a.example 5
//
// For an empty map, the answer is an empty line.
func parseMap(answer string) (entries []MapEntry, ok bool) {
	if answer == "" {
		return nil, false
	}
	for line := range strings.Lines(answer) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			continue
		}
		address, rest, _ := strings.Cut(line, " ")
		key, value, found := strings.Cut(rest, " ")
		if !found || !strings.HasPrefix(address, "0x") {
			return nil, false
		}
		entries = append(entries, MapEntry{Key: key, Value: value})
	}
	return entries, true
}

func checkEntry(path, key, value string) error {
	if err := checkWord("the path of a map", path); err != nil {
		return err
	}
	if path[0] == '@' {
		return fmt.Errorf("%w: the path of a map %.100q begins with '@', as a version does", ErrCommand, path)
	}
	if err := checkWord("the key", key); err != nil {
		return err
	}
	if key[0] == '#' {
		return fmt.Errorf("%w: the key %.100q begins with '#', as a reference does", ErrCommand, key)
	}
	return checkWord("the value", value)
}

// isAnswer reports whether err is an [*AnswerError] with the text.
func isAnswer(err error, text string) bool {
	answer, ok := err.(*AnswerError)
	return ok && strings.Contains(answer.Answer, text)
}
