package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/peer"
)

const (
	project    = "github.com/headgate/headgate"
	benchmarks = project + "/internal/benchmarks"
	own        = benchmarks + "/sniproxy"
)

// errMissing means that a router is not on this machine.
var errMissing = errors.New("left out")

// find returns the router that an element of -peers means: NAME or NAME:SUITE. If the router is
// written in Go, find builds the router in dir.
func find(ctx context.Context, name, dir, snirouter string) (peer.Router, error) {
	name, suite, _ := strings.Cut(name, ":")
	path, err := fetched(name, suite)
	if err != nil {
		return peer.Router{}, err
	}
	switch name {
	case "nginx", "nginx-half-close":
		return missing(peer.FindNginx(path, name != "nginx"))
	case "haproxy":
		return missing(peer.FindHAProxy(path))
	case "sniproxy":
		return missing(peer.FindSNIProxy())
	case "tcpproxy":
		path, err := build(ctx, dir, ".", own+"/tcprouter")
		if err != nil {
			return peer.Router{}, err
		}
		version, err := goList(ctx, ".", "github.com/inetaf/tcpproxy", "{{.Version}}")
		_, commit, _ := cutLast(version, "-")
		return peer.TCPProxy(path, commit), err
	case "traefik":
		path, err := build(ctx, dir, "traefik", benchmarks+"/traefik")
		if err != nil {
			return peer.Router{}, err
		}
		version, err := goList(ctx, "traefik", "github.com/traefik/traefik/v3", "{{.Version}}")
		return peer.Traefik(path, strings.TrimPrefix(version, "v")), err
	case "plain":
		path, err := build(ctx, dir, ".", own+"/plainrouter")
		return peer.Plain(path, goVersion()), err
	}
	if !strings.Contains(snirouter, "{snirouter}") {
		return peer.SNIRouter(snirouter, ""), nil
	}
	root, err := goList(ctx, ".", project, "{{.Dir}}")
	if err != nil {
		return peer.Router{}, err
	}
	if _, err := os.Stat(filepath.Join(root, "examples", "snirouter")); err != nil {
		return peer.Router{}, fmt.Errorf("%w: %w", errMissing, err)
	}
	// Build snirouter in the main module, because this module does not have the dependencies of the
	// examples.
	path, err = build(ctx, dir, root, "./examples/snirouter")
	return peer.SNIRouter(strings.ReplaceAll(snirouter, "{snirouter}", path), ""), err
}

// fetched returns the path at which the Makefile stores a router from a suite of Debian. It returns
// "" if suite is empty. The Makefile reads the same environment variables.
func fetched(name, suite string) (path string, err error) {
	if suite == "" {
		return "", nil
	}
	in, dir := "HAPROXY_DIR", []string{"suites", suite}
	if name == "nginx" {
		in, dir = "NGINX_DIR", []string{suite}
	}
	root := os.Getenv(in)
	if root == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("set %s: %w", in, err)
		}
		root = filepath.Join(home, ".cache", "headgate", name)
	}
	return filepath.Join(append(append([]string{root}, dir...), name)...), nil
}

func missing(r peer.Router, err error) (peer.Router, error) {
	if err != nil {
		return peer.Router{}, fmt.Errorf("%w: %w", errMissing, err)
	}
	return r, nil
}

func goVersion() string { return strings.TrimPrefix(runtime.Version(), "go") }

func build(ctx context.Context, dir, module, pkg string) (path string, err error) {
	path = filepath.Join(dir, filepath.Base(pkg))
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, pkg)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, bytes.TrimSpace(out))
	}
	return path, nil
}

// goList returns what go list prints about a module that the module in dir needs.
func goList(ctx context.Context, dir, module, format string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", format, module)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go list -m %s (run it in the module of the benchmarks): %w", module, err)
	}
	return strings.TrimSpace(string(out)), nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}
