package hostlookup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/headgate/headgate/internal/exactjson"
	"github.com/headgate/headgate/internal/hostname"
)

// Hosts is an immutable set of hosts, each with its endpoint. It is a Lookup. The zero Hosts is
// empty.
type Hosts struct {
	exact    map[string]Endpoint
	wildcard map[string]Endpoint // the key is the part of the wildcard after the "*"
}

// NewHosts returns a set of hosts. The keys are host names or wildcards such as "*.example.com", as
// in a hosts file (see ParseHosts), and become the Host of their endpoints. The error names all
// malformed hosts and endpoints.
func NewHosts(endpoints map[string]Endpoint) (*Hosts, error) {
	h := &Hosts{exact: map[string]Endpoint{}, wildcard: map[string]Endpoint{}}
	var errs []error
	for _, host := range slices.Sorted(maps.Keys(endpoints)) {
		ep := endpoints[host]
		ep.Host = host
		if field, err := h.add(ep); err != nil {
			errs = append(errs, fmt.Errorf("hostlookup: entry %.80q: %s: %w", host, field, err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return h, nil
}

// MergeHosts returns the hosts of all sets. If several sets contain a host, the result has the
// endpoint from the first of these sets. A nil set is the same as an empty one.
func MergeHosts(sets ...*Hosts) *Hosts {
	merged := &Hosts{exact: map[string]Endpoint{}, wildcard: map[string]Endpoint{}}
	for _, h := range slices.Backward(sets) {
		if h != nil {
			maps.Copy(merged.exact, h.exact)
			maps.Copy(merged.wildcard, h.wildcard)
		}
	}
	return merged
}

// A Problem says why ParseHosts left out an entry of a hosts file. It is an error.
type Problem struct {
	File    string // the name that ParseHosts received
	Line    int    // the line at which the entry begins, from 1
	Index   int    // the index of the entry in the array, from 0
	Field   string // the wrong field, such as "host" or "endpoint"; "" means the whole entry
	Message string
}

func (p Problem) Error() string {
	where := fmt.Sprintf("%s:%d: entry %d", p.File, p.Line, p.Index)
	if p.Field != "" {
		where += ": " + p.Field
	}
	return where + ": " + p.Message
}

// ParseHosts reads a JSON array of {"app": …, "host": …, "endpoint": …}. The names of members must
// match exactly; ParseHosts ignores other members. A host may have any spelling that package
// internal/hostname can bring into normal form. A wildcard "*.example.com" matches every name with
// one label in place of the "*".
//
// ParseHosts leaves out an entry that is malformed, that repeats the host of an earlier entry, or
// that has two members of one name, and returns a Problem for it. If data is not exactly one JSON
// array, it returns an error. file is the name of the file in the problems and the error.
//
// hosts.schema.json, in the directory of this package, is a JSON Schema of the file for editors.
func ParseHosts(file string, data []byte) (*Hosts, []Problem, error) {
	h := &Hosts{exact: map[string]Endpoint{}, wildcard: map[string]Endpoint{}}
	lines := lineCounter{data: data, line: 1}
	fail := func(at int64, err error) (*Hosts, []Problem, error) {
		return nil, nil, fmt.Errorf("hostlookup: %s:%d: %w", file, lines.at(at), err)
	}
	// Parse the whole data first, to get the offset of a syntax error. The decoder below does not
	// return this offset.
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		var at int64
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			at = syntax.Offset
		}
		return fail(at, err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if token, err := dec.Token(); err != nil || token != json.Delim('[') {
		return fail(0, errors.New("not a JSON array"))
	}
	var problems []Problem
	for index := 0; dec.More(); index++ {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return fail(dec.InputOffset(), err)
		}
		line := lines.at(dec.InputOffset() - int64(len(raw)))
		if field, err := h.addJSON(raw); err != nil {
			problems = append(problems, Problem{file, line, index, field, err.Error()})
		}
	}
	return h, problems, nil
}

// A lineCounter converts offsets in data into line numbers. No offset may be smaller than the
// offset of the previous call.
type lineCounter struct {
	data []byte
	line int
	done int64
}

func (c *lineCounter) at(offset int64) int {
	offset = min(offset, int64(len(c.data)))
	if offset > c.done {
		c.line += bytes.Count(c.data[c.done:offset], []byte{'\n'})
		c.done = offset
	}
	return c.line
}

// addJSON adds one entry of a hosts file. If it returns an error, field is the JSON name of the
// wrong field, or "" if the entry is not an object.
func (h *Hosts) addJSON(raw []byte) (field string, err error) {
	var ep Endpoint
	err = exactjson.Object(raw, exactjson.Fields{"app": &ep.App, "host": &ep.Host, "endpoint": &ep.Addr})
	if wrong, ok := errors.AsType[*exactjson.MemberError](err); ok {
		return wrong.Name, wrong.Err
	}
	if err != nil {
		return "", err
	}
	return h.add(ep)
}

// add adds ep under the normal form of ep.Host. If it returns an error, field is the JSON name of
// the wrong field.
func (h *Hosts) add(ep Endpoint) (field string, err error) {
	host, err := hostname.NormalizePattern(ep.Host)
	if err != nil {
		return "host", fmt.Errorf("%s: %w", quote(ep.Host), err)
	}
	ep.Host = host
	if _, err := splitAddr(ep.Addr); err != nil {
		return "endpoint", fmt.Errorf("%s: %w", quote(ep.Addr), err)
	}
	m, key := h.exact, ep.Host
	if suffix, ok := strings.CutPrefix(ep.Host, "*"); ok {
		m, key = h.wildcard, suffix
	}
	if _, twice := m[key]; twice {
		return "host", fmt.Errorf("%q is there already", ep.Host)
	}
	m[key] = ep
	return "", nil
}

// LookupHost implements Lookup. An entry for the host itself has precedence over an entry for a
// wildcard. The Level of the answer is always Miss, because the answer comes from no cache.
func (h *Hosts) LookupHost(_ context.Context, host string) (Answer, error) { return h.Peek(host) }

// Peek implements Peeker. It never returns ErrWouldWait.
func (h *Hosts) Peek(host string) (Answer, error) {
	ep, ok := h.exact[host]
	if dot := strings.IndexByte(host, '.'); !ok && dot > 0 {
		ep, ok = h.wildcard[host[dot:]]
	}
	if !ok {
		return Answer{}, ErrNotFound
	}
	return Answer{Endpoint: ep}, nil
}

// Len returns the number of entries.
func (h *Hosts) Len() int { return len(h.exact) + len(h.wildcard) }

// All returns all entries, in no particular order. The key is the host; the key of a wildcard
// begins with "*.".
func (h *Hosts) All() iter.Seq2[string, Endpoint] {
	return func(yield func(string, Endpoint) bool) {
		for _, m := range []map[string]Endpoint{h.exact, h.wildcard} {
			for _, ep := range m {
				if !yield(ep.Host, ep) {
					return
				}
			}
		}
	}
}
