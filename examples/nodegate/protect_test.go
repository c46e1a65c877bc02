package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// annotation returns the value of an annotation of a node. "" means that the node does not have it.
func (s *apiServer) annotation(node, key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.annotations[node][key]
}

// patch applies a merge patch of annotations to a node. The caller holds the lock.
func (s *apiServer) patch(node string, body io.Reader) error {
	var p struct {
		Metadata struct{ Annotations map[string]*string }
		Spec     struct{ Unschedulable bool }
	}
	if err := json.NewDecoder(body).Decode(&p); err != nil {
		return err
	}
	s.cordoned[node] = s.cordoned[node] || p.Spec.Unschedulable
	if s.annotations[node] == nil {
		s.annotations[node] = map[string]string{}
	}
	for key, value := range p.Metadata.Annotations {
		delete(s.annotations[node], key)
		if value != nil {
			s.annotations[node][key] = *value
		}
	}
	return nil
}

func TestProtect(t *testing.T) {
	const key = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
	l := newLab(t)
	protect := []string{"protect", "-tool", "cluster-autoscaler", "-refresh", "20ms"}
	code, out, errs := l.run(append(protect, "-remove")...)
	require.Equal(t, cli.ExitOK, code, out+errs)
	require.Empty(t, l.api.annotation("b", key))

	socket := filepath.Join(t.TempDir(), "admin.sock")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var stderr clitest.Output
	done := make(chan int, 1)
	go func() {
		args := append(protect, append(l.flags, "-admin", "unix:"+socket)...)
		done <- run(ctx, cli.Invocation{Args: args, Stdout: &stderr, Stderr: &stderr})
	}()
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
			require.True(t, time.Now().Before(deadline), "%s: %s", what, stderr.String())
		}
	}
	_, client := httpSource("unix:" + socket)
	metric := func(line string) func() bool {
		return func() bool {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://admin/metrics", nil)
			require.NoError(t, err)
			resp, err := client.Do(req)
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			data, _ := io.ReadAll(resp.Body)
			if !bytes.Contains(data, []byte(line+"\n")) {
				return false
			}
			clitest.Scrape(t, string(data))
			return true
		}
	}
	until("b is protected", func() bool { return l.api.annotation("b", key) == "true" })
	require.Empty(t, l.api.annotation("a", key), "a is free")
	until("two nodes are free", metric(`headgate_nodegate_protect_free{tool="cluster-autoscaler"} 2`))
	code, out, errs = l.run("may", "b")
	require.Equal(t, cli.ExitDiffer, code, errs)
	require.Contains(t, out, "a (granted to protect-cluster-autoscaler since")

	good, err := os.ReadFile(l.report)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(l.report, []byte("{}"), 0o600))
	until("all nodes are protected", func() bool { return l.api.annotation("a", key) == "true" && l.api.annotation("c", key) == "true" })
	until("nodegate cannot tell", metric(`headgate_nodegate_protect_can_tell{tool="cluster-autoscaler"} 0`))
	require.NoError(t, os.WriteFile(l.report, good, 0o600))
	until("a is free again", func() bool {
		return l.api.annotation("a", key) == "" && strings.Contains(stderr.String(), "free: the tool may take it")
	})
	stop()
	require.Equal(t, cli.ExitOK, <-done, stderr.String())
	require.Equal(t, "true", l.api.annotation("a", key), "all nodes are protected at the end")
	code, _, errs = l.run(append(protect, "-remove")...)
	require.Equal(t, cli.ExitOK, code, errs)
	require.Empty(t, l.api.annotation("b", key))
	_, out, _ = l.run("grants")
	require.Empty(t, out)
}
