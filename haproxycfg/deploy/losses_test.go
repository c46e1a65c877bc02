package deploy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
)

// countRoutes does the same as lossCounter.routes, and compares all lines of the maps.
func (c *lossCounter) countRoutes(router haproxycfg.Router) {
	left, paths, hadPath := map[string]bool{}, map[string]int{}, map[string]bool{}
	var lostPaths, lostHosts []named
	for _, name := range []string{router.Exact, router.Prefix} {
		after := entries(c.after[name].Data)
		for key, backend := range entries(c.before[name].Data) {
			c.losses.Paths.Before++
			host, _, _ := strings.Cut(key, "/")
			hadPath[host] = true
			now, ok := after[key]
			if ok && !c.emptied[backend] && (now == backend || c.serversAfter[now] > 0) {
				left[host] = true
			}
			if !ok || now != backend || c.emptied[backend] {
				paths[host]++
				lostPaths = append(lostPaths, named{key, 0})
			}
		}
	}
	after := entries(c.after[router.Hosts].Data)
	for host := range entries(c.before[router.Hosts].Data) {
		c.losses.Hosts.Before++
		if _, ok := after[host]; !ok || hadPath[host] && !left[host] {
			lostHosts = append(lostHosts, named{host, paths[host]})
		}
	}
	c.losses.Paths.Lost, c.losses.Paths.Names = len(lostPaths), largest(lostPaths)
	c.losses.Hosts.Lost, c.losses.Hosts.Names = len(lostHosts), largest(lostHosts)
}

// TestLossesOfRoutes makes random changes of maps. Skipping the lines that are the same before and
// after a change does not change the losses.
func TestLossesOfRoutes(t *testing.T) {
	router := haproxycfg.Router{Hosts: "hosts", Exact: "exact", Prefix: "prefix"}
	r := rand.New(rand.NewPCG(1, 2))
	maps := func(keep int) map[string]haproxycfg.RenderedFile {
		lines := map[string][]string{}
		for host := range 6 {
			if r.IntN(10) < keep {
				lines["hosts"] = append(lines["hosts"], fmt.Sprintf("h%d h%d\n", host, host))
			}
			for path := range 3 {
				if r.IntN(10) < keep {
					name := []string{"exact", "prefix"}[r.IntN(2)]
					lines[name] = append(lines[name], fmt.Sprintf("h%d/%d/ b%d\n", host, path, min(r.IntN(6), 3)))
				}
			}
		}
		files := map[string]haproxycfg.RenderedFile{}
		for name, all := range lines {
			files[name] = haproxycfg.RenderedFile{Data: []byte(strings.Join(all, ""))}
		}
		return files
	}
	lost := 0
	for range 2000 {
		before := maps(8)
		after := map[string]haproxycfg.RenderedFile{}
		for name, f := range before { // some lines change
			all := slices.Collect(strings.Lines(string(f.Data)))
			for range r.IntN(3) {
				if i := r.IntN(len(all) + 1); i < len(all) && r.IntN(2) == 0 {
					all = slices.Delete(all, i, i+1)
				} else if r.IntN(2) == 0 {
					all = slices.Insert(all, i, fmt.Sprintf("new%d/ b0\n", r.IntN(100)))
				} else if i < len(all) {
					all[i] = all[i][:len(all[i])-2] + "9\n"
				}
			}
			after[name] = haproxycfg.RenderedFile{Data: []byte(strings.Join(all, ""))}
		}
		counter := func() lossCounter {
			return lossCounter{before: before, after: after, cut: cutSections, serversAfter: map[string]int{"b0": 1, "b1": 2}, emptied: map[string]bool{}}
		}
		want, got := counter(), counter()
		if r.IntN(3) == 0 {
			want.emptied["b1"], got.emptied["b1"] = true, true
		}
		want.countRoutes(router)
		got.routes(router)
		require.Equal(t, want.losses, got.losses, "%s\n%s", before, after)
		lost += got.losses.Hosts.Lost
	}
	require.Greater(t, lost, 500)
}

func TestDifferentLines(t *testing.T) {
	for _, x := range [][4]string{
		{"", "", "", ""},
		{"a\nb\nc\n", "a\nb\nc\n", "", ""},
		{"a\nb\nc\n", "a\nc\n", "b\n", ""},
		{"a\nc\n", "a\nb\nc\n", "", "b\n"},
		{"ab\nc\n", "b\nc\n", "ab\n", "b\n"},
		{"a\nab\n", "a\nac\n", "ab\n", "ac\n"},
		{"a\n", "a", "a\n", "a"},
		{"b\n", "a\nb\n", "", "a\n"},
		{"a\na\n", "a\n", "a\n", ""},
		{"xa\n", "a\n", "xa\n", "a\n"},
	} {
		a, b := differentLines([]byte(x[0]), []byte(x[1]))
		require.Equal(t, [2]string{x[2], x[3]}, [2]string{string(a), string(b)}, "%q %q", x[0], x[1])
	}
	r := rand.New(rand.NewPCG(7, 7))
	lines := []string{"a\n", "ab\n", "\n", strings.Repeat("a", 63) + "\n", strings.Repeat("b", 150) + "\n"}
	some := func(n int) (all []string) {
		for range r.IntN(n) {
			all = append(all, lines[r.IntN(len(lines))])
		}
		return all
	}
	for range 2000 {
		start, end := some(8), some(8)
		x, y := slices.Concat(start, some(3), end), slices.Concat(start, some(3), end)
		if r.IntN(3) == 0 {
			x = append(x, "a")
		}
		a, b := differentLines([]byte(strings.Join(x, "")), []byte(strings.Join(y, "")))
		for len(x) > 0 && len(y) > 0 && x[0] == y[0] {
			x, y = x[1:], y[1:]
		}
		for len(x) > 0 && len(y) > 0 && x[len(x)-1] == y[len(y)-1] {
			x, y = x[:len(x)-1], y[:len(y)-1]
		}
		require.Equal(t, [2]string{strings.Join(x, ""), strings.Join(y, "")}, [2]string{string(a), string(b)})
	}
}

// TestLossesOfTrackingServers: the server of a service tracks the server of its node. If a change
// only renames the server of the node, the server of the service is not lost. The spare server
// spare2 has no node, so it does not count in the number of servers.
func TestLossesOfTrackingServers(t *testing.T) {
	const before = "backend nodes\n  server spare1 10.0.0.1:80 check\n  server 10.0.0.2:80 10.0.0.2:80 check\n" +
		"  server spare2 255.255.255.255:80 check disabled\nbackend web\n  server a 10.0.0.1:30000 track nodes/spare1 weight 5\n  server b 10.0.0.2:30000 track nodes/10.0.0.2:80\n"
	for _, tt := range []struct {
		name, from, to string
		lost           int
	}{
		{"the name of the node's server", "", "", 0},
		{"another node", "server 10.0.0.1:80 10.0.0.1:80", "server 10.0.0.1:80 10.0.0.9:80", 1},
		{"another port of the node", "server 10.0.0.1:80 10.0.0.1:80", "server 10.0.0.1:80 10.0.0.1:81", 1},
		{"another weight too", "weight 5", "weight 6", 1},
		{"no tracked server", "server 10.0.0.1:80 10.0.0.1:80 check\n", "", 1},
		{"tracks nothing", "track nodes/10.0.0.1:80 ", "", 1},
		{"both servers", "track nodes/10.0.0.2:80", "track nodes/10.0.0.1:80", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			after := strings.ReplaceAll(strings.ReplaceAll(before, "nodes/spare1", "nodes/10.0.0.1:80"), "spare1", "10.0.0.1:80")
			require.Contains(t, after, tt.from)
			after = strings.Replace(after, tt.from, tt.to, 1)
			files := func(text string) map[string]haproxycfg.RenderedFile {
				return map[string]haproxycfg.RenderedFile{configFile: {Data: []byte(text)}, "prefix": {Data: []byte("v/ web\n")}}
			}
			c := lossCounter{before: files(before), after: files(after), cut: cutSections, serversAfter: map[string]int{}, emptied: map[string]bool{}}
			c.backends(haproxycfg.Router{Hosts: "hosts", Exact: "exact", Prefix: "prefix"})
			want := Loss{Before: 4, Lost: tt.lost}
			if tt.lost > 0 {
				want.Names = []string{"web"}
			}
			require.Equal(t, want, c.losses.Servers)
			require.Zero(t, c.losses.Backends.Lost)
		})
	}
}
