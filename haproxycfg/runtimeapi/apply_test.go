package runtimeapi_test

import (
	"bufio"
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

// TestWaitsTogether removes servers whose connections do not end. All waits together last as long
// as one wait: after the first waits, Apply sends the shortest wait.
func TestWaitsTogether(t *testing.T) {
	path := filepath.Join(haproxytest.Dir(t), "stats.sock")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	var mu sync.Mutex
	var waits []string
	var served sync.WaitGroup
	served.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer nc.Close()
				line, _ := bufio.NewReader(nc).ReadString('\n')
				words := strings.Fields(line)
				if words[0] != "wait" {
					_, _ = io.WriteString(nc, "\n")
					return
				}
				mu.Lock()
				waits = append(waits, words[1])
				mu.Unlock()
				wait, _ := time.ParseDuration(words[1])
				<-time.After(wait + time.Millisecond) // HAProxy waits for whole milliseconds
				answer := "Interrupted.\n\n"
				if words[1] == "1ms" {
					answer = "Wait delay expired. Server still has connections attached to it, cannot remove it.\n\n"
				}
				_, _ = io.WriteString(nc, answer)
			})
		}
	})
	defer served.Wait()
	defer l.Close()
	actual := runtimeapi.Actual{Version: runtimeapi.Version{Major: 3}, Backends: []string{"a"}}
	for i := range 12 {
		actual.Servers = append(actual.Servers, runtimeapi.ServerState{Backend: "a", Name: fmt.Sprint("s", i)})
	}
	none := []runtimeapi.Backend{{Name: "a"}}
	plan := actual.Plan(none, none).WithWait(30 * time.Millisecond)
	result, err := runtimeapi.Socket{Path: path}.Apply(t.Context(), plan)
	require.NoError(t, err)
	require.Len(t, result.Busy, 12)
	require.Len(t, waits, 12)
	long := 0
	for _, wait := range waits {
		if wait != "1ms" {
			long++
		}
	}
	require.LessOrEqual(t, long, 4, "%v", waits)
}
