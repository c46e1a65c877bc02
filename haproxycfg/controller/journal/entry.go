package journal

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
)

// Result says what has happened to a change.
type Result string

const (
	Applied Result = "applied" // the change is in force since then
	Refused Result = "refused" // a limit has refused the change
	Failed  Result = "failed"  // HAProxy has rejected the change, or it could not be applied
	Shifted Result = "shifted" // shifts of routes between clusters have changed; the configuration is the same
)

// Entry describes one change.
type Entry struct {
	// Time is the time at which the change was applied or refused. Append rounds it down to
	// milliseconds.
	Time   time.Time `json:"time"`
	Result Result    `json:"result"`
	// ID identifies the configuration to which the change leads.
	ID string `json:"id"`
	// Declarations is the RoutesID of the declared routes after an applied change. It is "" if the
	// change was not applied.
	Declarations string `json:"declarations,omitempty"`
	// Took is the duration, in milliseconds, of the attempt to apply the change.
	Took int64 `json:"tookMs"`
	// Reload says why HAProxy was reloaded for the change, such as "backends"; see
	// deploy.ReloadReason. It is NoReload if HAProxy was not reloaded. It is "" if the change was
	// not applied, or if nobody knows whether HAProxy was reloaded. ReloadDetail is the reason in
	// words.
	Reload       string `json:"reload,omitempty"`
	ReloadDetail string `json:"reloadDetail,omitempty"`
	// Changes has the causes, the numbers of changed servers, and the nodes that services gain and
	// lose. For a change that was not applied, it also has the reason and the losses.
	Changes kube.Changes `json:"changes"`
	// MoreServices is the number of changed services that are missing in Changes, because Append
	// writes only the first MaxServices.
	MoreServices int `json:"moreServices,omitempty"`
	// Diff lists the changed backends, maps and sections, one line for each. Append cuts it after
	// MaxDiff bytes.
	Diff string `json:"diff,omitempty"`
	// Allow says how to allow a refused change. It is empty for other changes.
	Allow string `json:"allow,omitempty"`
}

// NoReload is the value of Entry.Reload if HAProxy got the change without a reload.
const NoReload = "none"

const (
	MaxDiff     = 64 << 10 // largest length of Entry.Diff in bytes
	MaxServices = 100      // largest length of Entry.Changes.Services
)

// State contains the routes and the servers in force after a change.
type State struct {
	Routes []routes.Route `json:"routes"`
	// Report has the services with their nodes, the clusters and the problems. Append leaves out
	// the fields Changes, Refused and Certificates.
	Report kube.Report `json:"report"`
}

const (
	maxEntryBytes = 64 << 20  // of a file
	maxStateBytes = 512 << 20 // of an uncompressed State
)

// String returns the entry as one line: the time, the result, the ID, and a few causes.
func (e Entry) String() string {
	c := e.Changes
	if e.Result == Shifted {
		line := fmt.Sprintf("%s %s: %s", FormatTime(e.Time), e.Result, c.Summary(5))
		if c.Reason != "" {
			line += ": " + c.Reason
		}
		return printable(line)
	}
	line := fmt.Sprintf("%s %s %s: %d added, %d removed, %d changed servers; %s",
		FormatTime(e.Time), e.Result, e.ID, c.Servers.Added, c.Servers.Removed, c.Servers.Altered, c.Summary(5))
	if c.Reason != "" {
		line += ": " + c.Reason
	}
	if e.Allow != "" && !strings.Contains(c.Reason, e.Allow) {
		line += "; " + e.Allow
	}
	return printable(line)
}

// printable replaces control characters, which a name or an error may contain.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, line)
}

// RoutesID returns an ID of declared routes, for Entry.Declarations. Equal routes have equal IDs,
// wherever they are declared.
func RoutesID(list []routes.Route) string {
	hash := sha256.New()
	lines := json.NewEncoder(hash)
	for _, r := range list {
		r.Position = routes.Position{}
		_ = lines.Encode(r) // JSON can contain each field of a Route
	}
	return hex.EncodeToString(hash.Sum(nil)[:8])
}

// encode returns the content of the file of an entry. state may be nil.
func encode(e Entry, state *State) ([]byte, error) {
	if len(e.Diff) > MaxDiff {
		e.Diff = strings.ToValidUTF8(e.Diff[:MaxDiff], "") + "…"
	}
	if more := len(e.Changes.Services) - MaxServices; more > 0 {
		e.Changes.Services, e.MoreServices = e.Changes.Services[:MaxServices], more
	}
	line, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.Write(append(line, '\n'))
	if state == nil {
		return out.Bytes(), nil
	}
	zip, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed) // the level is valid
	text, err := encodeState(*state)
	if err != nil {
		return nil, err
	}
	zip.Write(text) // Close returns the error
	err = zip.Close()
	return out.Bytes(), err
}

// stored is a State in a file. It contains each name of a node only once, because the lists of
// nodes are the largest part of a State. Otherwise even the compressed file would be twice as
// large.
type stored struct {
	Routes []routes.Route `json:"routes"`
	Report kube.Report    `json:"report"` // without the nodes of the services
	Names  []string       `json:"names"`  // of the nodes
	Nodes  [][]int        `json:"nodes"`  // of each service, as indices of Names
}

func encodeState(s State) ([]byte, error) {
	s.Report.Changes, s.Report.Refused, s.Report.Certificates = nil, nil, nil
	s.Report.Services = slices.Clone(s.Report.Services)
	names, index := []string{}, map[string]int{}
	var nodes []byte
	for i := range s.Report.Services {
		if i > 0 {
			nodes = append(nodes, ',')
		}
		nodes = append(nodes, '[')
		for j, name := range s.Report.Services[i].Nodes {
			n, ok := index[name]
			if !ok {
				n = len(names)
				names, index[name] = append(names, name), n
			}
			if j > 0 {
				nodes = append(nodes, ',')
			}
			nodes = strconv.AppendInt(nodes, int64(n), 10)
		}
		nodes = append(nodes, ']')
		s.Report.Services[i].Nodes = nil
	}
	list, err := json.Marshal(names)
	if err != nil {
		return nil, err
	}
	declared, err := json.Marshal(s.Routes)
	if err != nil {
		return nil, err
	}
	// The capacity is an estimate of the final size, so that append rarely copies what it has
	// written.
	out := make([]byte, 0, 4<<10+192*len(s.Report.Services)+len(nodes)+len(list)+len(declared))
	out = append(append(out, `{"routes": `...), declared...)
	if out, err = s.Report.AppendJSON(append(out, `, "report": `...)); err != nil {
		return nil, err
	}
	out = append(append(out, `, "names": `...), list...)
	out = append(append(out, `, "nodes": [`...), nodes...)
	return append(out, "]}\n"...), nil
}

func decodeState(text []byte) (State, error) {
	var x stored
	if err := json.Unmarshal(text, &x); err != nil {
		return State{}, fmt.Errorf("journal: state: %w", err)
	}
	services := x.Report.Services
	if len(x.Nodes) != len(services) {
		return State{}, fmt.Errorf("journal: state: %d services, and the nodes of %d services", len(services), len(x.Nodes))
	}
	for i, list := range x.Nodes {
		services[i].Nodes = make([]string, len(list))
		for j, n := range list {
			if n < 0 || n >= len(x.Names) {
				return State{}, fmt.Errorf("journal: state: service %d has node %d of %d", i, n, len(x.Names))
			}
			services[i].Nodes[j] = x.Names[n]
		}
	}
	return State{Routes: x.Routes, Report: x.Report}, nil
}

// ReadEntry reads an entry from the content of its file. The second result is the content after the
// entry, for ReadState. It is empty if the entry has no State.
func ReadEntry(data []byte) (e Entry, rest []byte, err error) {
	line, rest, complete := bytes.Cut(data, []byte("\n"))
	if !complete {
		return Entry{}, nil, errors.New("journal: the entry has no end")
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return Entry{}, nil, fmt.Errorf("journal: %w", err)
	}
	switch {
	case e.Time.IsZero():
		return Entry{}, nil, errors.New("journal: the entry has no time")
	case e.Result != Applied && e.Result != Refused && e.Result != Failed && e.Result != Shifted:
		return Entry{}, nil, fmt.Errorf("journal: the entry has the result %.100q", e.Result)
	}
	return e, rest, nil
}

// ReadState reads the State from the second result of ReadEntry.
func ReadState(rest []byte) (State, error) { return readState(rest, maxStateBytes) }

func readState(rest []byte, limit int64) (State, error) {
	zip, err := gzip.NewReader(bytes.NewReader(rest))
	if err != nil {
		return State{}, fmt.Errorf("journal: state: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(zip, limit+1))
	if err != nil {
		return State{}, fmt.Errorf("journal: state: %w", err)
	}
	if int64(len(text)) > limit {
		return State{}, fmt.Errorf("journal: the state has more than %d bytes", limit)
	}
	return decodeState(text)
}

// FormatTime returns a time in UTC with milliseconds, such as 2026-05-01T12:00:00.000Z, which
// ParseTime can read. Without the milliseconds, the time of an entry would become an earlier time,
// at which the State of the entry was not in force yet.
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// ParseTime parses a time as in RFC 3339, such as 2026-05-01T12:00:00Z, or a duration before the
// present time "now", such as 90m. It rejects a time in the future.
func ParseTime(text string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil {
		if ago < 0 {
			return time.Time{}, fmt.Errorf("%.100q is in the future", text)
		}
		return now.Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%.100q: want a time such as 2026-05-01T12:00:00Z, or how long ago, such as 90m", text)
	}
	if t.After(now) {
		return time.Time{}, fmt.Errorf("%.100q is in the future", text)
	}
	return t, nil
}
