//go:build linux

package scenarios

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

// vanish is the scenario that runs a second end-to-end test inside this one, kills the second test,
// and searches for its traces.
var vanish = scenario.Scenario[*Env]{
	Name:  "vanish",
	About: "a test that is ended by SIGKILL or SIGTERM leaves no process, link, mount or file behind",
	Run:   runVanish,
}

// vanishEnv is in the environment of every process of the end-to-end test that this scenario
// starts. So the scenario can recognize these processes.
const vanishEnv = "HEADGATE_E2E_VANISH=1"

func runVanish(ctx context.Context, env *Env, report *scenario.Report) error {
	m, err := env.Lab.Machine("vanish")
	if err != nil {
		return err
	}
	before, err := traces(m)
	if err != nil {
		return err
	}
	for _, end := range []struct {
		signal string
		send   func(*lab.Process) error
	}{
		{"SIGKILL", func(p *lab.Process) error { p.Kill(); return nil }},
		{"SIGTERM", (*lab.Process).Stop},
	} {
		p, err := m.StartEnv("vanish-"+end.signal, []string{vanishEnv}, "e2e", "-only", "smoke")
		if err != nil {
			return err
		}
		if _, err := lab.Until(ctx, "the inner test's clusters", time.Minute, func(context.Context) error { return innerIsUp(p) }, p); err != nil {
			return err
		}
		start := time.Now()
		if err := end.send(p); err != nil {
			return err
		}
		if _, err := lab.Until(ctx, "everything to be gone", patience, func(context.Context) error {
			after, err := traces(m)
			if err == nil && !slices.Equal(before, after) {
				err = fmt.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
			return err
		}, p); err != nil {
			return err
		}
		report.Add(scenario.Row{What: "nothing is left after " + end.signal, Took: time.Since(start), Within: 10 * time.Second})
	}
	return nil
}

// innerIsUp returns an error unless all processes of the inner test run. The scenario later checks
// that the sandbox has ended these processes, so they must run before.
func innerIsUp(p *lab.Process) error {
	if !p.Running() {
		return errors.New("the inner test has ended")
	}
	log, err := os.ReadFile(p.Log)
	if err != nil {
		return err
	}
	if !bytes.Contains(log, []byte("nodes are up: ok")) {
		return errors.New("its processes do not run yet")
	}
	marked, err := markedProcesses()
	if err != nil {
		return err
	}
	// The inner test has at least 15 processes: six for each of two clusters (etcd, kube-apiserver,
	// kube-controller-manager and three kube-proxies), and one for each of the three stages of the
	// sandbox.
	if len(marked) < 2*6+3 {
		return fmt.Errorf("only %d processes: %s", len(marked), strings.Join(marked, ", "))
	}
	return nil
}

// traces lists everything in this sandbox that the inner test could leave behind: processes,
// mounts, links and files. While the inner test runs, traces finds only its processes, because its
// mounts, links and files are in namespaces of its own.
func traces(m *lab.Machine) ([]string, error) {
	found, err := markedProcesses()
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	found = append(found, fmt.Sprintf("%d mounts", bytes.Count(mounts, []byte("\n"))))
	if err := m.Do(func() error {
		links, err := net.Interfaces()
		for _, l := range links {
			found = append(found, "link "+l.Name)
		}
		return err
	}); err != nil {
		return nil, err
	}
	for _, pattern := range []string{"/tmp/headgate-e2e-*", os.TempDir() + "/*", "/run/netns/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		found = append(found, files...)
	}
	return found, nil
}

// markedProcesses returns the processes of the end-to-end test that this scenario starts. They have
// a mark in their environment.
func markedProcesses() ([]string, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var marked []string
	for _, dir := range dirs {
		// If the process has ended since Glob listed it, ReadFile fails. Skip such a process.
		env, err := os.ReadFile(dir + "/environ")
		if err != nil || !slices.Contains(strings.Split(string(env), "\x00"), vanishEnv) {
			continue
		}
		name, _ := os.ReadFile(dir + "/comm")
		marked = append(marked, filepath.Base(dir)+" "+strings.TrimSpace(string(name)))
	}
	return marked, nil
}
