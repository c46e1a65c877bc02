package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// startFronts starts front proxies, and a TCP balancer in front of them. The front proxies read the
// pods from an EndpointSlice in a file.
func startFronts(ctx context.Context, dir string, s *settings, pods []*pod) (r running, err error) {
	var stops []func()
	r.stop = func() {
		for i := len(stops) - 1; i >= 0; i-- {
			stops[i]()
		}
	}
	defer func() {
		if err != nil {
			r.stop()
		}
	}()
	objects := filepath.Join(dir, "objects")
	if err := os.Mkdir(objects, 0o755); err != nil {
		return r, err
	}
	r.started = func(pods []*pod) error { return writeSlice(objects, pods) }
	if err := r.started(nil); err != nil {
		return r, err
	}
	ports, release, err := reserve(s.fronts)
	if err != nil {
		return r, err
	}
	stops = append(stops, release)
	var targets []string
	for i, port := range ports {
		target := net.JoinHostPort(loopback, strconv.Itoa(port))
		targets = append(targets, target)
		stop, err := startFront(ctx, s.frontproxy, "-service", "demo/web:http", "-zone", "a", "-dir", objects,
			"-listen", target, "-out", filepath.Join(dir, fmt.Sprintf("front-%d", i+1)), "-drain-delay", "0", "-drain-timeout", "1s")
		if err != nil {
			return r, err
		}
		stops = append(stops, stop)
	}
	b, err := startBalancer(ctx, dir, "roundrobin", targets)
	if err != nil {
		return r, err
	}
	stops = append(stops, b.stop)
	r.address, r.entries = b.address, append(targets, b.address)
	return r, nil
}

// startFront starts a front proxy. The function "stop" ends it.
func startFront(ctx context.Context, binary string, args ...string) (stop func(), err error) {
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprintf(os.Stderr, "%s: %v\n%s", filepath.Base(binary), err, output.Bytes())
		}
	}, nil
}

// writeSlice writes the EndpointSlices of the pods to the file slices.json, and replaces the old
// content of the file. Each pod has a slice of its own, because all pods have the same address and
// different port numbers, and a slice has only one port number for all its endpoints.
func writeSlice(dir string, pods []*pod) error {
	type object = map[string]any
	items := []object{}
	for _, p := range pods {
		items = append(items, object{
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
			"metadata":    object{"namespace": "demo", "name": "web-" + p.name, "labels": object{"kubernetes.io/service-name": "web"}},
			"addressType": "IPv4",
			"ports":       []object{{"name": "http", "port": p.addr.Port()}},
			"endpoints":   []object{{"addresses": []string{p.addr.Addr().String()}, "zone": "a", "conditions": object{"ready": true}}},
		})
	}
	data, err := json.Marshal(object{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "slices.json")
	if err := os.WriteFile(file+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
