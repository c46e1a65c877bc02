package manifest

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/headgate/headgate/nodeselect"
)

// coreKinds are the kinds of the apiVersion v1. Kinds of lists such as NodeList are not in the map.
var coreKinds = map[string]bool{
	"Binding": true, "ComponentStatus": true, "ConfigMap": true, "Endpoints": true, "Event": true,
	"LimitRange": true, "List": true, "Namespace": true, "Node": true, "PersistentVolume": true,
	"PersistentVolumeClaim": true, "Pod": true, "PodTemplate": true, "ReplicationController": true,
	"ResourceQuota": true, "Secret": true, "Service": true, "ServiceAccount": true,
}

// misfit returns a message if somebody has probably written an object by mistake in place of nodes,
// services or EndpointSlices. For a usual object of another kind, it returns "". data is the text
// of the object.
func misfit(data []byte, apiVersion, kind string) string {
	group, version, grouped := strings.Cut(apiVersion, "/")
	switch {
	case apiVersion == "v1" && kind == "Status":
		return statusMessage(data)
	case group == "meta.k8s.io" && kind == "Table":
		return "a Table, which the API server writes for people, instead of objects"
	case group == "meta.k8s.io" && strings.HasPrefix(kind, "PartialObjectMetadata"):
		return "PartialObjectMetadata, which lack all fields except metadata, instead of objects"
	}
	for _, known := range [...]struct{ group, apiVersion, kind string }{
		{"", "v1", "Node"}, {"", "v1", "Service"}, {"discovery.k8s.io", "discovery.k8s.io/v1", "EndpointSlice"},
	} {
		if !strings.EqualFold(kind, known.kind) && !strings.EqualFold(kind, known.kind+"s") {
			continue
		}
		if grouped && !strings.EqualFold(group, known.group) && strings.Contains(group, ".") {
			return "" // another API group has a kind of the same name
		}
		return fmt.Sprintf("apiVersion %.40q and kind %.40q: want %s and %s", apiVersion, kind, known.apiVersion, known.kind)
	}
	if apiVersion == "v1" && !coreKinds[kind] && !coreKinds[strings.TrimSuffix(kind, "List")] {
		return fmt.Sprintf("apiVersion v1 has no kind %.40q", kind)
	}
	if !grouped && apiVersion != "v1" && coreKinds[kind] || version == "" && grouped {
		return fmt.Sprintf("%.40q is no apiVersion of kind %s", apiVersion, kind)
	}
	return ""
}

// statusMessage returns a message about a Status: the object that the API server sends when it
// refuses a request.
func statusMessage(data []byte) string {
	var status struct{ Message, Reason string }
	_ = json.Unmarshal(data, &status) // without a message, the text says less
	text := "a Status, which is the answer to a failed request, instead of objects"
	if status.Message != "" {
		text += fmt.Sprintf(": %.200q", oneLine(status.Message))
	}
	return text
}

// mergeMisfits merges problems that follow each other and differ only in their line. Without
// mergeMisfits, a list of a wrong kind would give thousands of problems.
func mergeMisfits(problems []nodeselect.Problem) []nodeselect.Problem {
	var merged []nodeselect.Problem
	more := 0
	end := func() {
		if more > 0 {
			merged[len(merged)-1].Message += fmt.Sprintf(" (and %d more)", more)
		}
		more = 0
	}
	var last nodeselect.Problem
	for _, p := range problems {
		if p.Object == "" && p.Field == "" && p.Message == last.Message && len(merged) > 0 {
			more++
			continue
		}
		end()
		merged = append(merged, p)
		last = p
	}
	end()
	return merged
}
