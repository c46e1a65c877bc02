package hostlookup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSaveAndLoad(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	clock := func() time.Time { return now }
	file := filepath.Join(t.TempDir(), "cache.json")
	from := &Cache{Jitter: -1, Clock: clock, Source: Func(failing(ErrNotFound))}
	defer from.Close()
	require.NoError(t, from.Set("b.com", Endpoint{App: "B", Host: "*.com", Addr: "10.0.0.2"}))
	require.NoError(t, from.Set("a.com", Endpoint{Host: "a.com", Addr: "10.0.0.1:443", TTL: time.Hour}))
	wantError(t, from, "none.com", ErrNotFound, Miss)
	require.NoError(t, from.Save(file))
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	expires := func(d time.Duration) string { return now.Add(d).UTC().Format(time.RFC3339) }
	require.Equal(t, `[{"app":"","host":"a.com","endpoint":"10.0.0.1:443","expires":"`+expires(time.Hour)+`"},`+
		`{"app":"B","host":"b.com","endpoint":"10.0.0.2","expires":"`+expires(30*time.Second)+`"}]`+"\n", string(data))
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())

	to := &Cache{Jitter: -1, Clock: clock, Source: Func(failing(errDown)), MaxHosts: 10}
	defer to.Close()
	require.NoError(t, to.Set("b.com", Endpoint{Host: "b.com", Addr: "10.0.0.9"}))
	loaded, err := to.Load(file)
	require.NoError(t, err)
	require.Equal(t, LoadResult{Hosts: 1, LeftOut: 1}, loaded)
	wantEndpoint(t, to, "a.com", "10.0.0.1:443", Stale)
	wantEndpoint(t, to, "b.com", "10.0.0.9", Hit)

	require.NoError(t, os.WriteFile(file, []byte(`[{"host": "bad.com", "endpoint": "10.0.0.1:x"}, {"host": "good.com", "endpoint": "10.0.0.1"}]`), 0o600))
	loaded, err = to.Load(file)
	require.ErrorContains(t, err, "port is not a number")
	require.Equal(t, LoadResult{Hosts: 1, LeftOut: 1}, loaded)
	require.NoError(t, os.WriteFile(file, []byte("[{"), 0o600))
	loaded, err = to.Load(file)
	require.ErrorContains(t, err, file)
	require.Equal(t, LoadResult{LeftOut: 1}, loaded)
	_, err = to.Load(file + ".missing")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// If one entry is malformed, Load still loads all other entries. A Save does not overwrite a file
// that Load could not read completely.
func TestLoadKeepsWhatItCannotRead(t *testing.T) {
	const good, last = `{"host": "a.com", "endpoint": "10.0.0.1"}`, `{"host": "b.com", "endpoint": "10.0.0.2"}`
	for bad, want := range map[string]int{
		`[` + good + `, {"host": "c.com", "endpoint": "10.0.0.3", "expires": "tomorrow"}, ` + last + `]`: 2,
		`[` + good + `, {"host": "c.com", "endpoint": 8080}, ` + last + `]`:                              2,
		`[` + good + `, "c.com", ` + last + `]`:                                                          2,
		`[` + good + `, null, ` + last + `]`:                                                             2,
		`[` + good + `, {"host": "c.com", "endpoint": "10.0.0.1:99999"}, ` + last + `]`:                  2,
		`[` + good + `, {"host": "c.com", "host": "d.com", "endpoint": "10.0.0.3"}, ` + last + `]`:       2,
		`[` + good + `, {"Host": "c.com", "endpoint": "10.0.0.3"}, ` + last + `]`:                        2,
		`[` + good + `, ` + last:          2,
		`[` + good + `, ` + last + `] x`:  2,
		`[` + good + `, ` + last[:20]:     1,
		`[` + good + `, }, ` + last + `]`: 1,
		`{}`:                              0,
		"":                                0,
		"\x00\x00":                        0,
	} {
		file := filepath.Join(t.TempDir(), "cache.json")
		require.NoError(t, os.WriteFile(file, []byte(bad), 0o600))
		c := &Cache{Source: Func(failing(errDown))}
		loaded, err := c.Load(file)
		require.ErrorContains(t, err, "the file is kept as "+file+".unread", "%q", bad)
		require.Equal(t, want, loaded.Hosts, "%q", bad)
		require.NoError(t, c.Save(file))
		kept, err := os.ReadFile(file + ".unread")
		require.NoError(t, err)
		require.Equal(t, bad, string(kept))
		require.NoError(t, c.Close())
	}

	// Nothing can be renamed over a directory that holds a file.
	file := filepath.Join(t.TempDir(), "cache.json")
	require.NoError(t, os.MkdirAll(filepath.Join(file+".unread", "x"), 0o700))
	require.NoError(t, os.WriteFile(file, []byte("[{"), 0o600))
	c := &Cache{}
	defer c.Close()
	_, err := c.Load(file)
	require.ErrorContains(t, err, "not kept aside")
	require.ErrorContains(t, c.Save(file), "not overwritten")
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "[{", string(data))

	// If the path is a directory, this is a mistake of the user, and Load does not rename the
	// directory.
	dir := t.TempDir()
	_, err = c.Load(dir)
	require.ErrorContains(t, err, "a directory, not a regular file")
	require.DirExists(t, dir)
	require.ErrorContains(t, c.Save(dir), "not overwritten")
}

// Restarts and saves while the source is down do not make a host younger: the cache stops serving
// each host at the same time as a cache without restarts and saves.
func TestLoadMakesNoHostYounger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := false
		source := Func(func(context.Context, string) (Endpoint, error) {
			if down {
				return Endpoint{}, errors.New("down")
			}
			return Endpoint{Addr: "10.0.0.1"}, nil
		})
		file := filepath.Join(t.TempDir(), "cache.json")
		begin := func() *Cache {
			c := &Cache{Source: source, TTL: time.Minute, Jitter: -1, StaleFor: 24 * time.Hour}
			if _, err := c.Load(file); !errors.Is(err, fs.ErrNotExist) {
				require.NoError(t, err)
			}
			return c
		}
		end := func(c *Cache) {
			require.NoError(t, c.Save(file))
			require.NoError(t, c.Close())
		}
		serves := func(c *Cache, host string) bool {
			_, err := c.LookupHost(t.Context(), host)
			return err == nil
		}
		c := begin()
		require.True(t, serves(c, "old.test"))
		time.Sleep(5 * time.Hour)
		require.True(t, serves(c, "new.test"))
		down = true
		for range 2 {
			time.Sleep(9 * time.Hour)
			require.NoError(t, c.Save(file)) // a router saves every minute
			end(c)
			c = begin()
			require.True(t, serves(c, "old.test"))
			require.True(t, serves(c, "new.test"))
		}
		time.Sleep(time.Hour + 2*time.Minute) // until 24 h and 2 min after the answer
		require.False(t, serves(c, "old.test"))
		require.True(t, serves(c, "new.test"))
		end(c)
		c = begin()
		require.False(t, serves(c, "old.test"))
		require.True(t, serves(c, "new.test"))
		// An answer of the source makes the host young again.
		down = false
		require.Eventually(t, func() bool {
			answer, err := c.LookupHost(t.Context(), "new.test")
			level := answer.Level
			return err == nil && level == Miss
		}, time.Minute, time.Second)
		down = true
		time.Sleep(23 * time.Hour)
		end(c)
		c = begin()
		require.True(t, serves(c, "new.test"))
		end(c)
	})
}
