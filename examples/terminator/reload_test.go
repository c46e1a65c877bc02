package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// TestOldWorkersAreBounded causes many reloads by changes of a declared check. Each HAProxy process
// has a stream that does not end. When there are -max-old-workers old processes, the terminator
// ends the oldest one, and cuts only the stream of this process. The limit also applies after a
// restart of the terminator.
func TestOldWorkersAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := haproxytest.Dir(t)
	ports := haproxytest.Ports(t, 2)
	echo, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports[1]))
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(echoLines)}
	go func() { _ = server.Serve(echo) }()
	t.Cleanup(func() { _ = server.Close() })

	declarations := func(interval int) string {
		return fmt.Sprintf("routes:\n- host: www.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n  check: {interval: %dms}\n", interval)
	}
	w.write("routes.yaml", declarations(100))
	w.write("eu-1/objects.yaml", "apiVersion: v1\nkind: List\nitems:\n"+
		fmt.Sprintf("- {apiVersion: v1, kind: Service, metadata: {namespace: media, name: web}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: %d}]}}\n", ports[1])+
		"- {apiVersion: v1, kind: Node, metadata: {name: n0}, status: {addresses: [{type: InternalIP, address: 127.0.0.1}]}}\n")
	args := []string{
		"-http", fmt.Sprintf("127.0.0.1:%d", ports[0]), "-haproxy", w.haproxy(), "-max-change", "100%", "-hard-stop-after", "0",
		"-stats-socket", filepath.Join(dir, haproxytest.StatsSocket), "-reload", filepath.Join(dir, haproxytest.MasterSocket),
		"-node-health", "kube-proxy", "-max-interval", "0", "-max-old-workers", "2", "-max-reload-wait", "200ms",
	}
	v := w.watchIn(dir, args...)
	v.waitLog("the change is not in force") // HAProxy does not run yet
	config, err := os.ReadFile(filepath.Join(dir, "haproxy.cfg"))
	require.NoError(t, err)
	haproxytest.StartMaster(t, dir, string(config))
	v.waitReady()

	var held []*stream
	applied := func() int { return strings.Count(v.log.String(), "msg=applied") }
	toggle := func() {
		held = append(held, openStream(t, fmt.Sprintf("127.0.0.1:%d", ports[0])))
		before := applied()
		w.replace("routes.yaml", declarations(100+len(held)%2))
		v.eventually("the change is applied", func() bool { return applied() > before })
		haproxytest.AwaitOldWorkers(t, dir)
	}
	for range 3 {
		toggle()
	}
	require.Contains(t, v.log.String(), "the reload waits for old workers")
	require.Regexp(t, regexp.MustCompile(`msg="ended the oldest worker" pid=\d+ "streams cut"=1 old=1 limit=2`), v.log.String())
	v.waitMetric("headgate_terminator_old_workers 2")
	v.waitMetric("headgate_terminator_old_workers_ended_total 1")
	v.waitMetric("headgate_terminator_streams_cut_total 1")
	v.waitMetric("headgate_terminator_reload_waiting 0")
	require.Error(t, held[0].echo())
	require.NoError(t, held[1].echo())
	require.NoError(t, held[2].echo())

	// A terminator that starts again finds the old workers of the last one.
	require.Equal(t, cli.ExitOK, v.stop())
	v = w.watchIn(dir, args...)
	v.waitReady()
	v.waitMetric("headgate_terminator_old_workers 2")
	toggle()
	v.waitMetric("headgate_terminator_streams_cut_total 1")
	require.Error(t, held[1].echo())
	require.NoError(t, held[2].echo())
	require.NoError(t, held[3].echo())
}

// echoLines answers each line of the body with the same line.
func echoLines(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).EnableFullDuplex()
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	in := bufio.NewReader(r.Body)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		_, _ = io.WriteString(w, line)
		_ = http.NewResponseController(w).Flush()
	}
}

// stream is a request whose body and answer continue until somebody cuts them.
type stream struct {
	conn net.Conn
	in   *bufio.Reader
}

func openStream(t *testing.T, address string) *stream {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 100000\r\n\r\n")
	require.NoError(t, err)
	s := &stream{conn, bufio.NewReader(conn)}
	response, err := http.ReadResponse(s.in, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	s.in = bufio.NewReader(response.Body)
	require.NoError(t, s.echo())
	return s
}

// echo sends a line, and returns an error unless the server sends it back.
func (s *stream) echo() error {
	if _, err := io.WriteString(s.conn, "hello\n"); err != nil {
		return err
	}
	_, err := s.in.ReadString('\n')
	return err
}

// TestNodeLeavesWhileAReloadWaits removes a node from the cluster while a reload has to wait,
// because there are -max-old-workers old HAProxy processes. The configuration stays, but HAProxy
// must send no more requests to the node. When the node is back, HAProxy must use it again.
func TestNodeLeavesWhileAReloadWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := haproxytest.Dir(t)
	ports := haproxytest.Ports(t, 2)
	for i := 1; i <= 2; i++ {
		serve(t, fmt.Sprintf("127.0.0.%d:%d", i, ports[1]), fmt.Sprintf("node %d", i))
	}
	manifests := func(nodes ...int) string {
		text := "apiVersion: v1\nkind: List\nitems:\n" +
			fmt.Sprintf("- {apiVersion: v1, kind: Service, metadata: {namespace: media, name: web}, spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: %d}]}}\n", ports[1])
		for _, i := range nodes {
			text += fmt.Sprintf("- {apiVersion: v1, kind: Node, metadata: {name: n%d}, status: {addresses: [{type: InternalIP, address: 127.0.0.%d}]}}\n", i, i)
		}
		return text
	}
	declarations := func(interval int) string {
		return fmt.Sprintf("routes:\n- host: www.example.com\n  backends:\n  - {cluster: eu-1, namespace: media, service: web, port: http}\n  check: {interval: %dms}\n", interval)
	}
	w.write("routes.yaml", declarations(100))
	w.write("eu-1/objects.yaml", manifests(1, 2))
	v := w.watchIn(dir,
		"-http", fmt.Sprintf("127.0.0.1:%d", ports[0]), "-haproxy", w.haproxy(), "-max-change", "100%",
		"-stats-socket", filepath.Join(dir, haproxytest.StatsSocket), "-reload", filepath.Join(dir, haproxytest.MasterSocket),
		"-node-health", "kube-proxy", "-max-interval", "0", "-max-old-workers", "1", "-max-reload-wait", "1h")
	v.waitLog("the change is not in force") // HAProxy does not run yet
	config, err := os.ReadFile(filepath.Join(dir, "haproxy.cfg"))
	require.NoError(t, err)
	haproxytest.StartMaster(t, dir, string(config))
	v.waitReady()

	// The first process does not end, because it has a request that does not end.
	held, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0]))
	require.NoError(t, err)
	defer held.Close()
	_, err = io.WriteString(held, "POST / HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 10\r\n\r\n")
	require.NoError(t, err)
	client := startClient(t, fmt.Sprintf("http://127.0.0.1:%d/", ports[0]), "www.example.com")
	client.waitFor("node 2")
	w.replace("routes.yaml", declarations(101))
	v.waitMetric("headgate_terminator_old_workers 1")
	w.replace("routes.yaml", declarations(102))
	v.waitMetric("headgate_terminator_reload_waiting 1")
	w.replace("eu-1/objects.yaml", manifests(1))
	v.waitDetail(http.StatusOK, "waiting: the reload waits for the end of one of 1 old workers")
	v.eventually("no request reaches the node", func() bool {
		for range 20 {
			client.more(1)
			if *client.answer.Load() != "node 1" {
				return false
			}
		}
		return true
	})
	w.replace("eu-1/objects.yaml", manifests(1, 2))
	client.waitFor("node 2")
	w.replace("routes.yaml", declarations(101))
	v.waitMetric("headgate_terminator_reload_waiting 0")
	client.waitFor("node 2")
	require.Zero(t, client.stop(), "failed requests")
}
