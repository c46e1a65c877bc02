package sniproxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
)

// Some tests run a router in a child process. The child process has its own descriptors, so the
// tests can limit and count them.

// childEnv is the environment variable with the childConfig of a child process.
const childEnv = "SNIPROXY_TEST_CHILD"

type childConfig struct {
	Descriptors uint64            // the limit of descriptors; 0 means unchanged
	Hosts       map[string]string // the endpoints of the hosts; empty means API
	API         string
}

// childState is the state of a router. For each line on its standard input, a child prints its
// state.
type childState struct {
	Load                    sniproxy.Load
	Goroutines, Descriptors int
	Outcomes                map[string]int // since the last line
	Hosts                   int            // hosts in the cache
	Stale                   uint64
}

func TestMain(m *testing.M) {
	if conf := os.Getenv(childEnv); conf != "" {
		if err := childMain(conf); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func childMain(text string) error {
	var conf childConfig
	if err := json.Unmarshal([]byte(text), &conf); err != nil {
		return err
	}
	if n := conf.Descriptors; n > 0 {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return err
		}
	}
	cache := &hostlookup.Cache{Source: hosts(conf.Hosts)}
	api := &httpapi.Client{URL: conf.API}
	if conf.API != "" {
		cache.Source = api
		cache.TTL, cache.NegativeTTL, cache.Recheck, cache.ErrorTTL = 300*time.Millisecond, time.Millisecond, 100*time.Millisecond, time.Millisecond
	}
	var mu sync.Mutex
	outcomes := map[string]int{}
	s := &sniproxy.Server{
		Lookup:         cache,
		AllowEndpoints: loopback,
		HelloTimeout:   10 * time.Minute, // longer than a test
		Finished: func(st sniproxy.Stats) {
			mu.Lock()
			defer mu.Unlock()
			outcomes[st.Outcome.String()]++
		},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	served := make(chan error)
	go func() { served <- s.Serve(l, 0) }()

	answer := json.NewEncoder(os.Stdout)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if in.Text() == "close" {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			err := s.Shutdown(ctx)
			cancel()
			if err != nil {
				return err
			}
			<-served
			cache.Close()
			api.CloseIdleConnections()
		}
		mu.Lock()
		stats := cache.Stats()
		err := answer.Encode(childState{
			Load: s.Load(), Goroutines: runtime.NumGoroutine(), Descriptors: descriptors("self"), Outcomes: outcomes,
			Hosts: stats.Hosts, Stale: stats.Stales,
		})
		outcomes = map[string]int{}
		mu.Unlock()
		if err != nil {
			return err
		}
	}
	return in.Err()
}

func descriptors(process string) int {
	// One of the entries is the descriptor of the directory itself.
	list, err := os.ReadDir("/proc/" + process + "/fd")
	if err != nil {
		return -1
	}
	return len(list)
}

type child struct {
	t     *testing.T
	front string
	in    io.Writer
	out   *bufio.Reader
}

func startChild(t *testing.T, conf childConfig) *child {
	t.Helper()
	text, err := json.Marshal(conf)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close() // ends the child
		require.NoError(t, cmd.Wait())
	})
	c := &child{t: t, in: in, out: bufio.NewReader(out)}
	line, err := c.out.ReadString('\n')
	require.NoError(t, err)
	c.front = line[:len(line)-1]
	return c
}

// The method "ask" sends a line to the child, and returns the state that the child prints.
func (c *child) ask(line string) (s childState) {
	c.t.Helper()
	_, err := io.WriteString(c.in, line+"\n")
	require.NoError(c.t, err)
	b, err := c.out.ReadBytes('\n')
	require.NoError(c.t, err)
	require.NoError(c.t, json.Unmarshal(b, &s))
	return s
}

// The method until waits until the function "done" returns true for the state of the child. If this
// takes too long, the test fails with the text of the argument "what".
func (c *child) until(what string, done func(childState) bool) {
	c.t.Helper()
	require.Eventually(c.t, func() bool { return done(c.ask("")) }, patience, 10*time.Millisecond, what)
}
