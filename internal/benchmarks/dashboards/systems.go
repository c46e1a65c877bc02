package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/haproxyproc"
	"github.com/headgate/headgate/internal/testcert"
)

// nodes is the number of nodes of the cluster behind the edge.
const nodes = 4

// edgeServices are the services behind the edge, with their node ports. Each tenth answer of the
// service "search" has the status 500.
var edgeServices = map[string]int{"web": 30080, "tracks": 30081, "search": 30082}

// pod returns a handler that needs some milliseconds for a request, and answers with the status 500
// to the given share of the requests.
func pod(failing float64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !sleep(r.Context(), 2*time.Millisecond+rand.N(6*time.Millisecond)) {
			return
		}
		if rand.Float64() < failing {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, "ok\n")
	})
}

// writeCluster writes the objects of the cluster. If the argument "cordoned" is not 0, the node
// with this number is cordoned. The argument "weight" is the weight of the service "tracks" in
// percent.
func (l *lab) writeCluster(cordoned, weight int) error {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: List\nitems:\n")
	for i := 1; i <= nodes; i++ {
		fmt.Fprintf(&b, "- {apiVersion: v1, kind: Node, metadata: {name: n%d}, spec: {unschedulable: %t}, status: {addresses: [{type: InternalIP, address: %s}], conditions: [{type: Ready, status: \"True\"}]}}\n",
			i, i == cordoned, l.node(i))
	}
	for service, port := range edgeServices {
		annotations := ""
		if service == "tracks" {
			annotations = fmt.Sprintf(`, annotations: {headgate.dev/agent-port: "9801", headgate.dev/weight: "%d"}`, weight)
		}
		fmt.Fprintf(&b, "- {apiVersion: v1, kind: Service, metadata: {namespace: media, name: %s%s}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: %d}]}}\n", service, annotations, port)
	}
	return l.write("eu-1/objects.yaml", b.String())
}

// writeRoutes writes the declarations. The argument "hosts" is the number of hosts of the service
// "web".
func (l *lab) writeRoutes(hosts int) error {
	var b strings.Builder
	b.WriteString("routes:\n")
	for i := range hosts {
		fmt.Fprintf(&b, "- host: shop%d.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n", i)
	}
	for _, service := range []string{"tracks", "search"} {
		fmt.Fprintf(&b, "- host: api.example.com\n  path: /%s\n  backends:\n  - {cluster: eu-1, namespace: media, service: %[1]s, port: http}\n", service)
	}
	return l.write("routes.yaml", b.String())
}

// startEdge starts a cluster, the agents of its nodes, a terminator and its HAProxy.
func (l *lab) startEdge(ctx context.Context) error {
	if err := l.writeCluster(0, 100); err != nil {
		return err
	}
	if err := l.writeRoutes(2); err != nil {
		return err
	}
	agents := job{name: "nodeagent"}
	for i := 1; i <= nodes; i++ {
		for service, port := range edgeServices {
			failing := 0.0
			if service == "search" {
				failing = 0.1
			}
			if err := l.serve(fmt.Sprintf("%s:%d", l.node(i), port), &http.Server{Handler: pod(failing)}); err != nil {
				return err
			}
		}
		admin := l.node(i) + ":9708"
		if err := l.start("nodeagent", "-node", fmt.Sprintf("n%d", i), "-listen", l.node(i)+":9707", "-dir", "eu-1", "-admin", admin, "-hold-down", "2s"); err != nil {
			return err
		}
		agents.targets = append(agents.targets, admin)
	}
	certificate := testcert.New("shop0.example.com")
	if err := l.write("certificates/shop.pem", string(certificate.PEM())+string(certificate.KeyPEM())); err != nil {
		return err
	}
	haproxy, err := haproxyproc.Find()
	if err != nil {
		return err
	}
	if err := l.start("terminator", "-routes", "routes.yaml", "-cluster", "eu-1=dir:eu-1", "-out", "edge", "-haproxy", haproxy, "-admin", l.address(9709),
		"-http", l.address(8080), "-https", l.address(8443), "-certificates", "certificates", "-exporter", l.address(8404), "-nodes-per-service", "3",
		"-stats-socket", l.path("stats.sock"), "-reload", l.path("master.sock"), "-allow-nodes", "127.0.0.0/8", "-max-change", "100%", "-agent-inter", "1s", "-check-inter", "1s"); err != nil {
		return err
	}
	if err := l.wait(ctx, "http://"+l.address(9709)+"/healthz"); err != nil {
		return err
	}
	config := l.path("edge/haproxy.cfg")
	for deadline := time.Now().Add(2 * time.Minute); ; {
		if _, err := os.Stat(config); err == nil {
			break
		}
		if time.Now().After(deadline) || !sleep(ctx, 20*time.Millisecond) {
			return fmt.Errorf("the terminator does not write %s", config)
		}
	}
	p, err := haproxyproc.Start(ctx, haproxyproc.Options{Config: config, StatsSocket: l.path("stats.sock"), MasterSocket: l.path("master.sock"), Dir: l.path("edge")})
	if err != nil {
		return err
	}
	l.stops = append(l.stops, func() error { p.Stop(); return nil })
	l.jobs = append(l.jobs, agents, job{"terminator", []string{l.address(9709)}}, job{"edge-haproxy", []string{l.address(8404)}})
	return l.wait(ctx, "http://"+l.address(9709)+"/readyz")
}

// startRouter starts sites, a host API that has their addresses, and a router.
func (l *lab) startRouter(ctx context.Context) error {
	site := testcert.New("a.example.com", "b.example.com")
	if err := l.serve(l.address(7080), &http.Server{Handler: pod(0)}); err != nil {
		return err
	}
	if err := l.serve(l.address(7443), &http.Server{Handler: pod(0), TLSConfig: &tls.Config{Certificates: []tls.Certificate{site.TLS}}}); err != nil {
		return err
	}
	hosts := fmt.Sprintf(`[{"app": "a", "host": "a.example.com", "endpoint": %q}, {"app": "b", "host": "b.example.com", "endpoint": %q}]`, l.address(7080), l.address(7443))
	if err := l.write("hosts.json", hosts); err != nil {
		return err
	}
	if err := l.startHostAPI(ctx); err != nil {
		return err
	}
	api := "http://" + l.address(9000)
	if err := l.start("snirouter", "-http", l.address(8081), "-tls", l.address(8444), "-admin", l.address(9808), "-allow", "127.0.0.0/8",
		"-api", api+"/hosts/{host}", "-changes", api+"/changes", "-log-sample", "0"); err != nil {
		return err
	}
	l.jobs = append(l.jobs, job{"snirouter", []string{l.address(9808)}}, job{"hostapi", []string{l.address(9001)}})
	return l.wait(ctx, "http://"+l.address(9808)+"/readyz")
}

// startHostAPI starts the host API.
func (l *lab) startHostAPI(ctx context.Context) (err error) {
	l.hostAPI, err = l.startProcess("hostapi", "-hosts", "hosts.json", "-listen", l.address(9000), "-admin", l.address(9001), "-max-age", "1s", "-negative-max-age", "1s")
	if err != nil {
		return err
	}
	return l.wait(ctx, "http://"+l.address(9001)+"/readyz")
}

// pods is the number of pods behind the front proxies.
const pods = 6

// writeSlice writes the EndpointSlice of the pods, which are in two zones. The argument "ready" is
// the number of pods that are ready.
func (l *lab) writeSlice(ready int) error {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: List\nitems:\n- apiVersion: discovery.k8s.io/v1\n  kind: EndpointSlice\n  metadata: {namespace: demo, name: web-1, labels: {kubernetes.io/service-name: web}}\n  addressType: IPv4\n  ports: [{name: http, port: 8000}]\n  endpoints:\n")
	for i := range pods {
		fmt.Fprintf(&b, "  - {addresses: [%s], zone: %c, conditions: {ready: %t}, nodeName: n%d, targetRef: {kind: Pod, namespace: demo, name: web-%d}}\n", l.node(101+i), 'a'+i%2, i < ready, i+1, i+1)
	}
	return l.write("pods/slices.yaml", b.String())
}

// startFronts starts pods in two zones, and a front proxy for each zone.
func (l *lab) startFronts(ctx context.Context) error {
	for i := range pods {
		address := net.JoinHostPort(l.node(101+i), "8000")
		if err := l.serve(address, &http.Server{Handler: pod(0.01)}); err != nil {
			return err
		}
	}
	if err := l.writeSlice(pods); err != nil {
		return err
	}
	fronts, haproxies := job{name: "frontproxy"}, job{name: "front-haproxy"}
	for i, zone := range []string{"a", "b"} {
		admin, monitor := l.address(9710+i), l.address(9720+i)
		if err := l.start("frontproxy", "-service", "demo/web:http", "-zone", zone, "-dir", "pods", "-listen", l.address(8090+i), "-admin", admin, "-exporter", monitor,
			"-out", l.path("front-"+zone), "-drain-delay", "0", "-drain-timeout", "1s"); err != nil {
			return err
		}
		fronts.targets = append(fronts.targets, admin)
		haproxies.targets = append(haproxies.targets, monitor)
	}
	l.jobs = append(l.jobs, fronts, haproxies)
	for _, admin := range fronts.targets {
		if err := l.wait(ctx, "http://"+admin+"/readyz"); err != nil {
			return err
		}
	}
	return nil
}

// startTraffic starts clients that send requests to all systems until the lab stops.
func (l *lab) startTraffic() {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	for _, c := range []struct {
		url, host, address string // address is where the client connects; empty means the host of the URL
		every              time.Duration
	}{
		{url: "http://" + l.address(8080) + "/", host: "shop0.example.com", every: 10 * time.Millisecond},
		{url: "http://" + l.address(8080) + "/tracks", host: "api.example.com", every: 20 * time.Millisecond},
		{url: "http://" + l.address(8080) + "/search", host: "api.example.com", every: 30 * time.Millisecond},
		{url: "http://" + l.address(8080) + "/", host: "unknown.example.com", every: 100 * time.Millisecond},
		{url: "http://a.example.com/", address: l.address(8081), every: 20 * time.Millisecond},
		{url: "https://b.example.com/", address: l.address(8444), every: 30 * time.Millisecond},
		{url: "http://unknown.example.com/", address: l.address(8081), every: 100 * time.Millisecond},
		{url: "http://" + l.address(8090) + "/", every: 10 * time.Millisecond},
		{url: "http://" + l.address(8091) + "/", every: 15 * time.Millisecond},
	} {
		l.running.Go(func() { send(ctx, c.url, c.host, c.address, c.every) })
	}
}

// send sends one request in each interval of the length "every". A client of the router opens a
// connection for each request.
func send(ctx context.Context, url, host, address string, every time.Duration) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: address != ""}
	if address != "" {
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
	}
	client := http.Client{Transport: transport, Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	for sleep(ctx, every) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return
		}
		req.Host = host
		if resp, err := client.Do(req); err == nil { // the systems count their errors
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}
}
