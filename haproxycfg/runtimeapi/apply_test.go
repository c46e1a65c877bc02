package runtimeapi_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// TestRepeatsDeletionsTogether removes servers whose connections end one after the other. Apply
// repeats the deletions of all busy servers before it waits again. HAProxy refuses one deletion for
// another reason.
func TestRepeatsDeletionsTogether(t *testing.T) {
	t.Parallel()
	path := filepath.Join(haproxytest.Dir(t), "stats.sock")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	deletions := map[string]int{} // only the goroutine of the server uses it
	var order []string
	var served sync.WaitGroup
	served.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(nc).ReadString('\n')
			command := strings.TrimSpace(line)
			answer := ""
			if name, ok := strings.CutPrefix(command, "del server a/"); ok {
				order = append(order, name)
				deletions[name]++
				switch {
				case name == "s0":
					answer = "This server cannot be removed at runtime due to other configuration elements pointing to it."
				case name == "s3", fmt.Sprint("s", deletions[name]) < name:
					answer = "Server still has connections attached to it, cannot remove it."
				default:
					answer = "Server deleted."
				}
			}
			_, _ = io.WriteString(nc, answer+"\n")
			_ = nc.Close()
		}
	})
	actual := runtimeapi.Actual{Version: runtimeapi.Version{Major: 3}, Backends: []string{"a"}}
	for i := range 4 {
		actual.Servers = append(actual.Servers, runtimeapi.ServerState{Backend: "a", Name: fmt.Sprint("s", i)})
	}
	none := []runtimeapi.Backend{{Name: "a"}}
	plan := actual.Plan(none, none)
	plan.Wait = 5 * time.Second // long enough for the first rounds on a busy machine
	result, err := runtimeapi.Socket{Path: path}.Apply(t.Context(), plan)
	require.NoError(t, l.Close())
	served.Wait()
	var refused *runtimeapi.AnswerError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "a/s0", refused.Target)
	require.Equal(t, []string{"a/s3"}, result.Busy)
	require.Equal(t, []string{"s0", "s1", "s2", "s3", "s2", "s3"}, order[:min(6, len(order))])
	require.Equal(t, 6, result.Done, "four maintenances and two deletions")
}

// An Apply whose context has ended does not wait for connections.
func TestContextEndsTheWait(t *testing.T) {
	path := filepath.Join(haproxytest.Dir(t), "stats.sock")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var served sync.WaitGroup
	served.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(nc).ReadString('\n')
			_, _ = io.WriteString(nc, "Server still has connections attached to it, cannot remove it.\n")
			_ = nc.Close()
			cancel()
		}
	})
	defer served.Wait()
	defer l.Close()
	actual := runtimeapi.Actual{Version: runtimeapi.Version{Major: 3}, Backends: []string{"a"}}
	actual.Servers = []runtimeapi.ServerState{{Backend: "a", Name: "s", Admin: runtimeapi.ForcedMaint}}
	none := []runtimeapi.Backend{{Name: "a"}}
	plan := actual.Plan(none, none)
	plan.Wait = time.Hour
	_, err = runtimeapi.Socket{Path: path}.Apply(ctx, plan)
	require.ErrorIs(t, err, context.Canceled)
}
