package deploy

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
)

// TestApplyKeepsTheLastGood requires that the configuration in force becomes the last good one,
// even if saveLastGood cannot add a second name to the file.
func TestApplyKeepsTheLastGood(t *testing.T) {
	one, two, three := testConfig("/run", 80, 1), testConfig("/run", 80, 2), testConfig("/run", 80, 3)
	for name, change := range map[string]func(t *testing.T, dir string){
		"unchanged": func(*testing.T, string) {},
		"another mode": func(t *testing.T, dir string) {
			require.NoError(t, os.Chmod(filepath.Join(dir, configFile), 0o600))
		},
		"leftover of an Apply": func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, linkFile), []byte("rest"), 0o600))
		},
		"saved, but not yet replaced": func(t *testing.T, dir string) {
			require.NoError(t, os.Link(filepath.Join(dir, configFile), filepath.Join(dir, lastGoodFile)))
		},
		"a symbolic link": func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(filepath.Join(dir, configFile), filepath.Join(dir, "elsewhere")))
			require.NoError(t, os.Symlink("elsewhere", filepath.Join(dir, configFile)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := &Dir{Path: t.TempDir()}
			apply := func(c *haproxycfg.Config) {
				t.Helper()
				changed, err := d.Apply(t.Context(), c)
				require.NoError(t, err)
				require.True(t, changed)
			}
			apply(one)
			change(t, d.Path)
			apply(two)
			require.Equal(t, rendered(t, d.Path, one), onDisk(t, d.Path, lastGoodFile))
			require.Equal(t, rendered(t, d.Path, two), onDisk(t, d.Path, configFile))
			info, err := os.Lstat(filepath.Join(d.Path, lastGoodFile))
			require.NoError(t, err)
			require.True(t, info.Mode().IsRegular())
			if runtime.GOOS != "windows" {
				require.EqualValues(t, 0o644, info.Mode().Perm())
			}
			require.NoFileExists(t, filepath.Join(d.Path, linkFile))
			apply(three)
			require.Equal(t, rendered(t, d.Path, two), onDisk(t, d.Path, lastGoodFile))
		})
	}
}

// TestApplyLeavesMapsAlone changes a server: Apply writes haproxy.cfg and no map.
func TestApplyLeavesMapsAlone(t *testing.T) {
	d := &Dir{Path: t.TempDir()}
	_, err := d.Apply(t.Context(), testConfig("/run", 80, 1, 2))
	require.NoError(t, err)
	before := snapshot(t, filepath.Join(d.Path, mapsDir))
	require.Len(t, before, 4, "a directory and three maps")
	_, err = d.Apply(t.Context(), testConfig("/run", 80, 1, 3))
	require.NoError(t, err)
	requireUntouched(t, filepath.Join(d.Path, mapsDir), before)

	// Apply writes missing and changed maps again, and not haproxy.cfg.
	config := snapshot(t, filepath.Join(d.Path, configFile))
	for i, file := range mapFiles(t, d.Path) {
		if i == 0 {
			require.NoError(t, os.Remove(file))
		} else {
			require.NoError(t, os.WriteFile(file, []byte("broken"), 0o644))
		}
	}
	reloads := 0
	d.Reload = func(context.Context) error { reloads++; return nil }
	changed, err := d.Apply(t.Context(), testConfig("/run", 80, 1, 3))
	require.NoError(t, err)
	require.False(t, changed, "the configuration is the same")
	require.Equal(t, 1, reloads, "HAProxy may have loaded the broken maps")
	requireUntouched(t, filepath.Join(d.Path, configFile), config)
	for _, f := range mapFiles(t, d.Path) {
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		require.NotEqual(t, "broken", string(data))
	}
	require.Len(t, mapFiles(t, d.Path), 3)
}
