package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
)

const system = "../quickstart/system/"

// quickstart are the flags of "make drill".
var quickstart = []string{
	"-routes", system + "routes.yaml", "-cluster", "eu-1=dir:" + system + "eu-1", "-cluster", "eu-2=dir:" + system + "eu-2",
	"-nodes-per-service", "3", "-allow-nodes", "127.0.0.0/8", "-begin", "2026-01-01T00:00:00Z",
}

func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), cli.Invocation{Args: args, Stdout: &out, Stderr: &errs})
	return code, out.String(), errs.String()
}

// The page quotes the output of "make drill".
func TestPageQuotesTheOutput(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := call(t, quickstart...)
	require.Equal(t, cli.ExitDiffer, code, stderr)
	require.Empty(t, stderr, "no progress without a terminal")
	require.Contains(t, readme, "```text\n"+stdout+"```\n")
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	require.Contains(t, string(makefile), "-nodes-per-service 3 -allow-nodes 127.0.0.0/8 -begin 2026-01-01T00:00:00Z")
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	only := append([]string{"-only", "api-away"}, quickstart...)
	code, stdout, stderr := call(t, append(only, "-json")...)
	require.Equal(t, cli.ExitOK, code, stderr)
	var report struct{ Drills []struct{ Drill string } }
	require.NoError(t, json.Unmarshal([]byte(stdout), &report))
	require.Equal(t, "api-away", report.Drills[0].Drill)
	code, stdout, _ = call(t, append(only, "-details")...)
	require.Equal(t, cli.ExitOK, code)
	require.Contains(t, stdout, "the cluster does not answer")

	policy := filepath.Join(t.TempDir(), "policy.yaml")
	require.NoError(t, os.WriteFile(policy, []byte("drills: {agents: {min-servers: 0%}}"), 0o600))
	code, _, stderr = call(t, append(quickstart, "-only", "agents", "-policy", policy)...)
	require.Equal(t, cli.ExitOK, code, stderr)
	require.NoError(t, os.WriteFile(policy, []byte("drills: {agents: {min-servers: 2}}"), 0o600))
	code, _, stderr = call(t, append(quickstart, "-policy", policy)...)
	require.Equal(t, cli.ExitUsage, code)
	require.Contains(t, stderr, policy+":1: drills.agents.min-servers: must be a percentage")
	require.NoError(t, os.WriteFile(policy, []byte("drills: {agent: {}}"), 0o600))
	code, _, stderr = call(t, append(quickstart, "-policy", policy)...)
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, policy+": drills.agent: no such drill")

	for _, bad := range [][]string{{"-min-servers", "2"}, {"-begin", "now"}, {"-max-drain", "0%"}, {"-json", "-details"}} {
		code, _, stderr = call(t, append(quickstart, bad...)...)
		require.Equal(t, cli.ExitUsage, code, bad)
		require.Contains(t, stderr, "drill: "+bad[0])
	}
	code, _, stderr = call(t, append(quickstart, "-only", "flood")...)
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, `-only: "flood": no such drill; there are zone eu-1a, `)
	code, _, stderr = call(t, "-routes", system+"routes.yaml", "-cluster", "eu-1=dir:"+t.TempDir())
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, "cluster eu-1: it has no nodes")
}
