package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/freeport"
	"github.com/headgate/headgate/internal/haproxyproc"
)

const loopback = "127.0.0.1"

// reserve chooses n free ports. Until the caller calls the function "release", the operating system
// gives none of these ports to another program. Only a program that requests one of these ports by
// its number can listen on it.
func reserve(n int) (ports []int, release func(), err error) {
	var releases []func()
	release = func() {
		for _, r := range releases {
			r()
		}
	}
	for range n {
		port, r, err := freeport.Hold(loopback, 0)
		if err != nil {
			release()
			return nil, nil, err
		}
		ports, releases = append(ports, port), append(releases, r)
	}
	return ports, release, nil
}

// startTCP returns a function that starts a TCP balancer: an HAProxy in TCP mode that sends each
// connection to a pod. HAProxy checks the pods every 100 ms, so it detects a new pod.
func startTCP(algorithm string) func(context.Context, string, *settings, []*pod) (running, error) {
	return func(ctx context.Context, dir string, _ *settings, pods []*pod) (running, error) {
		var targets []string
		for _, p := range pods {
			targets = append(targets, p.addr.String())
		}
		b, err := startBalancer(ctx, dir, algorithm, targets)
		if err != nil {
			return running{}, err
		}
		return running{address: b.address, entries: []string{b.address}, started: func([]*pod) error { return nil }, stop: b.stop}, nil
	}
}

type balancer struct {
	address string
	stop    func()
}

// startBalancer starts an HAProxy in TCP mode in front of the targets. A target gets connections
// after two successful checks; HAProxy checks every 100 ms.
func startBalancer(ctx context.Context, dir, algorithm string, targets []string) (balancer, error) {
	ports, release, err := reserve(1)
	if err != nil {
		return balancer{}, err
	}
	address := net.JoinHostPort(loopback, strconv.Itoa(ports[0]))
	socket := filepath.Join(dir, "tcp.sock")
	var text strings.Builder
	fmt.Fprintf(&text, `global
    stats socket %s level admin
defaults
    mode tcp
    timeout connect 1s
    timeout client 1m
    timeout server 1m
    option redispatch
    retries 3
listen balancer
    bind %s
    balance %s
    default-server check inter 100ms rise 2 fall 2 init-addr none
`, socket, address, algorithm)
	for i, target := range targets {
		fmt.Fprintf(&text, "    server s%02d %s\n", i, target)
	}
	config := filepath.Join(dir, "tcp.cfg")
	if err := os.WriteFile(config, []byte(text.String()), 0o600); err != nil {
		release()
		return balancer{}, err
	}
	p, err := haproxyproc.Start(ctx, haproxyproc.Options{Config: config, StatsSocket: socket})
	if err != nil {
		release()
		return balancer{}, err
	}
	return balancer{address: address, stop: func() {
		p.Stop()
		release()
	}}, nil
}

// answers waits until a request to the address gets an answer with status 200.
func answers(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(res.Status)
		}
		if waitErr := wait(ctx, 20*time.Millisecond); waitErr != nil {
			return fmt.Errorf("no answer from %s: %w", address, err)
		}
	}
}
