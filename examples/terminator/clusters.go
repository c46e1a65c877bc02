package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/examples/internal/kubeconn"
)

// cluster is a cluster of -cluster: a directory of manifests or an API server.
type cluster struct {
	name string
	dir  string // "" for an API server
	conn string // argument of kubeconn.Load
}

func (c cluster) live() bool { return c.dir == "" }

func (c cluster) config() (*rest.Config, error) { return kubeconn.Load(c.conn) }

// leaseName is the Lease of -lease.
type leaseName struct {
	namespace, name string
	cluster         cluster
}

const clusterForm = "want NAME=kubeconfig:FILE[:CONTEXT], NAME=in-cluster or NAME=dir:DIR"

func parseClusters(texts []string) ([]cluster, error) {
	var clusters []cluster
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
		if slices.ContainsFunc(clusters, func(c cluster) bool { return c.name == name }) {
			return nil, fmt.Errorf("%q: the cluster is given twice", text)
		}
		clusters = append(clusters, c)
	}
	return clusters, nil
}

// parseWhere parses WHERE of -cluster. FILE[:CONTEXT] alone is a kubeconfig too.
func parseWhere(where string) (cluster, bool) {
	if dir, ok := strings.CutPrefix(where, "dir:"); ok {
		return cluster{dir: dir}, dir != ""
	}
	if where == kubeconn.InCluster {
		return cluster{conn: where}, true
	}
	file := strings.TrimPrefix(where, "kubeconfig:")
	return cluster{conn: file}, file != "" && file != kubeconn.InCluster
}

// parseLease needs the clusters.
func (f *flags) parseLease(s *settings) (leaseName, error) {
	if f.lease == "" {
		if f.leaseCluster != "" {
			return leaseName{}, errors.New("-lease-cluster needs -lease")
		}
		return leaseName{}, nil
	}
	if s.once || s.diff {
		return leaseName{}, errors.New("-lease is for those who follow changes, without -once and -diff")
	}
	if f.force { // it would lie in wait for the day on which this one leads
		return leaseName{}, errors.New("-force is not for one of several writers: use POST /force of the one that leads")
	}
	namespace, name, _ := strings.Cut(f.lease, "/")
	if validation.IsDNS1123Label(namespace) != nil || validation.IsDNS1123Subdomain(name) != nil {
		return leaseName{}, fmt.Errorf("-lease: %q: want NAMESPACE/NAME", f.lease)
	}
	for _, c := range s.clusters {
		if c.live() && (f.leaseCluster == "" || f.leaseCluster == c.name) {
			return leaseName{namespace, name, c}, nil
		}
	}
	if f.leaseCluster == "" {
		return leaseName{}, errors.New("-lease needs a live cluster, to hold it")
	}
	return leaseName{}, fmt.Errorf("-lease-cluster: %q is no live cluster", f.leaseCluster)
}
