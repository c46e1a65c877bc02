package main

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/frontproxy"
	"github.com/headgate/headgate/haproxycfg/frontproxy/policy"
)

const envoyPage = "../../haproxycfg/frontproxy/COMING-FROM-ENVOY.md"

// TestComingFromEnvoy renders each setting in the tables of the page about Envoy: a field of a
// policy, or a flag of frontproxy. The proxy has three pods in its zone and two in another zone.
func TestComingFromEnvoy(t *testing.T) {
	dir := t.TempDir()
	render := func(t testing.TB, settings []string) string {
		args := []string{"-service", "shop/web:http", "-zone", "a", "-dir", dir, "-out", dir}
		var fields []string
		for _, s := range settings {
			if strings.HasPrefix(s, "-") {
				args = append(args, strings.Fields(s)...)
			} else {
				fields = append(fields, s)
			}
		}
		return renderProxy(t, args, strings.Join(fields, "\n"))
	}
	clitest.CheckMappings(t, envoyPage, render)

	// The example of the page.
	blocks := clitest.CodeBlocks(t, envoyPage, "yaml")
	require.Len(t, blocks, 2)
	require.NoError(t, yaml.Unmarshal([]byte(blocks[0]), &map[string]any{}))
	config := renderProxy(t, []string{"-service", "shop/web:http", "-zone", "a", "-dir", dir, "-out", dir}, blocks[1])
	for _, line := range []string{"timeout server 5s", "timeout connect 250ms", "retries 1", "error-limit 5 ", "maxconn 100 "} {
		require.Contains(t, config, line)
	}
	commands := 0
	for _, block := range clitest.CodeBlocks(t, envoyPage, "sh") {
		for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", "")) {
			if args := strings.Fields(line); len(args) > 0 && args[0] == program && args[1] != "drain" {
				_, _, done := parseSettings(cli.Invocation{Args: args[1:], Stdout: t.Output(), Stderr: t.Output()})
				require.False(t, done, line)
				commands++
			}
		}
	}
	require.NotZero(t, commands, "the page has no command")
}

// renderProxy returns the text of haproxy.cfg and its maps for flags and a policy.
func renderProxy(t testing.TB, args []string, text string) string {
	t.Helper()
	s, _, done := parseSettings(cli.Invocation{Args: args, Stdout: t.Output(), Stderr: t.Output()})
	require.False(t, done, args)
	p, err := newProxy(s, slog.New(slog.DiscardHandler), t.Output())
	require.NoError(t, err)
	fp := p.controller.Proxy
	fp.Settings, err = policy.Parse("policy.yaml", []byte(text))
	require.NoError(t, err)
	fp.Global.Version = haproxycfg.Version{Major: 3}
	var pods []frontproxy.Pod
	for _, addr := range []string{"10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80"} {
		pods = append(pods, frontproxy.Pod{Addr: netip.MustParseAddrPort(addr), Zone: "a"})
	}
	for _, addr := range []string{"10.2.0.1:80", "10.2.0.2:80"} {
		pods = append(pods, frontproxy.Pod{Addr: netip.MustParseAddrPort(addr), Zone: "b"})
	}
	config, _, err := fp.Config(pods, 4, nil)
	require.NoError(t, err)
	files, err := config.Render("/etc/haproxy")
	require.NoError(t, err)
	var out strings.Builder
	for _, file := range files {
		out.Write(file.Data)
	}
	return out.String()
}
