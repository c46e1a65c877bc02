package endpoints

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/headgate/headgate/nodeselect"
)

// Service holds the EndpointSlices of one service in a compact form. It is immutable, so two equal
// pointers mean that nothing has changed.
type Service struct {
	Namespace, Name string

	preferIPv6 bool
	slices     []*slice // sorted by name
	kept       []*slice // endpoints that a doubtful list lacks; see Tracker
}

// Services are services by name; a key is the Ref.Key of a service, "namespace/name".
type Services map[string]*Service

// Group makes a Service for each service, from its EndpointSlices. The label
// kubernetes.io/service-name of a slice names the service; Group ignores slices without this label.
// If several slices have the same name, Group uses only the last one.
//
// policy says which addresses are usable, and which family is preferred; AnyFamily means IPv4.
// Group does not use policy.Types.
func Group(list []*discoveryv1.EndpointSlice, policy nodeselect.AddressPolicy) Services {
	services := Services{}
	for _, s := range list {
		name := s.Labels[discoveryv1.LabelServiceName]
		if name == "" {
			continue
		}
		ref := nodeselect.Ref{Namespace: s.Namespace, Service: name}
		svc := services[ref.Key()]
		if svc == nil {
			svc = newService(s.Namespace, name, policy)
			services[ref.Key()] = svc
		}
		svc.put(parseSlice(s, policy))
	}
	return services
}

// Merge returns the pods of one service port from all EndpointSlices of the service, sorted by
// address, each address once. It does not read the label that names the service of a slice.
// Service.Pods describes the argument "port" and the result, and Group describes the argument
// "policy".
func Merge(list []*discoveryv1.EndpointSlice, port string, policy nodeselect.AddressPolicy) ([]Pod, []nodeselect.Problem) {
	svc := newService("", "", policy)
	for _, s := range list {
		svc.Namespace, svc.Name = s.Namespace, s.Labels[discoveryv1.LabelServiceName]
		svc.put(parseSlice(s, policy))
	}
	return svc.Pods(port)
}

// Pods returns the pods of a service port; see Service.Pods. If there is no such service, Pods
// returns a problem.
func (s Services) Pods(ref nodeselect.Ref) ([]Pod, []nodeselect.Problem) {
	svc := s[ref.Key()]
	if svc == nil {
		return nil, []nodeselect.Problem{{Object: "Service " + ref.Key(), Message: "there is no EndpointSlice of this service"}}
	}
	return svc.Pods(ref.Port)
}

func newService(namespace, name string, policy nodeselect.AddressPolicy) *Service {
	return &Service{Namespace: intern(namespace), Name: intern(name), preferIPv6: policy.Family == nodeselect.PreferIPv6}
}

// put adds or replaces a slice. Only the function that creates s may call put, because a finished
// Service is immutable.
func (s *Service) put(added *slice) {
	i, found := slices.BinarySearchFunc(s.slices, added.name, compareSlice)
	if found {
		s.slices[i] = added
		return
	}
	s.slices = slices.Insert(s.slices, i, added)
}

// The method "all" returns all known slices of the service. s.slices are the slices in the last
// list of the API server. This list may be incomplete (see package doubt), so s.kept has the
// endpoints that are missing in it.
func (s *Service) all() []*slice {
	if len(s.kept) == 0 {
		return s.slices
	}
	return slices.Concat(s.slices, s.kept)
}

func (s *Service) clone() *Service {
	c := *s
	c.slices = slices.Clone(s.slices)
	return &c
}

func (s *Service) equal(other *Service) bool {
	return s.Namespace == other.Namespace && s.Name == other.Name &&
		slices.EqualFunc(s.slices, other.slices, (*slice).equal) && slices.EqualFunc(s.kept, other.kept, (*slice).equal)
}

func compareSlice(s *slice, name string) int { return strings.Compare(s.name, name) }

// Ports returns the TCP ports of all EndpointSlices of the service, each once, sorted by name and
// number. A name can have several numbers: pods of different versions may listen on different
// ports.
func (s *Service) Ports() []Port {
	var ports []Port
	for _, slice := range s.all() {
		ports = append(ports, slice.ports...)
	}
	slices.SortFunc(ports, comparePorts)
	return slices.Compact(ports)
}

func comparePorts(a, b Port) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	return int(a.Number) - int(b.Number)
}

// Pods returns the pods of a service port, sorted by address, each address once.
//
// port is the name of a port, or the number of the port on which the pods listen. This number may
// differ from the port number of the Service. "" means the only TCP port of a slice. A slice
// without the port is a problem.
//
// Each problem that is not a warning means that some endpoints are ignored.
func (s *Service) Pods(port string) ([]Pod, []nodeselect.Problem) {
	var problems []nodeselect.Problem
	total, without := 0, 0
	all := s.all()
	for _, slice := range all {
		total += len(slice.endpoints)
		problems = append(problems, slice.problems...)
	}
	candidates := make([]candidate, 0, total)
	for _, slice := range all {
		number := slice.find(port)
		if number == 0 {
			without += len(slice.endpoints)
			continue
		}
		candidates = slice.appendCandidates(candidates, number)
	}
	if without > 0 {
		problems = append(problems, s.withoutPort(port, without))
	}
	return choose(candidates, s.preferIPv6), problems
}

func (s *slice) appendCandidates(candidates []candidate, port uint16) []candidate {
	for i := range s.endpoints {
		e := &s.endpoints[i]
		candidates = append(candidates, candidate{
			addr: netip.AddrPortFrom(e.addr, port), name: e.name, node: e.node, zone: e.zone, condition: e.condition, version: s.version,
		})
	}
	return candidates
}

// withoutPort returns a problem which says that n endpoints of the service cannot be used, because
// their EndpointSlices do not contain the port. The problem lists the ports that the service has.
func (s *Service) withoutPort(port string, n int) nodeselect.Problem {
	names := make([]string, 0, 4)
	for _, p := range s.Ports() {
		names = append(names, p.String())
	}
	has := "no TCP port"
	if len(names) > 0 {
		has = strings.Join(names, ", ")
	}
	what := fmt.Sprintf("no TCP port %.80q", port)
	if port == "" {
		what = "no port is named, and there is not exactly one TCP port"
	}
	return nodeselect.Problem{
		Object: "Service " + s.Namespace + "/" + s.Name, Field: "ports",
		Message: fmt.Sprintf("%s: %s ignored; the EndpointSlices have %s", what, count(n, "endpoint is", "endpoints are"), has),
	}
}
