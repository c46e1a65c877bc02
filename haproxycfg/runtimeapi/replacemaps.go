package runtimeapi

import (
	"context"
	"fmt"
)

// MapContent is a map of the configuration with the entries that it should have.
type MapContent struct {
	// Path is the path of the map as haproxy.cfg names it.
	Path    string
	Entries []MapEntry
}

// ReplaceMaps replaces the entries of each map, and then reads the maps to verify them. See
// [Socket.SetMap] for the rules for paths, keys and values. No two maps may have the same path.
//
// HAProxy replaces each map in one step, but it replaces one map after the other. So ReplaceMaps
// first adds the new entries to the maps, in the order of the argument. Then it removes the entries
// whose keys are no longer wanted, in the reverse order. An entry may depend on entries of other
// maps, for example if its value is a key of another map. Pass the maps in an order in which each
// entry depends only on entries of earlier maps. Then a request that finds an entry also finds the
// entries on which it depends.
//
// If ReplaceMaps returns an error, each map has its old entries, its new ones, or both.
func (s Socket) ReplaceMaps(ctx context.Context, maps []MapContent) error {
	shrink := make([]bool, len(maps))
	for i, m := range maps {
		old, err := s.Map(ctx, m.Path)
		if err != nil {
			return err
		}
		wanted := byKey(m.Entries)
		if sameEntries(old, wanted) {
			continue
		}
		all := m.Entries[:len(m.Entries):len(m.Entries)] // with this capacity, append copies instead of changing m.Entries
		for _, e := range old {
			if _, ok := wanted[e.Key]; !ok {
				all, shrink[i] = append(all, e), true
			}
		}
		if sameEntries(old, byKey(all)) {
			continue // the change only removes entries, which happens below
		}
		if err := s.ReplaceMap(ctx, m.Path, all); err != nil {
			return err
		}
	}
	for i := len(maps) - 1; i >= 0; i-- {
		if !shrink[i] {
			continue
		}
		if err := s.ReplaceMap(ctx, maps[i].Path, maps[i].Entries); err != nil {
			return err
		}
	}
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

func byKey(entries []MapEntry) map[string]string {
	values := make(map[string]string, len(entries))
	for _, e := range entries {
		values[e.Key] = e.Value
	}
	return values
}

// sameEntries reports whether the entries in the argument now are exactly the wanted keys and
// values.
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
