// Package kubeconn is how the binaries reach a Kubernetes API server: the settings
// of a connection from a kubeconfig file or a pod's own service account, and
// client-go's log lines in the binary's own log.
//
//	kubeconn.LogTo(logger)
//	config, err := kubeconn.Load("/etc/headgate/eu-1.kubeconfig:admin@eu-1")
//
// It makes no client and asks no server.
package kubeconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/klog/v2"
)

// InCluster is the spec of the service account of the pod that the binary runs in.
const InCluster = "in-cluster"

// Load returns the settings that a spec names:
//
//	FILE           a kubeconfig file and its current context
//	FILE:CONTEXT   another context of the file; both parts may hold colons
//	in-cluster     the service account of the pod
//	""             the service account in a pod, elsewhere what kubectl would use:
//	               the files of KUBECONFIG, or ~/.kube/config
//
// Errors name the file and the context. No server is asked.
func Load(spec string) (*rest.Config, error) {
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

// split finds the file in FILE[:CONTEXT]. Names of contexts hold colons (those of
// EKS are ARNs) and so may paths (C:\kubeconfig), so the file is the longest part
// before a colon, or before the end, that is a file.
func split(spec string) (file, context string) {
	for end := len(spec); end > 0; end = strings.LastIndexByte(spec[:end], ':') {
		if info, err := os.Stat(spec[:end]); err == nil && !info.IsDir() {
			return spec[:end], strings.TrimPrefix(spec[end:], ":")
		}
	}
	// There is none; this is for the error's sake.
	volume := len(filepath.VolumeName(spec))
	file, context, _ = strings.Cut(spec[volume:], ":")
	return spec[:volume] + file, context
}

func loadFile(file, context string) (*rest.Config, error) {
	kubeconfig, err := clientcmd.LoadFromFile(file)
	if err != nil {
		return nil, named(file, context, err)
	}
	if err := clientcmd.ResolveLocalPaths(kubeconfig); err != nil { // relative to the file
		return nil, named(file, context, err)
	}
	if err := checkContext(kubeconfig, cmp.Or(context, kubeconfig.CurrentContext)); err != nil {
		return nil, named(file, context, err)
	}
	// Not the deferred loader: that one takes the pod's account if the file is empty.
	config, err := clientcmd.NewNonInteractiveClientConfig(*kubeconfig, context, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
	if err != nil {
		return nil, named(file, context, err)
	}
	return config, nil
}

// checkContext says what client-go would put in words about a missing KUBERNETES_MASTER.
func checkContext(kubeconfig *api.Config, name string) error {
	context := kubeconfig.Contexts[name]
	there := strings.Join(slices.Sorted(maps.Keys(kubeconfig.Contexts)), ", ")
	switch {
	case there == "":
		return nil // client-go knows what to say
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
	if strings.Contains(err.Error(), file) { // client-go names it in some
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
	kubeconfig, err := rules.Load()
	if err == nil {
		config, err = clientcmd.NewNonInteractiveClientConfig(*kubeconfig, "", &clientcmd.ConfigOverrides{}, rules).ClientConfig()
	}
	if err == nil {
		return config, nil
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

// LogTo makes what client-go logs by way of klog go to logger, as debug lines but
// for errors: what matters of it the callers are told as errors, and say
// themselves. Nil silences it. The last call counts, for the whole process; it may
// come from any goroutine.
func LogTo(logger *slog.Logger) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	current.Store(logger)
	// klog's own setter is not safe beside lines that are being logged.
	redirect.Do(func() { klog.SetSlogLogger(slog.New(handler{})) })
}

// handler hands records to the current logger. What is kept of With and WithGroup
// is the attributes, in which klog's callers put what they want to say.
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
