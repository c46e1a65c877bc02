package kube

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/certs"
	"github.com/headgate/headgate/haproxycfg/edge"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// Report describes the result of Build: the services and nodes of the configuration, and the reason
// for everything that Build left out. A program stores it as JSON next to the configuration. The
// same input makes the same report.
type Report struct {
	// Problems are all faults that Build found, sorted by file and line, then by cluster and
	// object.
	Problems []Problem `json:"problems"`
	// Clusters are sorted by name.
	Clusters []ClusterReport `json:"clusters"`
	// Services are the service ports that have a node port and to which at least one route refers.
	// They are sorted by ServiceReport.Ref.
	Services []ServiceReport `json:"services"`
	// Applied identifies the configuration in force. Build leaves it nil: the program that applies
	// the configuration sets it.
	Applied *Applied `json:"applied,omitempty"`
	// Held describes the hold, an order to keep the routes of an earlier time in force. It is nil
	// without a hold. Build leaves it nil; see AddHeld.
	Held *Held `json:"held,omitempty"`
	// Changes contains the last change and its causes. Build leaves it nil: the program that
	// applies the configuration sets it.
	Changes *Changes `json:"changes,omitempty"`
	// Refused is a change that is not in force, because a limit or HAProxy has refused it. Build
	// leaves it nil: the program that applies the configuration sets it.
	Refused *Changes `json:"refused,omitempty"`
	// Budget is the number of checks a second that HAProxy has to make because of the
	// configuration.
	Budget Budget `json:"budget"`
	// Certificates are the certificates that HAProxy can use, in the order in which HAProxy prefers
	// them. Build leaves the field nil; see AddCertificates.
	Certificates []certs.Record `json:"certificates,omitempty"`
}

// Applied identifies the configuration that HAProxy runs. If the program has refused a later
// change, the Report that contains Applied still lists the clusters and services of the
// configuration that HAProxy runs.
type Applied struct {
	// ID identifies the files of the configuration. Equal configurations have equal IDs.
	ID string `json:"id"`
	// Time is the time at which the program applied the configuration.
	Time time.Time `json:"time"`
}

// Held describes a hold: somebody has ordered that the declared routes of an earlier time stay in
// force.
type Held struct {
	// ID is the ID of a configuration with the held routes, and Applied is the time at which a
	// program applied that configuration.
	ID      string    `json:"id"`
	Applied time.Time `json:"applied"`
	// Since is the time at which somebody ordered the hold. By is the name of this person or
	// program, and Reason is the reason for the hold. By and Reason may be empty.
	Since  time.Time `json:"since"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

// Problem is one fault and its place. A Problem implements the interface error.
type Problem struct {
	// File and Line are the place of the fault in a declaration or a manifest. They are "" and 0 if
	// the place is unknown.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Cluster and Object name the faulty object of a cluster: "Node a" or "Service media/tracks". If
	// File is a certificate, Object is CertificateObject.
	Cluster string `json:"cluster,omitempty"`
	Object  string `json:"object,omitempty"`
	// Field is the path of the faulty field. It is "" if unknown.
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
	// Warning is false if Build has left out an entry because of the problem, and true otherwise.
	Warning bool `json:"warning,omitempty"`
}

// CertificateObject is the value of Problem.Object if the problem is about a certificate.
const CertificateObject = "Certificate"

// Error returns "file:line: cluster: object: field: message". It leaves out unknown parts.
func (p Problem) Error() string {
	place := p.File
	if place != "" && p.Line > 0 {
		place += ":" + strconv.Itoa(p.Line)
	}
	parts := slices.DeleteFunc([]string{place, p.Cluster, p.Object, p.Field, p.Message}, func(s string) bool { return s == "" })
	return strings.Join(parts, ": ")
}

// ClusterReport describes the nodes of a cluster.
type ClusterReport struct {
	Name         string       `json:"name"`
	Connectivity Connectivity `json:"contact,omitzero"`
	// Total is the number of the cluster's nodes. Eligible, Avoid, Excluded and Unusable are the
	// numbers of the nodes with the nodeselect.Verdict of the same name.
	Total    int `json:"total"`
	Eligible int `json:"eligible"`
	Avoid    int `json:"avoid"`
	Excluded int `json:"excluded"`
	Unusable int `json:"unusable"`
	// Findings contain, for every node whose nodeselect.Verdict is not Eligible, the Verdict and
	// the reason. They are sorted by the name of the node.
	Findings []nodeselect.Finding `json:"findings"`
	// Nodes are the nodes that are in the subset of at least one service, sorted by name.
	Nodes []NodeReport `json:"nodes"`
}

// NodeReport describes a node that is in the subset of at least one service.
type NodeReport struct {
	Name     string     `json:"name"`
	Addr     netip.Addr `json:"addr"`
	Zone     string     `json:"zone,omitempty"`
	Identity string     `json:"identity"`
	// Services is the number of services that have the node in their subset. A hash chooses the
	// subsets, so the number is not the same for all nodes.
	Services int `json:"services"`
}

// ServiceReport describes a service port that routes name.
type ServiceReport struct {
	routes.Ref
	NodePort  uint16 `json:"nodePort"`
	AgentPort uint16 `json:"agentPort,omitempty"`
	// WeightPercent is the weight in the annotation of the service, from 0 to 256 percent. The
	// agents of the service answer with this weight.
	WeightPercent int `json:"weight"`
	// Nodes are the names of the nodes in the service's subset, sorted.
	Nodes []string `json:"nodes"`
	// NodeWeights are the weights of the nodes in Nodes, in the order of Nodes. Empty means that
	// all nodes have the same weight; see nodeselect.Node.
	NodeWeights []int `json:"nodeWeights,omitempty"`
}

// AddRoutes adds the problems of declarations to the report.
func (r *Report) AddRoutes(problems []routes.Problem) {
	for _, p := range problems {
		r.add(Problem{File: p.File, Line: p.Line, Field: p.Field, Message: p.Message})
	}
	r.sort()
}

// AddManifests adds the problems of a cluster's manifests to the report.
func (r *Report) AddManifests(cluster string, problems []nodeselect.Problem) {
	for _, p := range problems {
		r.add(problemOf(cluster, p))
	}
	r.sort()
}

// AddCertificates adds the certificates of HAProxy, and their problems, to the report.
func (r *Report) AddCertificates(c certs.Choice) {
	r.Certificates = c.Records
	for _, p := range c.Problems {
		r.add(Problem{File: p.File, Object: CertificateObject, Message: p.Message, Warning: p.Warning})
	}
	r.sort()
}

// AddHeld sets Report.Held, and adds a warning to the report. The argument "text" is the message of
// the warning.
func (r *Report) AddHeld(held Held, text string) {
	r.Held = &held
	r.add(Problem{Message: text, Warning: true})
	r.sort()
}

// addWeightless reports routes whose weights are all 0. Build still serves such routes, because
// somebody may use the weight 0 to take a service out of use.
func (r *Report) addWeightless(groups edge.Groups) {
	weightless := make([]bool, groups.Len())
	for i := range weightless {
		weightless[i] = !slices.ContainsFunc(groups.First(i).Backends, func(b routes.Backend) bool { return b.Weight > 0 })
	}
	if !slices.Contains(weightless, true) {
		return
	}
	for i, route := range groups.Table().Routes() {
		if weightless[groups.Of(i)] {
			r.add(Problem{
				File: route.Position.File, Line: route.Position.Line, Field: "backends", Warning: true,
				Message: route.Host + route.Path + " answers 503: all its weights are 0",
			})
		}
	}
}

// addProtocols adds a warning for each route whose protocol differs from the appProtocol of its
// service port. HAProxy uses the protocol of the route. appProtocols contains the service ports
// that have an appProtocol.
func (r *Report) addProtocols(table routes.Table, appProtocols map[routes.Ref]string) {
	if len(appProtocols) == 0 {
		return
	}
	for _, route := range table.Routes() {
		for _, b := range route.Backends {
			advice := protocolAdvice(route.Protocol, appProtocols[b.Ref])
			if advice == "" {
				continue
			}
			r.add(Problem{
				File: route.Position.File, Line: route.Position.Line, Field: "protocol", Warning: true,
				Message: fmt.Sprintf("the appProtocol of %s is %q, but the protocol of the route is %s: %s",
					b.Ref, appProtocols[b.Ref], cmp.Or(string(route.Protocol), "http1"), advice),
			})
		}
	}
}

// protocolAdvice returns "" if a route with this protocol can reach a service port with this
// appProtocol. Otherwise it returns what to do. The known names of appProtocol come from the
// Kubernetes documentation, and from Istio, which reads the same field.
func protocolAdvice(p routes.Protocol, app string) string {
	switch strings.ToLower(app) {
	case "", "http", "kubernetes.io/ws", "tcp":
		return ""
	case "kubernetes.io/h2c", "h2c", "http2":
		if p == routes.HTTP1 {
			return "declare protocol: h2c or grpc"
		}
		return ""
	case "grpc", "kubernetes.io/grpc":
		if p != routes.GRPC {
			return "declare protocol: grpc"
		}
		return ""
	}
	return "HAProxy sends HTTP without TLS, which the port may not understand"
}

func problemOf(cluster string, p nodeselect.Problem) Problem {
	return Problem{
		File: p.File, Line: p.Line, Cluster: cluster, Object: p.Object,
		Field: p.Field, Message: p.Message, Warning: p.Warning,
	}
}

func (r *Report) add(p Problem) { r.Problems = append(r.Problems, p) }

// sort sorts all lists of the report, so that their order does not depend on the order in which
// Build got the clusters and routes.
func (r *Report) sort() {
	slices.SortStableFunc(r.Clusters, func(a, b ClusterReport) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(r.Services, func(a, b ServiceReport) int { return a.Ref.Compare(b.Ref) })
	slices.SortStableFunc(r.Problems, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Cluster, b.Cluster),
			cmp.Compare(a.Object, b.Object),
			cmp.Compare(a.Field, b.Field),
		)
	})
}

func (r *Report) addSelection(c Cluster, s nodeselect.Selection) {
	for _, p := range s.Problems {
		r.add(problemOf(c.Name, p))
	}
	cluster := ClusterReport{
		Name: c.Name, Connectivity: c.Connectivity, Total: cmp.Or(len(c.Objects.Nodes), c.Total),
		Findings: append([]nodeselect.Finding{}, s.Findings...),
	}
	for _, f := range s.Findings {
		switch f.Verdict {
		case nodeselect.Avoid:
			cluster.Avoid++
		case nodeselect.Excluded:
			cluster.Excluded++
		case nodeselect.Unusable:
			cluster.Unusable++
		}
	}
	cluster.Eligible = cluster.Total - len(s.Findings)
	cluster.Nodes = nodesInUse(s)
	r.Clusters = append(r.Clusters, cluster)

	for _, t := range s.Targets {
		service := ServiceReport{
			Ref:           routeRef(c.Name, t.Ref),
			NodePort:      t.NodePort,
			AgentPort:     t.AgentPort,
			WeightPercent: t.WeightPercent,
			Nodes:         make([]string, len(t.Nodes)),
		}
		for i, n := range t.Nodes {
			service.Nodes[i] = n.Name
			if n.Weight > 0 {
				service.NodeWeights = append(service.NodeWeights, n.Weight)
			}
		}
		r.Services = append(r.Services, service)
	}
}

// nodesInUse returns the nodes of all subsets, with the number of services on each node. A service
// with several ports counts once.
func nodesInUse(s nodeselect.Selection) []NodeReport {
	nodes := []NodeReport{}
	index := map[string]int{} // keys are Identities, which are unique within a selection
	for _, subset := range s.Subsets() {
		for i := range subset {
			n := &subset[i]
			at, ok := index[n.Identity]
			if !ok {
				at = len(nodes)
				index[n.Identity] = at
				nodes = append(nodes, NodeReport{Name: n.Name, Addr: n.Addr, Zone: n.Zone, Identity: n.Identity})
			}
			nodes[at].Services++
		}
	}
	slices.SortFunc(nodes, func(a, b NodeReport) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Identity, b.Identity))
	})
	return nodes
}

// AppendJSON appends the report to dst as indented JSON with a final line feed, and with each
// service on one line. json.Unmarshal can read it into a Report. Equal reports give equal bytes.
func (r Report) AppendJSON(dst []byte) ([]byte, error) {
	if r.Services == nil {
		r.Services = []ServiceReport{}
	}
	out := append(dst, '{')
	for i, member := range []struct {
		name  string
		value any
		omit  bool
	}{
		{"problems", r.Problems, false},
		{"clusters", r.Clusters, false},
		{"services", r.Services, false},
		{"applied", r.Applied, r.Applied == nil},
		{"held", r.Held, r.Held == nil},
		{"changes", r.Changes, r.Changes == nil},
		{"refused", r.Refused, r.Refused == nil},
		{"budget", r.Budget, false},
		{"certificates", r.Certificates, len(r.Certificates) == 0},
	} {
		if member.omit {
			continue
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, "\n \""...)
		out = append(out, member.name...)
		out = append(out, `": `...)
		if services, ok := member.value.([]ServiceReport); ok {
			out = appendServices(out, services)
			continue
		}
		value, err := json.MarshalIndent(member.value, " ", " ")
		if err != nil {
			return dst, err
		}
		out = append(out, value...)
	}
	return append(out, "\n}\n"...), nil
}

// appendServices writes JSON without package json. A program writes the report at each change of
// the configuration, and package json would be slow for thousands of services.
func appendServices(out []byte, services []ServiceReport) []byte {
	out = append(out, '[')
	for i := range services {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, "\n  "...)
		out = appendService(out, &services[i])
	}
	if len(services) > 0 {
		out = append(out, "\n "...)
	}
	return append(out, ']')
}

func appendService(out []byte, s *ServiceReport) []byte {
	out = append(out, `{"cluster": `...)
	out = appendString(out, s.Cluster)
	out = append(out, `, "namespace": `...)
	out = appendString(out, s.Namespace)
	out = append(out, `, "service": `...)
	out = appendString(out, s.Service)
	out = append(out, `, "port": `...)
	out = appendString(out, s.Port)
	out = append(out, `, "nodePort": `...)
	out = strconv.AppendUint(out, uint64(s.NodePort), 10)
	if s.AgentPort != 0 {
		out = append(out, `, "agentPort": `...)
		out = strconv.AppendUint(out, uint64(s.AgentPort), 10)
	}
	out = append(out, `, "weight": `...)
	out = strconv.AppendInt(out, int64(s.WeightPercent), 10)
	out = append(out, `, "nodes": [`...)
	for i, name := range s.Nodes {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = appendString(out, name)
	}
	if len(s.NodeWeights) > 0 {
		out = append(out, `], "nodeWeights": [`...)
		for i, weight := range s.NodeWeights {
			if i > 0 {
				out = append(out, ", "...)
			}
			out = strconv.AppendInt(out, int64(weight), 10)
		}
	}
	return append(out, "]}"...)
}

// appendString appends s as a JSON string. Names in Kubernetes contain no characters that JSON must
// escape, so appendString copies s between quotes. If s does contain such a character, appendString
// uses package json.
func appendString(out []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // no string fails
			return append(out, quoted...)
		}
	}
	out = append(out, '"')
	out = append(out, s...)
	return append(out, '"')
}
