package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// lab contains all running programs and servers of the benchmark. All servers of a lab listen on
// addresses that begin with the same two bytes, 127 and lab.network.
type lab struct {
	bin, dir string
	network  int
	jobs     []job
	stops    []func() error // in the order of the starts
	hostAPI  func() error   // stops the host API

	cancel  context.CancelFunc // ends the clients
	running sync.WaitGroup     // the clients and the servers
}

// job is a set of processes that Prometheus scrapes.
type job struct {
	name    string
	targets []string
}

// newLab returns a lab in which nothing runs yet. It claims a network that no other lab on this
// machine uses.
func newLab(bin string) (*lab, error) {
	l := &lab{bin: bin, cancel: func() {}}
	for l.network = 1; ; l.network++ {
		claim, err := net.Listen("tcp", fmt.Sprintf("127.%d.255.254:10999", l.network))
		if err == nil {
			l.stops = append(l.stops, claim.Close)
			break
		}
		if l.network == 250 {
			return nil, fmt.Errorf("no network is free: %w", err)
		}
	}
	dir, err := os.MkdirTemp("", "headgate-")
	if err != nil {
		return nil, err
	}
	l.dir = dir
	l.stops = append(l.stops, func() error { return os.RemoveAll(dir) })
	return l, nil
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

// address returns the address, with this port, of all servers that are not on a node or in a pod.
func (l *lab) address(port int) string { return fmt.Sprintf("127.%d.0.1:%d", l.network, port) }

// node returns the IP address of the node or pod with the number i.
func (l *lab) node(i int) string { return fmt.Sprintf("127.%d.1.%d", l.network, i) }

// stop stops everything, in the reverse order of the starts.
func (l *lab) stop() error {
	l.cancel()
	var errs []error
	for i := len(l.stops) - 1; i >= 0; i-- {
		errs = append(errs, l.stops[i]())
	}
	l.running.Wait()
	return errors.Join(errs...)
}

// start starts a program. If the directory of -bin contains a program with this name, start uses
// it; otherwise it uses the program on PATH.
func (l *lab) start(name string, args ...string) error {
	_, err := l.startProcess(name, args...)
	return err
}

// startProcess starts a program, and returns a function that stops the program. If the caller does
// not call this function, the method "stop" of the lab does.
func (l *lab) startProcess(name string, args ...string) (stop func() error, err error) {
	path := filepath.Join(l.bin, name)
	if _, err := os.Stat(path); err != nil {
		path = name
	}
	var output bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = l.dir, &output, &output
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = sync.OnceValue(func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				return fmt.Errorf("%s: %w: %s", name, err, output.Bytes())
			}
			return nil
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
			return fmt.Errorf("%s does not stop: %s", name, output.Bytes())
		}
	})
	l.stops = append(l.stops, stop)
	return stop, nil
}

// serve starts an HTTP server. The method "stop" ends it.
func (l *lab) serve(address string, server *http.Server) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server.ReadHeaderTimeout = 10 * time.Second
	l.running.Go(func() {
		if server.TLSConfig != nil {
			_ = server.ServeTLS(listener, "", "")
		} else {
			_ = server.Serve(listener)
		}
	})
	l.stops = append(l.stops, server.Close)
	return nil
}

// write replaces a file as a whole.
func (l *lab) write(name, text string) error {
	file := l.path(name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// wait waits until a URL answers with status 200.
func (l *lab) wait(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		_, err := fetch(ctx, url)
		if err == nil {
			return nil
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return fmt.Errorf("%s: %w", url, err)
		}
	}
}
