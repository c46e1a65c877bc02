package kubewatchtest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// serveConfigMap serves the verbs get, create and update of one ConfigMap. It returns false for all
// other requests.
func (s *Server) serveConfigMap(w http.ResponseWriter, r *http.Request) bool {
	_, path, ok := strings.Cut(r.URL.Path, "/api/v1/namespaces/")
	parts := strings.Split(path, "/")
	if !ok || len(parts) < 2 || parts[1] != "configmaps" {
		return false
	}
	var sent corev1.ConfigMap
	verb := map[string]string{http.MethodGet: "get", http.MethodPost: "create", http.MethodPut: "update"}[r.Method]
	switch {
	case verb == "get" && len(parts) == 3:
		sent.Namespace, sent.Name = parts[0], parts[2]
	case verb == "create" && len(parts) == 2, verb == "update" && len(parts) == 3:
		data, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
		if err != nil || json.Unmarshal(data, &sent) != nil {
			writeStatus(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "no ConfigMap")
			return true
		}
	default:
		return false
	}
	s.do(func() {
		if s.down {
			panic(http.ErrAbortHandler)
		}
		object := sent.Namespace + "/"
		if verb != "create" {
			object += sent.Name
		}
		s.requests = append(s.requests, Request{verb, "configmaps", r.URL.Query(), object})
		key := "configmaps/" + sent.Namespace + "/" + sent.Name
		old, found := s.objects[key]
		switch {
		case s.refused["configmaps"] != 0:
			writeStatus(w, s.refused["configmaps"], metav1.StatusReasonForbidden, verb+" is refused")
		case verb == "create" && found:
			writeStatus(w, http.StatusConflict, metav1.StatusReasonAlreadyExists, "it exists")
		case verb != "create" && !found:
			writeStatus(w, http.StatusNotFound, metav1.StatusReasonNotFound, "it does not exist")
		case verb == "update" && old.GetResourceVersion() != sent.ResourceVersion:
			writeStatus(w, http.StatusConflict, metav1.StatusReasonConflict, "it has changed")
		default:
			if verb != "get" {
				s.set(&sent)
			}
			now := s.objects[key].(*corev1.ConfigMap).DeepCopy()
			now.TypeMeta = kindsOf["configmaps"]
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(now)
		}
	})
	return true
}
