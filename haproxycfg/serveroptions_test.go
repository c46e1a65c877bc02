package haproxycfg_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
)

// TestAddServerSaysWhatTheFileSays requires that "add server" has the words of the server line and
// of default-server.
func TestAddServerSaysWhatTheFileSays(t *testing.T) {
	t.Parallel()
	c := zonesConfig(haproxycfg.Version{Major: 3})
	for i := range c.Backends {
		c.Backends[i].Health.Path = "/healthz" // see AddServer: check-proto
	}
	files, err := c.Render(configtest.GoldenDir)
	require.NoError(t, err)
	sections, err := configtest.Parse(string(files[len(files)-1].Data))
	require.NoError(t, err)
	byName := map[string]configtest.Section{}
	for _, s := range sections {
		byName[strings.Join(s.Head, " ")] = s
	}
	for i := range c.Backends {
		b := &c.Backends[i]
		var shared []string
		servers := map[string][]string{}
		for _, words := range byName["backend "+b.Name].Lines {
			switch words[0] {
			case "default-server":
				shared = words[1:]
			case "server":
				servers[words[1]] = words[2:]
			}
		}
		for _, s := range b.Servers {
			want := "add server " + b.Name + "/" + s.Name() + " " + strings.Join(append(servers[s.Name()], shared...), " ")
			got, err := b.AddServer(s)
			require.NoError(t, err)
			require.Equal(t, strings.Replace(want, " disabled ", " ", 1), got)
		}
	}
}

func TestAddServerRefuses(t *testing.T) {
	t.Parallel()
	s := haproxycfg.Server{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Check: true}
	agent := s
	agent.AgentPort, agent.AgentSend = 9707, "x"
	evil := s
	evil.Track = "a/b\nshutdown sessions"
	for _, tt := range []struct {
		backend haproxycfg.Backend
		server  haproxycfg.Server
		want    string
	}{
		{haproxycfg.Backend{Name: "b", Balance: haproxycfg.Source}, s, "no servers with balance source at run time"},
		{haproxycfg.Backend{Name: "b"}, agent, "no servers with AgentSend at run time"},
		{haproxycfg.Backend{Name: "b"}, haproxycfg.Server{}, "invalid configuration"},
		{haproxycfg.Backend{Name: "b"}, evil, "invalid configuration"},
		{haproxycfg.Backend{Name: "b c"}, s, "invalid configuration"},
	} {
		_, err := tt.backend.AddServer(tt.server)
		require.ErrorContains(t, err, tt.want)
	}
}
