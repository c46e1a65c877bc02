package keyfiles_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/ech"
	"github.com/headgate/headgate/sniproxy/ech/keyfiles"
)

// write writes a key file, and returns the ID of its key.
func write(t *testing.T, dir, name string, id uint8) uint8 {
	t.Helper()
	key, err := ech.Generate("public.example", id, 0)
	require.NoError(t, err)
	text, err := key.PEM()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	return id
}

func ids(keys *ech.Keys) []uint8 {
	list := []uint8{}
	for _, c := range keys.Configs() {
		list = append(list, c.ID)
	}
	return list
}

func TestLoad(t *testing.T) {
	path := t.TempDir()
	loaded := 0
	dir := &keyfiles.Dir{Path: path, Loaded: func(*ech.Keys, error) { loaded++ }}
	require.Nil(t, dir.Keys())

	require.NoError(t, dir.Load())
	require.Empty(t, ids(dir.Keys()))

	write(t, path, "b.pem", 2)
	write(t, path, "a.pem", 1)
	write(t, path, ".hidden", 3)
	sub := filepath.Join(path, "sub")
	require.NoError(t, os.Mkdir(sub, 0o700))
	write(t, sub, "c.pem", 4)
	require.NoError(t, os.Symlink(sub, filepath.Join(path, "link")))
	require.NoError(t, dir.Load())
	require.Equal(t, []uint8{1, 2}, ids(dir.Keys()), "sorted by the names of the files")

	before := loaded
	require.NoError(t, dir.Load())
	require.Equal(t, before, loaded, "Loaded is for changes")

	// A file that becomes malformed keeps its last good key, and the new file counts.
	require.NoError(t, os.WriteFile(filepath.Join(path, "a.pem"), []byte("half a fi"), 0o600))
	write(t, path, "c.pem", 5)
	require.ErrorContains(t, dir.Load(), "a.pem")
	require.Equal(t, []uint8{1, 2, 5}, ids(dir.Keys()))

	require.NoError(t, os.Remove(filepath.Join(path, "a.pem")))
	require.NoError(t, dir.Load())
	require.Equal(t, []uint8{2, 5}, ids(dir.Keys()))

	// A directory that is gone keeps all keys.
	require.NoError(t, os.Rename(path, path+".moved"))
	require.Error(t, dir.Load())
	require.Equal(t, []uint8{2, 5}, ids(dir.Keys()))
}

func TestLoadWrongFiles(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, path string){
		"no directory": func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
		"a file": func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.WriteFile(path, nil, 0o600))
		},
		"no key": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(filepath.Join(path, "a.pem"), nil, 0o600))
		},
		"large file": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(filepath.Join(path, "a.pem"), make([]byte, 1<<17), 0o600))
		},
		"too many files": func(t *testing.T, path string) {
			for i := range 257 {
				require.NoError(t, os.WriteFile(filepath.Join(path, string(rune('a'+i/26))+string(rune('a'+i%26))), nil, 0o600))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys")
			require.NoError(t, os.Mkdir(path, 0o700))
			prepare(t, path)
			dir := &keyfiles.Dir{Path: path}
			require.Error(t, dir.Load())
			require.Empty(t, ids(dir.Keys()))
		})
	}
}

func TestCreate(t *testing.T) {
	path := t.TempDir()
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.FixedZone("", 3600))
	seen := map[uint8]bool{}
	for range 20 {
		file, key, err := keyfiles.Create(path, "public.example", 40, now)
		require.NoError(t, err)
		require.Regexp(t, `/20260304T040607Z-[0-9a-f]{2}\.pem$`, file)
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		require.False(t, seen[key.Config.ID])
		seen[key.Config.ID] = true
		require.Equal(t, uint8(40), key.Config.MaxNameLength)
	}
	dir := &keyfiles.Dir{Path: path}
	require.NoError(t, dir.Load())
	require.Len(t, dir.Keys().Configs(), 20)

	_, _, err := keyfiles.Create(path, "no name", 40, now)
	require.ErrorIs(t, err, ech.ErrKey)
	for id := range 256 {
		write(t, path, fmt.Sprintf("all-%02x", id), uint8(id))
	}
	for file := range seen {
		require.NoError(t, os.Remove(filepath.Join(path, fmt.Sprintf("20260304T040607Z-%02x.pem", file))))
	}
	_, _, err = keyfiles.Create(path, "public.example", 40, now)
	require.ErrorContains(t, err, "all 256")
	_, _, err = keyfiles.Create(filepath.Join(path, "none"), "public.example", 40, now)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestWatch(t *testing.T) {
	path := t.TempDir()
	write(t, path, "a.pem", 1)
	loads := make(chan []uint8, 10)
	dir := &keyfiles.Dir{Path: path, Interval: 10 * time.Millisecond, Loaded: func(keys *ech.Keys, err error) {
		if err == nil { // a reading may come in the middle of a write
			loads <- ids(keys)
		}
	}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- dir.Watch(ctx) }()
	next := func() []uint8 {
		select {
		case list := <-loads:
			return list
		case <-time.After(time.Minute):
			t.Fatal("no reading")
			return nil
		}
	}
	require.Equal(t, []uint8{1}, next())
	write(t, path, "b.pem", 2)
	require.Equal(t, []uint8{1, 2}, next())
	require.NoError(t, os.Remove(filepath.Join(path, "a.pem")))
	require.Equal(t, []uint8{2}, next())
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}
