// Package kubeconn reads the address and the credentials of a Kubernetes API server, from a
// kubeconfig file or from the service account of a pod. It also sends the log lines of client-go to
// the log of the binary.
//
//	kubeconn.LogTo(logger)
//	config, err := kubeconn.Load("/etc/headgate/eu-1.kubeconfig:admin@eu-1")
//
// It creates no client and connects to no server.
package kubeconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/klog/v2"

	"github.com/headgate/headgate/internal/inputfile"
)

// InCluster is the argument of [Load] for the service account of the pod in which the binary runs.
const InCluster = "in-cluster"

// Load returns the address and credentials of an API server. spec is one of
//
//	FILE           the current context of a kubeconfig file
//	FILE:CONTEXT   another context of the file; both parts may contain colons
//	in-cluster     the service account of the pod
//	""             in a pod, the service account of the pod; outside of a pod, the files
//	               that kubectl uses: KUBECONFIG, or ~/.kube/config
//
// Errors name the file and the context. Load reads only regular files, each up to 1 MiB. A client
// with the returned configuration reads the token file again at each request.
func Load(spec string) (*rest.Config, error) {
	config, err := load(spec)
	if err != nil {
		return nil, err
	}
	readTokenAgain(config)
	return config, nil
}

func load(spec string) (*rest.Config, error) {
	switch spec {
	case "":
		return loadDefault()
	case InCluster:
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("in-cluster configuration: %w", err)
		}
		return config, nil
	}
	file, context := split(spec)
	return loadFile(file, context)
}

// split splits FILE[:CONTEXT]. A colon can belong to the path (C:\kubeconfig) or to the context
// (ARNs of EKS). So FILE is the longest prefix, up to a colon or the end of spec, that is the name
// of a file.
func split(spec string) (file, context string) {
	for end := len(spec); end > 0; end = strings.LastIndexByte(spec[:end], ':') {
		if info, err := inputfile.Stat(spec[:end]); err == nil && !info.IsDir() {
			return spec[:end], strings.TrimPrefix(spec[end:], ":")
		}
	}
	// No prefix of spec is the name of an existing file, so the caller cannot read the file either.
	// The caller then uses this result only in an error message.
	volume := len(filepath.VolumeName(spec))
	file, context, _ = strings.Cut(spec[volume:], ":")
	return spec[:volume] + file, context
}

func loadFile(file, context string) (*rest.Config, error) {
	kubeconfig, err := readKubeconfig(file)
	if err != nil {
		return nil, named(file, context, err)
	}
	if err := clientcmd.ResolveLocalPaths(kubeconfig); err != nil { // relative to the file
		return nil, named(file, context, err)
	}
	if err := checkContext(kubeconfig, cmp.Or(context, kubeconfig.CurrentContext)); err != nil {
		return nil, named(file, context, err)
	}
	if err := checkFiles(kubeconfig, cmp.Or(context, kubeconfig.CurrentContext)); err != nil {
		return nil, named(file, context, err)
	}
	// Do not use client-go's deferred loader: for an empty kubeconfig, it would use the service
	// account of the pod.
	config, err := clientcmd.NewNonInteractiveClientConfig(*kubeconfig, context, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
	if err != nil {
		return nil, named(file, context, err)
	}
	return config, nil
}

// checkContext returns an error if a kubeconfig lacks the named context or the context's cluster.
// Without this check, client-go would return an error about the variable KUBERNETES_MASTER.
func checkContext(kubeconfig *api.Config, name string) error {
	context := kubeconfig.Contexts[name]
	there := strings.Join(slices.Sorted(maps.Keys(kubeconfig.Contexts)), ", ")
	switch {
	case there == "":
		return nil // the error of client-go is clear
	case name == "":
		return fmt.Errorf("it has no current context; there are %s", there)
	case context == nil:
		return fmt.Errorf("no such context; there are %s", there)
	case kubeconfig.Clusters[context.Cluster] == nil:
		return fmt.Errorf("the context's cluster %q is not in the file", context.Cluster)
	}
	return nil
}

func named(file, context string, err error) error {
	if strings.Contains(err.Error(), file) { // some errors of client-go name the file
		file = ""
	}
	switch {
	case file == "" && context == "":
		return fmt.Errorf("kubeconfig: %w", err)
	case context == "":
		return fmt.Errorf("kubeconfig %s: %w", file, err)
	case file == "":
		return fmt.Errorf("kubeconfig, context %q: %w", context, err)
	}
	return fmt.Errorf("kubeconfig %s, context %q: %w", file, context, err)
}

func loadDefault() (*rest.Config, error) {
	config, inCluster := rest.InClusterConfig()
	if inCluster == nil {
		return config, nil
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	kubeconfig, err := loadRules(rules)
	if err == nil {
		config, err = clientcmd.NewNonInteractiveClientConfig(*kubeconfig, "", &clientcmd.ConfigOverrides{}, rules).ClientConfig()
	}
	if err == nil {
		return config, nil
	}
	if clientcmd.IsEmptyConfig(err) { // client-go advises to set KUBERNETES_MASTER
		err = errors.New("the file is missing, or names no cluster")
	}
	err = named(strings.Join(rules.GetLoadingPrecedence(), string(filepath.ListSeparator)), "", err)
	if errors.Is(inCluster, rest.ErrNotInCluster) {
		return nil, fmt.Errorf("not in a pod, and %w", err)
	}
	return nil, fmt.Errorf("in-cluster configuration: %w; and %w", inCluster, err)
}

var (
	redirect sync.Once
	current  atomic.Pointer[slog.Logger]
)

// LogTo sends the log lines of client-go to logger, for the whole process, or discards them if
// logger is nil. It is safe for concurrent use, and replaces an earlier logger. Lines of the level
// error keep their level, and all others have the level debug.
func LogTo(logger *slog.Logger) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	current.Store(logger)
	// Call klog's setter only once: it is not safe while other goroutines log.
	redirect.Do(func() { klog.SetSlogLogger(slog.New(handler{})) })
}

// handler passes log records of client-go to the logger of LogTo. It keeps the attributes of With.
// It ignores groups, because client-go does not use them.
type handler struct{ attrs []slog.Attr }

func level(l slog.Level) slog.Level {
	if l >= slog.LevelError {
		return l
	}
	return slog.LevelDebug
}

func (h handler) Enabled(ctx context.Context, l slog.Level) bool {
	return current.Load().Enabled(ctx, level(l))
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	r = r.Clone()
	r.Level = level(r.Level)
	r.AddAttrs(h.attrs...)
	r.AddAttrs(slog.String("from", "client-go"))
	return current.Load().Handler().Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

func (h handler) WithGroup(string) slog.Handler { return h }
