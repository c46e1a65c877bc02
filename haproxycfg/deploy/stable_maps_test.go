package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// stableMaps is a Dir with a fake HAProxy that can replace its maps.
type stableMaps struct {
	*Dir
	running map[string]string // the maps that the fake HAProxy runs, by path
	reloads int
	refuse  error   // the error of ReplaceMaps
	broken  []error // the errors of the next reloads
}

func newStableMaps(t *testing.T) *stableMaps {
	f := &stableMaps{Dir: &Dir{Path: t.TempDir()}}
	f.Reload = func(context.Context) error {
		f.reloads++
		if len(f.broken) > 0 {
			err := f.broken[0]
			f.broken = f.broken[1:]
			if err != nil {
				return err
			}
		}
		f.running = map[string]string{}
		for _, name := range namedFiles([]byte(onDisk(t, f.Path, configFile))) {
			f.running[filepath.Join(f.Path, name)] = onDisk(t, f.Path, name)
		}
		return nil
	}
	f.ReplaceMaps = func(_ context.Context, maps []runtimeapi.MapContent) error {
		for _, m := range maps {
			require.Contains(t, f.running, m.Path)
			if f.refuse != nil {
				return f.refuse
			}
			text := ""
			for _, e := range m.Entries {
				text += e.Key + " " + e.Value + "\n"
			}
			require.NotEqual(t, text, onDisk(t, "", m.Path), "the file comes after HAProxy")
			f.running[m.Path] = text
		}
		return nil
	}
	return f
}

// hosts returns a configuration with these hosts, which all have the same backend.
func hosts(port uint16, names ...string) *haproxycfg.Config {
	c := testConfig("/run", 80, port)
	c.Maps = []haproxycfg.Map{{Name: "exact", Stable: true}, {Name: "prefix", Stable: true}, {Name: "hosts", Stable: true}}
	for _, name := range names {
		c.Maps[1].Entries = append(c.Maps[1].Entries, haproxycfg.MapEntry{Key: name + "/", Value: "web"})
		c.Maps[2].Entries = append(c.Maps[2].Entries, haproxycfg.MapEntry{Key: name, Value: name})
	}
	return c
}

// inForce requires that HAProxy and the directory have the configuration, and no reload is pending.
func (f *stableMaps) inForce(t *testing.T, c *haproxycfg.Config) {
	t.Helper()
	files, err := c.Render(f.Path)
	require.NoError(t, err)
	require.NoFileExists(t, f.file(pendingFile))
	require.Equal(t, rendered(t, f.Path, c), onDisk(t, f.Path, configFile))
	for _, x := range files[:len(files)-1] {
		require.Equal(t, string(x.Data), f.running[filepath.Join(f.Path, x.Name)])
		require.Equal(t, string(x.Data), onDisk(t, f.Path, x.Name))
	}
}

func (f *stableMaps) try(t *testing.T, c *haproxycfg.Config) (Effect, error) {
	t.Helper()
	p, err := f.Plan(c)
	require.NoError(t, err)
	reloads := p.Reloads()
	_, err = p.Apply(t.Context())
	if err == nil && f.refuse == nil {
		require.Equal(t, p.Effect().Reload != "", reloads)
	}
	return p.Effect(), err
}

func (f *stableMaps) apply(t *testing.T, c *haproxycfg.Config) Effect {
	t.Helper()
	e, err := f.try(t, c)
	require.NoError(t, err)
	f.inForce(t, c)
	return e
}

func TestStableMapsNeedNoReload(t *testing.T) {
	f := newStableMaps(t)
	require.Equal(t, ReloadFirst, f.apply(t, hosts(1, "a.example")).Reload)
	require.Equal(t, Effect{Maps: 2}, f.apply(t, hosts(1, "a.example", "b.example")))
	require.Equal(t, Effect{Maps: 2}, f.apply(t, hosts(1, "b.example")))
	require.Equal(t, Effect{}, f.apply(t, hosts(1, "b.example")), "nothing differs")
	require.Equal(t, 1, f.reloads)
	require.NoFileExists(t, f.file(lastGoodFile), "haproxy.cfg is still the first one")

	e := f.apply(t, hosts(2, "b.example"))
	require.Equal(t, Effect{Reload: ReloadServers, Detail: "servers of backend web have changed"}, e)
	renamed := hosts(2, "b.example")
	renamed.Backends = append(renamed.Backends, haproxycfg.Backend{Name: "z"})
	require.Equal(t, Effect{Reload: ReloadBackends, Detail: "backend z is new"}, f.apply(t, renamed))
	renamed.Frontends[0].Monitor = "/ready"
	require.Equal(t, Effect{Reload: ReloadSettings, Detail: "frontend http has changed"}, f.apply(t, renamed))
	require.Equal(t, 4, f.reloads)

	f.ReplaceMaps = nil
	require.Equal(t, ReloadBackends, f.apply(t, hosts(2, "b.example", "c.example")).Reload)
	require.Equal(t, ReloadMaps, f.apply(t, hosts(2, "c.example")).Reload)
}

// TestStableMapNames: the name of the file depends on what needs a reload, and on nothing else.
func TestStableMapNames(t *testing.T) {
	name := func(c *haproxycfg.Config) string {
		files, err := c.Render("")
		require.NoError(t, err)
		return files[2].Name
	}
	base := name(hosts(1, "a.example"))
	require.Equal(t, base, name(hosts(1, "b.example", "c.example")))
	require.Equal(t, base, name(hosts(2, "a.example")), "servers have no influence")
	other := hosts(1, "a.example")
	other.Backends = append(other.Backends, haproxycfg.Backend{Name: "new"})
	require.NotEqual(t, base, name(other))
	both := hosts(1)
	both.Maps[0].Runtime = true
	_, err := both.Render("")
	require.ErrorContains(t, err, "Stable and Runtime exclude each other")
}

func TestPlanIDDependsOnStableMaps(t *testing.T) {
	d := &Dir{Path: t.TempDir()}
	id := func(c *haproxycfg.Config) string {
		p, err := d.Plan(c)
		require.NoError(t, err)
		return p.ID()
	}
	require.NotEqual(t, id(hosts(1, "a.example")), id(hosts(1, "b.example")))
}

func TestRefusedMapsAreLoadedFromTheFiles(t *testing.T) {
	f := newStableMaps(t)
	f.apply(t, hosts(1, "a.example"))
	f.refuse = errors.New("no such map")
	e, err := f.try(t, hosts(1, "b.example"))
	require.NoError(t, err)
	require.Equal(t, Effect{Reload: ReloadSocket, Detail: "no such map"}, e)
	f.inForce(t, hosts(1, "b.example"))

	f.broken = []error{&ReloadError{Log: "bad"}}
	e, err = f.try(t, hosts(1, "c.example"))
	require.ErrorContains(t, err, "no such map")
	require.ErrorContains(t, err, "the last good configuration is restored and in force")
	require.Zero(t, e.Maps)
	f.inForce(t, hosts(1, "b.example"))
}

// TestMapsThatDiffer: after a change, CompareMaps finds that HAProxy has other entries. HAProxy then
// reads them from the files.
func TestMapsThatDiffer(t *testing.T) {
	f := newStableMaps(t)
	f.apply(t, hosts(1, "a.example"))
	replace := f.ReplaceMaps
	f.ReplaceMaps = func(ctx context.Context, maps []runtimeapi.MapContent) error {
		for _, m := range maps {
			text := ""
			for _, e := range m.Before {
				text += e.Key + " " + e.Value + "\n"
			}
			require.Equal(t, text, f.running[m.Path], "Before is what HAProxy has")
		}
		return replace(ctx, maps)
	}
	compared := 0
	f.CompareMaps = func(_ context.Context, maps []runtimeapi.MapContent) error {
		compared++
		require.Len(t, maps, 2)
		for _, m := range maps {
			require.Equal(t, onDisk(t, "", m.Path), f.running[m.Path], "the change is in force before the comparison")
		}
		if compared == 2 {
			return errors.New("another entry")
		}
		return nil
	}
	require.Equal(t, Effect{Maps: 2}, f.apply(t, hosts(1, "b.example")))
	p, err := f.Plan(hosts(1, "c.example"))
	require.NoError(t, err)
	_, err = p.Apply(t.Context())
	require.NoError(t, err)
	require.Equal(t, Effect{Reload: ReloadSocket, Detail: "another entry"}, p.Effect())
	f.inForce(t, hosts(1, "c.example"))
	require.Equal(t, Effect{Maps: 2}, f.apply(t, hosts(1, "d.example")))
	require.Equal(t, 3, compared)
}

// TestMapFileThatCannotBeReplaced: HAProxy has the new entries already when the rename of a file
// fails. HAProxy then loads the old files again.
func TestMapFileThatCannotBeReplaced(t *testing.T) {
	for _, name := range []string{"prefix", "hosts"} {
		f := newStableMaps(t)
		f.apply(t, hosts(1, "a.example"))
		full := errors.New("disk full")
		f.beforeStep = func(step string) error {
			if strings.HasPrefix(step, "rename maps/"+name) && full != nil {
				require.Contains(t, fmt.Sprint(f.running), "b.example", "HAProxy comes before the file")
				defer func() { full = nil }()
				return full
			}
			return nil
		}
		e, err := f.try(t, hosts(1, "b.example"))
		require.ErrorContains(t, err, "HAProxy had changed its maps at run time, but then: disk full")
		require.ErrorContains(t, err, "the last good maps are restored and in force")
		require.Equal(t, ReloadSocket, e.Reload)
		f.inForce(t, hosts(1, "a.example"))
		f.apply(t, hosts(1, "b.example"))
	}
}

// TestFileThatCannotBeWritten: without room for one of the new files, the directory and HAProxy keep
// the old maps.
func TestFileThatCannotBeWritten(t *testing.T) {
	for name, next := range map[string]*haproxycfg.Config{
		"maps/hosts": hosts(1, "b.example"),
		configFile:   hosts(2, "b.example"),
	} {
		f := newStableMaps(t)
		f.apply(t, hosts(1, "a.example"))
		full := errors.New("disk full")
		f.beforeStep = func(step string) error {
			if step == "write "+name || strings.HasPrefix(step, "write "+name+"-") {
				return full
			}
			return nil
		}
		e, err := f.try(t, next)
		require.ErrorIs(t, err, full)
		require.Equal(t, Effect{}, e)
		f.inForce(t, hosts(1, "a.example"))
		left, err := os.ReadDir(f.file(mapsDir))
		require.NoError(t, err)
		require.Len(t, left, 3, "no temporary file")
	}
}

// TestMapsThatTheCheckRejects: the check runs after HAProxy has the maps.
func TestMapsThatTheCheckRejects(t *testing.T) {
	f := newStableMaps(t)
	f.apply(t, hosts(1, "a.example"))
	f.Check = func(context.Context, haproxycfg.Valid) error {
		found := false
		for _, text := range f.running {
			found = found || strings.Contains(text, "b.example")
		}
		require.True(t, found, "the maps are in force before the check")
		return errors.New("line 7")
	}
	e, err := f.try(t, hosts(1, "b.example"))
	require.ErrorContains(t, err, "rejected the files: line 7")
	require.ErrorContains(t, err, "the last good maps are restored and in force")
	require.Equal(t, ReloadSocket, e.Reload)
	f.inForce(t, hosts(1, "a.example"))
}

// TestRefusedReloadRestoresStableMaps: a change of servers and maps keeps the names of the maps. If
// HAProxy refuses the reload, the directory has the old content of the maps again.
func TestRefusedReloadRestoresStableMaps(t *testing.T) {
	f := newStableMaps(t)
	f.apply(t, hosts(1, "a.example"))
	f.broken = []error{&ReloadError{Log: "bad"}}
	_, err := f.try(t, hosts(2, "b.example"))
	require.ErrorContains(t, err, "the last good configuration is restored")
	f.inForce(t, hosts(1, "a.example"))
}

func TestStalePlanOfAMap(t *testing.T) {
	f := newStableMaps(t)
	f.apply(t, hosts(1, "a.example"))
	p, err := f.Plan(hosts(1, "b.example"))
	require.NoError(t, err)
	f.apply(t, hosts(1, "c.example"))
	_, err = p.Apply(t.Context())
	require.ErrorIs(t, err, ErrStalePlan)
	f.inForce(t, hosts(1, "c.example"))
}

// TestStableMapsAfterACrash stops Apply after each of its steps, as a crash would, during a change
// of maps, and during a change of maps and servers. The files in the directory are complete after
// each step. After the next Apply, of the new or the old configuration, HAProxy runs the
// configuration in the files.
func TestStableMapsAfterACrash(t *testing.T) {
	crash := errors.New("crash")
	for _, c := range []struct {
		port uint16 // of the configuration that Apply does not complete
		back bool   // the next Apply is of the old configuration
	}{{1, false}, {1, true}, {2, false}, {2, true}} {
		for stop, done := 0, false; !done; stop++ {
			f := newStableMaps(t)
			f.apply(t, hosts(1, "a.example"))
			n := 0
			var steps []string
			f.beforeStep = func(name string) error {
				steps = append(steps, name)
				if n++; n > stop {
					return crash
				}
				return nil
			}
			next := hosts(c.port, "b.example")
			_, err := f.Apply(t.Context(), next)
			f.beforeStep = nil
			if err == nil {
				done = true
			} else {
				require.ErrorIs(t, err, crash)
			}
			for _, name := range namedFiles([]byte(onDisk(t, f.Path, configFile))) {
				require.FileExists(t, f.file(name), "steps %v", steps)
			}
			if c.back {
				next = hosts(1, "a.example")
			}
			f.apply(t, next)
			require.Less(t, stop, 40)
		}
	}
}

// TestMapFilesOfManyChanges applies random changes. Some need a reload, and some fail. After each
// change, HAProxy runs the configuration in the files.
func TestMapFilesOfManyChanges(t *testing.T) {
	f := newStableMaps(t)
	current := hosts(1, "a.example")
	f.apply(t, current)
	for i := range 60 {
		var names []string
		for j := range 4 {
			if (i*7+j*5)%3 > 0 {
				names = append(names, fmt.Sprintf("h%d.example", (i+j)%6))
			}
		}
		slices.Sort(names)
		next := hosts(uint16(1+i/7%3), slices.Compact(names)...)
		f.refuse, f.broken = nil, nil
		switch i % 5 {
		case 3:
			f.refuse = errors.New("refused")
		case 4:
			f.refuse, f.broken = errors.New("refused"), []error{&ReloadError{Log: "bad"}}
		}
		if _, err := f.try(t, next); err == nil {
			current = next
		}
		f.inForce(t, current)
	}
	left, err := os.ReadDir(f.file(mapsDir))
	require.NoError(t, err)
	require.LessOrEqual(t, len(left), 6, "the maps in force and the last good ones")
}
