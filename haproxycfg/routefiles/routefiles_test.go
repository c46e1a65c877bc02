package routefiles_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/routefiles"
)

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one.yaml"), filepath.Join(dir, "two.yaml")
	write := func(file, text string) {
		require.NoError(t, os.WriteFile(file+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(file+".new", file))
	}
	route := func(host string) string {
		return "routes:\n- host: " + host + "\n  backends:\n  - {cluster: eu-1, namespace: shop, service: web, port: http}\n"
	}
	files := &routefiles.Files{Names: []string{one, two}}
	write(one, route("one.example.com"))
	d, err := files.Read()
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Equal(t, []string{"one.example.com"}, d.Table.Hosts(), "the other file is read")
	require.Equal(t, []string{two}, d.Unread)
	require.Len(t, d.Problems, 1)
	require.Contains(t, d.Problems[0].Message, "counts as an empty file")
	for text, want := range map[string]string{
		"routes: [":           "two.yaml:1: ",
		"":                    "two.yaml:1: the file is empty",
		"route: []\n":         "two.yaml:1: route: unknown field, did you mean routes?",
		"routes: {host: x}\n": "two.yaml:1: routes: must be a list",
	} {
		write(two, text)
		_, err = files.Read()
		require.ErrorContains(t, err, want)
	}
	write(two, route("two.example.com")+"- host: '*'\n") // one bad entry
	d, err = files.Read()
	require.NoError(t, err)
	require.Empty(t, d.Unread)
	require.Equal(t, []string{"one.example.com", "two.example.com"}, d.Table.Hosts())
	require.NotEmpty(t, d.Problems)

	ctx, stop := context.WithCancel(t.Context())
	published := make(chan routefiles.Declarations)
	done := make(chan error, 1)
	go func() {
		done <- files.Follow(ctx, func(d routefiles.Declarations) {
			select {
			case published <- d:
			case <-ctx.Done():
			}
		})
	}()
	write(two, route("new.example.com"))
	d = <-published
	require.Equal(t, []string{"new.example.com", "one.example.com"}, d.Table.Hosts())
	require.Empty(t, d.Problems)
	write(two, "routes: [")
	d = <-published
	require.Equal(t, []string{"new.example.com", "one.example.com"}, d.Table.Hosts())
	require.Len(t, d.Problems, 1)
	require.True(t, strings.HasSuffix(d.Problems[0].Message, "is kept"), d.Problems[0].Message)
	require.NoError(t, os.Remove(two))
	d = <-published
	require.Contains(t, d.Problems[0].Message, "no such file")
	require.Equal(t, []string{"new.example.com", "one.example.com"}, d.Table.Hosts())
	write(two, route("new.example.com")) // the file had this content before
	d = <-published
	require.Empty(t, d.Problems)
	stop()
	require.NoError(t, <-done)
}

// TestFilesThatComeLater: a file is missing or broken at the start. As soon as it is usable, Follow
// publishes its routes.
func TestFilesThatComeLater(t *testing.T) {
	dir := t.TempDir()
	missing, broken := filepath.Join(dir, "missing.yaml"), filepath.Join(dir, "broken.yaml")
	require.NoError(t, os.WriteFile(broken, []byte("routes: ["), 0o600))
	files := &routefiles.Files{Names: []string{missing, broken}}
	d, err := files.Read()
	require.ErrorContains(t, err, "missing.yaml")
	require.ErrorContains(t, err, "broken.yaml:1")
	require.Equal(t, files.Names, d.Unread)
	ctx, stop := context.WithCancel(t.Context())
	published := make(chan routefiles.Declarations)
	done := make(chan error, 1)
	go func() {
		done <- files.Follow(ctx, func(d routefiles.Declarations) { published <- d })
	}()
	require.NoError(t, os.WriteFile(missing+".new", []byte("routes: []\n"), 0o600))
	require.NoError(t, os.Rename(missing+".new", missing))
	d = <-published
	require.Equal(t, []string{broken}, d.Unread)
	require.NoError(t, os.WriteFile(broken+".new", []byte("routes: []\n"), 0o600))
	require.NoError(t, os.Rename(broken+".new", broken))
	d = <-published
	require.Empty(t, d.Unread)
	require.Empty(t, d.Problems)
	stop()
	require.NoError(t, <-done)
}

// TestRegions follows a file of regions. If it cannot be used, the earlier regions stay.
func TestRegions(t *testing.T) {
	dir := t.TempDir()
	names, regions := filepath.Join(dir, "routes.yaml"), filepath.Join(dir, "regions.yaml")
	write := func(text string) {
		require.NoError(t, os.WriteFile(regions+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(regions+".new", regions))
	}
	require.NoError(t, os.WriteFile(names, []byte("routes: []\n"), 0o600))
	files := &routefiles.Files{Names: []string{names}, Regions: regions}
	d, err := files.Read()
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Equal(t, []string{regions}, d.Unread)
	write("regions: [{name: eu, networks: [192.0.2.0/24, 192.0.2.1/24]}]")
	d, err = files.Read()
	require.NoError(t, err)
	require.Empty(t, d.Unread)
	require.True(t, d.Regions.Has("eu"))
	require.Len(t, d.Problems, 1, "the bad network")

	ctx, stop := context.WithCancel(t.Context())
	published := make(chan routefiles.Declarations)
	done := make(chan error, 1)
	go func() {
		done <- files.Follow(ctx, func(d routefiles.Declarations) {
			select {
			case published <- d:
			case <-ctx.Done():
			}
		})
	}()
	write("regions: [{name: us}]")
	d = <-published
	require.True(t, d.Regions.Has("us"))
	require.Empty(t, d.Problems)
	write("regions: [")
	d = <-published
	require.True(t, d.Regions.Has("us"))
	require.Len(t, d.Problems, 1)
	require.True(t, strings.HasSuffix(d.Problems[0].Message, "is kept"), d.Problems[0].Message)
	stop()
	require.NoError(t, <-done)
}
