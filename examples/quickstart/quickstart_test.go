package main

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/internal/haproxyproc"
)

// rows returns the rows of the table that are ok and the rows that failed.
func rows(table string) (ok, failed []string) {
	for line := range strings.Lines(table) {
		switch {
		case strings.HasPrefix(line, "ok "):
			ok = append(ok, line)
		case strings.HasPrefix(line, "FAILED "):
			failed = append(failed, line)
		}
	}
	return ok, failed
}

// claimNetwork returns a value for -network that no other test on this machine uses until this test
// ends.
func claimNetwork(t *testing.T) int {
	t.Helper()
	for n := 1; n <= 255; n++ {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.%d.255.254:10999", n)); err == nil {
			t.Cleanup(func() { _ = l.Close() })
			return n
		}
	}
	t.Fatal("no network is free")
	return 0
}

// TestScenario runs quickstart without a fault and once with each fault. A fault must fail its
// steps and no others.
func TestScenario(t *testing.T) {
	tests := []struct {
		fault  string
		failed []string // a part of each row that must fail
	}{
		{fault: ""},
		{fault: faultBackend, failed: []string{"subset: requests for web"}},
		{fault: faultWeight, failed: []string{"weight 100/0 in eu-1/eu-2", "weight 50/50 in eu-1/eu-2"}},
		{fault: faultDrain, failed: []string{"cordon eu-1-"}},
	}
	type outcome struct {
		code           int
		stdout, stderr bytes.Buffer
	}
	// All run at the same time, because they wait most of the time.
	outcomes := make([]outcome, len(tests))
	var running sync.WaitGroup
	for i, tt := range tests {
		o, network := &outcomes[i], claimNetwork(t)
		running.Go(func() {
			o.code = run(t.Context(), cli.Invocation{
				Args:   []string{"-break", tt.fault, "-network", fmt.Sprint(network)},
				Stdout: &o.stdout, Stderr: &o.stderr,
			}, haproxyproc.Find)
		})
	}
	running.Wait()
	for i, tt := range tests {
		t.Run("break="+tt.fault, func(t *testing.T) {
			code, stdout, stderr := outcomes[i].code, &outcomes[i].stdout, &outcomes[i].stderr
			ok, failed := rows(stdout.String())
			if tt.fault == "" {
				require.Equal(t, cli.ExitOK, code, "%s\n%s", stdout, stderr)
				require.Empty(t, failed)
				for _, topic := range []string{"route: ", "new host ", "subset: ", "cordon ", "uncordon ", "weight ", "shift ", "end the shift ", "regions: ", "replace ", "sni: ", "whole run: "} {
					require.True(t, slices.ContainsFunc(ok, func(row string) bool { return strings.Contains(row, "  "+topic) }), "no row %q", topic)
				}
				return
			}
			require.Equal(t, cli.ExitFailed, code, "%s\n%s", stdout, stderr)
			require.Len(t, failed, len(tt.failed), "%s\n%s", stdout, stderr)
			for i, want := range tt.failed {
				require.Contains(t, failed[i], want)
			}
			require.NotEmpty(t, ok, "the other checks hold")
			require.Contains(t, stderr.String(), "did not go as expected")
		})
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-break", "everything"}, {"-network", "256"}, {"-nope"}} {
		var stderr bytes.Buffer
		require.Equal(t, cli.ExitUsage, run(t.Context(), cli.Invocation{Args: args, Stderr: &stderr}, haproxyproc.Find))
		require.NotEmpty(t, stderr.String())
	}
}

func TestWithoutHAProxy(t *testing.T) {
	var stderr bytes.Buffer
	none := func() (string, error) { return "", haproxyproc.ErrNotFound }
	require.Equal(t, cli.ExitUsage, run(t.Context(), cli.Invocation{Stderr: &stderr}, none))
	require.Contains(t, stderr.String(), "apt-get install haproxy")
	require.Equal(t, 1, strings.Count(stderr.String(), "\n"), "one line")
}
