package deploy

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

func TestParseDiagnostics(t *testing.T) {
	for name, tc := range map[string]struct {
		output string
		want   []Diagnostic
	}{
		"2.6 parsing": {
			"[NOTICE]   (17736) : haproxy version is 2.6.12\n" +
				"[ALERT]    (17736) : config : parsing [bad.cfg:8] : unknown keyword 'bogus' in 'frontend' section\n",
			[]Diagnostic{
				{Severity: "NOTICE", Text: "haproxy version is 2.6.12"},
				{Severity: "ALERT", File: "bad.cfg", Line: 8, Text: "unknown keyword 'bogus' in 'frontend' section"},
			},
		},
		"no space before the colon": {
			"[ALERT]    (1) : config : parsing [/etc/haproxy/haproxy.cfg:2]: Missing LF on last line, file might have been truncated at position 13.\n",
			[]Diagnostic{{Severity: "ALERT", File: "/etc/haproxy/haproxy.cfg", Line: 2, Text: "Missing LF on last line, file might have been truncated at position 13."}},
		},
		"2.4, no config prefix": {
			"[ALERT]    (9) : parsing [a.cfg:3] : 'bind' : missing port\n",
			[]Diagnostic{{Severity: "ALERT", File: "a.cfg", Line: 3, Text: "'bind' : missing port"}},
		},
		"with a time": {
			"[WARNING] 324/211500 (9) : parsing [a.cfg:3] : old\r\n",
			[]Diagnostic{{Severity: "WARNING", File: "a.cfg", Line: 3, Text: "old"}},
		},
		"position without parsing": {
			"[ALERT]    (17739) : config : [bad.cfg:10] : 'server b/s1' : unable to find required proxy 'x' for tracking.\n",
			[]Diagnostic{{Severity: "ALERT", File: "bad.cfg", Line: 10, Text: "'server b/s1' : unable to find required proxy 'x' for tracking."}},
		},
		"position inside": {
			"[ALERT]    (1) : Binding [run.cfg:14] for frontend g: cannot bind socket (Address already in use) for [127.0.0.1:18099]\n",
			[]Diagnostic{{Severity: "ALERT", File: "run.cfg", Line: 14, Text: "Binding [run.cfg:14] for frontend g: cannot bind socket (Address already in use) for [127.0.0.1:18099]"}},
		},
		"several lines": {
			"[WARNING]  (17739) : config : missing timeouts for backend 'b'.\n" +
				"   | While not properly invalid,\n   | timeouts are: 'client'.\nConfiguration file is valid\n",
			[]Diagnostic{{Severity: "WARNING", Text: "missing timeouts for backend 'b'.\nWhile not properly invalid,\ntimeouts are: 'client'."}},
		},
		"nothing known": {"Configuration file is valid\n   | orphan\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, parseDiagnostics(tc.output))
		})
	}
}

func FuzzParseDiagnostics(f *testing.F) {
	f.Fuzz(func(t *testing.T, output string) {
		for _, d := range parseDiagnostics(output) {
			if d.Severity == "" || d.Line < 0 || d.Line > 0 && d.File == "" && !strings.Contains(output, "[:") {
				t.Fatalf("%+v", d)
			}
			if strings.TrimRight(d.Text, "\n") != "" && !strings.Contains(output, strings.SplitN(d.Text, "\n", 2)[0]) {
				t.Fatalf("text %q is not in the output", d.Text)
			}
			one := []Diagnostic{d}
			addSources(one, configFile, []byte(output)) // does not panic
		}
	})
}

func valid(t *testing.T, c *haproxycfg.Config) haproxycfg.Valid {
	t.Helper()
	v, err := c.Valid()
	require.NoError(t, err)
	return v
}

// checkText lets the real HAProxy check a text that no Config renders.
func checkText(t *testing.T, k Checker, text string) error {
	t.Helper()
	k.Haproxy = haproxytest.Binary(t)
	dir := haproxytest.Dir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, configFile), []byte(text), 0o600))
	return k.run(t.Context(), dir, []haproxycfg.RenderedFile{{Name: configFile, Data: []byte(text)}}, filepath.Join(dir, configFile))
}

func TestCheckErrorShowsTheLine(t *testing.T) {
	const timeouts = "defaults\n    mode http\n    timeout client 5s\n    timeout server 5s\n    timeout connect 1s\n"
	for name, tc := range map[string]struct{ text, want string }{
		"unknown keyword": {
			timeouts + "frontend f\n    bind 127.0.0.1:1\n    bogus thing\n",
			"haproxy.cfg:8: unknown keyword 'bogus' in 'frontend' section\n\t\tbogus thing",
		},
		"tracking": {
			timeouts + "backend b\n    server s 127.0.0.1:1 track x/y\n",
			"haproxy.cfg:7: 'server b/s' : unable to find required proxy 'x' for tracking.\n\t\tserver s 127.0.0.1:1 track x/y",
		},
		"a proxy without a line": {
			timeouts + "frontend f\n    bind 127.0.0.1:1\n    use_backend nope\n",
			"haproxy.cfg:6: Proxy 'f': unable to find required use_backend: 'nope'.\n\t\tfrontend f",
		},
		"cut off": {
			"global\n    maxconn 10",
			"haproxy.cfg:2: Missing LF on last line, file might have been truncated at position 15.\n\t\tmaxconn 10",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkText(t, Checker{}, tc.text)
			var refused *CheckError
			require.ErrorAs(t, err, &refused)
			require.NotEmpty(t, refused.Alerts())
			require.Contains(t, err.Error(), tc.want)
			require.NotContains(t, refused.Output, os.TempDir(), "names stay relative")
		})
	}
}

func TestCheckReportsWarnings(t *testing.T) {
	var got []Diagnostic
	k := Checker{Warned: func(w []Diagnostic) { got = w }}
	require.NoError(t, checkText(t, k, "defaults\n    mode http\n    timeout connect 1s\nbackend b\n    server s 127.0.0.1:1\nfrontend f\n    timeout client 1s\n    bind 127.0.0.1:1\n"))
	require.Len(t, got, 1)
	require.Equal(t, 4, got[0].Line)
	require.Equal(t, "backend b", got[0].Source)
	require.Contains(t, got[0].Text, "missing timeouts for backend 'b'.\n")
}

// TestCheckIgnoresTheStateOfServers checks a configuration whose state file is missing, or says
// that a server is drained. Neither causes a warning.
func TestCheckIgnoresTheStateOfServers(t *testing.T) {
	dir := t.TempDir()
	c := testConfig("/run/x", 18080, 31000)
	c.Global.StateFile = filepath.Join(dir, "server-state")
	var warned []Diagnostic
	k := Checker{Haproxy: haproxytest.Binary(t), Warned: func(w []Diagnostic) { warned = append(warned, w...) }}
	require.NoError(t, k.Check(t.Context(), valid(t, c)))
	require.Empty(t, warned, "no file")

	server := c.Backends[0].Servers[0]
	state := "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change" +
		" srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord\n" +
		fmt.Sprintf("4 %s 1 %s %s 2 8 100 100 9 1 0 4 0 22 0 0 - %d -\n", c.Backends[0].Name, server.Name(), server.Addr.Addr(), server.Addr.Port())
	require.NoError(t, os.WriteFile(c.Global.StateFile, []byte(state), 0o600))
	require.NoError(t, k.Check(t.Context(), valid(t, c)))
	require.Empty(t, warned, "a drained server")
	data, err := os.ReadFile(c.Global.StateFile)
	require.NoError(t, err)
	require.Equal(t, state, string(data), "the state file stays as it was")

	c.Global.StateFile = "/run/a\nb"
	_, err = c.Valid()
	require.ErrorIs(t, err, haproxycfg.ErrInvalid, "the state file that is replaced for the check is validated too")
}

// TestCheckRefusesAConfigurationWithoutListener checks a text with correct syntax but without a
// listener. HAProxy would not start with it.
func TestCheckRefusesAConfigurationWithoutListener(t *testing.T) {
	err := checkText(t, Checker{}, "global\n    maxconn 10\n")
	var refused *CheckError
	require.ErrorAs(t, err, &refused)
	require.Empty(t, refused.Alerts())
	require.ErrorContains(t, err, "no listener")
}

func TestCheckOfAConfig(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	k := Checker{Haproxy: haproxytest.Binary(t)}
	require.NoError(t, k.Check(t.Context(), valid(t, testConfig("/run/x", 18080, 31000))))

	bad := testConfig("/run/x", 18080, 31000)
	bad.Frontends[0].Binds[0].TLS = &haproxycfg.TLS{Certificates: "/nowhere/certs"}
	err := k.Check(t.Context(), valid(t, bad))
	var refused *CheckError
	require.ErrorAs(t, err, &refused)
	require.Contains(t, refused.Alerts()[0].Source, "bind 127.0.0.1:18080")
	require.ErrorContains(t, err, "/nowhere/certs")

	bad.Frontends[0].Name = "two words"
	_, err = bad.Valid()
	require.ErrorIs(t, err, haproxycfg.ErrInvalid)

	rest, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, rest, "the temporary copies are removed")
}

func TestCheckEndsInTime(t *testing.T) {
	slow := filepath.Join(t.TempDir(), "haproxy")
	haproxytest.Script(t, slow, "#!/bin/sh\nexec sleep 60\n")
	err := Checker{Haproxy: slow, Timeout: 50 * time.Millisecond}.Check(t.Context(), valid(t, &haproxycfg.Config{}))
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestCheckWithoutBinary(t *testing.T) {
	err := Checker{Haproxy: filepath.Join(t.TempDir(), "haproxy")}.Check(t.Context(), valid(t, &haproxycfg.Config{}))
	require.ErrorIs(t, err, fs.ErrNotExist)
	var refused *CheckError
	require.NotErrorAs(t, err, &refused)
}

func TestCheckBoundsTheOutput(t *testing.T) {
	loud := filepath.Join(t.TempDir(), "haproxy")
	haproxytest.Script(t, loud, "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' x\nexit 1\n")
	var refused *CheckError
	require.ErrorAs(t, Checker{Haproxy: loud}.Check(t.Context(), valid(t, &haproxycfg.Config{})), &refused)
	require.Equal(t, maxCheckOutput, len(refused.Output)) //nolint:testifylint // Len would print it
}

// TestVersionFollowsTheBinary replaces the haproxy binary between two calls.
func TestVersionFollowsTheBinary(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "haproxy")
	replace := func(script string) {
		haproxytest.Script(t, binary+".new", "#!/bin/sh\n"+script+"\n")
		require.NoError(t, os.Rename(binary+".new", binary))
	}
	version := Checker{Haproxy: binary}.Version
	_, err := version(t.Context())
	require.ErrorIs(t, err, fs.ErrNotExist)
	replace(`[ "$*" = -v ] && echo "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/"`)
	v, err := version(t.Context())
	require.NoError(t, err)
	require.Equal(t, haproxycfg.Version{Major: 2, Minor: 6}, v)
	replace(`echo "HAProxy version 3.0.11-1 2026/10/15"`)
	v, err = version(t.Context())
	require.NoError(t, err)
	require.Equal(t, haproxycfg.Version{Major: 3}, v)
	replace(`echo "HAProxy version 3.0.11-1 2026/10/15"; exit 127`)
	_, err = version(t.Context())
	require.ErrorContains(t, err, "exit status 127")
	replace("")
	_, err = version(t.Context())
	require.ErrorContains(t, err, "HAProxy version")
	replace("exec sleep 60")
	_, err = Checker{Haproxy: binary, Timeout: 50 * time.Millisecond}.Version(t.Context())
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestVersionOfARealHAProxy(t *testing.T) {
	v, err := Checker{Haproxy: haproxytest.Binary(t)}.Version(t.Context())
	require.NoError(t, err)
	require.True(t, v.AtLeast(2, 6), v)
}
