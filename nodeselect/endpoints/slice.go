package endpoints

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/headgate/headgate/nodeselect"
)

// slice holds the parts of an EndpointSlice that this package needs, in a compact form. It is
// immutable.
type slice struct {
	namespace, name string
	version         string // resource version; "" if it is missing or cannot be compared
	ports           []Port // TCP ports with a number
	endpoints       []endpoint
	problems        []nodeselect.Problem
}

// Port is a TCP port of an EndpointSlice.
type Port struct {
	Name   string // name of the service port; may be ""
	Number uint16 // number of the port on which the pods listen
}

// String returns "name (number)", or only the number if the port has no name.
func (p Port) String() string {
	if p.Name == "" {
		return strconv.Itoa(int(p.Number))
	}
	return p.Name + " (" + strconv.Itoa(int(p.Number)) + ")"
}

type endpoint struct {
	addr             netip.Addr
	name, node, zone string
	condition        condition
}

// parseSlice reads an EndpointSlice. The result shares no memory with s except strings.
func parseSlice(s *discoveryv1.EndpointSlice, policy nodeselect.AddressPolicy) *slice {
	parsed := &slice{namespace: intern(s.Namespace), name: s.Name}
	if _, err := resourceversion.CompareResourceVersion(s.ResourceVersion, s.ResourceVersion); err == nil {
		parsed.version = s.ResourceVersion
	}
	if s.AddressType != discoveryv1.AddressTypeIPv4 && s.AddressType != discoveryv1.AddressTypeIPv6 {
		if len(s.Endpoints) > 0 {
			parsed.problem("addressType", fmt.Sprintf("%.20q: only IPv4 and IPv6 are used, so %s ignored", s.AddressType, count(len(s.Endpoints), "endpoint is", "endpoints are")))
		}
		return parsed
	}
	for i := range s.Ports {
		parsed.addPort(&s.Ports[i])
	}
	parsed.addEndpoints(s, policy)
	return parsed
}

func (s *slice) addPort(p *discoveryv1.EndpointPort) {
	port := Port{Name: intern(value(p.Name))}
	switch {
	case p.Protocol != nil && *p.Protocol != "" && *p.Protocol != corev1.ProtocolTCP:
		return
	case p.Port == nil: // the API lets each consumer decide what a port without a number means
		s.problem("ports.port", fmt.Sprintf("port %.80q has no number", port.Name))
	case *p.Port < 1 || *p.Port > 65535:
		s.problem("ports.port", fmt.Sprintf("port %.80q: %d is not a port number", port.Name, *p.Port))
	default:
		port.Number = uint16(*p.Port)
		s.ports = append(s.ports, port)
	}
}

func (s *slice) addEndpoints(from *discoveryv1.EndpointSlice, policy nodeselect.AddressPolicy) {
	s.endpoints = make([]endpoint, 0, len(from.Endpoints))
	var refused, warned int
	var refusal, warning string // the first refusal and the first warning
	for i := range from.Endpoints {
		e := &from.Endpoints[i]
		addr, warn, err := addressOf(e, from.AddressType, policy)
		if err != nil {
			if refused++; refused == 1 {
				refusal = fmt.Sprintf("endpoint %d: %v", i, err)
			}
			continue
		}
		if warn != "" {
			if warned++; warned == 1 {
				warning = warn
			}
		}
		s.endpoints = append(s.endpoints, endpoint{
			addr: addr, name: podName(from.Namespace, e.TargetRef), node: intern(value(e.NodeName)), zone: intern(value(e.Zone)),
			condition: conditionOf(&e.Conditions),
		})
	}
	if refused > 0 {
		s.problem("endpoints.addresses", refusal+"; "+count(refused, "endpoint is", "endpoints are")+" ignored")
	}
	if warned > 0 {
		s.problem("endpoints.addresses", warning+"; "+count(warned, "endpoint is", "endpoints are")+" affected")
		s.problems[len(s.problems)-1].Warning = true
	}
}

// addressOf returns the first address of an endpoint. The API defines no meaning for further
// addresses.
func addressOf(e *discoveryv1.Endpoint, family discoveryv1.AddressType, policy nodeselect.AddressPolicy) (addr netip.Addr, warning string, err error) {
	if len(e.Addresses) == 0 {
		return addr, "", errors.New("no address")
	}
	addr, warning, err = policy.Parse(e.Addresses[0])
	if err == nil && addr.Is4() != (family == discoveryv1.AddressTypeIPv4) {
		err = fmt.Errorf("%s is not an %s address", addr, family)
	}
	return addr, warning, err
}

// conditionOf returns the conditions of an endpoint. If ready is missing, it is true. If
// terminating is missing, it is false.
//
// If serving is missing, it has the value of ready, as the API up to Kubernetes 1.32 defines. In
// later versions, a missing serving means true, but then an endpoint that is not ready would count
// as serving.
func conditionOf(c *discoveryv1.EndpointConditions) condition {
	var bits condition
	isReady := c.Ready == nil || *c.Ready
	if isReady {
		bits |= ready
	}
	if c.Serving == nil && isReady || c.Serving != nil && *c.Serving {
		bits |= serving
	}
	if c.Terminating != nil && *c.Terminating {
		bits |= terminating
	}
	return bits
}

// podName returns the name of the Pod object in a reference, or "" if the reference is to another
// kind of object or to another namespace.
func podName(namespace string, ref *corev1.ObjectReference) string {
	if ref == nil || ref.Kind != "Pod" || ref.Namespace != "" && ref.Namespace != namespace {
		return ""
	}
	return ref.Name
}

func (s *slice) equal(other *slice) bool {
	return s.namespace == other.namespace && s.name == other.name && s.version == other.version &&
		slices.Equal(s.ports, other.ports) && slices.Equal(s.endpoints, other.endpoints) && slices.Equal(s.problems, other.problems)
}

// find returns the number of the port on which the pods listen, or 0 if the slice has no such port.
// port is its name or number, or "" for the only port; see Service.Pods.
func (s *slice) find(port string) uint16 {
	if port == "" {
		if len(s.ports) != 1 {
			return 0
		}
		return s.ports[0].Number
	}
	for _, p := range s.ports {
		if p.Name == port {
			return p.Number
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err == nil && slices.ContainsFunc(s.ports, func(p Port) bool { return p.Number == uint16(n) }) {
		return uint16(n)
	}
	return 0
}

func (s *slice) problem(field, message string) {
	s.problems = append(s.problems, nodeselect.Problem{
		Object: "EndpointSlice " + s.namespace + "/" + s.name, Field: field, Message: message,
	})
}

// intern returns a copy of s that all equal strings share. Without it, each endpoint would keep its
// own copies of the names of node and zone.
func intern(s string) string {
	if s == "" {
		return ""
	}
	return unique.Make(s).Value()
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// count returns n and a noun, in the singular if n is 1.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
