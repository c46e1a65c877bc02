package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// testConfig returns a configuration that listens on a port and has servers on 127.0.0.1. Its maps
// depend on the number of servers. sockets is the directory of its sockets.
func testConfig(sockets string, port int, servers ...uint16) *haproxycfg.Config {
	b := haproxycfg.Backend{Name: "web"}
	for _, p := range servers {
		b.Servers = append(b.Servers, haproxycfg.Server{Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p)})
	}
	return &haproxycfg.Config{
		Global:    haproxycfg.Global{StatsSocket: sockets + "/stats.sock"},
		Frontends: []haproxycfg.Frontend{{Name: "http", Binds: []haproxycfg.Bind{{Address: fmt.Sprintf("127.0.0.1:%d", port)}}, Router: &haproxycfg.Router{Hosts: "hosts", Exact: "exact", Prefix: "prefix"}, DefaultBackend: "web"}},
		Backends:  []haproxycfg.Backend{b},
		Maps: []haproxycfg.Map{
			{Name: "hosts", Entries: []haproxycfg.MapEntry{{Key: fmt.Sprintf("s%d.example.com", len(servers)), Value: "v"}}},
			{Name: "exact"},
			{Name: "prefix", Entries: []haproxycfg.MapEntry{{Key: "v/", Value: "web"}}},
		},
	}
}

// snapshot returns the files of a directory. If somebody replaces a file with the same content, its
// FileInfo still differs.
func snapshot(t *testing.T, dir string) map[string]fs.FileInfo {
	t.Helper()
	all := map[string]fs.FileInfo{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			all[path], err = e.Info()
		}
		return err
	}))
	return all
}

func requireUntouched(t *testing.T, dir string, before map[string]fs.FileInfo) {
	t.Helper()
	now := snapshot(t, dir)
	require.Len(t, now, len(before))
	for path, info := range before {
		require.True(t, os.SameFile(info, now[path]), path)
		require.Equal(t, info.ModTime(), now[path].ModTime(), path)
		require.Equal(t, info.Mode(), now[path].Mode(), path)
	}
}

func rendered(t *testing.T, dir string, c *haproxycfg.Config) string {
	t.Helper()
	files, err := c.Render(dir)
	require.NoError(t, err)
	return string(files[len(files)-1].Data)
}

func onDisk(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(data)
}

func mapFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, mapsDir, "*"))
	require.NoError(t, err)
	return names
}

func TestApplyWritesOnceAndThenNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "conf")
	checks, reloads := 0, 0
	d := &Dir{
		Path:   dir,
		Check:  func(context.Context, haproxycfg.Valid) error { checks++; return nil },
		Reload: func(context.Context) error { reloads++; return nil },
	}
	a := testConfig("/run", 80, 1)
	changed, err := d.Apply(t.Context(), a)
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, rendered(t, dir, a), onDisk(t, dir, configFile))
	require.Len(t, mapFiles(t, dir), 3)
	require.NoFileExists(t, filepath.Join(dir, pendingFile))
	require.NoFileExists(t, filepath.Join(dir, lastGoodFile))

	before := snapshot(t, dir)
	for range 3 {
		changed, err = d.Apply(t.Context(), testConfig("/run", 80, 1))
		require.NoError(t, err)
		require.False(t, changed)
	}
	requireUntouched(t, dir, before)
	require.Equal(t, 1, checks)
	require.Equal(t, 1, reloads)
}

func TestApplyKeepsTheLastGoodOneWithItsMaps(t *testing.T) {
	dir := t.TempDir()
	d := &Dir{Path: dir}
	a, b, c := testConfig("/run", 80, 1), testConfig("/run", 80, 1, 2), testConfig("/run", 80, 1, 2, 3)
	for _, x := range []*haproxycfg.Config{a, b} {
		_, err := d.Apply(t.Context(), x)
		require.NoError(t, err)
	}
	require.Equal(t, rendered(t, dir, a), onDisk(t, dir, lastGoodFile))
	require.Len(t, mapFiles(t, dir), 4, "two maps hosts, and the common maps exact and prefix")
	foreign := filepath.Join(dir, mapsDir, "by-hand.map")
	require.NoError(t, os.WriteFile(foreign, nil, 0o600))
	_, err := d.Apply(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, rendered(t, dir, b), onDisk(t, dir, lastGoodFile))
	require.Len(t, mapFiles(t, dir), 5, "the maps of a are removed, other files stay")
	require.FileExists(t, foreign)
}

func TestApplyRepairsChangedFiles(t *testing.T) {
	dir := t.TempDir()
	d := &Dir{Path: dir}
	c := testConfig("/run", 80, 1)
	_, err := d.Apply(t.Context(), c)
	require.NoError(t, err)
	for _, name := range append(mapFiles(t, dir), filepath.Join(dir, configFile)) {
		want := onDisk(t, "", name)
		require.NoError(t, os.WriteFile(name, []byte("junk\n"), 0o600))
		_, err := d.Apply(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, want, onDisk(t, "", name))
		require.NoError(t, os.Remove(name))
		_, err = d.Apply(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, want, onDisk(t, "", name))
	}
}

func TestApplyTouchesNothingWhenTheCheckFails(t *testing.T) {
	dir := t.TempDir()
	refuse := errors.New("no")
	var verdict error
	d := &Dir{
		Path: dir, Check: func(context.Context, haproxycfg.Valid) error { return verdict },
		Reload: func(context.Context) error { return nil },
	}
	_, err := d.Apply(t.Context(), testConfig("/run", 80, 1))
	require.NoError(t, err)
	before := snapshot(t, dir)
	verdict = refuse
	changed, err := d.Apply(t.Context(), testConfig("/run", 80, 2))
	require.ErrorIs(t, err, refuse)
	require.False(t, changed)
	requireUntouched(t, dir, before)
}

func TestApplyRestoresWhenTheReloadFails(t *testing.T) {
	dir := t.TempDir()
	a, b := testConfig("/run", 80, 1), testConfig("/run", 80, 2)
	textA, textB := rendered(t, dir, a), rendered(t, dir, b)
	refused := &ReloadError{Log: "no"}
	var loaded []string
	d := &Dir{Path: dir, Reload: func(context.Context) error {
		text := onDisk(t, dir, configFile)
		loaded = append(loaded, text)
		if text == textB {
			return refused
		}
		return nil
	}}
	_, err := d.Apply(t.Context(), a)
	require.NoError(t, err)
	for range 2 {
		loaded = nil
		changed, err := d.Apply(t.Context(), b)
		require.ErrorIs(t, err, refused)
		require.ErrorContains(t, err, "restored and in force")
		require.False(t, changed)
		require.Equal(t, []string{textB, textA}, loaded)
		require.Equal(t, textA, onDisk(t, dir, configFile))
		require.NoFileExists(t, filepath.Join(dir, pendingFile))
	}
}

// TestUnfinishedApplyKeepsTheLastGood stops an Apply at each step before it replaces haproxy.cfg.
// Then HAProxy refuses the configuration of the next Apply. That Apply still restores the
// configuration in force.
func TestUnfinishedApplyKeepsTheLastGood(t *testing.T) {
	a, b, c := testConfig("/run", 80, 1), testConfig("/run", 80, 2), testConfig("/run", 80, 3)
	refused := &ReloadError{Log: "no"}
	stop := errors.New("the process ends")
	for n, last := 0, ""; last != "rename "+configFile; n++ {
		dir := t.TempDir()
		d := &Dir{Path: dir, Reload: func(context.Context) error {
			if onDisk(t, dir, configFile) == rendered(t, dir, c) {
				return refused
			}
			return nil
		}}
		_, err := d.Apply(t.Context(), a)
		require.NoError(t, err)
		steps := 0
		d.beforeStep = func(step string) error {
			if last = step; steps == n {
				return stop
			}
			steps++
			return nil
		}
		_, err = d.Apply(t.Context(), b)
		require.ErrorIs(t, err, stop)
		require.Equal(t, rendered(t, dir, a), onDisk(t, dir, configFile), last)

		d.beforeStep = nil
		_, err = d.Apply(t.Context(), c)
		require.ErrorIs(t, err, refused)
		require.ErrorContains(t, err, "restored and in force", last)
		require.Equal(t, rendered(t, dir, a), onDisk(t, dir, configFile), last)
	}
}

// TestApplyStopsWhenGuardFails lets Guard fail at one of its calls, in each run at another call.
// Apply makes the effects before this call and no later effect, and the next Apply completes the
// change.
func TestApplyStopsWhenGuardFails(t *testing.T) {
	a, b := testConfig("/run", 80, 1), testConfig("/run", 80, 2)
	stop := errors.New("another process leads")
	for n := 0; ; n++ {
		dir := t.TempDir()
		d := &Dir{Path: dir, Reload: func(context.Context) error { return nil }}
		_, err := d.Apply(t.Context(), a)
		require.NoError(t, err)
		plan, err := d.Plan(b)
		require.NoError(t, err)
		calls, effects := 0, []string(nil)
		d.Guard = func() error {
			if calls++; calls > n {
				return stop
			}
			return nil
		}
		d.beforeStep = func(step string) error { effects = append(effects, step); return nil }
		_, err = plan.Apply(t.Context(), haproxycfg.RenderedFile{Name: "report.json", Data: []byte("b")})
		require.Len(t, effects, n)
		if err == nil {
			require.Contains(t, effects, "reload")
			require.Contains(t, effects, "write report.json")
			return
		}
		require.ErrorIs(t, err, stop)
		require.NoFileExists(t, filepath.Join(dir, "report.json"))
		d.Guard, d.beforeStep = nil, nil
		_, err = d.Apply(t.Context(), b)
		require.NoError(t, err)
		require.Equal(t, rendered(t, dir, b), onDisk(t, dir, configFile))
		require.NoFileExists(t, filepath.Join(dir, pendingFile))
	}
}

// TestApplyWhileHAProxyIsAway applies a configuration while no reload works. The directory holds
// the last good configuration again, and each further Apply tries to reload.
func TestApplyWhileHAProxyIsAway(t *testing.T) {
	dir := t.TempDir()
	a, b := testConfig("/run", 80, 1), testConfig("/run", 80, 2)
	away := errors.New("nobody listens")
	var verdict error
	reloads := 0
	d := &Dir{Path: dir, Reload: func(context.Context) error { reloads++; return verdict }}
	_, err := d.Apply(t.Context(), a)
	require.NoError(t, err)

	verdict, reloads = away, 0
	changed, err := d.Apply(t.Context(), b)
	require.ErrorIs(t, err, away)
	require.ErrorContains(t, err, "restored on disk, but")
	require.False(t, changed)
	require.Equal(t, 2, reloads)
	require.Equal(t, rendered(t, dir, a), onDisk(t, dir, configFile))

	reloads = 0
	changed, err = d.Apply(t.Context(), a) // the files are the same, but HAProxy may not have loaded them
	require.ErrorIs(t, err, away)
	require.False(t, changed)
	require.Equal(t, 1, reloads, "the last good configuration itself failed, so there is no second attempt")

	verdict, reloads = nil, 0
	changed, err = d.Apply(t.Context(), b)
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, 1, reloads)
	require.Equal(t, rendered(t, dir, a), onDisk(t, dir, lastGoodFile))
}

// TestApplyWhileNoHAProxyRuns applies a configuration that Check has accepted, while no HAProxy
// listens. The configuration stays, so that HAProxy starts with it. The next Apply reloads.
func TestApplyWhileNoHAProxyRuns(t *testing.T) {
	dir := t.TempDir()
	a, b := testConfig("/run", 80, 1), testConfig("/run", 80, 2)
	var verdict error
	reloads := 0
	d := &Dir{
		Path:   dir,
		Check:  func(context.Context, haproxycfg.Valid) error { return nil },
		Reload: func(context.Context) error { reloads++; return verdict },
	}
	_, err := d.Apply(t.Context(), a)
	require.NoError(t, err)

	verdict = Reloader{Master: runtimeapi.Socket{Path: filepath.Join(dir, "none")}}.Reload(t.Context())
	require.ErrorIs(t, verdict, ErrNoMaster)
	reloads = 0
	changed, err := d.Apply(t.Context(), b)
	require.ErrorIs(t, err, ErrNoMaster)
	require.True(t, changed)
	require.Equal(t, 1, reloads)
	require.Equal(t, rendered(t, dir, b), onDisk(t, dir, configFile))
	require.Equal(t, rendered(t, dir, a), onDisk(t, dir, lastGoodFile))

	verdict, reloads = nil, 0
	changed, err = d.Apply(t.Context(), b)
	require.NoError(t, err)
	require.False(t, changed)
	require.Equal(t, 1, reloads)
	require.NoFileExists(t, filepath.Join(dir, pendingFile))
}

func TestApplyReloadsAgainAfterAFailure(t *testing.T) {
	dir := t.TempDir()
	down := errors.New("nobody listens")
	verdict := down
	reloads := 0
	d := &Dir{Path: dir, Reload: func(context.Context) error { reloads++; return verdict }}
	a, b := testConfig("/run", 80, 1), testConfig("/run", 80, 2)

	// The first configuration stays, because there is no other.
	changed, err := d.Apply(t.Context(), a)
	require.ErrorIs(t, err, down)
	require.True(t, changed)
	require.Equal(t, rendered(t, dir, a), onDisk(t, dir, configFile))
	require.Equal(t, 1, reloads)

	// A configuration that was never loaded does not become the last good one.
	_, err = d.Apply(t.Context(), b)
	require.ErrorIs(t, err, down)
	require.NoFileExists(t, filepath.Join(dir, lastGoodFile))

	verdict = nil
	changed, err = (&Dir{Path: dir, Reload: d.Reload}).Apply(t.Context(), b) // as in another process
	require.NoError(t, err)
	require.False(t, changed, "the directory held it already")
	require.Equal(t, 3, reloads)
	_, err = d.Apply(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, 3, reloads)
}

func TestApplyLeavesAnUnknownOutcomeToTheNextOne(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	a, b := testConfig("/run", 80, 1), testConfig("/run", 80, 2)
	var reload func(context.Context) error
	d := &Dir{Path: dir, Reload: func(ctx context.Context) error { return reload(ctx) }}
	reload = func(context.Context) error { return nil }
	_, err := d.Apply(ctx, a)
	require.NoError(t, err)
	reload = func(ctx context.Context) error { cancel(); return ctx.Err() }
	changed, err := d.Apply(ctx, b)
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, changed)
	require.Equal(t, rendered(t, dir, b), onDisk(t, dir, configFile))
	require.Equal(t, rendered(t, dir, a), onDisk(t, dir, lastGoodFile))

	again := 0
	reload = func(context.Context) error { again++; return nil }
	_, err = d.Apply(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, 1, again)
}

// TestApplyRunsOneAtATime applies configurations through two Dir values, as two processes would.
func TestApplyRunsOneAtATime(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	reload := func(context.Context) error {
		if !mu.TryLock() {
			return errors.New("two at once")
		}
		defer mu.Unlock()
		for _, name := range namedFiles([]byte(onDisk(t, dir, configFile))) {
			if !exists(filepath.Join(dir, name)) {
				return errors.New("no " + name)
			}
		}
		return nil
	}
	dirs := []*Dir{{Path: dir, Reload: reload}, {Path: dir, Reload: reload}}
	var wg sync.WaitGroup
	errs := make(chan error, 24)
	for i := range cap(errs) {
		wg.Go(func() {
			_, err := dirs[i%2].Apply(t.Context(), testConfig("/run", 80, uint16(i%5+1)))
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
}

func TestApplyWaitsNoLongerThanItsContext(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	other := &Dir{Path: dir, Reload: func(context.Context) error {
		cancel()
		_, err := (&Dir{Path: dir}).Apply(ctx, testConfig("/run", 80, 2))
		return err
	}}
	_, err := other.Apply(t.Context(), testConfig("/run", 80, 1))
	require.ErrorIs(t, err, context.Canceled)

	other.Reload = func(context.Context) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		late := &Dir{Path: dir, beforeStep: func(string) error { cancel(); return nil }} // just before it locks the file
		_, err := late.Apply(ctx, testConfig("/run", 80, 2))
		return err
	}
	_, err = other.Apply(t.Context(), testConfig("/run", 80, 3))
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "lock "+filepath.Join(dir, lockName))
}

func TestApplyModes(t *testing.T) {
	for mode, want := range map[fs.FileMode][2]fs.FileMode{
		0:     {0o644, 0o755},
		0o600: {0o600, 0o700},
		0o640: {0o640, 0o750},
	} {
		t.Run(mode.String(), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			_, err := (&Dir{Path: dir, Mode: mode}).Apply(t.Context(), testConfig("/run", 80, 1))
			require.NoError(t, err)
			for _, name := range append(mapFiles(t, dir), filepath.Join(dir, configFile)) {
				info, err := os.Stat(name)
				require.NoError(t, err)
				require.Equal(t, want[0], info.Mode().Perm(), name)
			}
			for _, name := range []string{dir, filepath.Join(dir, mapsDir)} {
				info, err := os.Stat(name)
				require.NoError(t, err)
				require.Equal(t, want[1], info.Mode().Perm(), name)
			}
		})
	}
}

func TestApplyRefusesAnInvalidConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	c := testConfig("/run", 80, 1)
	c.Backends[0].Name = "a b"
	_, err := (&Dir{Path: dir}).Apply(t.Context(), c)
	require.ErrorIs(t, err, haproxycfg.ErrInvalid)
	require.NoDirExists(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = (&Dir{Path: dir}).Apply(ctx, testConfig("/run", 80, 1))
	require.ErrorIs(t, err, context.Canceled)
}
