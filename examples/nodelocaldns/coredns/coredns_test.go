package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coredns/coredns/coremain"
	"github.com/miekg/dns"
)

const (
	corefile = "../kubernetes/base/Corefile"
	port     = "5300"           // the port of every server; each server has its own loopback address
	patience = 60 * time.Second // bounds the waits of a test on a busy machine
)

// TestMain runs CoreDNS in place of the tests if a test starts the test binary as CoreDNS.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_COREDNS") != "" {
		coremain.Run()
		return
	}
	os.Exit(m.Run())
}

// loopback returns an address of the loopback device that no other test uses.
func loopback() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
}

// output collects what a process prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// coreDNS is a running CoreDNS.
type coreDNS struct {
	t      *testing.T
	addr   string // IP address; the port is port
	cmd    *exec.Cmd
	exited chan struct{}
	out    output
}

func startCoreDNS(t *testing.T, file, addr string, env ...string) *coreDNS {
	t.Helper()
	c := &coreDNS{t: t, addr: addr, exited: make(chan struct{})}
	c.cmd = exec.Command(os.Args[0], "-conf", file, "-dns.port", port)
	c.cmd.Env = append(os.Environ(), append(env, "RUN_COREDNS=1", "DNS_ADDRESS="+addr, "NODE_IP="+addr)...)
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.cmd.Wait(); close(c.exited) }()
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		<-c.exited
		if t.Failed() {
			t.Logf("CoreDNS at %s printed:\n%s", addr, &c.out)
		}
	})
	return c
}

// startNode starts CoreDNS with the committed Corefile.
func startNode(t *testing.T, addr, upstream string) *coreDNS {
	t.Helper()
	c := startCoreDNS(t, corefile, addr, "CLUSTER_DNS="+upstream, "NODE_UPSTREAM="+upstream)
	c.waitReady()
	return c
}

// waitReady waits until CoreDNS answers. /ready may succeed a little earlier.
func (c *coreDNS) waitReady() {
	c.t.Helper()
	eventually(c.t, "CoreDNS should be ready", func() bool {
		return c.get("9255/ready") == "OK" && strings.Contains(c.out.String(), "CoreDNS-")
	})
}

// get returns the body of a page of CoreDNS, or "" without an answer.
func (c *coreDNS) get(page string) string {
	res, err := http.Get("http://" + c.addr + ":" + page)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return ""
	}
	return string(body)
}

// servedStale returns how many answers CoreDNS has given after the end of their TTL.
func (c *coreDNS) servedStale() (sum float64) {
	for line := range strings.Lines(c.get("9253/metrics")) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && strings.HasPrefix(name, "coredns_cache_served_stale_total") {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				c.t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

// ask sends a request by UDP. It returns the code and the addresses of the answer, such as
// "NOERROR 10.0.0.1".
func (c *coreDNS) ask(name string) string {
	c.t.Helper()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	client := dns.Client{Timeout: 10 * time.Second}
	a, _, err := client.Exchange(q, net.JoinHostPort(c.addr, port))
	if err != nil {
		return err.Error()
	}
	return summary(a)
}

func summary(a *dns.Msg) string {
	s := dns.RcodeToString[a.Rcode]
	for _, rr := range a.Answer {
		if a, ok := rr.(*dns.A); ok {
			s += " " + a.A.String()
		}
	}
	return s
}

func (c *coreDNS) require(want, name string) {
	c.t.Helper()
	if got := c.ask(name); got != want {
		c.t.Fatalf("%s: got %q, want %q", name, got, want)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.Tick(20 * time.Millisecond)
	for begin := time.Now(); !ok(); <-tick {
		if time.Since(begin) > patience {
			t.Fatal(what)
		}
	}
}

// upstream is the DNS server behind the nodes.
type upstream struct {
	t       *testing.T
	addr    string // with port
	servers []*dns.Server

	mu      sync.Mutex
	records map[string]string // name with a dot at the end: address
	byUDP   int
}

func newUpstream(t *testing.T, records map[string]string) *upstream {
	u := &upstream{t: t, addr: net.JoinHostPort(loopback(), port), records: records}
	u.start()
	t.Cleanup(u.kill)
	return u
}

func (u *upstream) start() {
	u.t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		started := make(chan struct{})
		failed := make(chan error, 1)
		s := &dns.Server{Addr: u.addr, Net: network, Handler: u, NotifyStartedFunc: func() { close(started) }}
		go func() { failed <- s.ListenAndServe() }()
		select {
		case <-started:
		case err := <-failed:
			u.t.Fatal(err)
		}
		u.servers = append(u.servers, s)
	}
}

// kill closes the listeners and all connections.
func (u *upstream) kill() {
	for _, s := range u.servers {
		s.Shutdown()
	}
	u.servers = nil
}

func (u *upstream) set(name, addr string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.records[name] = addr
}

// ServeDNS implements dns.Handler. Records have a TTL of 1 s; CoreDNS keeps each for at least 5 s.
func (u *upstream) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if w.RemoteAddr().Network() == "udp" {
		u.byUDP++
	}
	a := new(dns.Msg).SetReply(q)
	name := q.Question[0].Name
	if addr, ok := u.records[name]; ok {
		a.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1},
			A:   net.ParseIP(addr),
		}}
	} else {
		a.Rcode = dns.RcodeNameError
	}
	w.WriteMsg(a)
}

// While the upstream fails, known names get their last answer, even after their TTL, and unknown
// names get SERVFAIL. When the upstream is back, its new records arrive.
func TestUpstreamFails(t *testing.T) {
	t.Parallel()
	const inside, outside = "a.media.svc.cluster.local", "www.example.com"
	u := newUpstream(t, map[string]string{inside + ".": "10.0.0.1", outside + ".": "192.0.2.1"})
	c := startNode(t, loopback(), u.addr)
	c.require("NOERROR 10.0.0.1", inside)
	c.require("NOERROR 192.0.2.1", outside)
	c.require("NXDOMAIN", "b.media.svc.cluster.local")

	u.kill()
	u.set(inside+".", "10.0.0.2")
	eventually(t, "an answer should be older than its TTL", func() bool {
		c.require("NOERROR 10.0.0.1", inside)
		c.require("NOERROR 192.0.2.1", outside)
		return c.servedStale() >= 10
	})
	c.require("SERVFAIL", "c.media.svc.cluster.local")
	c.require("SERVFAIL", "mail.example.com")
	requireMetrics(t, c)

	u.start()
	eventually(t, "the new record should arrive", func() bool {
		switch got := c.ask(inside); got {
		case "NOERROR 10.0.0.1":
			return false
		case "NOERROR 10.0.0.2":
			return true
		default:
			t.Fatal(got)
			return false
		}
	})
	c.require("NOERROR 192.0.2.1", outside)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byUDP > 0 {
		t.Errorf("%d requests came by UDP, want TCP only", u.byUDP)
	}
}

// requireMetrics checks that CoreDNS has every metric of the alerts.
func requireMetrics(t *testing.T, c *coreDNS) {
	t.Helper()
	alerts, err := os.ReadFile("../kubernetes/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`coredns_\w+`).FindAllString(string(alerts), -1)
	if len(names) < 3 {
		t.Fatalf("alerts.yaml names only %q", names)
	}
	metrics := c.get("9253/metrics")
	for _, name := range names {
		if !strings.Contains(metrics, "\n"+name+"{") {
			t.Errorf("CoreDNS has no metric %s", name)
		}
	}
	if !regexp.MustCompile(`(?m)^coredns_dns_responses_total\{.*rcode="SERVFAIL"`).MatchString(metrics) {
		t.Error("coredns_dns_responses_total has no label rcode")
	}
}

// The DaemonSet starts the new pod before it stops the old one. Both listen on the same port.
func TestUpdateLosesNoAnswer(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, map[string]string{"www.example.com.": "192.0.2.1"})
	addr := loopback()
	old := startNode(t, addr, u.addr)
	stop := make(chan struct{})
	failures := make(chan string, 1)
	var asked int
	go func() {
		defer close(failures)
		for tick := time.Tick(2 * time.Millisecond); ; <-tick {
			select {
			case <-stop:
				return
			default:
			}
			asked++
			// When the old process closes its socket, the kernel drops the packets in the queue of
			// the socket. So a lookup may get no answer, and the resolver of a client repeats it.
			if got := old.ask("www.example.com"); got != "NOERROR 192.0.2.1" && old.ask("www.example.com") != "NOERROR 192.0.2.1" {
				failures <- got
				return
			}
		}
	}()
	next := startCoreDNS(t, corefile, addr, "CLUSTER_DNS="+u.addr, "NODE_UPSTREAM="+u.addr)
	// Both answer /ready on the same port, so wait for the first output of the new process.
	eventually(t, "the new CoreDNS should start", func() bool { return strings.Contains(next.out.String(), "CoreDNS-") })
	if err := old.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-old.exited:
	case <-time.After(patience):
		t.Fatal("the old CoreDNS does not stop")
	}
	close(stop)
	for got := range failures {
		t.Errorf("after %d requests: %s", asked, got)
	}
	next.require("NOERROR 192.0.2.1", "www.example.com")
}

// Weights in DNS have no effect behind the cache of a node. CoreDNS refuses weight 0: it does not
// start with such a file, and a running CoreDNS keeps its old weights. README.md explains both
// facts.
func TestWeightsInDNS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	setWeight := func(weight int) {
		t.Helper()
		write("weights", fmt.Sprintf("www.example.com\n192.0.2.1 %d\n192.0.2.2 100\n", weight))
	}
	write("Corefile", `. {
	bind {$DNS_ADDRESS}
	ready {$NODE_IP}:9255
	loadbalance weighted `+dir+`/weights {
		reload 100ms
	}
	hosts {
		192.0.2.1 www.example.com
		192.0.2.2 www.example.com
	}
}`)
	const requests = 400
	// firsts counts how often each address comes first.
	firsts := func(c *coreDNS) map[string]int {
		count := map[string]int{}
		for range requests {
			_, addrs, ok := strings.Cut(c.ask("www.example.com"), " ")
			if !ok {
				t.Fatal(c.ask("www.example.com"))
			}
			first, _, _ := strings.Cut(addrs, " ")
			count[first]++
		}
		return count
	}
	setWeight(1)
	weighted := startCoreDNS(t, filepath.Join(dir, "Corefile"), loopback())
	weighted.waitReady()
	if n := firsts(weighted)["192.0.2.1"]; n > requests/10 {
		t.Errorf("weight 1 of 101: first in %d of %d answers", n, requests)
	}
	node := startNode(t, loopback(), net.JoinHostPort(weighted.addr, port))
	if count := firsts(node); len(count) != 1 {
		t.Errorf("behind the cache of a node: %v", count)
	}

	setWeight(0)
	eventually(t, "CoreDNS should refuse weight 0", func() bool {
		return strings.Contains(weighted.out.String(), `wrong weight value:"0"`)
	})
	eventually(t, "the old weights should stay", func() bool { return firsts(weighted)["192.0.2.1"] > 0 })
	select {
	case <-startCoreDNS(t, filepath.Join(dir, "Corefile"), loopback()).exited:
	case <-time.After(patience):
		t.Error("CoreDNS starts with weight 0")
	}
}
