package live

import (
	"testing"

	"github.com/stretchr/testify/require"
	discoveryv1 "k8s.io/api/discovery/v1"
)

func TestPodsOfAService(t *testing.T) {
	yes, no := true, false
	ready := discoveryv1.EndpointConditions{Ready: &yes}
	unknown := discoveryv1.EndpointConditions{}
	ending := discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}
	ended := discoveryv1.EndpointConditions{Ready: &no, Serving: &no, Terminating: &yes}
	starting := discoveryv1.EndpointConditions{Ready: &no}
	type nodes = map[string]discoveryv1.EndpointConditions
	for _, test := range []struct {
		name   string
		slices []nodes
		want   []string
	}{
		{"no EndpointSlice", nil, nil},
		{"ready", []nodes{{"a": ready, "b": unknown}}, []string{"a", "b"}},
		{"not ready", []nodes{{"a": ready, "b": ended, "c": starting}}, []string{"a"}},
		{"terminating pods are not used while others are ready", []nodes{{"a": ending}, {"b": ready}}, []string{"b"}},
		{"only terminating pods", []nodes{{"a": ending}, {"b": ending, "c": ended}}, []string{"a", "b"}},
		{"a node in two slices", []nodes{{"b": ready}, {"a": ready, "b": ending}}, []string{"a", "b"}},
		{"a pod without a node", []nodes{{"": ready}}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			reported := map[string][]string{}
			p := pods{changed: func(key string, nodes []string) { reported[key] = nodes }}
			p.setListed()
			p.setLocal("ns/s", true)
			for i, s := range test.slices {
				kept, wanted := trimSlice(testSlice("s", string(rune('a'+i)), s))
				require.True(t, wanted)
				p.setSlice("ns/"+kept.Name, kept)
			}
			require.Equal(t, test.want, reported["ns/s"])
			for i := range test.slices {
				p.setSlice("ns/"+string(rune('a'+i)), nil)
			}
			require.Empty(t, reported["ns/s"])
			require.Empty(t, p.byKey)
			require.Empty(t, p.slices)
		})
	}
}

func TestPodsAreReportedForLocalServices(t *testing.T) {
	type nodes = map[string]discoveryv1.EndpointConditions
	var reported []string
	p := pods{changed: func(key string, nodes []string) { reported = append(reported, key) }}
	p.setLocal("ns/early", true)
	p.setSlice("ns/1", testSlice("early", "1", nodes{"a": {}}))
	p.setSlice("ns/2", testSlice("other", "2", nodes{"a": {}}))
	require.Empty(t, reported, "not before all EndpointSlices are known")
	p.setListed()
	require.Equal(t, []string{"ns/early"}, reported)
	p.setLocal("ns/other", true)
	require.Equal(t, []string{"ns/early", "ns/other"}, reported)
	p.setSlice("ns/2", testSlice("other", "2", nodes{"a": {}}))
	require.Len(t, reported, 2, "the same nodes")
	p.setSlice("ns/2", testSlice("early", "2", nodes{"b": {}}))
	require.Equal(t, []string{"ns/other", "ns/early"}, reported[2:], "an EndpointSlice that changes its service")
	p.setLocal("ns/early", false)
	require.Equal(t, "ns/early", reported[4])
	p.setSlice("ns/1", nil)
	require.Len(t, reported, 5)
}
