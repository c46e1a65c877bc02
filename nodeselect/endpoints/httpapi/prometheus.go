package httpapi

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/headgate/headgate/nodeselect"
)

// targetGroup is an element of an answer to Prometheus
// (https://prometheus.io/docs/prometheus/latest/http_sd/). Each group has one target, because every
// pod has its own labels.
type targetGroup struct {
	Targets [1]string    `json:"targets"`
	Labels  targetLabels `json:"labels"`
}

// targetLabels are the labels of a pod. After relabelling, Prometheus removes the labels that begin
// with "__". A label that is "" is the same as no label.
type targetLabels struct {
	Namespace   string `json:"__meta_headgate_namespace"`
	Service     string `json:"__meta_headgate_service"`
	Port        string `json:"__meta_headgate_port,omitempty"`
	Zone        string `json:"__meta_headgate_zone,omitempty"`
	Node        string `json:"__meta_headgate_node,omitempty"`
	Pod         string `json:"__meta_headgate_pod,omitempty"`
	Ready       string `json:"__meta_headgate_ready"`
	Terminating string `json:"__meta_headgate_terminating"`
}

// servePrometheus answers with all pods, or with the pods of one service. If the service is
// unknown, Prometheus gets 404 and keeps the targets that it has.
func (h *Handler) servePrometheus(w http.ResponseWriter, r *http.Request) {
	ref, err := refInPath(r)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	now := h.snapshot()
	var views []*view
	if ref == (nodeselect.Ref{}) {
		views = now.views()
	} else {
		svc, reason := now.find(ref)
		if reason != "" {
			fail(w, http.StatusNotFound, errors.New(reason))
			return
		}
		views = []*view{svc.view(ref)}
	}
	w.Header().Set("Age", strconv.FormatInt(now.source.age(), 10))
	body := append(marshal(targetsOf(views)), '\n')
	writeJSON(w, compresses(r, len(body)), body)
}

func targetsOf(views []*view) []targetGroup {
	groups := []targetGroup{} // Prometheus wants [] and not null
	for _, v := range views {
		for _, p := range v.pods {
			groups = append(groups, targetGroup{
				Targets: [1]string{p.Addr.String()},
				Labels: targetLabels{
					Namespace: v.ref.Namespace, Service: v.ref.Service, Port: v.ref.Port,
					Zone: p.Zone, Node: p.Node, Pod: p.Name,
					Ready: strconv.FormatBool(p.Ready), Terminating: strconv.FormatBool(p.Terminating),
				},
			})
		}
	}
	return groups
}
