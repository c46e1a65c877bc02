//go:build linux

package scenarios

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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

// rbac shows that the accounts of the shipped manifests may do what the binaries need,
// and nothing else. That they need no more is what every other scenario shows.
var rbac = scenario.Scenario[*Env]{
	Name:  "rbac",
	About: "the accounts of the shipped manifests may do what they need, and are refused everything else",
	Run:   runRBAC,
}

// right is permission for one verb on one kind of object.
type right struct {
	// namespace is "" for a right in all of them.
	namespace             string
	group, resource, verb string
	// name is the only object that it is for, "" for all.
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

// Rights that the manifests are to give. Who gives more has to say so here, too.
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
		{namespace: accountsNamespace, group: "coordination.k8s.io", resource: "leases", verb: "create"},
		{namespace: accountsNamespace, group: "coordination.k8s.io", resource: "leases", verb: "get", name: leaseName},
		{namespace: accountsNamespace, group: "coordination.k8s.io", resource: "leases", verb: "update", name: leaseName},
	}, readNodesAndServices...)
	// everybodysRights are of anybody who has a token: to ask who one is and what one may do.
	everybodysRights = []right{
		{group: "authentication.k8s.io", resource: "selfsubjectreviews", verb: "create"},
		{group: "authorization.k8s.io", resource: "selfsubjectaccessreviews", verb: "create"},
		{group: "authorization.k8s.io", resource: "selfsubjectrulesreviews", verb: "create"},
	}
)

// leaseName is that of the Lease that the shipped role is for.
const leaseName = "headgate-terminator"

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
	} {
		p, err := newProbe(a.kubeconfig, slices.Concat(a.rights, everybodysRights))
		if err != nil {
			return err
		}
		if err := p.inForce(ctx, a.rights); err != nil {
			return err
		}
		report.Add(scenario.Row{What: fmt.Sprintf("%s: %d rights, as the manifests are to give", a.name, len(a.rights)), Err: p.rules(ctx, c)})
		start := time.Now()
		allowed, refused, err := p.matrix(ctx, kinds)
		report.Add(scenario.Row{
			What: fmt.Sprintf("%s: of all %d requests that the API server knows %d are allowed, %d refused", a.name, allowed+refused, allowed, refused), Err: err,
		})
		report.Logf("that took %s", time.Since(start).Round(time.Millisecond))
		report.Add(scenario.Row{What: a.name + ": is nobody else, and sees no insides of the API server", Err: p.specials(ctx)})
	}
	return nil
}

// probe asks for things with an account's token.
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

// permits tells whether a request is to be allowed. The namespace is "" for objects that
// are in none, and for all of them.
func (p *probe) permits(namespace, group, resource, verb, name string) bool {
	return slices.ContainsFunc(p.rights, func(r right) bool {
		return r.group == group && r.resource == resource && r.verb == verb &&
			(r.namespace == "" || r.namespace == namespace) && (r.name == "" || r.name == name)
	})
}

// review asks the API server what it would say to a request.
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

// inForce waits until the API server has taken notice of roles.
func (p *probe) inForce(ctx context.Context, rights []right) error {
	_, err := lab.Until(ctx, "the roles to be in force", 15*time.Second, func(ctx context.Context) error {
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

// rules compares the rights that the API server lists for the account, in several
// namespaces, with those that it is to have beyond what any account has.
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
	for _, namespace := range []string{accountsNamespace, plainNamespace, metav1.NamespaceSystem, metav1.NamespaceDefault} {
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
			faults = append(faults, fmt.Errorf("in %s it may %q, and is to be allowed %q", namespace, slices.Sorted(maps.Keys(has)), slices.Sorted(maps.Keys(want))))
		}
	}
	return errors.Join(faults...)
}

// listed returns the rights in a namespace that the API server lists, one by one.
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

// kind is a kind of object, or a subresource of one, that the API server knows.
type kind struct {
	version, group, resource string
	namespaced               bool
}

// kindsOf asks an API server for all that it knows.
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
			// Rights know no versions: one of each will do.
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
