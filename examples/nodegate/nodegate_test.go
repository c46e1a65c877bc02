package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

// apiServer simulates an API server with the nodes a, b and c, and with Leases. It does not check
// the resourceVersion of a write; only the end-to-end test runs nodegate against a real API server.
type apiServer struct {
	mu     sync.Mutex
	leases map[string]*coordinationv1.Lease
	n      int
	// annotations are the annotations of the nodes.
	annotations map[string]map[string]string
	cordoned    map[string]bool
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	var l coordinationv1.Lease
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		if err := json.NewDecoder(r.Body).Decode(&l); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.n++
		l.ResourceVersion = strconv.Itoa(s.n)
		l.UID = "uid"
		l.CreationTimestamp = metav1.Now()
		s.leases[l.Name] = &l
	}
	var answer any = &l
	switch {
	case r.Method == http.MethodPatch:
		if err := s.patch(name, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer = &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: name}}
	case name == "nodes":
		list := &corev1.NodeList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"}}
		for _, name := range []string{"a", "b", "c"} {
			list.Items = append(list.Items, s.node(name))
		}
		answer = list
	case strings.HasSuffix(r.URL.Path, "/nodes/"+name) && r.Method == http.MethodGet:
		answer = s.node(name)
	case r.Method == http.MethodDelete:
		delete(s.leases, name)
		answer = &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess}
	case name == "leases" && r.Method == http.MethodGet:
		list := &coordinationv1.LeaseList{TypeMeta: metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "LeaseList"}}
		for _, name := range slices.Sorted(maps.Keys(s.leases)) {
			if s.leases[name].Labels != nil {
				list.Items = append(list.Items, *s.leases[name])
			}
		}
		answer = list
	case r.Method == http.MethodGet && s.leases[name] == nil:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		answer = &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: 404}
	case r.Method == http.MethodGet:
		l = *s.leases[name]
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// node returns the node a, b or c.
func (s *apiServer) node(name string) corev1.Node {
	return corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: maps.Clone(s.annotations[name])},
		Spec:       corev1.NodeSpec{Unschedulable: s.cordoned[name]},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprint("10.0.0.", name[0]-'a')}}},
	}
}

// uncordon makes a node schedulable again, as kubectl does.
func (s *apiServer) uncordon(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cordoned[name] = false
}

// lab runs nodegate with a simulated API server, and with a report in which the service m/s uses
// the nodes a and b.
type lab struct {
	t      *testing.T
	flags  []string
	report string
	api    *apiServer
}

func newLab(t *testing.T) *lab {
	api := &apiServer{leases: map[string]*coordinationv1.Lease{}, annotations: map[string]map[string]string{}, cordoned: map[string]bool{}}
	srv := httptest.NewServer(api)
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	require.NoError(t, os.WriteFile(kubeconfig, []byte(`{"apiVersion":"v1","kind":"Config","current-context":"c",
"contexts":[{"name":"c","context":{"cluster":"c"}}],"clusters":[{"name":"c","cluster":{"server":"`+srv.URL+`"}}]}`), 0o600))
	l := &lab{t: t, api: api, report: filepath.Join(dir, "report.json")}
	require.NoError(t, os.WriteFile(l.report, []byte(`{"applied":{"id":"1","time":"2026-01-02T10:32:00Z"},
"clusters":[{"name":"eu-1","nodes":[{"name":"a","addr":"10.0.0.0"},{"name":"b","addr":"10.0.0.1"}]}],
"services":[{"cluster":"eu-1","namespace":"m","service":"s","nodes":["a","b"]}]}`), 0o600))
	l.flags = []string{"-cluster", "eu-1=kubeconfig:" + kubeconfig, "-report", l.report, "-max-away", "1", "-node-agent-port", "0"}
	return l
}

func (l *lab) run(args ...string) (code int, stdout, stderr string) {
	l.t.Helper()
	var out, errs clitest.Output
	code = run(l.t.Context(), cli.Invocation{Args: append(args, l.flags...), Stdout: &out, Stderr: &errs})
	return code, out.String(), errs.String()
}

func TestCommands(t *testing.T) {
	l := newLab(t)
	for _, tt := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"may", "a"}, cli.ExitOK, "yes: a"},
		{[]string{"may", "a", "b"}, cli.ExitDiffer, "service m/s: 0 away and 2 named, of at most 1"},
		{[]string{"may", "c"}, cli.ExitOK, "c is not in any applied configuration since 2026-01-02T10:32:00Z: may go"},
		{[]string{"wave", "-estimate"}, cli.ExitOK, "c\n#"},
		{[]string{"may", "a", "-take", "-holder", "one", "-ttl", "30m"}, cli.ExitOK, "yes: a"},
		{[]string{"may", "b", "-take", "-holder", "two"}, cli.ExitDiffer, "a (granted to one since"},
		{[]string{"may", "-json", "b"}, cli.ExitDiffer, `"why": "granted to one"`},
		{[]string{"grants"}, cli.ExitOK, "a granted to one at"},
		{[]string{"grants", "-json"}, cli.ExitOK, `"ttl": "30m0s"`},
		{[]string{"release", "a", "-holder", "two"}, cli.ExitFailed, "one holds the grant for a"},
		{[]string{"release", "a"}, cli.ExitOK, ""},
		{[]string{"release", "a"}, cli.ExitFailed, "there is no grant for a"},
		{[]string{"may", "b", "-take", "-holder", "two"}, cli.ExitOK, "yes: b"},
	} {
		code, out, errs := l.run(tt.args...)
		require.Equal(t, tt.code, code, "%v: %s%s", tt.args, out, errs)
		require.Contains(t, out+errs, tt.text, "%v", tt.args)
	}
}

// A drained node counts as away until it has been back for the hold-down, also if somebody uncordons
// it before another command reads its state, and whether the node had a grant or not.
func TestDrainRecordsThatTheNodeWasAway(t *testing.T) {
	for _, granted := range []bool{true, false} {
		t.Run(fmt.Sprint("granted=", granted), func(t *testing.T) {
			l := newLab(t)
			report, err := os.ReadFile(l.report)
			require.NoError(t, err)
			terminator := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/traffic" {
					_, _ = w.Write([]byte(`{"servers":2}`))
					return
				}
				_, _ = w.Write(report)
			}))
			t.Cleanup(terminator.Close)
			l.flags[slices.Index(l.flags, "-report")+1] = terminator.URL + "/report.json"
			holder := "nodegate-drain"
			if granted {
				holder = "ada"
				code, out, errs := l.run("may", "a", "-take", "-holder", holder)
				require.Equal(t, cli.ExitOK, code, out+errs)
			}
			code, out, errs := l.run("drain", "a")
			require.Equal(t, cli.ExitOK, code, out+errs)
			require.Contains(t, out, "0 of 2 servers get new requests")

			l.api.uncordon("a")
			_, out, errs = l.run("grants")
			require.Contains(t, out+errs, "a granted to "+holder)
			require.Contains(t, out+errs, "back since")
			code, out, _ = l.run("may", "b")
			require.Equal(t, cli.ExitDiffer, code, out)
			require.Contains(t, out, "a (granted to "+holder)

			// The next command begins after the hold-down of 1ns.
			code, out, errs = l.run("may", "b", "-back-for", "1ns")
			require.Equal(t, cli.ExitOK, code, out+errs)
			_, out, errs = l.run("grants")
			require.Empty(t, out+errs)
		})
	}
}

func TestAReportThatCannotBeReadMeansNo(t *testing.T) {
	l := newLab(t)
	require.NoError(t, os.WriteFile(l.report, []byte("{}"), 0o600))
	code, _, errs := l.run("may", "a")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, errs, "cannot tell, so no: ")
	require.Contains(t, errs, l.report)
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(l.report, old, old))
	code, _, errs = l.run("may", "a", "-report-max-age", "1m")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, errs, "stale")
}

func TestWrongFlags(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"go"},
		{"may"},
		{"may", "a"},
		{"may", "a", "-cluster", "eu-1=x"},
		{"may", "a", "-cluster", "eu-1=x", "-report", "r", "-take"},
		{"may", "a", "-cluster", "eu-1=x", "-report", "r", "-holder", "one"},
		{"may", "a", "-cluster", "eu-1=x", "-report", "r", "-max-away", "0"},
		{"may", "a", "-cluster", "eu-1=x", "-report", "r", "-max-share", "200%"},
		{"may", "a", "-cluster", "EU 1=x", "-report", "r"},
		{"grants", "a", "-cluster", "eu-1=x", "-report", "r"},
		{"serve", "-cluster", "eu-1=x", "-report", "r", "-refresh", "0s"},
		{"protect", "-cluster", "eu-1=x", "-report", "r"},
		{"protect", "-cluster", "eu-1=x", "-report", "r", "-tool", "unknown"},
		{"protect", "-cluster", "eu-1=x", "-report", "r", "-tool", "kured", "-tool", "kured=a=b"},
		{"protect", "-cluster", "eu-1=x", "-report", "r", "-tool", "kured=!!"},
		{"protect", "-cluster", "eu-1=x", "-report", "r", "-tool", "cluster-api=a=b"},
		{"protect", "-cluster", "eu-1=x", "-report", "r", "-tool", "kured", "-settle", "0s"},
		{"protect", "-cluster", "eu-1=x", "-report", "r", "-tool", "kured", "-free", "0s"},
		{"protect", "-cluster", "eu-1=x", "-report", "r", "-tool", "kured", "-dry-run", "-remove"},
	} {
		var errs clitest.Output
		code := run(t.Context(), cli.Invocation{Args: args, Stdout: &errs, Stderr: &errs})
		require.Equal(t, cli.ExitUsage, code, "%v: %s", args, errs.String())
	}
}

func TestMetricsOfTheRules(t *testing.T) {
	rules, err := os.ReadFile("kubernetes/rules.yaml")
	require.NoError(t, err)
	var source []byte
	for _, file := range []string{"serve.go", "protect.go"} {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		source = append(source, data...)
	}
	names := regexp.MustCompile(`headgate_nodegate_\w+`).FindAllString(string(rules), -1)
	require.NotEmpty(t, names)
	for _, name := range names {
		require.Contains(t, string(source), `"`+name+`"`)
	}
}

func TestManifestsGrantNoMoreThanIsUsed(t *testing.T) {
	var account corev1.ServiceAccount
	var cluster rbacv1.ClusterRole
	var clusterBinding rbacv1.ClusterRoleBinding
	var role rbacv1.Role
	var binding rbacv1.RoleBinding
	clitest.Manifest(t, "kubernetes/account/rbac.yaml", &account, &cluster, &clusterBinding, &role, &binding)
	require.Equal(t, []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"list"}},
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get", "patch"}}, // for drain
	}, cluster.Rules)
	require.Equal(t, []rbacv1.PolicyRule{{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "list", "create", "update", "delete"}}}, role.Rules)
	require.Equal(t, account.Name, clusterBinding.Subjects[0].Name)
	require.Equal(t, account.Name, binding.Subjects[0].Name)
	require.Equal(t, account.Namespace, role.Namespace)
}
