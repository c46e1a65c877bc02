package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

const foreignText = `global
    maxconn 500
defaults
    mode http
    timeout client 7s
    timeout server 7s
    timeout connect 7s
    retries 0
frontend web
    bind 127.0.0.1:18080
    default_backend app
backend app
    server a 127.0.0.1:1
`

// fragmentOf returns a fragment with a frontend on the address.
func fragmentOf(address string) *haproxycfg.Config {
	return &haproxycfg.Config{
		Fragment:  "headgate-",
		Frontends: []haproxycfg.Frontend{{Name: "headgate-http", Binds: []haproxycfg.Bind{{Address: address}}, DefaultBackend: "headgate-b"}},
		Backends:  []haproxycfg.Backend{{Name: "headgate-b", Response: &haproxycfg.FixedResponse{Status: 200}}},
	}
}

// foreignOf writes the text of a foreign file, and returns it as the first file of an HAProxy.
func foreignOf(t *testing.T, text string) (f *Foreign, file string) {
	t.Helper()
	dir := haproxytest.Dir(t)
	file = filepath.Join(dir, "haproxy.cfg")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return &Foreign{Files: []string{file}, Fragment: "/var/lib/headgate/haproxy.cfg"}, file
}

func TestCheckWithForeignFiles(t *testing.T) {
	t.Parallel()
	edit := func(old, text string) string {
		t.Helper()
		require.Contains(t, foreignText, old)
		return strings.Replace(foreignText, old, text, 1)
	}
	for name, tc := range map[string]struct {
		foreign string
		errs    []string // nil if HAProxy accepts the files
	}{
		"accepted": {foreignText, nil},
		"unknown keyword": {
			edit("maxconn", "mxconn"),
			[]string{"haproxy rejects them", "FILE:2: unknown keyword 'mxconn'"},
		},
		"a certificate that nobody can read": {
			edit("18080", "18080 ssl crt /no/such/site.pem"),
			[]string{"haproxy rejects them", "FILE:10: ", "/no/such/site.pem"},
		},
		"the fragment's backend": {
			edit("backend app\n", "backend app\n    server b 127.0.0.1:2\nbackend headgate-b\n"),
			[]string{`FILE:13: backend "headgate-b" begins with "headgate-"`, "/var/lib/headgate/haproxy.cfg"},
		},
		"a name that the fragment does not use yet": {
			edit("frontend web", "frontend 'headgate-web'"),
			[]string{`FILE:9: frontend "headgate-web" begins with "headgate-"`, "/var/lib/headgate/haproxy.cfg"},
		},
		"the fragment's address": {
			edit("127.0.0.1:18080", "127.0.0.1:18080,127.0.0.1:18090-18099"),
			[]string{"FILE:10: frontend web listens on 127.0.0.1:18091, as frontend headgate-http does in /var/lib/headgate/haproxy.cfg"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			foreign, file := foreignOf(t, tc.foreign)
			check := Checker{Haproxy: haproxytest.Binary(t), Foreign: foreign}.Check
			err := check(t.Context(), valid(t, fragmentOf("127.0.0.1:18091")))
			if tc.errs == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrForeign)
			for _, part := range tc.errs {
				require.ErrorContains(t, err, strings.ReplaceAll(part, "FILE", file))
			}
		})
	}
}

// TestCheckBlamesTheFragment: if both the foreign file and the fragment have a fault, the error is
// about the fragment, because its fault stays if somebody repairs the foreign file.
func TestCheckBlamesTheFragment(t *testing.T) {
	t.Parallel()
	for _, text := range []string{foreignText, strings.Replace(foreignText, "maxconn", "mxconn", 1), "global\n    maxconn 500\n"} {
		foreign, _ := foreignOf(t, text)
		config := fragmentOf("127.0.0.1:18091")
		config.Frontends[0].Binds[0].TLS = &haproxycfg.TLS{Certificates: "/no/such/file"}
		err := Checker{Haproxy: haproxytest.Binary(t), Foreign: foreign}.Check(t.Context(), valid(t, config))
		require.NotErrorIs(t, err, ErrForeign)
		var rejected *CheckError
		require.ErrorAs(t, err, &rejected)
		require.ErrorContains(t, err, "/var/lib/headgate/haproxy.cfg:")
	}
}

// TestForeignFileRepairedDuringTheCheck: HAProxy rejects a foreign file together with the fragment.
// Then somebody repairs or removes the file, before HAProxy checks it without the fragment.
func TestForeignFileRepairedDuringTheCheck(t *testing.T) {
	t.Parallel()
	for repair, want := range map[string]string{
		"mv FILE.repaired FILE": "they have changed during this check, in which haproxy rejected:\n\tFILE:2: unknown keyword 'mxconn'",
		"rm -f FILE":            "No such file or directory",
	} {
		for _, certificates := range []string{"", "/no/such/file"} {
			foreign, file := foreignOf(t, strings.Replace(foreignText, "maxconn", "mxconn", 1))
			require.NoError(t, os.WriteFile(file+".repaired", []byte(foreignText), 0o600))
			binary := filepath.Join(haproxytest.Dir(t), "haproxy")
			haproxytest.Script(t, binary, strings.ReplaceAll("#!/bin/sh\n"+haproxytest.Binary(t)+" \"$@\"\nstatus=$?\n"+repair+" 2>/dev/null\nexit $status\n", "FILE", file))
			config := fragmentOf("127.0.0.1:18091")
			if certificates != "" {
				config.Frontends[0].Binds[0].TLS = &haproxycfg.TLS{Certificates: certificates}
			}
			err := Checker{Haproxy: binary, Foreign: foreign}.Check(t.Context(), valid(t, config))
			var rejected *CheckError
			if certificates != "" {
				require.ErrorAs(t, err, &rejected, "the fragment has a fault too")
				require.NotErrorIs(t, err, ErrForeign)
				continue
			}
			require.ErrorIs(t, err, ErrForeign)
			require.NotErrorAs(t, err, &rejected)
			require.ErrorContains(t, err, strings.ReplaceAll(want, "FILE", file))
		}
	}
}

func TestCheckWarnsOfMissingSettings(t *testing.T) {
	t.Parallel()
	config := fragmentOf("127.0.0.1:18091")
	config.Global.BufferSize = 32768
	config.Global.HardStopAfter = time.Hour
	config.Global.StateFile = "/run/state"
	config.Global.StatsSocket = "/run/stats.sock"
	warningsOf := func(text string) (all []string) {
		foreign, file := foreignOf(t, text)
		k := Checker{Haproxy: haproxytest.Binary(t), Foreign: foreign, Warned: func(found []Diagnostic) {
			for _, d := range found {
				require.Equal(t, file, d.File)
				all = append(all, strings.Fields(d.Text)[0]+" "+d.Source)
			}
		}}
		require.NoError(t, k.Check(t.Context(), valid(t, config)))
		return all
	}
	require.Len(t, warningsOf(foreignText), 4, "a warning of each setting")
	settings := "global\n    tune.bufsize 16384\n    hard-stop-after 1d\n    stats socket /run/stats.sock level operator\n    server-state-file /run/state\n"
	require.Equal(t, []string{"tune.bufsize tune.bufsize 16384", "hard-stop-after hard-stop-after 1d", "the "}, warningsOf(strings.Replace(foreignText, "global\n", settings, 1)))
	settings = "global\n    tune.bufsize 65536\n    hard-stop-after 30m # half an hour\n    stats socket /run/stats.sock mode 600 level admin\n    server-state-file \"/run/state\"\n"
	require.Empty(t, warningsOf(strings.Replace(foreignText, "global\n", settings, 1)))
}

func TestForeignDirectory(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"20-b.cfg", "10-a.cfg", ".hidden.cfg", "notes.txt", "30-headgate.cfg"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub.cfg"), 0o700))
	f := Foreign{Files: []string{filepath.Join(dir, "10-a.cfg"), dir}, Fragment: filepath.Join(dir, "30-headgate.cfg")}
	files, err := f.expand()
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, "10-a.cfg"), filepath.Join(dir, "10-a.cfg"), filepath.Join(dir, "20-b.cfg")}, files)
	f.Files = append(f.Files, filepath.Join(dir, "gone.cfg"))
	_, err = f.expand()
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestBindAddresses(t *testing.T) {
	for line, want := range map[string][]string{
		"bind :80":                         {"0.0.0.0:80"},
		"bind *:80,[::]:80 v6only":         {"0.0.0.0:80", "[::]:80"},
		"bind [::]:80 v4v6":                {"[::]:80", "0.0.0.0:80"},
		"bind :::80":                       {"[::]:80"},
		"bind ipv4@127.0.0.1:8080-8082":    {"127.0.0.1:8080", "127.0.0.1:8081", "127.0.0.1:8082"},
		`bind "127.0.0.1:80" # comment`:    {"127.0.0.1:80"},
		"bind /run/haproxy/web.sock":       nil,
		"bind ${ADDR}:80":                  nil,
		"bind :1-65535":                    nil, // too many
		"bind :http":                       nil,
		"bind":                             nil,
		"    bind\t0.0.0.0:443 ssl crt x#": {"0.0.0.0:443"},
	} {
		lines := parseForeign("x", "frontend f\n"+line+"\n")
		require.Equal(t, want, bindAddresses(lines[len(lines)-1]), line)
	}
}

// FuzzForeign: every text has an order of lines, and no text makes the search for clashes panic.
func FuzzForeign(f *testing.F) {
	f.Add(foreignText)
	f.Add("global\n  stats socket /run/x level admin\nfrontend 'a\\' b'\n bind \"x\\\"\",:80-81 v4v6 # c\n.if defined(X)\nbind\n")
	f.Fuzz(func(t *testing.T, text string) {
		lines := parseForeign("x", text)
		last := 0
		for _, l := range lines {
			require.Greater(t, l.line, last)
			require.NotEmpty(t, l.words)
			last = l.line
			for _, addr := range bindAddresses(l) {
				require.Contains(t, addr, ":")
			}
		}
		own := Foreign{Fragment: "y"}
		_ = own.clashes(lines, []byte(text), "headgate-")
		_ = unmet([]string{"x"}, lines, []haproxycfg.Requirement{{Keyword: "maxconn", Value: "1", Bound: haproxycfg.AtLeast}})
	})
}

// TestReloadRefusesOtherFiles starts HAProxy with the foreign file, the fragment and one more file. A
// Reloader reloads HAProxy only if its Foreign names all files and the fragment is the last one.
func TestReloadRefusesOtherFiles(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		files []string // after haproxy.cfg
		known []string // of Foreign.Files, besides haproxy.cfg
		want  string   // "" if HAProxy is reloaded
	}{
		"the fragment is the last file":     {[]string{"more.cfg", "fragment.cfg"}, []string{"more.cfg"}, ""},
		"the fragment is not the last file": {[]string{"fragment.cfg", "more.cfg"}, []string{"more.cfg"}, "and the last one must be DIR/fragment.cfg"},
		"no option names the file":          {[]string{"more.cfg", "fragment.cfg"}, nil, "and DIR/more.cfg is not one of the foreign files"},
		"HAProxy does not load it":          {[]string{"more.cfg"}, []string{"more.cfg"}, "and not DIR/fragment.cfg"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := haproxytest.Dir(t)
			paths := func(names []string) (all []string) {
				for _, name := range names {
					all = append(all, filepath.Join(dir, name))
				}
				return all
			}
			for _, name := range []string{"fragment", "more"} {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name+".cfg"), []byte("backend "+name+"\n    http-request return status 200\n"), 0o600))
			}
			config := "global\n    stats socket " + filepath.Join(dir, haproxytest.StatsSocket) + " level admin\n" +
				"defaults\n    mode http\n    timeout client 7s\n    timeout server 7s\n    timeout connect 7s\n"
			haproxytest.StartMasterFiles(t, dir, config, paths(tc.files)...)
			r := Reloader{Master: runtimeapi.Socket{Path: filepath.Join(dir, haproxytest.MasterSocket)}, Foreign: &Foreign{
				Files: append([]string{filepath.Join(dir, haproxytest.ConfigFile)}, paths(tc.known)...), Fragment: filepath.Join(dir, "fragment.cfg"),
			}}
			before, err := r.processes(t.Context())
			require.NoError(t, err)
			err = r.Reload(t.Context())
			after, listErr := r.processes(t.Context())
			require.NoError(t, listErr)
			if tc.want == "" {
				require.NoError(t, err)
				require.NotEqual(t, currentWorker(before), currentWorker(after))
				return
			}
			require.ErrorIs(t, err, ErrNotLoaded)
			require.ErrorContains(t, err, strings.ReplaceAll(tc.want, "DIR", dir))
			require.Equal(t, currentWorker(before), currentWorker(after), "HAProxy is not reloaded")
		})
	}
}
