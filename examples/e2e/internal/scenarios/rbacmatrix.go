//go:build linux

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// attempt is a kind of request that an account may try: a verb on one object, or on all objects of
// a kind.
type attempt struct {
	kind
	namespace, verb, name string
}

func (a attempt) String() string {
	return right{namespace: a.namespace, group: a.group, resource: a.resource, verb: a.verb, name: a.name}.String()
}

// attempts returns every possible request for a kind: without a namespace, in the namespace of the
// account, and in another namespace.
func attempts(k kind) (all []attempt) {
	// No object has this name, so a request that is allowed by mistake has no effect.
	const nothing = "rbac-probe"
	verbs := []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
	if strings.Contains(k.resource, "/") {
		verbs = []string{"get", "create", "update", "patch", "delete"}
	}
	names := []string{nothing}
	if k.resource == "leases" {
		names = append(names, leaseName)
	}
	if k.resource == "configmaps" {
		names = append(names, ordersName)
	}
	namespaces := []string{""}
	if k.namespaced {
		namespaces = append(namespaces, terminatorNamespace, nodegateNamespace, metav1.NamespaceSystem)
	}
	for _, namespace := range namespaces {
		for _, verb := range verbs {
			switch {
			case !onObject(k, verb):
				if namespace == "" && k.namespaced && verb != "list" && verb != "watch" {
					continue // such a request does not exist
				}
				all = append(all, attempt{k, namespace, verb, ""})
			case namespace == "" && k.namespaced:
			default:
				for _, name := range names {
					all = append(all, attempt{k, namespace, verb, name})
				}
			}
		}
	}
	return all
}

// onObject reports whether a request for the kind k with this verb names one object, in contrast to
// a list or a creation.
func onObject(k kind, verb string) bool {
	if strings.Contains(k.resource, "/") {
		return true
	}
	return slices.Contains([]string{"get", "update", "patch", "delete"}, verb)
}

// matrix makes every possible request, and also asks the API server whether it would allow the
// request. The API server must allow exactly the requests that the account needs.
func (p *probe) matrix(ctx context.Context, kinds []kind) (allowed, refused int, err error) {
	client, err := rest.HTTPClientFor(p.config)
	if err != nil {
		return 0, 0, err
	}
	var mu sync.Mutex
	var faults []error
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, k := range kinds {
		for _, a := range attempts(k) {
			want := p.permits(a.namespace, a.group, a.resource, a.verb, a.name)
			if want {
				allowed++
			} else {
				refused++
			}
			g.Go(func() error {
				reviewed, err := p.review(ctx, a.namespace, a.group, a.resource, a.verb, a.name)
				if err != nil {
					return err
				}
				status, body, err := p.send(ctx, client, a)
				if err != nil {
					return err
				}
				var fault error
				switch {
				case reviewed != want:
					fault = fmt.Errorf("%s: the review says %t, want %t", a, reviewed, want)
				case !want && status != http.StatusForbidden:
					fault = fmt.Errorf("%s: %d, want 403: %.200s", a, status, body)
				case want && (status == http.StatusForbidden || (a.verb == "list" || a.verb == "watch") && status != http.StatusOK):
					fault = fmt.Errorf("%s: %d: %.200s", a, status, body)
				}
				if fault != nil {
					mu.Lock()
					faults = append(faults, fault)
					mu.Unlock()
				}
				return nil
			})
		}
	}
	err = errors.Join(g.Wait(), errors.Join(faults[:min(len(faults), 10)]...))
	if len(faults) > 10 {
		err = errors.Join(err, fmt.Errorf("and %d more", len(faults)-10))
	}
	return allowed, refused, err
}

var methods = map[string]string{
	"get": http.MethodGet, "list": http.MethodGet, "watch": http.MethodGet,
	"create": http.MethodPost, "update": http.MethodPut, "patch": http.MethodPatch,
	"delete": http.MethodDelete, "deletecollection": http.MethodDelete,
}

// send makes a request that changes nothing, even if the API server allows it.
func (p *probe) send(ctx context.Context, client *http.Client, a attempt) (status int, body string, err error) {
	path := "/api/" + a.version
	if a.group != "" {
		path = "/apis/" + a.group + "/" + a.version
	}
	if a.namespace != "" {
		path += "/namespaces/" + a.namespace
	}
	resource, sub, isSub := strings.Cut(a.resource, "/")
	path += "/" + resource
	if a.name != "" {
		path += "/" + a.name
	}
	if isSub {
		path += "/" + sub
	}
	var content io.Reader
	switch a.verb {
	case "list":
		path += "?limit=1"
	case "watch":
		path += "?watch=true&timeoutSeconds=1"
	case "get":
	case "deletecollection":
		path += "?dryRun=All&fieldSelector=metadata.name%3Drbac-probe"
	default:
		path += "?dryRun=All"
		content = strings.NewReader("{}")
	}
	return p.request(ctx, client, methods[a.verb], path, content, nil)
}

func (p *probe) request(ctx context.Context, client *http.Client, method, path string, content io.Reader, header http.Header) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, p.config.Host+path, content)
	if err != nil {
		return 0, "", err
	}
	for key, values := range header {
		req.Header[key] = values
	}
	if content != nil {
		req.Header.Set("Content-Type", "application/json")
		if method == http.MethodPatch {
			req.Header.Set("Content-Type", string(types.MergePatchType))
		}
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	// For a watch, the beginning of the response is enough.
	b, err := io.ReadAll(io.LimitReader(res.Body, 200))
	return res.StatusCode, string(b), err
}

// The method "specials" sends requests for paths that belong to no object and no kind.
func (p *probe) specials(ctx context.Context) error {
	client, err := rest.HTTPClientFor(p.config)
	if err != nil {
		return err
	}
	var faults []error
	for _, path := range []string{"/metrics", "/logs/", "/debug/pprof/", "/configz", "/flagz", "/statusz"} {
		status, _, err := p.request(ctx, client, http.MethodGet, path, nil, nil)
		if err == nil && status != http.StatusForbidden {
			err = fmt.Errorf("GET %s: %d, want 403", path, status)
		}
		faults = append(faults, err)
	}
	for _, who := range []http.Header{
		{"Impersonate-User": {"admin"}},
		{"Impersonate-User": {"system:serviceaccount:kube-system:default"}},
		{"Impersonate-User": {"admin"}, "Impersonate-Group": {"system:masters"}},
	} {
		status, _, err := p.request(ctx, client, http.MethodGet, "/api/v1/nodes?limit=1", nil, who)
		if err == nil && status != http.StatusForbidden {
			err = fmt.Errorf("as %v: %d, want 403", who, status)
		}
		faults = append(faults, err)
	}
	for _, a := range []right{
		{group: "rbac.authorization.k8s.io", resource: "clusterroles", verb: "escalate"},
		{group: "rbac.authorization.k8s.io", resource: "clusterroles", verb: "bind"},
		{group: "rbac.authorization.k8s.io", resource: "roles", verb: "bind", namespace: terminatorNamespace},
		{group: "rbac.authorization.k8s.io", resource: "roles", verb: "bind", namespace: nodegateNamespace},
		{resource: "users", verb: "impersonate"},
		{resource: "groups", verb: "impersonate"},
		{resource: "serviceaccounts", verb: "impersonate"},
		{group: "certificates.k8s.io", resource: "signers", verb: "approve"},
		{group: "certificates.k8s.io", resource: "signers", verb: "sign"},
		{group: "*", resource: "*", verb: "*"},
	} {
		allowed, err := p.review(ctx, a.namespace, a.group, a.resource, a.verb, "")
		if err == nil && allowed {
			err = fmt.Errorf("may %s", a)
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}
