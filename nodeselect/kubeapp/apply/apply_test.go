package apply_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/nodeselect/kubeapp"
	"github.com/headgate/headgate/nodeselect/kubeapp/apply"
)

// api is an API server that holds objects by path. It answers as the real one does in the scenario
// kubeapp of examples/e2e.
type api struct {
	mu       sync.Mutex
	objects  map[string]map[string]any
	requests []string // method, path and query of each request that changes something, also of dry runs
	refuse   map[string]string
	expire   bool // the next request for a further page of a list gets 410
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	answer := func(code int, body any) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(body)
	}
	status := func(code int, reason string, details any) {
		answer(code, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason, "details": details})
	}
	path := r.URL.Path
	switch {
	case r.Method == http.MethodGet && (strings.HasSuffix(path, "/services") || strings.HasSuffix(path, "/deployments")):
		a.list(r, answer, status)
	case r.Method == http.MethodGet && a.objects[path] == nil:
		status(http.StatusNotFound, "NotFound", nil)
	case r.Method == http.MethodGet:
		answer(http.StatusOK, a.objects[path])
	case r.Method == http.MethodPatch && r.Header.Get("Content-Type") == "application/apply-patch+yaml":
		query := r.URL.Query()
		a.requests = append(a.requests, fmt.Sprintf("%s manager=%s force=%s dryRun=%s", path, query.Get("fieldManager"), query.Get("force"), query.Get("dryRun")))
		if namespace, _, ok := strings.Cut(strings.TrimPrefix(path, "/api/v1/namespaces/"), "/"); ok && strings.HasPrefix(path, "/api/v1/") && a.objects["/api/v1/namespaces/"+namespace] == nil {
			status(http.StatusNotFound, "NotFound", nil)
			return
		}
		if other := a.refuse[path]; other != "" && query.Get("force") != "true" {
			status(http.StatusConflict, "Conflict", map[string]any{"causes": []map[string]string{
				{"reason": "FieldManagerConflict", "message": `conflict with "` + other + `" using apps/v1`, "field": ".spec.replicas"},
			}})
			return
		}
		var object map[string]any
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &object); err != nil {
			status(http.StatusBadRequest, "BadRequest", nil)
			return
		}
		w.Header().Set("Warning", `299 - "spec is odd"`)
		if query.Get("dryRun") == "" {
			a.objects[path] = object
		}
		answer(http.StatusOK, object)
	default:
		status(http.StatusMethodNotAllowed, "MethodNotAllowed", nil)
	}
}

// The method "list" answers with one page of a list. A page has one object.
func (a *api) list(r *http.Request, answer func(int, any), status func(int, string, any)) {
	kind, group := "Service", "v1"
	if strings.HasSuffix(r.URL.Path, "/deployments") {
		kind, group = "Deployment", "apps/v1"
	}
	item := func(name string) map[string]any {
		return map[string]any{"kind": kind, "apiVersion": group, "metadata": map[string]any{"name": name, "namespace": "media"}}
	}
	meta, name := map[string]any{}, "b"
	if r.URL.Query().Get("continue") == "" {
		meta["continue"], name = "next", "a"
	} else if a.expire {
		a.expire = false
		status(http.StatusGone, "Expired", nil)
		return
	}
	answer(http.StatusOK, map[string]any{"kind": kind + "List", "apiVersion": group, "metadata": meta, "items": []any{item(name)}})
}

func start(t *testing.T) (*api, *apply.Applier, *[]string) {
	t.Helper()
	a := &api{objects: map[string]map[string]any{}, refuse: map[string]string{}}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	warnings := &[]string{}
	applier, err := apply.New(&rest.Config{Host: server.URL}, func(text string) { *warnings = append(*warnings, text) })
	require.NoError(t, err)
	return a, applier, warnings
}

func objects(t *testing.T, image string) []kubeapp.Object {
	t.Helper()
	app := kubeapp.App{Name: "tracks", Namespace: "media", Image: image, Replicas: 1, Ports: []kubeapp.Port{{Name: "http", Number: 80}}}
	o, err := app.Objects()
	require.NoError(t, err)
	return o.List()
}

const (
	namespacePath  = "/api/v1/namespaces/media"
	servicePath    = "/api/v1/namespaces/media/services/tracks"
	deploymentPath = "/apis/apps/v1/namespaces/media/deployments/tracks"
)

func TestApply(t *testing.T) {
	server, a, warnings := start(t)
	a.DryRun = true
	results, err := a.Apply(t.Context(), objects(t, "tracks:1")...)
	require.NoError(t, err)
	require.Equal(t, []apply.Result{{"Namespace media", apply.Created}, {"Service media/tracks", apply.Unknown}, {"Deployment media/tracks", apply.Unknown}}, results)
	require.Empty(t, server.objects)

	a.DryRun, server.requests = false, nil
	results, err = a.Apply(t.Context(), objects(t, "tracks:1")...)
	require.NoError(t, err)
	require.Equal(t, []apply.Result{{"Namespace media", apply.Created}, {"Service media/tracks", apply.Created}, {"Deployment media/tracks", apply.Created}}, results)
	const options = " manager=headgate-kubeapp force=false dryRun="
	require.Equal(t, []string{
		namespacePath + options, servicePath + options + "All", deploymentPath + options + "All", servicePath + options, deploymentPath + options,
	}, server.requests)
	require.Len(t, server.objects, 3)
	require.NotContains(t, server.objects[deploymentPath], "status")
	require.Contains(t, *warnings, "spec is odd")

	changed := []apply.Result{{"Namespace media", apply.Unchanged}, {"Service media/tracks", apply.Unchanged}, {"Deployment media/tracks", apply.Changed}}
	a.DryRun = true
	results, err = a.Apply(t.Context(), objects(t, "tracks:2")...)
	require.NoError(t, err)
	require.Equal(t, changed, results)
	a.DryRun = false
	results, err = a.Apply(t.Context(), objects(t, "tracks:2")...)
	require.NoError(t, err)
	require.Equal(t, changed, results)
}

func TestConflict(t *testing.T) {
	server, a, _ := start(t)
	_, err := a.Apply(t.Context(), objects(t, "tracks:1")...)
	require.NoError(t, err)
	server.refuse[servicePath], server.refuse[deploymentPath] = "kubectl-edit", "kubectl-scale"
	server.requests = nil
	results, err := a.Apply(t.Context(), objects(t, "tracks:2")...)
	require.Empty(t, results)
	conflict, ok := errors.AsType[*apply.ConflictError](err)
	require.True(t, ok)
	require.Equal(t, []apply.Conflict{{Field: ".spec.replicas", Manager: `"kubectl-edit" using apps/v1`}}, conflict.Conflicts)
	require.ErrorContains(t, err, "apply: Service media/tracks: other programs have set fields to other values:\n"+`  .spec.replicas belongs to "kubectl-edit" using apps/v1`)
	require.ErrorContains(t, err, `  .spec.replicas belongs to "kubectl-scale" using apps/v1`)
	for _, r := range server.requests {
		require.Contains(t, r, "dryRun=All", "nothing is applied")
	}
	a.Force, a.FieldManager = true, "other"
	_, err = a.Apply(t.Context(), objects(t, "tracks:2")...)
	require.NoError(t, err)
	require.Contains(t, server.requests, deploymentPath+" manager=other force=true dryRun=")
}

func TestRead(t *testing.T) {
	server, a, _ := start(t)
	server.expire = true
	read, err := a.Read(t.Context(), "media")
	require.NoError(t, err)
	require.Len(t, read.Services, 2)
	require.Equal(t, "b", read.Services[1].Name)
	require.Len(t, read.Deployments, 2)
	require.Equal(t, "media", read.Deployments[0].Namespace)
}

func TestErrorsNameTheObject(t *testing.T) {
	a, err := apply.New(&rest.Config{Host: "http://127.0.0.1:1"}, nil)
	require.NoError(t, err)
	_, err = a.Apply(t.Context(), objects(t, "tracks:1")...)
	require.ErrorContains(t, err, "apply: Namespace media: ")
	_, err = a.Read(t.Context())
	require.ErrorContains(t, err, "apply: list Services: ")
	_, err = apply.New(&rest.Config{Host: "://"}, nil)
	require.ErrorContains(t, err, "apply: ")
}
