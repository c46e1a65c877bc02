package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// TestFilesOfEarlierVersions reads the cache file that an earlier version of the router has left:
// testdata/files/VERSION. With UPDATE_FILES, the test first adds the file of the present version.
func TestFilesOfEarlierVersions(t *testing.T) {
	if version := os.Getenv("UPDATE_FILES"); version != "" {
		t.Run("write", func(t *testing.T) {
			a := newSite(t, "a", "a.test", "x.b.test")
			api := newAPI(t, "a.test", a.tls)
			file := filepath.Join(t.TempDir(), "cache.json")
			p := start(t, "-api", api.template(), "-cache-file", file)
			for _, host := range []string{"a.test", "b.test"} {
				api.set(host, a.tls)
				get(client(t, p.tls, &tls.Config{RootCAs: theAuthority().Pool(), ServerName: host}), "https://"+host+"/")
			}
			p.cancel()
			require.Zero(t, p.wait())
			require.NoError(t, os.CopyFS(filepath.Join("testdata/files", version), os.DirFS(filepath.Dir(file))))
		})
	}
	for _, dir := range clitest.EarlierVersions(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(dir, "cache.json"))
			require.NoError(t, err)
			file := filepath.Join(t.TempDir(), "cache.json") // Load may rename the file
			require.NoError(t, os.WriteFile(file, text, 0o600))
			var entries []map[string]any
			require.NoError(t, json.Unmarshal(text, &entries))
			require.NotEmpty(t, entries)

			down := hostlookup.Func(func(context.Context, string) (hostlookup.Endpoint, error) {
				return hostlookup.Endpoint{}, errors.New("down")
			})
			cache := &hostlookup.Cache{Source: down, StaleFor: 100 * 365 * 24 * time.Hour}
			defer cache.Close()
			loaded, err := cache.Load(file)
			require.NoError(t, err)
			require.Equal(t, hostlookup.LoadResult{Hosts: len(entries)}, loaded)
			for _, e := range entries {
				answer, err := cache.LookupHost(t.Context(), e["host"].(string))
				require.NoError(t, err)
				require.Equal(t, e["app"], answer.Endpoint.App)
				require.Equal(t, e["endpoint"], answer.Endpoint.Addr)
			}

			// Load also reads the time at which each answer expires, and Save must write the same
			// time again. There is one exception: Load lets every answer expire at once, so Save
			// writes no time after the time of the Load.
			again := filepath.Join(t.TempDir(), "cache.json")
			now := time.Now()
			require.NoError(t, cache.Save(again))
			saved, err := os.ReadFile(again)
			require.NoError(t, err)
			for _, e := range entries {
				expires, err := time.Parse(time.RFC3339, e["expires"].(string))
				require.NoError(t, err)
				if expires.After(now.Add(-time.Minute)) { // the clock of this machine is behind the clock of the one that wrote the file
					text = bytes.ReplaceAll(text, []byte(e["expires"].(string)), nil)
					saved = regexp.MustCompile(`"expires":"[^"]*"`).ReplaceAll(saved, []byte(`"expires":""`))
				}
			}
			clitest.KeepsAll(t, "cache.json", text, saved)
		})
	}
}
