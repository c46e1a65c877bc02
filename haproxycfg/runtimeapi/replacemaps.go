package runtimeapi

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// MapContent is a map of the configuration with the entries that it should have.
type MapContent struct {
	// Path is the path of the map as haproxy.cfg names it.
	Path    string
	Entries []MapEntry
	// Before contains the entries that HAProxy should have before the change, each key once. nil
	// means that the caller does not know them. ReplaceMaps is faster if all maps have a Before.
	Before []MapEntry
}

// maxSingleChanges is the largest number of entries that ReplaceMaps changes with a command for each
// entry. HAProxy needs about 0.1 ms for such a command, and 30 ms to replace a map with 10,000
// entries.
const maxSingleChanges = 64

// ReplaceMaps replaces the entries of each map. See [Socket.SetMap] for the rules for paths, keys
// and values. No two maps may have the same path. After an error, each map has its old entries, its
// new entries, or both.
//
// ReplaceMaps adds the new entries in the order of the maps, then changes values, and removes old
// entries in the reverse order. If the value of an entry is a key of another map, pass that map
// earlier: then a request that finds the entry also finds the key.
//
// If all maps have a Before, and only few entries differ, ReplaceMaps sends one command for each of
// these entries. During this change, a look-up of the longest matching key always finds either the
// old or the new value. The longest of several networks is the one with the most bits.
//
// ReplaceMaps then checks the changed entries, and the number of all entries. Unlike
// [Socket.CompareMaps], it may not notice that an unchanged entry has a wrong value.
//
// If a command or the check fails, or if many entries differ, ReplaceMaps reads all entries, and
// replaces each map that differs in one step.
func (s Socket) ReplaceMaps(ctx context.Context, maps []MapContent) error {
	changes, known := make([]mapChange, len(maps)), true
	for i, m := range maps {
		changes[i] = compareEntries(m.Before, m.Entries)
		known = known && m.Before != nil
	}
	if known && countChanges(changes) <= maxSingleChanges && s.changeEntries(ctx, maps, changes) == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.replaceAll(ctx, maps)
}

// CompareMaps reads the maps, and returns an error if their entries differ from the wanted entries.
// It ignores MapContent.Before.
func (s Socket) CompareMaps(ctx context.Context, maps []MapContent) error {
	for _, m := range maps {
		now, err := s.Map(ctx, m.Path)
		if err != nil {
			return err
		}
		if wanted := byKey(m.Entries); !sameEntries(now, wanted) {
			return fmt.Errorf("runtimeapi: map %s has %d entries after the change, which are not the %d wanted ones", m.Path, len(now), len(wanted))
		}
	}
	return nil
}

// replaceAll does the work of [Socket.ReplaceMaps] if the present entries of the maps in HAProxy
// are not known. HAProxy replaces each map in one step.
func (s Socket) replaceAll(ctx context.Context, maps []MapContent) error {
	changes, present := make([]mapChange, len(maps)), make([][]MapEntry, len(maps))
	repeated := make([]bool, len(maps)) // HAProxy has several entries with the same key
	for i, m := range maps {
		old, err := s.Map(ctx, m.Path)
		if err != nil {
			return err
		}
		changes[i], present[i] = compareEntries(old, m.Entries), old
		repeated[i] = len(byKey(old)) < len(old)
	}
	for i, m := range maps {
		if len(changes[i].added) == 0 {
			continue
		}
		present[i] = slices.Concat(present[i], changes[i].added)
		if err := s.ReplaceMap(ctx, m.Path, present[i]); err != nil {
			return err
		}
	}
	for i, m := range maps {
		if len(changes[i].altered) == 0 {
			continue
		}
		if err := s.ReplaceMap(ctx, m.Path, slices.Concat(m.Entries, changes[i].removed)); err != nil {
			return err
		}
	}
	for i, m := range slices.Backward(maps) {
		if len(changes[i].removed) == 0 && !repeated[i] {
			continue
		}
		if err := s.ReplaceMap(ctx, m.Path, m.Entries); err != nil {
			return err
		}
	}
	return s.CompareMaps(ctx, maps)
}

// changeEntries does the work of [Socket.ReplaceMaps] with one command for each entry that differs.
func (s Socket) changeEntries(ctx context.Context, maps []MapContent, changes []mapChange) error {
	longerFirst := func(a, b MapEntry) int {
		return cmp.Or(matchLength(b.Key)-matchLength(a.Key), strings.Compare(a.Key, b.Key))
	}
	send := func(path, key, value, command string) error {
		if err := checkEntry(path, key, value); err != nil {
			return err
		}
		return s.change(ctx, command, path, true)
	}
	for i, m := range maps {
		for _, e := range slices.SortedFunc(slices.Values(changes[i].added), longerFirst) {
			if err := send(m.Path, e.Key, e.Value, "add map "+m.Path+" "+e.Key+" "+e.Value); err != nil {
				return err
			}
		}
	}
	for i, m := range maps {
		for _, e := range changes[i].altered {
			if err := send(m.Path, e.Key, e.Value, "set map "+m.Path+" "+e.Key+" "+e.Value); err != nil {
				return err
			}
		}
	}
	for i, m := range slices.Backward(maps) {
		for _, e := range slices.Backward(slices.SortedFunc(slices.Values(changes[i].removed), longerFirst)) {
			if err := send(m.Path, e.Key, "x", "del map "+m.Path+" "+e.Key); err != nil {
				return err
			}
		}
	}
	return s.verifyEntries(ctx, maps, changes)
}

// matchLength returns the length by which HAProxy chooses one of several keys that match: the bits of
// a network, and the bytes of any other key. A network with more bits may have a shorter text.
func matchLength(key string) int {
	if network, err := netip.ParsePrefix(key); err == nil {
		return network.Bits()
	}
	return len(key)
}

// verifyEntries returns an error if a map does not have the wanted number of entries, or if HAProxy
// has not made one of the changes in the argument "changes".
func (s Socket) verifyEntries(ctx context.Context, maps []MapContent, changes []mapChange) error {
	if countChanges(changes) == 0 {
		return nil
	}
	counts, err := s.MapCounts(ctx)
	if err != nil {
		return err
	}
	for i, m := range maps {
		if n, ok := counts[m.Path]; !ok || n != len(m.Entries) {
			return fmt.Errorf("runtimeapi: map %s has %d entries after the change, and not %d", m.Path, n, len(m.Entries))
		}
		for _, e := range slices.Concat(changes[i].added, changes[i].altered) {
			if err := s.verifyEntry(ctx, m.Path, e.Key, `"`+e.Key+`", value="`+e.Value+`"`, true); err != nil {
				return err
			}
		}
		for _, e := range changes[i].removed {
			if err := s.verifyEntry(ctx, m.Path, e.Key, `"`+e.Key+`",`, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// verifyEntry looks up a key in a map. If "found" is true, HAProxy must find the given entry. If
// found is false, HAProxy must not find it. Otherwise verifyEntry returns an error. HAProxy's
// answer has one line for each way in which the configuration uses the map:
//
//	type=beg, case=sensitive, found=yes, idx=tree, key="a.example/", value="web", type="str"
//	type=beg, case=sensitive, found=no
//
// In a map of addresses, HAProxy 2.6 to 3.4 look up the first address of an IPv4 network, and find
// the longest network that contains it. They find no IPv6 network. So verifyEntry may return an
// error for a network that the map has, and ReplaceMaps then reads all entries.
func (s Socket) verifyEntry(ctx context.Context, path, key, entry string, found bool) error {
	command := "get map " + path + " " + key
	answer, err := s.Do(ctx, command)
	if err != nil {
		return err
	}
	text := strings.TrimSpace(answer)
	for line := range strings.Lines(text + "\n") {
		if !strings.HasPrefix(line, "type=") || strings.Contains(line, " key="+entry) != found {
			return &AnswerError{Command: command, Target: path, Answer: text}
		}
	}
	return nil
}

// MapCounts returns the number of entries of each map that HAProxy uses. The keys are the paths of
// the maps.
func (s Socket) MapCounts(ctx context.Context) (map[string]int, error) {
	answer, err := s.Do(ctx, "show map")
	if err != nil {
		return nil, err
	}
	return parseMapCounts(answer), nil
}

// parseMapCounts parses the answer to "show map", and returns the number of entries of each map by
// the path of the map. A line of the answer contains the number and the path:
//
//	1 (/etc/haproxy/x.map) pattern loaded from file … curr_ver=0 next_ver=0 entry_cnt=7
func parseMapCounts(answer string) map[string]int {
	counts := map[string]int{}
	for line := range strings.Lines(answer) {
		_, rest, _ := strings.Cut(line, " (")
		path, rest, _ := strings.Cut(rest, ") ")
		if i := strings.LastIndex(rest, " entry_cnt="); i >= 0 {
			if n, err := strconv.Atoi(strings.TrimSpace(rest[i+len(" entry_cnt="):])); err == nil && n >= 0 {
				counts[path] = n
			}
		}
	}
	return counts
}

// mapChange is the difference between the entries of a map before and after a change.
type mapChange struct {
	added   []MapEntry
	altered []MapEntry // with the new values
	removed []MapEntry
}

func countChanges(changes []mapChange) (n int) {
	for _, c := range changes {
		n += len(c.added) + len(c.altered) + len(c.removed)
	}
	return n
}

// compareEntries returns the difference between the entries of a map before and after a change. The
// order of the entries does not matter.
func compareEntries(before, after []MapEntry) (c mapChange) {
	// Most entries of the map are the same before and after the change, and stand at the same
	// place, counted from the start or from the end. Leave them out.
	for len(before) > 0 && len(after) > 0 && before[0] == after[0] {
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 && before[len(before)-1] == after[len(after)-1] {
		before, after = before[:len(before)-1], after[:len(after)-1]
	}
	old, wanted := byKey(before), byKey(after)
	for _, e := range after {
		if value, ok := old[e.Key]; !ok {
			c.added = append(c.added, e)
		} else if value != e.Value {
			c.altered = append(c.altered, e)
		}
	}
	for _, e := range before {
		if _, ok := wanted[e.Key]; !ok {
			c.removed = append(c.removed, e)
		}
	}
	return c
}

func byKey(entries []MapEntry) map[string]string {
	values := make(map[string]string, len(entries))
	for _, e := range entries {
		values[e.Key] = e.Value
	}
	return values
}

// sameEntries reports whether the entries of a map are exactly the wanted keys and values.
func sameEntries(now []MapEntry, wanted map[string]string) bool {
	if len(now) != len(wanted) {
		return false
	}
	seen := make(map[string]bool, len(now))
	for _, e := range now {
		if value, ok := wanted[e.Key]; !ok || value != e.Value || seen[e.Key] {
			return false
		}
		seen[e.Key] = true
	}
	return true
}
