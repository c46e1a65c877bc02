package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
)

const preferRoutes = `routes:
- host: api.example.com
  path: /tracks
  backends:
  - {cluster: eu-1, namespace: media, service: tracks, port: http}
  - {cluster: eu-2, namespace: media, service: tracks, port: http}
  check: {interval: 100ms}
  shift: true
  prefer:
  - {region: near, clusters: [eu-2, eu-1]}
  - {clusters: [eu-1]}
`

// only returns a function that sends ten requests, and reports whether the cluster has answered all of
// them.
func (s *shiftWorld) only(cluster string) func() bool {
	return func() bool {
		for range 10 {
			if s.answers() != cluster {
				return false
			}
		}
		return true
	}
}

// TestRegions follows the file of -regions while the terminator and HAProxy run. No change of the file
// needs a reload, and a broken file changes nothing.
func TestRegions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "regions.yaml")
	write := func(text string) {
		require.NoError(t, os.WriteFile(file+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(file+".new", file))
	}
	write("regions: [{name: near, networks: [127.0.0.0/8]}]\n")
	s := newShiftWorldOf(t, preferRoutes, "-regions", file)
	s.eventually("the client is in the region near", s.only("eu-2"))
	worker := s.worker()
	code, text := s.subcommand("explain", "api.example.com/tracks")
	require.Equal(t, cli.ExitOK, code, text)
	require.Contains(t, text, "prefer: clients of the region near: eu-2 (1 server, at least 1 must be usable, 1 usable now), then eu-1")
	require.Contains(t, text, "Now eu-2 serves them")
	require.Contains(t, text, "prefer: all other clients: eu-1 (1 server, at least 1 must be usable, 1 usable now). Now eu-1 serves them")

	code, text = s.shift("api.example.com/tracks", "-to", "eu-1:100", "-for", "1h", "-steps", "100", "-hold", "1h", "-detach")
	require.Equal(t, cli.ExitOK, code, text)
	s.eventually("the shift has precedence", s.only("eu-1"))
	code, text = s.shift("api.example.com/tracks", "-undo")
	require.Equal(t, cli.ExitOK, code, text)
	s.eventually("the preference is in force again", s.only("eu-2"))

	write("regions: [{name: near, networks: [192.0.2.0/24, 192.0.2.1/24]}]\n")
	s.eventually("the client is in no region", s.only("eu-1"))
	s.waitLog("has bits after its prefix")
	write("regions: [\n")
	s.waitLog("what the file declared before is kept")
	require.True(t, s.only("eu-1")())
	write("regions: [{name: near, networks: [127.0.0.1/32]}]\n")
	s.eventually("the client is in the region again", s.only("eu-2"))
	s.eventually("the change is in the journal", func() bool {
		_, lines := s.journal("-admin", s.admin)
		return strings.Contains(lines[0], "Regions: changed")
	})
	require.Equal(t, worker, s.worker(), "no reload")
}
