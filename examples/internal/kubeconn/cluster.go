package kubeconn

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
)

// Cluster is one value of a flag -cluster. A program reads the objects of the cluster from a
// directory of manifests, or from an API server.
type Cluster struct {
	Name string
	Dir  string // "" for an API server
	spec string // argument of Load
}

// Live reports whether a program must read the objects from an API server.
func (c Cluster) Live() bool { return c.Dir == "" }

// Config returns the address and credentials of the API server; see Load.
func (c Cluster) Config() (*rest.Config, error) { return Load(c.spec) }

const clusterForm = "want NAME=kubeconfig:FILE[:CONTEXT], NAME=in-cluster or NAME=dir:DIR"

// ParseClusters parses the values of a flag -cluster: NAME=kubeconfig:FILE[:CONTEXT],
// NAME=in-cluster or NAME=dir:DIR. The prefix "kubeconfig:" may be missing. Each name must be a DNS
// label and unique.
func ParseClusters(texts []string) ([]Cluster, error) {
	var clusters []Cluster
	for _, text := range texts {
		name, where, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q: %s", text, clusterForm)
		}
		c, ok := parseWhere(where)
		if !ok {
			return nil, fmt.Errorf("%q: %s", text, clusterForm)
		}
		c.Name = name
		if faults := validation.IsDNS1123Label(name); faults != nil { // routes name clusters by labels
			return nil, fmt.Errorf("%q: %q is no name of a cluster: %s", text, name, faults[0])
		}
		if slices.ContainsFunc(clusters, func(c Cluster) bool { return c.Name == name }) {
			return nil, fmt.Errorf("%q: the cluster is given twice", text)
		}
		clusters = append(clusters, c)
	}
	return clusters, nil
}

// parseWhere parses the part of a value after "NAME=".
func parseWhere(where string) (Cluster, bool) {
	if dir, ok := strings.CutPrefix(where, "dir:"); ok {
		return Cluster{Dir: dir}, dir != ""
	}
	if where == InCluster {
		return Cluster{spec: where}, true
	}
	file := strings.TrimPrefix(where, "kubeconfig:")
	return Cluster{spec: file}, file != "" && file != InCluster
}
