package main

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/headgate/headgate/haproxycfg/kube"
)

// encodeReport gives a report as JSON, each service on a line of its own: they are
// nearly all of it, and it is written after each change.
func encodeReport(report kube.Report) ([]byte, error) {
	services := report.Services
	report.Services = []kube.ServiceReport{}
	data, err := json.MarshalIndent(report, "", " ")
	if err != nil {
		return nil, err
	}
	// A line of the outermost object, since it is indented by one space alone.
	const empty = "\n \"services\": []"
	i := bytes.Index(data, []byte(empty)) + len(empty) - 1
	out := make([]byte, 0, len(data)+600*len(services)+2)
	out = append(out, data[:i]...)
	for n := range services {
		if n > 0 {
			out = append(out, ',')
		}
		out = append(out, "\n  "...)
		out = appendService(out, &services[n])
	}
	if len(services) > 0 {
		out = append(out, "\n "...)
	}
	return append(append(out, data[i:]...), '\n'), nil
}

func appendService(out []byte, s *kube.ServiceReport) []byte {
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

// appendString quotes a string; names of Kubernetes need no escapes.
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
