package cli

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type settings struct {
	size     int
	clusters Strings
}

func parseSettings(t *testing.T, args []string, env map[string]string) (settings, int, string) {
	t.Helper()
	var s settings
	var output bytes.Buffer
	fs := NewFlagSet("tool")
	fs.IntVar(&s.size, "nodes-per-service", 20, "how many")
	fs.Var(&s.clusters, "cluster", "a cluster")
	inv := Invocation{Args: args, Stdout: &output, Stderr: &output, LookupEnv: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}
	for name, value := range env {
		inv.Environ = append(inv.Environ, name+"="+value)
	}
	code, _ := inv.Parse(fs)
	return s, code, output.String()
}

func TestParsePrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte("nodes-per-service: 7\ncluster:\n- f1\n- f2\n"), 0o600))
	comments := filepath.Join(t.TempDir(), "comments.yaml")
	require.NoError(t, os.WriteFile(comments, []byte("# nothing set\n"), 0o600))
	tests := []struct {
		name string
		args []string
		env  map[string]string
		want settings
	}{
		{"default", nil, nil, settings{size: 20}},
		{"file of comments", []string{"-config", comments}, nil, settings{size: 20}},
		{"file", []string{"-config", file}, nil, settings{7, Strings{"f1", "f2"}}},
		{"file named by the environment", nil, map[string]string{"HEADGATE_CONFIG": file}, settings{7, Strings{"f1", "f2"}}},
		{
			"environment before file",
			[]string{"-config", file},
			map[string]string{"HEADGATE_NODES_PER_SERVICE": "8", "HEADGATE_CLUSTER": "e1 e2\ne3"},
			settings{8, Strings{"e1", "e2", "e3"}},
		},
		{
			"flag before both",
			[]string{"-config", file, "-nodes-per-service", "9", "-cluster", "a"},
			map[string]string{"HEADGATE_NODES_PER_SERVICE": "8", "HEADGATE_CLUSTER": "e1"},
			settings{9, Strings{"a"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, code, stderr := parseSettings(t, tt.args, tt.env)
			require.Equal(t, ExitOK, code, stderr)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestParseWarnsOfMistypedVariables(t *testing.T) {
	_, code, output := parseSettings(t, nil, map[string]string{
		"HEADGATE_CLUSTR": "x", "HEADGATE_CLUSTER": "y", "HEADGATE_ROUTER_SERVICE_HOST": "10.0.0.1", "CLUSTR": "z",
	})
	require.Equal(t, ExitOK, code)
	require.Equal(t, "tool: warning: no flag has the variable HEADGATE_CLUSTR; did you mean HEADGATE_CLUSTER?\n", output)
}

func TestParseErrorsNameThePlace(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	unknown := write("unknown.yaml", "nodes-per-service: 1\nnodes: 2\n")
	badValue := write("bad.yaml", "\nnodes-per-service: many\n")
	list := write("list.yaml", "nodes-per-service: [1, 2]\n")
	scalar := write("scalar.yaml", "hello\n")
	version := write("version.yaml", "version: true\n")
	config := write("config.yaml", "config: other.yaml\n")
	tests := []struct {
		name string
		args []string
		env  map[string]string
		want string
	}{
		{"unknown flag", []string{"-nope"}, nil, "tool: unknown flag -nope (-h shows the flags)\n"},
		{"mistyped flag", []string{"-cluser=x"}, nil, "tool: unknown flag -cluser; did you mean -cluster? (-h shows the flags)\n"},
		{"argument", []string{"stray"}, nil, `unexpected argument "stray"`},
		{"environment", nil, map[string]string{"HEADGATE_NODES_PER_SERVICE": "x"}, `invalid value "x" for HEADGATE_NODES_PER_SERVICE`},
		{"missing file", []string{"-config", filepath.Join(dir, "none")}, nil, "no such file"},
		{"unknown key", []string{"-config", unknown}, nil, unknown + ":2: nodes: no such flag; did you mean nodes-per-service?"},
		{"version in the file", []string{"-config", version}, nil, version + ":1: version: the file cannot set this flag (-h"},
		{"config in the file", []string{"-config", config}, nil, config + ":1: config: the file cannot set this flag (-h"},
		{"bad value", []string{"-config", badValue}, nil, badValue + `:2: nodes-per-service: invalid value "many"`},
		{"list for one", []string{"-config", list}, nil, list + ":1: nodes-per-service: takes one value"},
		{"no mapping", []string{"-config", scalar}, nil, scalar + ":1: want flag names"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, code, stderr := parseSettings(t, tt.args, tt.env)
			require.Equal(t, ExitUsage, code)
			require.Contains(t, stderr, tt.want)
		})
	}
}

func TestNetworks(t *testing.T) {
	var n Networks
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.Var(&n, "net", "")
	env := func(name string) (string, bool) { return "10.1.2.3/8 fd00::/8,192.0.2.1", name == "HEADGATE_NET" }
	require.NoError(t, Invocation{LookupEnv: env}.parse(fs))
	require.Equal(t, "10.0.0.0/8,fd00::/8,192.0.2.1/32", n.String())
	for _, text := range []string{"", "x", "10.0.0.0/33", "10.0.0.0/8,", "::ffff:10.0.0.0/104", "fe80::1%eth0"} {
		require.ErrorContains(t, n.Set(text), "want a network such as 10.0.0.0/8", text)
	}
}

func TestParseShare(t *testing.T) {
	for text, want := range map[string]float64{"30%": 0.3, "0.3": 0.3, "0": 0, "0%": 0, "1": 1, "100%": 1} {
		got, err := ParseShare(text)
		require.NoError(t, err, text)
		require.InDelta(t, want, got, 1e-9, text)
	}
	for _, text := range []string{"", "%", "half", "30", "101%", "-1%", "NaN", "NaN%", "30%%", "Inf", "1e1%", "1e-1", "0x1p-1", "+1%"} {
		_, err := ParseShare(text)
		require.ErrorContains(t, err, "want a share", text)
	}
}

func TestCutArgument(t *testing.T) {
	fs := NewFlagSet("prog")
	fs.String("to", "", "")
	fs.Bool("undo", false, "")
	for line, want := range map[string]string{
		"x -to a -undo":  "x: -to a -undo",
		"-to a x -undo":  "x: -to a -undo",
		"-to=a -undo x":  "x: -to=a -undo",
		"-undo x y":      "x: -undo y",
		"-to a -undo":    ": -to a -undo",
		"-unknown x -to": "x: -unknown -to",
		"":               ": ",
	} {
		argument, others := CutArgument(fs, strings.Fields(line))
		require.Equal(t, want, argument+": "+strings.Join(others, " "), line)
	}
	arguments, others := CutArguments(fs, strings.Fields("x -to a y -undo z"))
	require.Equal(t, []string{"x", "y", "z"}, arguments)
	require.Equal(t, []string{"-to", "a", "-undo"}, others)
	arguments, others = CutArguments(fs, []string{"-undo"})
	require.Empty(t, arguments)
	require.Equal(t, []string{"-undo"}, others)
}

func TestAlsoIPv6(t *testing.T) {
	require.Equal(t, hasIPv6(), AlsoIPv6(":80"))
	for _, addr := range []string{"0.0.0.0:80", "192.0.2.1:80", "[::]:80", "[::1]:80", "unix@/run/x"} {
		require.False(t, AlsoIPv6(addr), addr)
	}
}
