package hostlookup

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hostname"
)

func TestParseHosts(t *testing.T) {
	hosts, problems, err := ParseHosts("hosts.json", []byte(`[
  {"app": "A", "host": "a.com", "endpoint": "10.0.0.1"},
  {"app": "B", "host": "B.Example.Com.", "endpoint": "10.0.0.2:8443", "owner": "team-b"},
  {"app": "wild", "host": "*.example.com", "endpoint": "[::1]:443"}, {"host": "c", "endpoint": "c"},
  {"host": "bücher.example", "endpoint": "c."}, {"host": "d.com:8080", "endpoint": "c"}
]
`))
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Equal(t, 6, hosts.Len())
	for host, want := range map[string]Endpoint{
		"a.com":                 {App: "A", Host: "a.com", Addr: "10.0.0.1"},
		"b.example.com":         {App: "B", Host: "b.example.com", Addr: "10.0.0.2:8443"},
		"x.example.com":         {App: "wild", Host: "*.example.com", Addr: "[::1]:443"},
		"c":                     {Host: "c", Addr: "c"},
		"xn--bcher-kva.example": {Host: "xn--bcher-kva.example", Addr: "c."},
		"d.com":                 {Host: "d.com", Addr: "c"},
		"x.y.example.com":       {},
		"example.com":           {},
		".example.com":          {},
		"b.a.com":               {},
		"example.com.evil":      {},
		"x.example.com.org":     {},
		"":                      {},
	} {
		ep, err := hosts.LookupHost(t.Context(), host)
		require.Equal(t, want, ep.Endpoint, host)
		require.Equal(t, want == Endpoint{}, errors.Is(err, ErrNotFound), host)
	}
	seen := map[string]Endpoint{}
	for host, ep := range hosts.All() {
		seen[host] = ep
	}
	require.Len(t, seen, 6)
	require.Equal(t, "wild", seen["*.example.com"].App)
	for range hosts.All() {
		break
	}
}

func TestParseHostsProblems(t *testing.T) {
	hosts, problems, err := ParseHosts("hosts.json", []byte(`[
  {"host": "good.com", "endpoint": "10.0.0.1"},
  {"host": "a b.com", "endpoint": "10.0.0.1"},

  {
    "host": "no-endpoint.com"
  },
  {"host": "bad.com", "endpoint": "10.0.0.1:99999"}, {"endpoint": "10.0.0.1"},
  {"host": "GOOD.com.", "endpoint": "10.0.0.2"},
  {"host": 7, "endpoint": "10.0.0.1"}, null, "text", [],
  {"host": "*.*.com", "endpoint": "10.0.0.1"},
  {"host": "a*.com", "endpoint": "10.0.0.1"},
  {"host": "*", "endpoint": "10.0.0.1"},
  {"host": "a\u200db.example", "endpoint": "10.0.0.1"},
  {"host": "10.0.0.1", "endpoint": "10.0.0.1"},
  {"host": "a.com:https", "endpoint": "10.0.0.1"},
  {"host": "twice.com", "endpoint": "10.0.0.1", "endpoint": "10.0.0.2"},
  {"host": "case.com", "Endpoint": "10.0.0.2"},
  {"host": "also-good.com", "endpoint": "10.0.0.3", "Endpoint": "10.0.0.4", "ho\u017ft": "x.com"}
]`))
	require.NoError(t, err)
	var got []string
	for _, p := range problems {
		got = append(got, p.Error())
	}
	require.Equal(t, []string{
		`hosts.json:3: entry 1: host: "a b.com": character other than a letter, digit, hyphen or underscore at byte 1`,
		`hosts.json:5: entry 2: endpoint: "": empty`,
		`hosts.json:8: entry 3: endpoint: "10.0.0.1:99999": port is not a number from 1 to 65535`,
		`hosts.json:8: entry 4: host: "": empty name at byte 0`,
		`hosts.json:9: entry 5: host: "good.com" is there already`,
		`hosts.json:10: entry 6: host: a number where a string belongs`,
		`hosts.json:10: entry 7: null where an object belongs`,
		`hosts.json:10: entry 8: a string where an object belongs`,
		`hosts.json:10: entry 9: an array where an object belongs`,
		`hosts.json:11: entry 10: host: "*.*.com": asterisk (a wildcard is the whole first label of a declared host, as in *.example.com) at byte 2`,
		`hosts.json:12: entry 11: host: "a*.com": asterisk (a wildcard is the whole first label of a declared host, as in *.example.com) at byte 1`,
		`hosts.json:13: entry 12: host: "*": asterisk (a wildcard is the whole first label of a declared host, as in *.example.com) at byte 0`,
		`hosts.json:14: entry 13: host: "a\u200db.example": character that IDNA does not allow here at byte 1`,
		`hosts.json:15: entry 14: host: "10.0.0.1": IP address at byte 0`,
		`hosts.json:16: entry 15: host: "a.com:https": port that is not a number at byte 6`,
		`hosts.json:17: entry 16: endpoint: member comes twice`,
		`hosts.json:18: entry 17: endpoint: "": empty`,
	}, got)
	require.Equal(t, 2, hosts.Len())
	ep, err := hosts.LookupHost(t.Context(), "good.com")
	require.NoError(t, err)
	require.Equal(t, "10.0.0.1", ep.Addr, "the first of two entries counts")
}

func TestNewHosts(t *testing.T) {
	hosts, err := NewHosts(map[string]Endpoint{
		"A.Com.":        {App: "A", Addr: "10.0.0.1"},
		"*.example.com": {Host: "ignored", Addr: "10.0.0.2:443"},
	})
	require.NoError(t, err)
	for host, want := range map[string]Endpoint{
		"a.com":         {App: "A", Host: "a.com", Addr: "10.0.0.1"},
		"x.example.com": {Host: "*.example.com", Addr: "10.0.0.2:443"},
	} {
		ep, err := hosts.LookupHost(t.Context(), host)
		require.NoError(t, err)
		require.Equal(t, want, ep.Endpoint)
	}
	_, err = NewHosts(map[string]Endpoint{"a.com": {Addr: "10.0.0.1"}, "b.com": {}, "c d": {Addr: "10.0.0.1"}, "A.COM": {Addr: "10.0.0.2"}})
	require.ErrorContains(t, err, `entry "a.com": host: "a.com" is there already`)
	require.ErrorContains(t, err, `entry "b.com": endpoint: "": empty`)
	require.ErrorContains(t, err, `entry "c d": host: "c d": character other than`)
}

func TestMergeHosts(t *testing.T) {
	first, err := NewHosts(map[string]Endpoint{"a.com": {Addr: "10.0.0.1"}, "*.c.com": {Addr: "10.0.0.1"}})
	require.NoError(t, err)
	second, err := NewHosts(map[string]Endpoint{"a.com": {Addr: "10.0.0.2"}, "b.com": {Addr: "10.0.0.2"}, "*.c.com": {Addr: "10.0.0.2"}})
	require.NoError(t, err)
	merged := MergeHosts(first, nil, second, &Hosts{})
	require.Equal(t, 3, merged.Len())
	for host, want := range map[string]string{"a.com": "10.0.0.1", "b.com": "10.0.0.2", "x.c.com": "10.0.0.1"} {
		ep, err := merged.LookupHost(t.Context(), host)
		require.NoError(t, err)
		require.Equal(t, want, ep.Addr, host)
	}
	require.Zero(t, MergeHosts().Len())
}

func TestParseHostsBroken(t *testing.T) {
	for data, want := range map[string]string{
		"":                                 "hostlookup: f:1: unexpected end of JSON input",
		"\n\n{}":                           "hostlookup: f:1: not a JSON array",
		"null":                             "not a JSON array",
		`"x"`:                              "not a JSON array",
		"[":                                "hostlookup: f:1: ",
		"[\n{\"host\": \"a.com\",\n":       "hostlookup: f:",
		"[\n{\"host\": \"a.com\"}\n{}]":    "hostlookup: f:3: ",
		"[\n\n{\"host\": \"a.com\"},\n\n}": "hostlookup: f:5: ",
		"[]\n[]":                           "after top-level value",
		"[] x":                             "after top-level value",
		"[,]":                              "hostlookup: f:1: ",
		"\xef\xbb\xbf[]":                   "hostlookup: f:1: ",
		"[\n{\"host\": \"\x00\"}]":         "hostlookup: f:2: ",
		strings.Repeat("[", 20_000):        "hostlookup: f:1: ",
	} {
		hosts, problems, err := ParseHosts("f", []byte(data))
		require.ErrorContains(t, err, want, "%.40q", data)
		require.Nil(t, hosts)
		require.Empty(t, problems)
	}
}

// For every input, each accepted host is in normal form, and a lookup finds it. For each other
// entry, there is a Problem. ParseHosts returns an error if and only if the input is not exactly
// one JSON array.
func FuzzParseHosts(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		hosts, problems, err := ParseHosts("f", data)
		var array []json.RawMessage
		isArray := json.Unmarshal(data, &array) == nil && array != nil
		if isArray != (err == nil) {
			t.Fatalf("an array: %v, but: %v", isArray, err)
		}
		if err != nil {
			return
		}
		if hosts.Len()+len(problems) != len(array) {
			t.Fatalf("%d hosts and %d problems of %d entries", hosts.Len(), len(problems), len(array))
		}
		lines := strings.Count(string(data), "\n") + 1
		last := 1
		for _, p := range problems {
			if p.Line < last || p.Line > lines || p.Index >= len(array) || p.Message == "" {
				t.Fatalf("%+v", p)
			}
			last = p.Line
		}
		for host, ep := range hosts.All() {
			if again, err := hostname.NormalizePattern(host); err != nil || again != host {
				t.Fatalf("%q is not in normal form: %q, %v", host, again, err)
			}
			if err := ep.Validate(); err != nil {
				t.Fatal(err)
			}
			if suffix, ok := strings.CutPrefix(host, "*"); ok {
				host = "never-in-a-file-of-hosts" + suffix
				if _, own := hosts.exact[host]; own {
					continue
				}
			}
			if got, err := hosts.LookupHost(t.Context(), host); err != nil || got.Endpoint != ep {
				t.Fatalf("%q gives %+v, %v, want %+v", host, got, err, ep)
			}
		}
	})
}
