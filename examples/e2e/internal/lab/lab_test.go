//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/e2e/internal/pod"
)

func TestUntil(t *testing.T) {
	log := filepath.Join(t.TempDir(), "etcd.log")
	require.NoError(t, os.WriteFile(log, []byte("starting\nno space left\n"), 0o600))
	t.Run("returns when check succeeds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			took, err := Until(t.Context(), "a second", time.Minute, func(context.Context) error {
				if time.Since(start) < time.Second {
					return errors.New("too early")
				}
				return nil
			})
			require.NoError(t, err)
			require.Equal(t, time.Second, took)
		})
	})
	t.Run("reports what, the last error and the log", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			took, err := Until(t.Context(), "etcd", time.Second, func(ctx context.Context) error {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return errors.New("connection refused")
			}, &Process{Name: "etcd", Log: log}, nil)
			require.ErrorContains(t, err, "waited 1s for etcd: connection refused")
			require.ErrorContains(t, err, "etcd.log:\n    starting\n    no space left")
			require.Equal(t, time.Second, took)
		})
	})
	t.Run("ends with its context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(errors.New("interrupted"))
			_, err := Until(ctx, "etcd", time.Minute, func(context.Context) error { return errors.New("refused") })
			require.ErrorContains(t, err, "waiting for etcd: interrupted")
		})
	})
}

func TestLastLines(t *testing.T) {
	for name, test := range map[string]struct {
		in   string
		n    int
		want string
	}{
		"none":          {"", 3, ""},
		"only ends":     {"\n\n", 3, ""},
		"fewer":         {"a\nb\n", 3, "    a\n    b"},
		"more":          {"a\nb\nc\nd", 2, "    c\n    d"},
		"empty between": {"a\n\nb\n", 2, "    \n    b"},
		"exactly n":     {"a\nb", 2, "    a\n    b"},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, lastLines(test.in, test.n)) })
	}
}

func TestMetadataPatch(t *testing.T) {
	for _, test := range []struct{ value, want string }{
		{"100", `{"metadata":{"annotations":{"example.com/weight":"100"}}}`},
		{"", `{"metadata":{"annotations":{"example.com/weight":null}}}`},
	} {
		b, err := json.Marshal(metadataPatch("annotations", "example.com/weight", test.value))
		require.NoError(t, err)
		require.JSONEq(t, test.want, string(b))
	}
}

func TestEntryNode(t *testing.T) {
	plan, err := PlanCluster(0)
	require.NoError(t, err)
	c := &Cluster{Plan: plan}
	for i, name := range []string{"a", "b"} {
		p, err := plan.Node(i)
		require.NoError(t, err)
		c.nodes = append(c.nodes, &Node{Machine: &Machine{Name: name, Addr: p.Addr}, Plan: p})
	}
	for name, test := range map[string]struct {
		answer pod.Answer
		want   *Node
	}{
		"masqueraded to a pod elsewhere":  {pod.Answer{Source: "10.64.1.11", Node: "b"}, c.nodes[0]},
		"masqueraded to a pod of its own": {pod.Answer{Source: "10.80.2.1", Node: "b"}, c.nodes[1]},
		"not masqueraded":                 {pod.Answer{Source: "10.64.0.10", Node: "b"}, c.nodes[1]},
		"of an unknown node":              {pod.Answer{Source: "10.64.0.10", Node: "c"}, nil},
		"with an invalid source":          {pod.Answer{Source: "", Node: "a"}, c.nodes[0]},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, c.EntryNode(test.answer)) })
	}
}
