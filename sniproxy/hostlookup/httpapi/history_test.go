package httpapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// hostsOf returns the hosts in a text of words "host=N". N is the last byte of the address.
func hostsOf(words string) *hostlookup.Hosts {
	endpoints := map[string]hostlookup.Endpoint{}
	for word := range strings.FieldsSeq(words) {
		host, last, _ := strings.Cut(word, "=")
		endpoints[host] = hostlookup.Endpoint{Addr: "10.0.0." + last}
	}
	hosts, err := hostlookup.NewHosts(endpoints)
	if err != nil {
		panic(err)
	}
	return hosts
}

func TestVersion(t *testing.T) {
	version := func(words string) string { return newSnapshot(hostsOf(words)).version }
	a := version("a.com=1 b.com=2")
	require.Equal(t, a, version("b.com=2 a.com=1"))
	for _, other := range []string{"", "a.com=1", "a.com=1 b.com=3", "a.com=1 c.com=2"} {
		require.NotEqual(t, a, version(other), other)
	}
	withApp, err := hostlookup.NewHosts(map[string]hostlookup.Endpoint{"a.com": {App: "A", Addr: "10.0.0.1"}, "b.com": {Addr: "10.0.0.2"}})
	require.NoError(t, err)
	require.NotEqual(t, a, newSnapshot(withApp).version)
}

func publish(t *testing.T, h *history, words string) string {
	t.Helper()
	_, err := h.publish(hostsOf(words))
	require.NoError(t, err)
	return h.snapshot().version
}

func TestHistory(t *testing.T) {
	h := newHistory(30*time.Second, 1)
	one := publish(t, h, "a.com=1 b.com=2 *.c.com=3")
	n, changed, _ := h.since(one)
	require.Equal(t, changes{Version: one}, n)
	two := publish(t, h, "a.com=9 *.c.com=4")
	<-changed
	publish(t, h, "a.com=9 *.c.com=4") // the same hosts: no step
	three := publish(t, h, "a.com=9 *.c.com=4 d.com=5")

	tests := []struct{ name, since, to, want string }{
		{"all of it", one, three, `{"host":"b.com"} {"host":"*.c.com"} {"host":"a.com","endpoint":"10.0.0.9","max_age":30} {"host":"d.com","endpoint":"10.0.0.5","max_age":30}`},
		{"the rest", two, three, `{"host":"d.com","endpoint":"10.0.0.5","max_age":30}`},
		{"nothing", three, three, ""},
		{"unknown", "v0", three, "reset"},
		{"none", "", three, "reset"},
	}
	check := func(t *testing.T, since, to, want string) {
		t.Helper()
		n, _, _ := h.since(since)
		require.Equal(t, to, n.Version)
		var got []string
		if n.Reset {
			got = append(got, "reset")
		}
		for _, c := range n.Changes {
			got = append(got, strings.TrimSpace(string(encode(c))))
		}
		require.Equal(t, want, strings.Join(got, " "))
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { check(t, tt.since, tt.to, tt.want) })
	}
	t.Run("the last time counts", func(t *testing.T) {
		require.Equal(t, one, publish(t, h, "a.com=1 b.com=2 *.c.com=3"))
		four := publish(t, h, "a.com=1 b.com=2 *.c.com=3 e.com=6")
		check(t, one, four, `{"host":"e.com","endpoint":"10.0.0.6","max_age":30}`)
	})
}

// If maxAge is 0, clients may not keep an endpoint, so a change contains no endpoint.
func TestHistoryWithoutLifetime(t *testing.T) {
	h := newHistory(0, 1)
	one := publish(t, h, "a.com=1")
	publish(t, h, "a.com=2")
	n, _, _ := h.since(one)
	require.Len(t, n.Changes, 1)
	require.JSONEq(t, `{"host":"a.com"}`, string(encode(n.Changes[0])))
}

// The function "many" returns n hosts with long names.
func many(n int, addr string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "h%06d.%s.com=%s ", i, strings.Repeat("x", 60), addr)
	}
	return b.String()
}

func TestHistoryIsBounded(t *testing.T) {
	h := newHistory(time.Minute, 1)
	h.limits = limits{step: 1 << 13, answer: 2 << 13, history: 8 << 13}
	versions := []string{publish(t, h, "")}
	for i := range 10 {
		versions = append(versions, publish(t, h, many(60, fmt.Sprint(i))))
	}
	require.LessOrEqual(t, h.size, h.limits.history)
	n, _, _ := h.since(versions[0])
	require.True(t, n.Reset, "the oldest steps are dropped")

	// More recent changes come in several answers.
	at, answers, changes := versions[5], 0, 0
	for at != versions[10] {
		n, _, _ := h.since(at)
		require.False(t, n.Reset)
		require.Contains(t, versions, n.Version)
		at = n.Version
		answers++
		changes += len(n.Changes)
	}
	require.Greater(t, answers, 1)
	require.Equal(t, 5*60, changes)

	// The history does not keep a change that exceeds the limit. It keeps later changes.
	large := publish(t, h, many(200, "21"))
	n, _, _ = h.since(versions[10])
	require.True(t, n.Reset)
	publish(t, h, many(200, "21")+" a.com=1")
	n, _, _ = h.since(large)
	require.Len(t, n.Changes, 1)
}

func TestHistoryRefusesLargeRemoval(t *testing.T) {
	tests := []struct {
		name      string
		share     float64
		had, left int
		refused   bool
	}{
		{"half", 0.5, 40, 20, false},
		{"more", 0.5, 40, 19, true},
		{"few hosts", 0.5, 9, 0, false},
		{"ten hosts", 0.5, 10, 0, true},
		{"any share", 1, 40, 0, false},
		{"none", 0, 40, 30, true},
		{"a few of many", 0, 40, 31, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHistory(0, tt.share)
			before := publish(t, h, many(tt.had, "1"))
			_, err := h.publish(hostsOf(many(tt.left, "1")))
			require.Equal(t, tt.refused, err != nil)
			require.Equal(t, tt.refused, before == h.snapshot().version)
		})
	}
}
