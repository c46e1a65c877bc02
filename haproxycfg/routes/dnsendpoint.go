package routes

import (
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
)

// MaxDNSWeight is the largest weight that Route 53 accepts.
const MaxDNSWeight = 255

// MaxDNSObjects is the largest DNSEndpointOptions.Objects.
const MaxDNSObjects = 1000

// DNSEndpointOptions are the settings of AppendDNSEndpoints.
type DNSEndpointOptions struct {
	// Namespace and Name are the namespace and the name of the object. If there are several objects,
	// Name is the part of their names before the number.
	Namespace, Name string
	// Objects is the number of objects, at most MaxDNSObjects; 0 means 1. A host stays in the same
	// object while Objects does not change. An API server refuses an object of more than about 1.5
	// MiB, which has about 6,000 hosts.
	Objects int
	// SetIdentifier makes the records weighted. It is a name of this edge. No other edge with the
	// same hosts may have this name. It has at most 128 printable ASCII characters, without spaces,
	// double quotes and backslashes. Empty means that the records are not weighted; then Weight
	// must be 0.
	SetIdentifier string
	// Weight is the weight of this edge, from 0 to MaxDNSWeight. Route 53 divides its answers
	// between the edges in proportion to their weights. With 0, no answer contains this edge, but
	// if all weights are 0, Route 53 uses all edges alike.
	Weight int
}

// AppendDNSEndpoints appends DNSEndpoint objects of external-dns (externaldns.k8s.io/v1alpha1) as
// YAML documents. The objects contain the same records that AppendZone writes for the same
// ZoneOptions:
//
//	---
//	apiVersion: externaldns.k8s.io/v1alpha1
//	kind: DNSEndpoint
//	metadata:
//	  name: edge-eu
//	  namespace: dns
//	  labels: {app.kubernetes.io/managed-by: headgate}
//	spec:
//	  endpoints:
//	  - dnsName: api.example.com
//	    recordType: A
//	    recordTTL: 300
//	    targets: [192.0.2.1]
//	    setIdentifier: eu
//	    providerSpecific: [{name: aws/weight, value: "60"}]
//
// With a SetIdentifier, the records are weighted records of Route 53; other providers of
// external-dns ignore the property aws/weight.
//
// Each edge writes objects of its own: with the same zone as the other edges, but with its own
// SetIdentifier, Weight and addresses. Edges that write to the same cluster also need different
// Names.
//
// Traffic follows a new weight slowly, and a weight of 0 does not end traffic: clients keep their
// connections, and resolvers keep an answer for the TTL and often longer.
//
// AppendDNSEndpoints writes all objects, even those without records, so that a removed host
// disappears. Equal input makes equal bytes. If the options are invalid, or if AppendZone would
// fail, it returns an error and dst unchanged.
func AppendDNSEndpoints(dst []byte, t Table, zone ZoneOptions, o DNSEndpointOptions) ([]byte, error) {
	if err := o.validate(); err != nil {
		return dst, fmt.Errorf("routes: dns endpoints: %w", err)
	}
	z, err := zone.resolve()
	if err != nil {
		return dst, fmt.Errorf("routes: dns endpoints: %w", err)
	}
	sets, err := z.recordSets(t)
	if err != nil {
		return dst, fmt.Errorf("routes: dns endpoints: %w", err)
	}
	objects := make([][]byte, max(o.Objects, 1))
	for _, set := range sets {
		i := bucket(set.host, len(objects))
		objects[i] = o.appendRecord(objects[i], set, z.ttl)
	}
	for i, records := range objects {
		dst = o.appendHead(dst, i, len(objects))
		if len(records) == 0 {
			dst = append(dst, "  endpoints: []\n"...)
			continue
		}
		dst = append(append(dst, "  endpoints:\n"...), records...)
	}
	return dst, nil
}

// appendHead appends the beginning of object i of n, up to the line of the key "spec".
func (o DNSEndpointOptions) appendHead(dst []byte, i, n int) []byte {
	name := o.Name
	if n > 1 {
		name += "-" + strconv.Itoa(i)
	}
	dst = append(dst, "---\napiVersion: externaldns.k8s.io/v1alpha1\nkind: DNSEndpoint\nmetadata:\n"...)
	dst = appendField(dst, "  name: ", name)
	dst = appendField(dst, "  namespace: ", o.Namespace)
	return append(dst, "  labels: {app.kubernetes.io/managed-by: headgate}\nspec:\n"...)
}

func (o DNSEndpointOptions) appendRecord(dst []byte, set recordSet, ttl int64) []byte {
	dst = appendField(dst, "  - dnsName: ", set.host)
	dst = append(append(dst, "    recordType: "...), set.kind...)
	dst = strconv.AppendInt(append(dst, "\n    recordTTL: "...), ttl, 10)
	dst = append(dst, "\n    targets: ["...)
	for i, target := range set.data {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = appendScalar(dst, target)
	}
	dst = append(dst, "]\n"...)
	if o.SetIdentifier != "" {
		dst = appendField(dst, "    setIdentifier: ", o.SetIdentifier)
		dst = strconv.AppendInt(append(dst, "    providerSpecific: [{name: aws/weight, value: \""...), int64(o.Weight), 10)
		dst = append(dst, "\"}]\n"...)
	}
	return dst
}

// bucket returns the index of the object that contains a host, without regard to other hosts.
// Otherwise a new host could move another host to the next object. kubectl applies one object after
// the other, so neither object would contain the moved host for a moment, and external-dns would
// delete its records.
func bucket(host string, n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(host))
	return int(h.Sum32() % uint32(n))
}

var (
	dnsLabel     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	dnsSubdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	// setIdentifier matches a valid SetIdentifier. It matches no spaces, and no characters that YAML
	// would have to escape in quotes.
	setIdentifier = regexp.MustCompile(`^[!#-\[\]-~]{0,128}$`)
)

func (o DNSEndpointOptions) validate() error {
	switch {
	case !dnsLabel.MatchString(o.Namespace):
		return fmt.Errorf("namespace: %q is not the name of a namespace", o.Namespace)
	case !dnsSubdomain.MatchString(o.Name) || len(o.Name) > 240: // the number follows
		return fmt.Errorf("name: %q is not the name of an object of at most 240 characters", o.Name)
	case o.Objects < 0 || o.Objects > MaxDNSObjects:
		return fmt.Errorf("the number of objects %d is not from 1 to %d", o.Objects, MaxDNSObjects)
	case !setIdentifier.MatchString(o.SetIdentifier):
		return fmt.Errorf("set identifier: %q is not 1 to 128 printable ASCII characters without spaces, quotes and backslashes", o.SetIdentifier)
	case o.SetIdentifier == "" && o.Weight != 0:
		return errors.New("a weight needs a set identifier")
	case o.Weight < 0 || o.Weight > MaxDNSWeight:
		return fmt.Errorf("the weight %d is not from 0 to %d", o.Weight, MaxDNSWeight)
	}
	return nil
}
