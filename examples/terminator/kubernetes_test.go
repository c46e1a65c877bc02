package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

type roles struct {
	account        corev1.ServiceAccount
	cluster        rbacv1.ClusterRole
	clusterBinding rbacv1.ClusterRoleBinding
	namespaced     rbacv1.Role
	binding        rbacv1.RoleBinding
}

func readRoles(t *testing.T) (r roles) {
	clitest.Manifest(t, "kubernetes/rbac.yaml", &r.account, &r.cluster, &r.clusterBinding, &r.namespaced, &r.binding)
	return r
}

func TestManifestsFitTogether(t *testing.T) {
	r := readRoles(t)
	for kind, o := range map[string]metav1.TypeMeta{
		"v1 ServiceAccount":                               r.account.TypeMeta,
		"rbac.authorization.k8s.io/v1 ClusterRole":        r.cluster.TypeMeta,
		"rbac.authorization.k8s.io/v1 ClusterRoleBinding": r.clusterBinding.TypeMeta,
		"rbac.authorization.k8s.io/v1 Role":               r.namespaced.TypeMeta,
		"rbac.authorization.k8s.io/v1 RoleBinding":        r.binding.TypeMeta,
	} {
		require.Equal(t, kind, o.APIVersion+" "+o.Kind)
	}
	require.Equal(t, "headgate-terminator", r.account.Name)
	require.Equal(t, "headgate-terminator", r.account.Namespace)
	subjects := []rbacv1.Subject{{Kind: "ServiceAccount", Name: r.account.Name, Namespace: r.account.Namespace}}
	require.Equal(t, subjects, r.clusterBinding.Subjects)
	require.Equal(t, subjects, r.binding.Subjects)
	require.Equal(t, rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: r.cluster.Name}, r.clusterBinding.RoleRef)
	require.Equal(t, rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: r.namespaced.Name}, r.binding.RoleRef)
	require.Equal(t, r.account.Namespace, r.namespaced.Namespace)
	require.Equal(t, r.account.Namespace, r.binding.Namespace)

	var token corev1.Secret
	clitest.Manifest(t, "kubernetes/token.yaml", &token)
	require.Equal(t, corev1.SecretTypeServiceAccountToken, token.Type)
	require.Equal(t, r.account.Namespace, token.Namespace)
	require.Equal(t, r.account.Name, token.Annotations[corev1.ServiceAccountNameKey])

	var kustomization struct {
		metav1.TypeMeta `json:",inline"`
		Namespace       string
		Resources       []string
	}
	clitest.Manifest(t, "kubernetes/kustomization.yaml", &kustomization)
	require.Equal(t, "Kustomization", kustomization.Kind)
	require.Equal(t, r.account.Namespace, kustomization.Namespace)
	for _, name := range kustomization.Resources {
		require.FileExists(t, filepath.Join("kubernetes", name))
	}
}

// TestRolesAllowExactlyWhatIsUsed runs a terminator with every optional feature. The roles allow
// each of its requests, and it makes each request that the roles allow.
func TestRolesAllowExactlyWhatIsUsed(t *testing.T) {
	r := readRoles(t)
	w := newWorld(t)
	api := w.live("eu-2")
	api.Set(&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "media", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}})
	args := []string{"-cluster", "eu-2=" + api.config, "-lease", "headgate-terminator/headgate-terminator", "-fleet", "headgate-terminator/headgate-terminator", "-local-endpoints"}
	v := w.watch(args...)
	v.waitReady()
	v.eventually("the Lease is renewed", func() bool {
		return slices.Contains(api.leases.seen(), "update headgate-terminator/headgate-terminator")
	})
	for _, percent := range []string{"1", "0"} { // the first order creates the ConfigMap, and the second one updates it
		code, text := v.do("POST", "/shift/close?percent="+percent)
		require.Equal(t, 200, code, text)
	}
	v.stop()
	api.NoStreamedLists() // an older server, which needs the verb list
	v = w.watch(args...)
	v.waitReady()
	v.stop()

	used := map[string]bool{}
	for _, request := range api.Requests() {
		group := ""
		if request.Resource == "endpointslices" {
			group = discoveryv1.GroupName
		}
		used[strings.TrimSuffix(group+" "+request.Resource+" "+request.Verb+" "+request.Object, " ")] = true
	}
	for _, request := range api.leases.seen() {
		verb, name, _ := strings.Cut(request, " ")
		if verb == "create" {
			require.Equal(t, "headgate-terminator/headgate-terminator", name)
			name = r.account.Namespace + "/"
		}
		used[coordinationv1.GroupName+" leases "+verb+" "+name] = true
	}
	allowed := map[string]bool{}
	for _, rule := range r.cluster.Rules {
		for _, what := range pairs(rule) {
			allowed[what] = true
		}
	}
	for _, rule := range r.namespaced.Rules {
		for _, what := range pairs(rule) {
			allowed[what+" "+r.namespaced.Namespace+"/"+strings.Join(rule.ResourceNames, ",")] = true
		}
	}
	require.Equal(t, allowed, used)
}

func pairs(rule rbacv1.PolicyRule) (all []string) {
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				all = append(all, group+" "+resource+" "+verb)
			}
		}
	}
	return all
}

// TestUnitsFitTogether checks that the terminator accepts the command in its systemd unit, and that
// the unit of HAProxy uses the same files, sockets and group as this command.
func TestUnitsFitTogether(t *testing.T) {
	clitest.CheckUnits(t)
	terminator, haproxy, path := clitest.ReadUnit(t, "headgate-terminator.service"), clitest.ReadUnit(t, "headgate-haproxy.service"), clitest.ReadUnit(t, "headgate-haproxy.path")
	command := terminator.Command(t)
	stderr := &clitest.Output{}
	s, code, done := parseSettings(cli.Invocation{Args: command[1:], Stderr: stderr})
	require.False(t, done, "%d: %s", code, stderr)
	require.False(t, s.once || s.diff)
	require.Equal(t, "terminator", filepath.Base(command[0]))
	require.Equal(t, "/var/lib/"+terminator.Get(t, "StateDirectory"), s.out)
	require.Equal(t, filepath.Join(s.out, "haproxy.cfg"), path.Get(t, "PathExists"))
	run := haproxy.Command(t)
	require.Equal(t, s.Haproxy, run[0])
	require.Equal(t, filepath.Join(s.out, "haproxy.cfg"), run[slices.Index(run, "-f")+1])
	socket, options, _ := strings.Cut(run[slices.Index(run, "-S")+1], ",")
	require.Equal(t, s.reload, socket)
	require.Equal(t, "/run/"+haproxy.Get(t, "RuntimeDirectory"), filepath.Dir(s.reload))
	require.Contains(t, haproxy.Get(t, "ExecStartPre"), " "+s.Builder.Edge.Global.StateFile)
	require.Equal(t, s.out, filepath.Dir(s.Builder.Edge.Global.StateFile))

	// HAProxy is not root. It reads the files of the terminator, and the terminator uses its socket,
	// because both are in one group.
	require.Equal(t, "haproxy", haproxy.Get(t, "User"))
	require.Equal(t, terminator.Get(t, "Group"), haproxy.Get(t, "Group"))
	require.NotEqual(t, terminator.Get(t, "User"), haproxy.Get(t, "User"))
	require.True(t, s.groupReadsKeys)
	require.Equal(t, "mode,660", options)
	require.Empty(t, s.Builder.Edge.Global.User+s.Builder.Edge.Global.Group, "only root can change to another user")
	require.Equal(t, "CAP_NET_BIND_SERVICE", haproxy.Get(t, "CapabilityBoundingSet"))
	require.Equal(t, "CAP_NET_BIND_SERVICE", haproxy.Get(t, "AmbientCapabilities"))
	for _, unit := range []clitest.Unit{terminator, haproxy} {
		require.Equal(t, "notify", unit.Get(t, "Type"))
		require.Equal(t, "65536", unit.Get(t, "LimitNOFILE"))
		require.Equal(t, 65536, s.Builder.Edge.Global.Descriptors)
		require.Equal(t, "true", unit.Get(t, "NoNewPrivileges"))
		require.Equal(t, "strict", unit.Get(t, "ProtectSystem"))
		require.Equal(t, "always", unit.Get(t, "Restart"))
	}
	require.Equal(t, "", terminator.Get(t, "CapabilityBoundingSet"))

	tcp, admin := command[slices.Index(command, "-admin")+1], command[len(command)-1]
	require.Equal(t, "unix:/run/"+terminator.Get(t, "RuntimeDirectory"), filepath.Dir(admin))
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for _, name := range []string{"headgate-terminator.service", "headgate-haproxy.path", tcp, strings.TrimPrefix(admin, "unix:"), s.out + "/report.json", filepath.Dir(s.Routes[0])} {
		require.Contains(t, string(readme), name)
	}
	require.Contains(t, string(readme), "-lease headgate-terminator/headgate-terminator")
	require.Contains(t, string(readme), "-fleet headgate-terminator/headgate-terminator")
}
