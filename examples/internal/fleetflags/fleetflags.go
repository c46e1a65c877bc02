// Package fleetflags defines the flags with which several terminators work together.
package fleetflags

import (
	"errors"
	"flag"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/haproxycfg/controller/lease"
)

// Flags are the values of the flags. Call Register, parse the flags, and call Elector.
type Flags struct {
	lease, leaseCluster string
}

// Register adds the flags to fs.
func (f *Flags) Register(fs *flag.FlagSet) {
	fs.StringVar(&f.lease, "lease", "", "`NAMESPACE/NAME` of a Lease: of all terminators with this Lease, one writes; none if empty")
	fs.StringVar(&f.leaseCluster, "lease-cluster", "", "`name` of the cluster of the Lease; the first live one if empty")
}

// Elector returns the Elector of -lease. It returns nil without -lease.
func (f *Flags) Elector(clusters []kubeconn.Cluster) (*lease.Elector, error) {
	if f.lease == "" {
		if f.leaseCluster != "" {
			return nil, errors.New("-lease-cluster needs -lease")
		}
		return nil, nil
	}
	namespace, name, err := object("-lease", f.lease)
	if err != nil {
		return nil, err
	}
	cluster, err := f.cluster(clusters, "-lease", "the Lease")
	if err != nil {
		return nil, err
	}
	return &lease.Elector{Config: cluster.Config, Namespace: namespace, Name: name}, nil
}

// object parses the namespace and the name of an object.
func object(flag, text string) (namespace, name string, err error) {
	namespace, name, _ = strings.Cut(text, "/")
	if validation.IsDNS1123Label(namespace) != nil || validation.IsDNS1123Subdomain(name) != nil {
		return "", "", fmt.Errorf("%s: %q: want NAMESPACE/NAME", flag, text)
	}
	return namespace, name, nil
}

// cluster returns the cluster that holds an object.
func (f *Flags) cluster(clusters []kubeconn.Cluster, flag, object string) (kubeconn.Cluster, error) {
	for _, c := range clusters {
		if c.Live() && (f.leaseCluster == "" || f.leaseCluster == c.Name) {
			return c, nil
		}
	}
	if f.leaseCluster == "" {
		return kubeconn.Cluster{}, fmt.Errorf("%s needs a live cluster, which holds %s", flag, object)
	}
	return kubeconn.Cluster{}, fmt.Errorf("-lease-cluster: %q is no live cluster", f.leaseCluster)
}
