//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/headgate/headgate/internal/testcert"
)

// ClusterSpec describes a cluster to start.
type ClusterSpec struct {
	Name  string
	Nodes []NodeSpec
}

// Cluster is one Kubernetes cluster. Goroutines may call its methods concurrently.
type Cluster struct {
	Name string
	Plan ClusterPlan
	// Control is the machine of the control plane, with the processes Etcd, API and Controllers. A
	// scenario may stop, kill and start these processes; they keep their addresses, data and keys.
	Control                *Machine
	Etcd, API, Controllers *Process
	// Config and Client have the rights of an administrator and no rate limit.
	Config *rest.Config
	Client kubernetes.Interface

	lab   *Lab
	index int // of the address plan
	ca    []byte

	mu    sync.Mutex
	nodes []*Node
	// routed are the nodes that addRoutes has connected: each node in this list has routes to the
	// pods of every other node in the list.
	routed []*Node
	// made is the number of nodes that the cluster has ever had. The addresses of a new node follow
	// from made, so no earlier node had the same addresses.
	made int
}

// apiPort is the port of every API server. All API servers can have the same port, because each of
// them runs on its own machine.
const apiPort = 6443

// etcdURL is the address of etcd on each control machine.
const etcdURL = "http://127.0.0.1:2379"

// users are the entries of the API server's static token file. The first user is an administrator.
// Each other user has only the rights that Kubernetes grants to the component of that name.
var users = []struct{ token, user, group string }{
	{"token-admin", "admin", "system:masters"},
	{"token-kube-controller-manager", "system:kube-controller-manager", ""},
	{"token-kube-proxy", "system:kube-proxy", ""},
}

// StartClusters starts clusters at the same time. It returns when every API server is ready and the
// kube-proxy of every node has written its rules.
func (l *Lab) StartClusters(ctx context.Context, specs ...ClusterSpec) ([]*Cluster, error) {
	started := make([]*Cluster, len(specs))
	l.mu.Lock()
	for i, spec := range specs {
		started[i] = &Cluster{Name: spec.Name, lab: l, index: l.freeIndex()}
		l.clusters = append(l.clusters, started[i])
	}
	l.mu.Unlock()

	g, gctx := errgroup.WithContext(ctx)
	for i, spec := range specs {
		g.Go(func() error {
			if err := started[i].start(gctx, spec); err != nil {
				return fmt.Errorf("cluster %s: %w", spec.Name, err)
			}
			return nil
		})
	}
	return started, g.Wait()
}

// freeIndex returns the smallest index that no cluster has. The caller holds the lock l.mu.
func (l *Lab) freeIndex() int {
	i := 0
	for slices.ContainsFunc(l.clusters, func(c *Cluster) bool { return c.index == i }) {
		i++
	}
	return i
}

// Remove stops a cluster with its nodes and deletes its data. A later cluster may get the same
// addresses.
func (c *Cluster) Remove(ctx context.Context) error {
	var errs []error
	for _, n := range c.Nodes() {
		errs = append(errs, n.Remove(ctx))
	}
	errs = append(errs, c.Control.remove(), os.RemoveAll(c.file("")))
	c.lab.mu.Lock()
	c.lab.clusters = slices.DeleteFunc(c.lab.clusters, func(other *Cluster) bool { return other == c })
	c.lab.mu.Unlock()
	return errors.Join(errs...)
}

func (c *Cluster) start(ctx context.Context, spec ClusterSpec) (err error) {
	if c.Plan, err = PlanCluster(c.index); err != nil {
		return err
	}
	if c.Control, err = c.lab.machine(c.Name+"-control", c.Plan.Control); err != nil {
		return err
	}
	if err := c.writeFiles(); err != nil {
		return err
	}
	if err := c.startControlPlane(ctx); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, n := range spec.Nodes {
		// Add one node after the other, so that each node has the same address in every run. The
		// addresses decide which nodes a terminator selects for each service.
		plan, err := c.nextNode()
		if err != nil {
			return err
		}
		g.Go(func() error {
			_, err := c.addNode(gctx, n, plan)
			return err
		})
	}
	return g.Wait()
}

// Ready requests /readyz from the API server.
func (c *Cluster) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return c.Client.CoreV1().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

// WaitReady waits until the API server is ready, and returns how long that took.
func (c *Cluster) WaitReady(ctx context.Context) (time.Duration, error) {
	return Until(ctx, "the API server of "+c.Name, 3*time.Minute, c.Ready, c.API, c.Etcd)
}

// Bin returns the directory of the programs that the lab runs.
func (c *Cluster) Bin() string { return c.lab.opts.Bin }

// Server returns the URL of the API server.
func (c *Cluster) Server() string { return fmt.Sprintf("https://%s:%d", c.Plan.Control, apiPort) }

func (c *Cluster) file(name string) string { return c.lab.Dir(c.Name, name) }

func (c *Cluster) writeFiles() error {
	// The lab makes the certificate before the API server starts, because kubeconfigs contain the
	// certificate.
	serving := testcert.New(c.Name+"-control", c.Plan.Control.String())
	c.ca = serving.PEM()
	files := map[string][]byte{
		"serving.crt": c.ca,
		"serving.key": serving.KeyPEM(),
		"sa.key":      testcert.New("accounts").KeyPEM(),
	}
	var err error
	var tokens strings.Builder
	for _, u := range users {
		fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", u.token, u.user, u.user, u.group)
		name := strings.TrimPrefix(u.user, "system:") + ".kubeconfig"
		if files[name], err = Kubeconfig(c.Name, c.Server(), c.ca, u.user, u.token); err != nil {
			return err
		}
	}
	files["tokens.csv"] = []byte(tokens.String())
	if err := os.MkdirAll(c.file(""), 0o700); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	for name, b := range files {
		if err := os.WriteFile(c.file(name), b, 0o600); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	}
	if c.Config, err = clientcmd.RESTConfigFromKubeConfig(files["admin.kubeconfig"]); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	c.Config.QPS = -1
	c.Config.Timeout = 20 * time.Second
	c.Client, err = kubernetes.NewForConfig(c.Config)
	return err
}

// startControlPlane starts etcd and the API server, waits until the API server is ready, and then
// starts the controllers. The controllers would end if they had to wait more than 10 s for the API
// server. On a busy machine, the API server needs more time.
func (c *Cluster) startControlPlane(ctx context.Context) (err error) {
	if c.Etcd, err = c.Control.Start(c.Name+"-etcd", "etcd",
		"--data-dir", c.file("etcd"),
		"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL,
		"--listen-peer-urls", "http://127.0.0.1:2380",
		// Etcd need not sync its data to disk: the data is in memory, and is lost at the end of the
		// lab anyway.
		"--unsafe-no-fsync",
		"--log-level", "warn",
	); err != nil {
		return err
	}
	if c.API, err = c.startAPI(c.Name+"-kube-apiserver", apiPort); err != nil {
		return err
	}
	if _, err = c.WaitReady(ctx); err != nil {
		return err
	}
	// The lab needs only the controller that makes endpoint slices from pods.
	c.Controllers, err = c.StartControllers("", "endpointslice-controller")
	return err
}

// StartControllers starts a kube-controller-manager that runs only the named controllers. The
// argument "suffix" makes the name of the process unique. The caller must stop the process.
func (c *Cluster) StartControllers(suffix, controllers string) (*Process, error) {
	return c.Control.Start(c.Name+"-kube-controller-manager"+suffix, "kube-controller-manager",
		"--kubeconfig", c.file("kube-controller-manager.kubeconfig"),
		"--authentication-kubeconfig", "", "--authorization-kubeconfig", "",
		"--secure-port", "0",
		"--leader-elect=false",
		// Each controller gets its own account and role.
		"--use-service-account-credentials",
		"--controllers", controllers,
	)
}

// WriteKubeconfig writes a kubeconfig for the administrator of several clusters, and returns its
// path. Each cluster has a context with the name of the cluster. The current context is that of the
// first cluster.
func (l *Lab) WriteKubeconfig(clusters []*Cluster) (string, error) {
	all := clientcmdapi.NewConfig()
	for _, c := range clusters {
		one, err := clientcmd.LoadFromFile(c.file("admin.kubeconfig"))
		if err != nil {
			return "", fmt.Errorf("lab: %w", err)
		}
		all.Clusters[c.Name] = one.Clusters[c.Name]
		all.AuthInfos[c.Name] = one.AuthInfos["admin"]
		all.Contexts[c.Name] = &clientcmdapi.Context{Cluster: c.Name, AuthInfo: c.Name}
	}
	all.CurrentContext = clusters[0].Name
	path := l.Dir("kubeconfig")
	if err := clientcmd.WriteToFile(*all, path); err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	return path, nil
}

// Edge makes the machine "edge". The machine has routes to the pods of the clusters, in addition to
// its address on the bridge of the lab.
func (l *Lab) Edge(clusters []*Cluster) (*Machine, error) {
	m, err := l.Machine("edge")
	if err != nil {
		return nil, err
	}
	var routes []string
	for _, c := range clusters {
		for _, n := range c.Nodes() {
			routes = append(routes, fmt.Sprintf("route add %s via %s", n.Plan.Pods, n.Addr))
		}
	}
	return m, ipBatch(m.Name, routes...)
}

// startAPI starts an API server that uses the etcd of the cluster.
func (c *Cluster) startAPI(name string, port int) (*Process, error) {
	return c.Control.Start(name, "kube-apiserver",
		"--etcd-servers", etcdURL,
		"--bind-address", c.Plan.Control.String(), "--secure-port", fmt.Sprint(port),
		"--advertise-address", c.Plan.Control.String(),
		"--tls-cert-file", c.file("serving.crt"), "--tls-private-key-file", c.file("serving.key"),
		"--cert-dir", c.file(fmt.Sprint("certs-", port)),
		"--token-auth-file", c.file("tokens.csv"),
		"--authorization-mode", "RBAC",
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", c.file("sa.key"), "--service-account-signing-key-file", c.file("sa.key"),
		"--service-cluster-ip-range", c.Plan.Services.String(),
		// Do not create the service "kubernetes": no client uses it here, and kube-proxy must not
		// wait for it.
		"--endpoint-reconciler-type", "none",
		// This plugin taints every new node. Only the node lifecycle controller removes the taint,
		// and that controller does not run here. So with the plugin, nodes would stay tainted.
		"--disable-admission-plugins", "TaintNodesByCondition",
	)
}

// SecondAPI starts another API server on the same etcd, and returns a client for it. Only this
// client uses the second API server. So a scenario can change objects while the first API server
// does not answer. The caller must stop the returned process.
func (c *Cluster) SecondAPI(ctx context.Context) (*Process, kubernetes.Interface, error) {
	const port = apiPort + 1
	api, err := c.startAPI(c.Name+"-kube-apiserver-2", port)
	if err != nil {
		return nil, nil, err
	}
	cfg := rest.CopyConfig(c.Config)
	cfg.Host = fmt.Sprintf("https://%s:%d", c.Plan.Control, port)
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return api, nil, fmt.Errorf("lab: %w", err)
	}
	_, err = Until(ctx, "the second API server of "+c.Name, 3*time.Minute, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return client.CoreV1().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	}, api, c.Etcd)
	return api, client, err
}

// write writes a file of the cluster and returns its path.
func (c *Cluster) write(name string, b []byte) (string, error) {
	path := c.file(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	return path, nil
}
