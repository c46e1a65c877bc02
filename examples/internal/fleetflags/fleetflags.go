// Package fleetflags defines the flags with which several terminators work together.
package fleetflags

import (
	"errors"
	"flag"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/haproxycfg/controller/fleet/configmap"
	"github.com/headgate/headgate/haproxycfg/controller/lease"
)

// Flags are the values of the flags with which several terminators work together. Call Register,
// parse the flags, and call Elector, Store, CheckCanary and Canary.
type Flags struct {
	lease, leaseCluster, orders string
	canary                      canaryFlags
}

// Register adds the flags to fs.
func (f *Flags) Register(fs *flag.FlagSet) {
	fs.StringVar(&f.lease, "lease", "", "`NAMESPACE/NAME` of a Lease: of all terminators with this Lease, one writes; none if empty")
	fs.StringVar(&f.leaseCluster, "lease-cluster", "", "`name` of the cluster of the Lease and of the ConfigMap of -fleet; the first live one if empty")
	fs.StringVar(&f.orders, "fleet", "", "`NAMESPACE/NAME` of a ConfigMap with the orders of operators, rollbacks and shifts, which all terminators with this ConfigMap follow; if empty, only this terminator follows its orders")
	f.canary.register(fs)
}

// Elector returns the Elector that -lease describes. Without -lease, it returns nil and no error.
func (f *Flags) Elector(clusters []kubeconn.Cluster) (*lease.Elector, error) {
	if f.lease == "" {
		if f.leaseCluster != "" && f.orders == "" {
			return nil, errors.New("-lease-cluster needs -lease or -fleet")
		}
		return nil, nil
	}
	cluster, namespace, name, err := f.object(clusters, "-lease", f.lease, "the Lease")
	if err != nil {
		return nil, err
	}
	return &lease.Elector{Config: cluster.Config, Namespace: namespace, Name: name}, nil
}

// Store returns the Store that -fleet describes. Without -fleet, it returns nil and no error.
func (f *Flags) Store(clusters []kubeconn.Cluster) (*configmap.Store, error) {
	if f.orders == "" {
		return nil, nil
	}
	cluster, namespace, name, err := f.object(clusters, "-fleet", f.orders, "the ConfigMap")
	if err != nil {
		return nil, err
	}
	return &configmap.Store{Config: cluster.Config, Namespace: namespace, Name: name}, nil
}

// object parses the value of a flag, NAMESPACE/NAME, and returns the cluster that holds this object.
// kind names the object in an error.
func (f *Flags) object(clusters []kubeconn.Cluster, flag, value, kind string) (cluster kubeconn.Cluster, namespace, name string, err error) {
	namespace, name, _ = strings.Cut(value, "/")
	if validation.IsDNS1123Label(namespace) != nil || validation.IsDNS1123Subdomain(name) != nil {
		return cluster, "", "", fmt.Errorf("%s: %q: want NAMESPACE/NAME", flag, value)
	}
	for _, c := range clusters {
		if c.Live() && (f.leaseCluster == "" || f.leaseCluster == c.Name) {
			return c, namespace, name, nil
		}
	}
	if f.leaseCluster == "" {
		return cluster, "", "", fmt.Errorf("%s needs a live cluster, which holds %s", flag, kind)
	}
	return cluster, "", "", fmt.Errorf("-lease-cluster: %q is no live cluster", f.leaseCluster)
}
