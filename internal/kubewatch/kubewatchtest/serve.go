package kubewatchtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

var kindsOf = map[string]metav1.TypeMeta{
	"configmaps":     {Kind: "ConfigMap", APIVersion: "v1"},
	"nodes":          {Kind: "Node", APIVersion: "v1"},
	"services":       {Kind: "Service", APIVersion: "v1"},
	"endpointslices": {Kind: "EndpointSlice", APIVersion: "discovery.k8s.io/v1"},
}

// selection describes the objects that a request names: a resource, and selectors.
type selection struct {
	resource  string
	namespace string // "" means all namespaces
	fields    fields.Selector
	labels    labels.Selector
}

func (sel selection) matches(o Object) bool {
	set := fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()}
	switch o := o.(type) {
	case *corev1.Node:
		set["spec.unschedulable"] = fmt.Sprint(o.Spec.Unschedulable)
	case *corev1.Service:
		set["spec.type"] = string(o.Spec.Type)
		set["spec.clusterIP"] = o.Spec.ClusterIP
	}
	return (sel.namespace == "" || sel.namespace == o.GetNamespace()) && sel.fields.Matches(set) && sel.labels.Matches(labels.Set(o.GetLabels()))
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.serveConfigMap(w, r) {
		return
	}
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	query := r.URL.Query()
	sel := selection{resource: path[len(path)-1]}
	if n := len(path); n > 2 && path[n-3] == "namespaces" {
		sel.namespace = path[n-2]
	}
	var err1, err2 error
	sel.fields, err1 = fields.ParseSelector(query.Get("fieldSelector"))
	sel.labels, err2 = labels.Parse(query.Get("labelSelector"))
	if _, ok := kindsOf[sel.resource]; !ok || err1 != nil || err2 != nil || r.Method != http.MethodGet {
		writeStatus(w, http.StatusNotFound, metav1.StatusReasonNotFound, "not served here: "+r.URL.String())
		return
	}
	verb := "list"
	if query.Get("watch") == "true" {
		verb = "watch"
	}
	s.mu.Lock()
	if s.down { // a client that does not use Config
		s.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	object := ""
	if sel.resource == "configmaps" {
		name, _ := sel.fields.RequiresExactMatch("metadata.name")
		object = sel.namespace + "/" + name
	}
	s.requests = append(s.requests, Request{verb, sel.resource, query, object})
	// s.cut is the number of times that the Server has ended all watches. Read s.cut and s.refused
	// under one lock. Otherwise a test could call Refuse between the two reads: the watch that begins
	// below would have the new s.cut, so it would not end, although Refuse ends all watches.
	refused, noStream, silent, cut := cmp.Or(s.refused[verb], s.refused[sel.resource]), s.noStream, s.silent, s.cut
	s.mu.Unlock()
	switch {
	case refused != 0:
		reason := map[int]metav1.StatusReason{
			401: metav1.StatusReasonUnauthorized, 403: metav1.StatusReasonForbidden,
			410: metav1.StatusReasonExpired, 429: metav1.StatusReasonTooManyRequests,
			500: metav1.StatusReasonInternalError, 503: metav1.StatusReasonServiceUnavailable,
		}[refused]
		writeStatus(w, refused, reason, fmt.Sprintf("%s is refused with %d", verb, refused))
	case verb == "list":
		s.list(w, sel, query.Get("limit") == "1")
	case query.Get("sendInitialEvents") != "" && noStream:
		writeStatus(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "sendInitialEvents is forbidden")
	case silent:
		for s.wait(r, func() bool { return s.cut != cut }) {
			if s.isCut(cut) {
				return
			}
		}
	default:
		s.watch(w, r, sel, cut)
	}
}

// The method "wait" blocks until the function "done" returns true, and then returns true. If the
// request r ends earlier, the method returns false.
func (s *Server) wait(r *http.Request, done func() bool) bool {
	for {
		s.mu.Lock()
		ok, changed := done(), s.changed
		s.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return false
		}
	}
}

func (s *Server) isCut(cut int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut != cut
}

// matching returns the objects that match the selection of a request, sorted by namespace and name.
// The caller holds mu.
func (s *Server) matching(sel selection) []Object {
	var list []Object
	for key, o := range s.objects {
		if strings.HasPrefix(key, sel.resource+"/") && sel.matches(o) {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b Object) int {
		return strings.Compare(a.GetNamespace()+"/"+a.GetName(), b.GetNamespace()+"/"+b.GetName())
	})
	return list
}

func (s *Server) list(w http.ResponseWriter, sel selection, one bool) {
	s.mu.Lock()
	items, version := s.matching(sel), s.version
	s.mu.Unlock()
	kind := kindsOf[sel.resource]
	meta := metav1.ListMeta{ResourceVersion: strconv.FormatInt(version, 10)}
	if one && len(items) > 1 {
		left := int64(len(items) - 1)
		meta.RemainingItemCount, meta.Continue = &left, "more"
		items = items[:1]
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(struct {
		metav1.TypeMeta `json:",inline"`
		metav1.ListMeta `json:"metadata"`
		Items           []Object `json:"items"`
	}{metav1.TypeMeta{Kind: kind.Kind + "List", APIVersion: kind.APIVersion}, meta, items})
}

func (s *Server) watch(w http.ResponseWriter, r *http.Request, sel selection, cut int) {
	query := r.URL.Query()
	version, _ := strconv.ParseInt(query.Get("resourceVersion"), 10, 64)
	w.Header().Set("Content-Type", "application/json;stream=watch")
	w.WriteHeader(http.StatusOK)
	encoder := json.NewEncoder(w)
	send := func(kind string, o runtime.Object) {
		raw, _ := json.Marshal(o)
		if object, ok := o.(Object); ok {
			raw = withKind(raw, kindsOf[resourceOf(object)])
		}
		_ = encoder.Encode(metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: raw}})
	}
	s.mu.Lock()
	if query.Get("sendInitialEvents") == "true" {
		for _, o := range s.matching(sel) {
			send("ADDED", o)
		}
		version = s.version
		send("BOOKMARK", bookmark(sel.resource, version))
	} else if version < s.oldest || version > s.version { // version > s.version is possible after a restore
		s.mu.Unlock()
		send("ERROR", status(http.StatusGone, metav1.StatusReasonExpired, "too old resource version"))
		return
	}
	s.mu.Unlock()
	w.(http.Flusher).Flush()
	for s.wait(r, func() bool { return s.cut != cut || s.version > version && !s.silent }) {
		s.mu.Lock()
		if s.cut != cut {
			s.mu.Unlock()
			return
		}
		for _, e := range s.history {
			if e.version > version && e.resource == sel.resource {
				before, after := e.old != nil && sel.matches(e.old), e.object != nil && sel.matches(e.object)
				switch {
				case before && after:
					send("MODIFIED", e.object)
				case before:
					gone := e.old.DeepCopyObject().(Object)
					gone.SetResourceVersion(strconv.FormatInt(e.version, 10))
					send("DELETED", gone)
				case after:
					send("ADDED", e.object)
				}
			}
		}
		version = s.version
		s.mu.Unlock()
		w.(http.Flusher).Flush()
	}
}

// withKind adds the fields "kind" and "apiVersion" to an object in JSON. client-go's types of
// objects leave both fields empty.
func withKind(raw []byte, kind metav1.TypeMeta) []byte {
	head, _ := json.Marshal(kind)
	return append(append(head[:len(head)-1], ','), raw[1:]...)
}

// bookmark returns the object of the bookmark event that marks the end of a streamed list.
func bookmark(resource string, version int64) Object {
	var o Object
	switch resource {
	case "configmaps":
		o = &corev1.ConfigMap{}
	case "nodes":
		o = &corev1.Node{}
	case "services":
		o = &corev1.Service{}
	default:
		o = &discoveryv1.EndpointSlice{}
	}
	o.SetResourceVersion(strconv.FormatInt(version, 10))
	o.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	return o
}
