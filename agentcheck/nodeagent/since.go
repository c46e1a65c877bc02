package nodeagent

import (
	"bytes"
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// owned returns since when a field has its value: the earliest time at which one of
// its managers has written what it owns, as metadata.managedFields tells. The path is
// in the terms of fieldsV1, "f:spec", "f:unschedulable". It is zero if nobody owns
// the field, as in objects that kubectl has printed.
//
// A manager has one time for all that it owns, so the time is late if the manager
// has written something else since.
func owned(node *corev1.Node, path ...string) time.Time {
	var since time.Time
	last := []byte(path[len(path)-1])
	for i := range node.ManagedFields {
		m := &node.ManagedFields[i]
		if m.Time == nil || m.FieldsV1 == nil {
			continue
		}
		fields := m.FieldsV1.GetRawBytes()
		if bytes.Contains(fields, last) && holds(fields, path) {
			since = earliest(since, m.Time.Time)
		}
	}
	return since
}

func holds(fields []byte, path []string) bool {
	var set map[string]json.RawMessage
	for _, key := range path {
		set = nil
		if json.Unmarshal(fields, &set) != nil {
			return false
		}
		var ok bool
		if fields, ok = set[key]; !ok {
			return false
		}
	}
	return true
}

// earliest of two times, of which zero is unknown.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
