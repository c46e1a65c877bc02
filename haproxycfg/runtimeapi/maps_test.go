package runtimeapi_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// eachVersion calls the function "test" once for each version of HAProxy on the machine. During
// each call, an HAProxy runs in dir. The function "config" returns its configuration.
func eachVersion(t *testing.T, config func(dir string) string, test func(t *testing.T, dir string)) {
	t.Helper()
	for _, binary := range haproxytest.Binaries(t) {
		t.Run(filepath.Base(filepath.Dir(binary)), func(t *testing.T) {
			t.Parallel()
			dir := haproxytest.Dir(t)
			file := filepath.Join(dir, haproxytest.ConfigFile)
			require.NoError(t, os.WriteFile(file, []byte(config(dir)), 0o600))
			h, err := haproxyproc.Start(t.Context(), haproxyproc.Options{
				Path: binary, Config: file,
				StatsSocket:  filepath.Join(dir, haproxytest.StatsSocket),
				MasterSocket: filepath.Join(dir, haproxytest.MasterSocket),
			})
			require.NoError(t, err)
			t.Cleanup(h.Stop)
			test(t, dir)
		})
	}
}

func mapConfig(t *testing.T) func(dir string) string {
	return func(dir string) string {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "x.map"), []byte("a 1\nb 2\n"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "y.map"), []byte("c 3\n"), 0o600))
		return fmt.Sprintf(`
global
    stats socket %[1]s/stats.sock level admin
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 1s
frontend f
    bind unix@%[1]s/http.sock
    http-request return status 200 content-type text/plain lf-string %%[path,map_str(%[1]s/x.map,none)]
    http-request set-var(txn.y) path,map_str(%[1]s/y.map)
`, dir)
	}
}

func TestMaps(t *testing.T) {
	eachVersion(t, mapConfig(t), func(t *testing.T, dir string) {
		path := filepath.Join(dir, "x.map")
		for name, s := range map[string]runtimeapi.Socket{
			"worker": {Path: filepath.Join(dir, haproxytest.StatsSocket)},
			"master": {Path: filepath.Join(dir, haproxytest.MasterSocket), Worker: "@1"},
		} {
			require.NoError(t, s.ReplaceMap(t.Context(), path, []runtimeapi.MapEntry{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}}), name)
			require.NoError(t, s.SetMap(t.Context(), path, "a", "7"))
			require.NoError(t, s.SetMap(t.Context(), path, "new", "%[src]\"'"))
			require.NoError(t, s.DeleteMapKey(t.Context(), path, "b"))
			require.NoError(t, s.DeleteMapKey(t.Context(), path, "b"))
			got, err := s.Map(t.Context(), path)
			require.NoError(t, err)
			require.Equal(t, []runtimeapi.MapEntry{{Key: "a", Value: "7"}, {Key: "new", Value: "%[src]\"'"}}, got)

			// More entries than one buffer of HAProxy holds.
			var many []runtimeapi.MapEntry
			for i := range 2000 {
				many = append(many, runtimeapi.MapEntry{Key: fmt.Sprintf("key-%d", i), Value: strings.Repeat("v", i%50+1)})
			}
			require.NoError(t, s.ReplaceMap(t.Context(), path, many))
			got, err = s.Map(t.Context(), path)
			require.NoError(t, err)
			require.ElementsMatch(t, many, got)
			require.NoError(t, s.ReplaceMap(t.Context(), path, nil))
			got, err = s.Map(t.Context(), path)
			require.NoError(t, err)
			require.Empty(t, got)

			two := []runtimeapi.MapContent{{Path: path, Entries: []runtimeapi.MapEntry{{Key: "a", Value: "1"}}}, {Path: filepath.Join(dir, "y.map")}}
			for range 2 { // the second call has nothing to do
				require.NoError(t, s.ReplaceMaps(t.Context(), two))
				for _, m := range two {
					got, err = s.Map(t.Context(), m.Path)
					require.NoError(t, err)
					require.Equal(t, m.Entries, got)
				}
			}

			testSmallChanges(t, s, path, filepath.Join(dir, "y.map"))

			err = s.SetMap(t.Context(), "/nope", "a", "1")
			var refused *runtimeapi.AnswerError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, "set map /nope a 1", refused.Command)
			require.Equal(t, "/nope", refused.Target)
			require.Contains(t, refused.Answer, "Unknown map identifier")
			require.ErrorAs(t, s.DeleteMapKey(t.Context(), "/nope", "a"), &refused)
			require.ErrorAs(t, s.ReplaceMap(t.Context(), "/nope", nil), &refused)
			require.ErrorAs(t, s.ReplaceMaps(t.Context(), []runtimeapi.MapContent{{Path: "/nope"}}), &refused)
			_, err = s.Map(t.Context(), "/nope")
			require.ErrorAs(t, err, &refused)
		}
	})
}

// testSmallChanges changes few entries of the maps x and y, which the caller may have changed behind
// the back of ReplaceMaps.
func testSmallChanges(t *testing.T, s runtimeapi.Socket, x, y string) {
	entries := func(pairs ...string) (list []runtimeapi.MapEntry) {
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, runtimeapi.MapEntry{Key: pairs[i], Value: pairs[i+1]})
		}
		return list
	}
	requireMaps := func(maps []runtimeapi.MapContent) {
		t.Helper()
		require.NoError(t, s.CompareMaps(t.Context(), maps))
		for _, m := range maps {
			got, err := s.Map(t.Context(), m.Path)
			require.NoError(t, err)
			require.ElementsMatch(t, m.Entries, got)
		}
	}
	before := []runtimeapi.MapContent{{Path: x, Entries: entries("a", "1", "b", "2", "c", "3")}, {Path: y, Entries: entries("d", "4")}}
	after := []runtimeapi.MapContent{{Path: x, Entries: entries("a", "1", "b", "5", "n", "6")}, {Path: y, Entries: entries("d", "4", "e", "7")}}
	for i := range after {
		after[i].Before = before[i].Entries
	}
	require.NoError(t, s.ReplaceMaps(t.Context(), before))
	require.Error(t, s.CompareMaps(t.Context(), after))
	for range 2 { // the second time, HAProxy has the entries already
		require.NoError(t, s.ReplaceMaps(t.Context(), after))
		requireMaps(after)
	}
	for name, change := range map[string]func() error{
		"an entry more":  func() error { return s.SetMap(t.Context(), x, "z", "1") },
		"an entry less":  func() error { return s.DeleteMapKey(t.Context(), x, "a") },
		"no old entry":   func() error { return s.DeleteMapKey(t.Context(), x, "c") },
		"an entry twice": func() error { _, err := s.Do(t.Context(), "add map "+y+" e 8"); return err },
		"empty":          func() error { return s.ReplaceMap(t.Context(), y, nil) },
	} {
		require.NoError(t, s.ReplaceMaps(t.Context(), before))
		require.NoError(t, change())
		require.NoError(t, s.ReplaceMaps(t.Context(), after), name)
		requireMaps(after)
	}
	require.NoError(t, s.ReplaceMaps(t.Context(), before))
	require.NoError(t, s.SetMap(t.Context(), x, "a", "9"))
	require.NoError(t, s.ReplaceMaps(t.Context(), after), "the change does not concern this entry")
	require.ErrorContains(t, s.CompareMaps(t.Context(), after), "which are not the 3 wanted ones")
	require.NoError(t, s.ReplaceMaps(t.Context(), []runtimeapi.MapContent{{Path: x}, {Path: y}}))
}

// TestSmallChangesOrder: each request finds its old value or its new one, because longer keys come
// before shorter ones, values change after that, and shorter keys go before longer ones. The values
// in HAProxy are verified at the end.
func TestSmallChangesOrder(t *testing.T) {
	var commands []string
	forged := ""
	s := fakeSocket(t, "unix", func(c string) string {
		commands = append(commands, c)
		switch words := strings.Fields(c); {
		case c == "show map":
			return "# id (file) description\n0 (/p) pattern loaded from file '/p' curr_ver=0 next_ver=0 entry_cnt=4\n1 (/h) pattern entry_cnt=1\n\n"
		case words[0] == "show" && words[2] == "/p": // the fake has the wanted entries
			return "0x1 a/ 1\n0x2 a/b/ 2\n0x3 a/b/c/ 3\n0x4 s/ 5\n\n"
		case words[0] == "show":
			return "0x1 a a\n\n"
		case words[0] == "get" && words[3] == forged:
			return `type=beg, case=sensitive, found=yes, idx=tree, key="` + words[3] + `", value="forged", type="str"` + "\n\n"
		case words[0] == "get":
			value, ok := map[string]string{"a/": "1", "a/b/": "2", "a/b/c/": "3", "s/": "5", "a": "a"}[words[3]]
			if !ok {
				return "type=beg, case=sensitive, found=no\n\n"
			}
			return `type=beg, case=sensitive, found=yes, idx=tree, key="` + words[3] + `", value="` + value + `", type="str"` + "\n\n"
		}
		return "\n"
	})
	maps := []runtimeapi.MapContent{
		{
			Path:    "/p",
			Before:  []runtimeapi.MapEntry{{Key: "g/", Value: "1"}, {Key: "g/b/", Value: "2"}, {Key: "s/", Value: "4"}},
			Entries: []runtimeapi.MapEntry{{Key: "a/", Value: "1"}, {Key: "a/b/", Value: "2"}, {Key: "a/b/c/", Value: "3"}, {Key: "s/", Value: "5"}},
		},
		{Path: "/h", Before: []runtimeapi.MapEntry{{Key: "g", Value: "g"}}, Entries: []runtimeapi.MapEntry{{Key: "a", Value: "a"}}},
	}
	require.NoError(t, s.ReplaceMaps(t.Context(), maps))
	require.Equal(t, []string{
		"add map /p a/b/c/ 3", "add map /p a/b/ 2", "add map /p a/ 1", "add map /h a a", "set map /p s/ 5",
		"del map /h g", "del map /p g/", "del map /p g/b/", "show map",
	}, commands[:9])
	require.Equal(t, []string{
		"get map /p a/", "get map /p a/b/", "get map /p a/b/c/", "get map /p s/", "get map /p g/", "get map /p g/b/",
		"get map /h a", "get map /h g",
	}, commands[9:])
	for _, forged = range []string{"a/", "s/", "g/b/"} {
		commands = nil
		require.NoError(t, s.ReplaceMaps(t.Context(), maps))
		require.Contains(t, commands, "show map /p", "the values differ, so ReplaceMaps compares all entries")
	}
}

// TestNetworkChanges changes few networks of a map of addresses. "get map" does not find all networks,
// so ReplaceMaps reads all entries. It does not replace the map.
func TestNetworkChanges(t *testing.T) {
	config := func(dir string) string {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "n.map"), nil, 0o600))
		return fmt.Sprintf(`
global
    stats socket %[1]s/stats.sock level admin
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 1s
frontend f
    bind unix@%[1]s/http.sock
    http-request set-var(txn.region) src,map_ip(%[1]s/n.map)
`, dir)
	}
	eachVersion(t, config, func(t *testing.T, dir string) {
		s, path := runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.StatsSocket)}, filepath.Join(dir, "n.map")
		now := []runtimeapi.MapEntry{}
		change := func(entries ...runtimeapi.MapEntry) {
			t.Helper()
			maps := []runtimeapi.MapContent{{Path: path, Before: now, Entries: entries}}
			require.NoError(t, s.ReplaceMaps(t.Context(), maps))
			require.NoError(t, s.CompareMaps(t.Context(), maps))
			now = entries
		}
		replaced := func() string {
			answer, err := s.Do(t.Context(), "show map")
			require.NoError(t, err)
			_, version, _ := strings.Cut(answer, " curr_ver=")
			version, _, _ = strings.Cut(version, " ")
			return version
		}
		wide := runtimeapi.MapEntry{Key: "10.0.0.0/8", Value: "eu"}
		narrow := runtimeapi.MapEntry{Key: "10.0.0.0/16", Value: "us"} // the same first address
		v6 := runtimeapi.MapEntry{Key: "2001:db8::/32", Value: "eu"}
		change(wide, narrow, v6)
		wide.Value, v6.Value = "us", "us"
		change(wide, narrow, v6)
		change(wide, v6)
		change(v6)
		change()
		require.Equal(t, "0", replaced(), "HAProxy has changed single entries")

		change(v6)
		require.NoError(t, s.SetMap(t.Context(), path, v6.Key, "forged"))
		change(v6, runtimeapi.MapEntry{Key: "2001:db8:1::/48", Value: "us"})
		require.NotEqual(t, "0", replaced(), "an unchanged entry was wrong, so ReplaceMaps replaces the map")
	})
}

// TestNetworkChangesOrder: a network comes before a wider network that contains it, and goes after
// it, whatever the lengths of their texts are.
func TestNetworkChangesOrder(t *testing.T) {
	for name, keys := range map[string][2]string{ // the wider network first
		"the shorter text":      {"10.0.0.0/8", "10.0.0.0/16"},
		"texts of equal length": {"16.0.0.0/4", "17.0.0.0/8"},
		"the longer text":       {"2001:db8:0:0:8000::/66", "2001:db8::9000:0:0:0/68"},
	} {
		var changes []string
		entries := []runtimeapi.MapEntry{{Key: keys[0], Value: "a"}, {Key: keys[1], Value: "b"}}
		present := entries
		s := fakeSocket(t, "unix", func(c string) string {
			switch {
			case c == "show map":
				return fmt.Sprintf("1 (/n) pattern entry_cnt=%d\n\n", len(present))
			case c == "show map /n" && len(present) > 0:
				return "0x1 " + keys[0] + " a\n0x2 " + keys[1] + " b\n\n"
			case strings.HasPrefix(c, "add"), strings.HasPrefix(c, "del"):
				changes = append(changes, c)
			}
			return "\n"
		})
		require.NoError(t, s.ReplaceMaps(t.Context(), []runtimeapi.MapContent{{Path: "/n", Before: []runtimeapi.MapEntry{}, Entries: entries}}))
		present = nil
		require.NoError(t, s.ReplaceMaps(t.Context(), []runtimeapi.MapContent{{Path: "/n", Before: entries}}))
		require.Equal(t, []string{"add map /n " + keys[1] + " b", "add map /n " + keys[0] + " a", "del map /n " + keys[0], "del map /n " + keys[1]}, changes, name)
	}
}

func TestMapsRefuseWords(t *testing.T) {
	s := runtimeapi.Socket{Path: filepath.Join(t.TempDir(), "nobody")}
	for _, word := range []string{"", "a b", "a;b", "a\nb", "a\\b", "a\x00", "<<", "a\x7f", strings.Repeat("a", 2001)} {
		for _, err := range []error{
			s.SetMap(t.Context(), word, "k", "v"), s.SetMap(t.Context(), "p", word, "v"), s.SetMap(t.Context(), "p", "k", word),
			s.DeleteMapKey(t.Context(), word, "k"), s.DeleteMapKey(t.Context(), "p", word),
			s.ReplaceMap(t.Context(), word, nil),
			s.ReplaceMap(t.Context(), "p", []runtimeapi.MapEntry{{Key: "k", Value: "v"}, {Key: "k2", Value: word}}),
		} {
			require.ErrorIs(t, err, runtimeapi.ErrCommand, "%q", word)
		}
		_, err := s.Map(t.Context(), word)
		require.ErrorIs(t, err, runtimeapi.ErrCommand)
	}
	require.ErrorIs(t, s.SetMap(t.Context(), "p", "#1", "v"), runtimeapi.ErrCommand, "a reference")
	require.ErrorIs(t, s.SetMap(t.Context(), "@1", "k", "v"), runtimeapi.ErrCommand, "a version")
}

// TestReplaceMapFails makes HAProxy refuse a command in the middle. ReplaceMap then frees the
// version, and does not commit it.
func TestReplaceMapFails(t *testing.T) {
	commands := make(chan string, 10)
	s := fakeSocket(t, "unix", func(c string) string {
		commands <- c
		switch {
		case strings.HasPrefix(c, "prepare"):
			return "New version created: 4\n\n"
		case strings.HasPrefix(c, "add"):
			return "Out of memory error.\n\n"
		}
		return "\n"
	})
	err := s.ReplaceMap(t.Context(), "/m", []runtimeapi.MapEntry{{Key: "k", Value: "v"}})
	require.EqualError(t, err, `runtimeapi: /m: "add map @4 /m <<": HAProxy answers "Out of memory error."`)
	require.Equal(t, "prepare map /m", <-commands)
	require.Equal(t, "add map @4 /m <<", <-commands)
	require.Equal(t, "clear map @4 /m", <-commands)
	require.Empty(t, commands)
}

// TestReplaceMapsOrder moves a key from the first map to the second one, and another key back. New
// entries come into force in the order of the maps, and old ones go in the reverse order, so that at
// any time a map has the key.
func TestReplaceMapsOrder(t *testing.T) {
	for _, wrong := range []bool{false, true} {
		maps := map[string]string{"/first": "0x1 k 1\n", "/second": "0x2 l 2\n", "/same": "0x3 s 3\n"}
		after := map[string]string{"/first": "0x4 l 2\n", "/second": "0x5 k 1\n"}
		commands := make(chan string, 100)
		s := fakeSocket(t, "unix", func(c string) string {
			words := strings.Fields(c)
			path := words[len(words)-1]
			switch words[0] {
			case "show":
				return maps[path] + "\n"
			case "prepare":
				return "New version created: 1\n\n"
			case "commit":
				commands <- path
				if !wrong {
					maps[path] = after[path]
				}
			}
			return "\n"
		})
		entry := func(key, value string) []runtimeapi.MapEntry { return []runtimeapi.MapEntry{{Key: key, Value: value}} }
		err := s.ReplaceMaps(t.Context(), []runtimeapi.MapContent{
			{Path: "/first", Entries: entry("l", "2")}, {Path: "/second", Entries: entry("k", "1")}, {Path: "/same", Entries: entry("s", "3")},
		})
		if wrong {
			require.ErrorContains(t, err, "map /first has 1 entries after the change, which are not the 1 wanted ones")
			continue
		}
		require.NoError(t, err)
		close(commands)
		var order []string
		for c := range commands {
			order = append(order, c)
		}
		require.Equal(t, []string{"/first", "/second", "/second", "/first"}, order)
	}
}
