package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/headgate/headgate/examples/internal/kubeconn"
)

// source is where the objects of a cluster are read from: a directory or an API
// server.
type source struct {
	name string
	dir  string // "" for a live cluster
	conn string // what kubeconn.Load is given
}

func (c source) live() bool { return c.dir == "" }

// lease is where writers agree on one of them.
type lease struct {
	namespace, name string
	cluster         source
}

const clusterForm = "want NAME=kubeconfig:FILE[:CONTEXT], NAME=in-cluster or NAME=dir:DIR"

func parseClusters(texts []string) ([]source, error) {
	var clusters []source
	for _, text := range texts {
		name, where, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q: %s", text, clusterForm)
		}
		c, ok := parseWhere(where)
		if !ok {
			return nil, fmt.Errorf("%q: %s", text, clusterForm)
		}
		c.name = name
		if faults := validation.IsDNS1123Label(name); faults != nil { // as in declarations
			return nil, fmt.Errorf("%q: %q is no name of a cluster: %s", text, name, faults[0])
		}
		if slices.ContainsFunc(clusters, func(c source) bool { return c.name == name }) {
			return nil, fmt.Errorf("%q: the cluster is given twice", text)
		}
		clusters = append(clusters, c)
	}
	return clusters, nil
}

// parseWhere also takes FILE[:CONTEXT] without a word before it.
func parseWhere(where string) (source, bool) {
	if dir, ok := strings.CutPrefix(where, "dir:"); ok {
		return source{dir: dir}, dir != ""
	}
	if where == kubeconn.InCluster {
		return source{conn: where}, true
	}
	file := strings.TrimPrefix(where, "kubeconfig:")
	return source{conn: file}, file != "" && file != kubeconn.InCluster
}

// parseLease needs the clusters.
func (f *flags) parseLease(s *settings) (lease, error) {
	if f.lease == "" {
		if f.leaseCluster != "" {
			return lease{}, errors.New("-lease-cluster needs -lease")
		}
		return lease{}, nil
	}
	if s.once || s.diff {
		return lease{}, errors.New("-lease is for those who follow changes, without -once and -diff")
	}
	if f.force { // it would lie in wait for the day on which this one leads
		return lease{}, errors.New("-force is not for one of several writers: use POST /force of the one that leads")
	}
	namespace, name, _ := strings.Cut(f.lease, "/")
	if validation.IsDNS1123Label(namespace) != nil || validation.IsDNS1123Subdomain(name) != nil {
		return lease{}, fmt.Errorf("-lease: %q: want NAMESPACE/NAME", f.lease)
	}
	for _, c := range s.clusters {
		if c.live() && (f.leaseCluster == "" || f.leaseCluster == c.name) {
			return lease{namespace, name, c}, nil
		}
	}
	if f.leaseCluster == "" {
		return lease{}, errors.New("-lease needs a live cluster, to hold it")
	}
	return lease{}, fmt.Errorf("-lease-cluster: %q is no live cluster", f.leaseCluster)
}
