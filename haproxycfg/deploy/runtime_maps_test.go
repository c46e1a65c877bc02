package deploy

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// runtimeMaps is a Dir with a fake HAProxy.
type runtimeMaps struct {
	*Dir
	reloads int
	sets    []string // "FILE: KEY VALUE"
	fail    error    // the error that SetMap returns
}

func newRuntimeMaps(t *testing.T) *runtimeMaps {
	f := &runtimeMaps{Dir: &Dir{Path: t.TempDir()}}
	f.Reload = func(context.Context) error { f.reloads++; return nil }
	f.SetMap = func(_ context.Context, file string, entries []haproxycfg.MapEntry) error {
		for _, e := range entries {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NotContains(t, string(data), e.Key+" "+e.Value+"\n", "the file comes after HAProxy")
			f.sets = append(f.sets, e.Key+" "+e.Value)
		}
		return f.fail
	}
	return f
}

func runtimeMapConfig(a, b string) *haproxycfg.Config {
	return &haproxycfg.Config{Maps: []haproxycfg.Map{
		{Name: "live", Runtime: true, Entries: []haproxycfg.MapEntry{{Key: "a", Value: a}, {Key: "b", Value: b}}},
	}, Frontends: []haproxycfg.Frontend{{
		Name: "f", Binds: []haproxycfg.Bind{{Address: ":1"}}, DefaultBackend: "web", Close: "live",
	}}, Backends: []haproxycfg.Backend{{Name: "web"}}}
}

func (f *runtimeMaps) apply(t *testing.T, a, b string) (reloads bool) {
	t.Helper()
	p, err := f.Plan(runtimeMapConfig(a, b))
	require.NoError(t, err)
	reloads = p.Reloads()
	_, err = p.Apply(t.Context())
	require.NoError(t, err)
	return reloads
}

func TestRuntimeMapsNeedNoReload(t *testing.T) {
	f := newRuntimeMaps(t)
	require.True(t, f.apply(t, "1", "2"))
	require.Equal(t, 1, f.reloads)
	require.False(t, f.apply(t, "1", "3"))
	require.Equal(t, []string{"b 3"}, f.sets)
	require.False(t, f.apply(t, "1", "3"))
	require.Equal(t, []string{"b 3"}, f.sets, "nothing differs")
	require.Equal(t, 1, f.reloads)

	require.NoError(t, f.SetMapValues(t.Context(), "live", map[string]string{"a": "7", "unknown": "8"}))
	require.Equal(t, []string{"b 3", "a 7"}, f.sets)
	values, err := f.MapInForce("live")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "7", "b": "3"}, values)
	require.False(t, f.apply(t, "7", "3"))
	require.NoError(t, f.SetMapValues(t.Context(), "no such map", map[string]string{"a": "9"}))
	require.Len(t, f.sets, 2)
	require.Equal(t, 1, f.reloads)

	f.fail = errors.New("refused")
	require.NoError(t, f.SetMapValues(t.Context(), "live", map[string]string{"a": "9"}))
	require.Equal(t, 2, f.reloads, "HAProxy reads the file instead")
	f.SetMap = nil
	require.True(t, f.apply(t, "9", "5"))
	require.Equal(t, 3, f.reloads)
}

// TestRuntimeMapsWithARuntime: without SetMap, HAProxy must read the file. With SetMap, a Runtime
// changes the map and the servers over the socket, where no HAProxy listens in this test.
func TestRuntimeMapsWithARuntime(t *testing.T) {
	for _, setMap := range []bool{false, true} {
		f := newRuntimeMaps(t)
		f.apply(t, "1", "2")
		f.Runtime = &Runtime{Stats: runtimeapi.Socket{Path: filepath.Join(t.TempDir(), "nobody")}}
		c := runtimeMapConfig("1", "3")
		if !setMap {
			f.SetMap = nil
		} else {
			c.Backends[0].Servers = []haproxycfg.Server{{Addr: netip.MustParseAddrPort("127.0.0.1:1")}}
		}
		p, err := f.Plan(c)
		require.NoError(t, err)
		require.Equal(t, !setMap, p.Reloads())
		_, err = p.Apply(t.Context())
		require.ErrorIs(t, err, ErrNoMaster)
		if setMap {
			require.FileExists(t, f.file(pendingFile))
			require.ErrorContains(t, err, "the files are written")
			require.Equal(t, 1, f.reloads)
		} else {
			require.ErrorContains(t, err, "HAProxy has loaded the files")
			require.Equal(t, 2, f.reloads)
		}
	}
}

// TestRuntimeMapsAfterACrash ends the process between each two consecutive effects of a change. The
// next Apply makes HAProxy read the file, if the file may be newer than the map in HAProxy.
func TestRuntimeMapsAfterACrash(t *testing.T) {
	crash := errors.New("crash")
	for stop := 0; ; stop++ {
		f := newRuntimeMaps(t)
		f.apply(t, "1", "2")
		n := 0
		f.beforeStep = func(name string) error {
			if strings.HasPrefix(name, "mkdir") || strings.HasPrefix(name, "remove") {
				return nil
			}
			if n++; n > stop {
				return crash
			}
			return nil
		}
		err := f.SetMapValues(t.Context(), "live", map[string]string{"a": "5"})
		f.beforeStep = nil
		values, readErr := f.MapInForce("live")
		require.NoError(t, readErr)
		pending := exists(f.file(pendingFile))
		require.True(t, (values["a"] == "5") == (len(f.sets) == 1) || pending, "step %d", stop)
		require.Equal(t, pending, f.apply(t, values["a"], "2"))
		if err == nil {
			require.False(t, pending)
			return
		}
		require.ErrorIs(t, err, crash)
		require.Less(t, stop, 10)
	}
}

// TestSetMapOfARealHAProxy changes a value in the worker that serves.
func TestSetMapOfARealHAProxy(t *testing.T) {
	t.Parallel()
	dir := haproxytest.Dir(t)
	file := filepath.Join(dir, "live.map")
	require.NoError(t, os.WriteFile(file, []byte("all 0\n"), 0o600))
	haproxytest.StartMaster(t, dir, "global\n    stats socket "+filepath.Join(dir, haproxytest.StatsSocket)+" level admin\ndefaults\n    mode http\n    timeout client 5s\n    timeout server 5s\n    timeout connect 1s\n"+
		"backend b\n    http-request deny if { str(all),map_str_int('"+file+"') gt 0 }\n")
	r := Reloader{Master: runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.MasterSocket)}}
	require.NoError(t, r.SetMap(t.Context(), file, []haproxycfg.MapEntry{{Key: "all", Value: "7"}}))
	answer, err := runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}.Do(t.Context(), "show map "+file)
	require.NoError(t, err)
	require.Contains(t, answer, " all 7\n")
	require.Error(t, r.SetMap(t.Context(), file+"x", []haproxycfg.MapEntry{{Key: "all", Value: "7"}}))
}
