//go:build linux

package scenarios

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

// rbac checks that the accounts of the shipped manifests have only the rights that the binaries
// need. Every other scenario checks that these rights are sufficient: for example, the scenario
// nodegate runs all commands of nodegate with its account, and the scenario adapters runs `nodegate
// protect` with its account.
var rbac = scenario.Scenario[*Env]{
	Name:  "rbac",
	About: "the accounts of the shipped manifests have the rights that they need and no others",
	Run:   runRBAC,
}

// right is the permission for one verb on one kind of object.
type right struct {
	// namespace "" means all namespaces.
	namespace             string
	group, resource, verb string
	// name restricts the right to one object. "" means all objects.
	name string
}

func (r right) String() string {
	s := r.verb + " " + r.resource
	if r.group != "" {
		s += "." + r.group
	}
	if r.name != "" {
		s += "/" + r.name
	}
	if r.namespace != "" {
		s += " in " + r.namespace
	}
	return s
}

// These are the rights that the manifests grant. Extend them here when you extend a manifest.
var (
	readNodesAndServices = []right{
		{resource: "nodes", verb: "list"},
		{resource: "nodes", verb: "watch"},
		{resource: "services", verb: "list"},
		{resource: "services", verb: "watch"},
	}
	agentRights      = readNodesAndServices
	terminatorRights = append([]right{
		{group: "discovery.k8s.io", resource: "endpointslices", verb: "list"},
		{group: "discovery.k8s.io", resource: "endpointslices", verb: "watch"},
		{namespace: terminatorNamespace, group: "coordination.k8s.io", resource: "leases", verb: "create"},
		{namespace: terminatorNamespace, group: "coordination.k8s.io", resource: "leases", verb: "get", name: leaseName},
		{namespace: terminatorNamespace, group: "coordination.k8s.io", resource: "leases", verb: "update", name: leaseName},
		{namespace: terminatorNamespace, resource: "configmaps", verb: "create"},
		{namespace: terminatorNamespace, resource: "configmaps", verb: "get", name: ordersName},
		{namespace: terminatorNamespace, resource: "configmaps", verb: "list", name: ordersName},
		{namespace: terminatorNamespace, resource: "configmaps", verb: "watch", name: ordersName},
		{namespace: terminatorNamespace, resource: "configmaps", verb: "update", name: ordersName},
	}, readNodesAndServices...)
	nodegateRights = []right{
		{resource: "nodes", verb: "list"},
		{resource: "nodes", verb: "get"},
		{resource: "nodes", verb: "patch"},
		{namespace: nodegateNamespace, group: "coordination.k8s.io", resource: "leases", verb: "get"},
		{namespace: nodegateNamespace, group: "coordination.k8s.io", resource: "leases", verb: "list"},
		{namespace: nodegateNamespace, group: "coordination.k8s.io", resource: "leases", verb: "create"},
		{namespace: nodegateNamespace, group: "coordination.k8s.io", resource: "leases", verb: "update"},
		{namespace: nodegateNamespace, group: "coordination.k8s.io", resource: "leases", verb: "delete"},
	}
	protectRights = []right{
		{resource: "nodes", verb: "list"},
		{resource: "nodes", verb: "patch"},
		{group: "cluster.x-k8s.io", resource: "machines", verb: "list"},
		{group: "cluster.x-k8s.io", resource: "machines", verb: "patch"},
		{namespace: nodegateNamespace, group: "coordination.k8s.io", resource: "leases", verb: "get"},
		{namespace: nodegateNamespace, group: "coordination.k8s.io", resource: "leases", verb: "list"},
		{namespace: nodegateNamespace, group: "coordination.k8s.io", resource: "leases", verb: "create"},
		{namespace: nodegateNamespace, group: "coordination.k8s.io", resource: "leases", verb: "update"},
		{namespace: nodegateNamespace, group: "coordination.k8s.io", resource: "leases", verb: "delete"},
		{namespace: nodegateNamespace, resource: "pods", verb: "list"},
		{namespace: nodegateNamespace, resource: "pods", verb: "create"},
		{namespace: nodegateNamespace, resource: "pods", verb: "delete"},
	}
	// everybodysRights are the rights that every account has: an account may request from the API
	// server its own name, and the list of its rights.
	everybodysRights = []right{
		{group: "authentication.k8s.io", resource: "selfsubjectreviews", verb: "create"},
		{group: "authorization.k8s.io", resource: "selfsubjectaccessreviews", verb: "create"},
		{group: "authorization.k8s.io", resource: "selfsubjectrulesreviews", verb: "create"},
	}
)

// leaseName and ordersName are the names of the Lease and of the ConfigMap in the shipped role.
const (
	leaseName  = "headgate-terminator"
	ordersName = "headgate-terminator"
)

func runRBAC(ctx context.Context, env *Env, report *scenario.Report) error {
	clusters, err := env.Clusters(ctx)
	if err != nil {
		return err
	}
	c := clusters[0]
	accounts, err := InstallAccounts(ctx, c)
	if err != nil {
		return err
	}
	report.Add(scenario.Row{What: "the API server accepts the manifests of the front proxy and of node-local DNS", Err: validateManifests(ctx, c)})
	nodegateAccount, err := installNodegate(ctx, c)
	if err != nil {
		return err
	}
	protectAccount, err := installProtect(ctx, c)
	if err != nil {
		return err
	}
	kinds, err := kindsOf(c)
	if err != nil {
		return err
	}
	for _, a := range []struct {
		name, kubeconfig string
		rights           []right
	}{
		{"headgate-nodeagent", accounts.Agent, agentRights},
		{"headgate-terminator", accounts.Terminator, terminatorRights},
		{"headgate-nodegate", nodegateAccount, nodegateRights},
		{"headgate-nodegate-protect", protectAccount, protectRights},
	} {
		p, err := newProbe(a.kubeconfig, slices.Concat(a.rights, everybodysRights))
		if err != nil {
			return err
		}
		if err := p.inForce(ctx, a.rights); err != nil {
			return err
		}
		report.Add(scenario.Row{What: fmt.Sprintf("%s: exactly %d rights", a.name, len(a.rights)), Err: p.rules(ctx, c)})
		start := time.Now()
		allowed, refused, err := p.matrix(ctx, kinds)
		report.Add(scenario.Row{
			What: fmt.Sprintf("%s: of all %d possible requests, %d are allowed and %d refused", a.name, allowed+refused, allowed, refused), Err: err,
		})
		report.Logf("that took %s", time.Since(start).Round(time.Millisecond))
		report.Add(scenario.Row{What: a.name + ": cannot impersonate, and cannot read internals of the API server", Err: p.specials(ctx)})
	}
	return nil
}

// validateManifests lets the API server check those manifests of the examples that no scenario
// uses.
func validateManifests(ctx context.Context, c *lab.Cluster) error {
	examples := filepath.Join(c.Bin(), "..", "..")
	var files []string
	for _, file := range []string{"rbac.yaml", "policy.yaml", "deployment.yaml", "service.yaml"} {
		files = append(files, filepath.Join(examples, "frontproxy", "kubernetes", file))
	}
	dns := filepath.Join(examples, "nodelocaldns", "kubernetes", "base")
	if err := c.Apply(ctx, filepath.Join(dns, "namespace.yaml")); err != nil {
		return err
	}
	return c.Validate(ctx, append(files, filepath.Join(dns, "daemonset.yaml"))...)
}

// probe sends requests with the token of an account.
type probe struct {
	config *rest.Config
	client kubernetes.Interface
	rights []right
}

func newProbe(kubeconfig string, rights []right) (*probe, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	return &probe{config: config, client: client, rights: rights}, err
}

// permits reports whether the account must be allowed to make a request. namespace is "" for an
// object without a namespace, and for a request about all namespaces.
func (p *probe) permits(namespace, group, resource, verb, name string) bool {
	return slices.ContainsFunc(p.rights, func(r right) bool {
		return r.group == group && r.resource == resource && r.verb == verb &&
			(r.namespace == "" || r.namespace == namespace) && (r.name == "" || r.name == name)
	})
}

// review asks the API server whether it would allow a request.
func (p *probe) review(ctx context.Context, namespace, group, resource, verb, name string) (bool, error) {
	resource, sub, _ := strings.Cut(resource, "/")
	answer, err := p.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Verb: verb, Group: group, Version: "*", Resource: resource, Subresource: sub, Name: name,
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return answer.Status.Allowed, nil
}

// inForce waits until the API server allows and refuses requests according to the new roles.
func (p *probe) inForce(ctx context.Context, rights []right) error {
	_, err := lab.Until(ctx, "the roles to be in force", patience, func(ctx context.Context) error {
		for _, r := range rights {
			allowed, err := p.review(ctx, r.namespace, r.group, r.resource, r.verb, r.name)
			if err == nil && !allowed {
				err = fmt.Errorf("may not %s", r)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// The method "rules" checks, in several namespaces, that the API server lists exactly the rights
// that the account must have. It ignores the rights that every account has.
func (p *probe) rules(ctx context.Context, c *lab.Cluster) error {
	const plainNamespace = "rbac"
	if err := c.EnsureNamespace(ctx, plainNamespace); err != nil {
		return err
	}
	kubeconfig, err := c.AccountKubeconfig(ctx, plainNamespace, "default")
	if err != nil {
		return err
	}
	plain, err := newProbe(kubeconfig, nil)
	if err != nil {
		return err
	}
	var faults []error
	for _, namespace := range []string{terminatorNamespace, nodegateNamespace, plainNamespace, metav1.NamespaceSystem, metav1.NamespaceDefault} {
		has, err := p.listed(ctx, namespace)
		if err != nil {
			return err
		}
		everybody, err := plain.listed(ctx, namespace)
		if err != nil {
			return err
		}
		want := make(map[string]bool)
		for _, r := range p.rights {
			if slices.Contains(everybodysRights, r) || r.namespace != "" && r.namespace != namespace {
				continue
			}
			r.namespace = ""
			want[r.String()] = true
		}
		for r := range everybody {
			delete(has, r)
		}
		if !maps.Equal(has, want) {
			faults = append(faults, fmt.Errorf("in %s its rights are %q, want %q", namespace, slices.Sorted(maps.Keys(has)), slices.Sorted(maps.Keys(want))))
		}
	}
	return errors.Join(faults...)
}

// listed returns the rights of the account in a namespace, as the API server lists them
// (SelfSubjectRulesReview). Each key is one verb on one resource.
func (p *probe) listed(ctx context.Context, namespace string) (map[string]bool, error) {
	answer, err := p.client.AuthorizationV1().SelfSubjectRulesReviews().Create(ctx, &authorizationv1.SelfSubjectRulesReview{
		Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	if answer.Status.Incomplete {
		return nil, fmt.Errorf("the list of rights is incomplete: %s", answer.Status.EvaluationError)
	}
	rights := make(map[string]bool)
	for _, rule := range answer.Status.ResourceRules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					for _, name := range names {
						rights[right{group: group, resource: resource, verb: verb, name: name}.String()] = true
					}
				}
			}
		}
	}
	for _, rule := range answer.Status.NonResourceRules {
		for _, url := range rule.NonResourceURLs {
			for _, verb := range rule.Verbs {
				rights[verb+" "+url] = true
			}
		}
	}
	return rights, nil
}

// kind is a kind of object of the API server, or a subresource of a kind.
type kind struct {
	version, group, resource string
	namespaced               bool
}

// kindsOf returns all kinds that an API server has.
func kindsOf(c *lab.Cluster) ([]kind, error) {
	_, lists, err := c.Client.Discovery().ServerGroupsAndResources()
	if err != nil {
		return nil, err
	}
	var kinds []kind
	for _, list := range lists {
		group, version, found := strings.Cut(list.GroupVersion, "/")
		if !found {
			group, version = "", group
		}
		for _, r := range list.APIResources {
			// RBAC rules name no API versions, so one version of each kind is enough.
			if !slices.ContainsFunc(kinds, func(k kind) bool { return k.group == group && k.resource == r.Name }) {
				kinds = append(kinds, kind{version: version, group: group, resource: r.Name, namespaced: r.Namespaced})
			}
		}
	}
	slices.SortFunc(kinds, func(a, b kind) int {
		return cmp.Or(strings.Compare(a.group, b.group), strings.Compare(a.resource, b.resource))
	})
	for _, must := range []string{"nodes", "nodes/status", "services", "services/status", "endpoints", "pods", "pods/exec", "secrets", "configmaps", "events", "leases", "clusterroles", "serviceaccounts/token"} {
		if !slices.ContainsFunc(kinds, func(k kind) bool { return k.resource == must }) {
			return nil, fmt.Errorf("the API server does not list %s", must)
		}
	}
	return kinds, nil
}
