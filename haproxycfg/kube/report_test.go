package kube_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/nodeselect"
)

// TestReportJSON compares AppendJSON with package json, field by field. So if somebody adds a field
// to a struct and not to AppendJSON, the test fails.
func TestReportJSON(t *testing.T) {
	full := kube.Report{
		Problems: []kube.Problem{{Message: "\n \"services\": []", Cluster: "eu-1", Warning: true}},
		Clusters: []kube.ClusterReport{{
			Name: "eu-1", Connectivity: kube.Connectivity{State: kube.LastKnown, Since: time.Unix(1, 0).UTC(), Reason: "x"}, Total: 3,
			Findings: []nodeselect.Finding{{Node: "a", Verdict: nodeselect.Avoid, Reason: "r"}},
			Nodes:    []kube.NodeReport{{Name: "a", Addr: netip.MustParseAddr("10.0.0.1"), Identity: "10.0.0.1", Services: 2}},
		}},
		Services: []kube.ServiceReport{
			{Ref: routes.Ref{Cluster: "eu-1", Namespace: "media", Service: "tracks", Port: "http"}, NodePort: 30080, AgentPort: 9801, WeightPercent: 100, Nodes: []string{"a", "b"}},
			{Ref: routes.Ref{Cluster: "a\"b\\c", Namespace: "<&>", Service: "\x01é\u2028", Port: "80"}, NodePort: 1, WeightPercent: -1, Nodes: []string{}},
		},
		Changes: &kube.Changes{Time: time.Unix(2, 0).UTC(), Services: []kube.ServiceChange{}, Causes: []kube.Cause{}},
		Refused: &kube.Changes{Reason: "r", Services: []kube.ServiceChange{{Added: true}}},
	}
	for name, report := range map[string]kube.Report{
		"full":        full,
		"no services": {Services: []kube.ServiceReport{}, Changes: full.Changes},
		"empty":       {},
	} {
		t.Run(name, func(t *testing.T) {
			if report.Services == nil {
				report.Services = []kube.ServiceReport{}
			}
			got, err := report.AppendJSON(nil)
			require.NoError(t, err)
			require.Equal(t, indented(t, report), string(got))
			after, err := report.AppendJSON([]byte("x"))
			require.NoError(t, err)
			require.Equal(t, "x"+string(got), string(after))
			want, err := json.Marshal(report)
			require.NoError(t, err)
			require.JSONEq(t, string(want), string(got))
			var again kube.Report
			require.NoError(t, json.Unmarshal(got, &again))
			require.Equal(t, report.Services, again.Services)
			require.True(t, strings.HasSuffix(string(got), "}\n"))
		})
	}
}

// indented returns the JSON that package json writes for a report, with the lines of each service
// joined.
func indented(t *testing.T, report kube.Report) string {
	services := report.Services
	report.Services = []kube.ServiceReport{{Ref: routes.Ref{Cluster: "here"}}}
	data, err := json.MarshalIndent(report, "", " ")
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(data), "\n \"services\": [")
	require.True(t, found)
	_, after, found := strings.Cut(rest, "\n ]")
	require.True(t, found)
	var lines []string
	for _, s := range services {
		data, err := json.Marshal(s)
		require.NoError(t, err)
		line := strings.NewReplacer(`":`, `": `, `,"`, `, "`).Replace(string(data))
		lines = append(lines, "\n  "+line)
	}
	end := ""
	if len(lines) > 0 {
		end = "\n "
	}
	return before + "\n \"services\": [" + strings.Join(lines, ",") + end + "]" + after + "\n"
}
