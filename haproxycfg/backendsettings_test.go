package haproxycfg_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
)

// TestBackendSettings renders a named section "defaults" for each set of settings of backends that
// HAProxy 3.4 can add at run time. The names of stable maps do not depend on these backends.
func TestBackendSettings(t *testing.T) {
	router := haproxycfg.Router{Hosts: "hosts", Exact: "exact", Prefix: "prefix"}
	config := func(minor int, backends ...haproxycfg.Backend) *haproxycfg.Config {
		return &haproxycfg.Config{
			Global: haproxycfg.Global{Version: haproxycfg.Version{Major: 3, Minor: minor}},
			Frontends: []haproxycfg.Frontend{{
				Name: "http", Binds: []haproxycfg.Bind{{Address: ":80"}}, Router: &router, DefaultBackend: "a",
			}},
			Backends: append([]haproxycfg.Backend{{Name: "a"}}, backends...),
			Maps:     []haproxycfg.Map{{Name: "hosts", Stable: true}, {Name: "exact", Stable: true}, {Name: "prefix", Stable: true}},
		}
	}
	render := func(c *haproxycfg.Config) (mapName string, settings int) {
		t.Helper()
		files, err := c.Render("")
		require.NoError(t, err)
		return files[0].Name, strings.Count(string(files[len(files)-1].Data), "\ndefaults settings-")
	}
	base, n := render(config(4))
	require.Equal(t, 1, n)
	for name, tt := range map[string]struct {
		backend  haproxycfg.Backend
		settings int
		same     bool // the names of the maps stay
	}{
		"the same settings": {haproxycfg.Backend{Name: "b"}, 1, true},
		"other settings":    {haproxycfg.Backend{Name: "b", Timeouts: haproxycfg.Timeouts{Server: time.Minute}}, 2, true},
		"limits":            {haproxycfg.Backend{Name: "b", Limits: haproxycfg.Limits{Limit: haproxycfg.Limit{Requests: 1}}}, 1, false},
		"source":            {haproxycfg.Backend{Name: "b", Balance: haproxycfg.Source}, 1, false},
		"response":          {haproxycfg.Backend{Name: "b", Response: &haproxycfg.FixedResponse{Status: 404}}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, n := render(config(4, tt.backend))
			require.Equal(t, tt.settings, n)
			require.Equal(t, tt.same, got == base)

			old, n := render(config(2))
			require.Zero(t, n)
			got, n = render(config(2, tt.backend))
			require.Zero(t, n)
			require.NotEqual(t, old, got, "HAProxy 3.2 adds no backend at run time")
		})
	}
	without := config(4)
	without.Frontends[0].Router = nil
	_, n = render(without)
	require.Zero(t, n, "only a router leads to backends that no rule names")
}
