package kube

import (
	"encoding/json"
	"strconv"
)

// AppendJSON appends the report to dst as indented JSON with a final line feed. Each service is
// one line. json.Unmarshal into a Report reads the result. Equal reports give equal bytes.
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
		{"changes", r.Changes, r.Changes == nil},
		{"refused", r.Refused, r.Refused == nil},
		{"budget", r.Budget, false},
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

// appendServices does not use package json for each service. Services are nearly the whole
// report, and every change writes the report.
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
	out = strconv.AppendInt(out, int64(s.Weight), 10)
	out = append(out, `, "nodes": [`...)
	for i, name := range s.Nodes {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = appendString(out, name)
	}
	return append(out, "]}"...)
}

// appendString quotes s as package json does. Kubernetes allows no character in names that needs
// an escape.
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
