package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/headgate/headgate/internal/kubewatch/kubewatchtest"
	"github.com/headgate/headgate/internal/testcert"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
	"github.com/headgate/headgate/nodeselect/endpoints/httpapi"
)

// slice returns an EndpointSlice with one pod in zone a.
func slice(addr netip.AddrPort) *discoveryv1.EndpointSlice {
	name, port, zone := "http", int32(addr.Port()), "a"
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("web-", port), Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{addr.Addr().String()}, Zone: &zone,
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: fmt.Sprint("pod-", port)},
		}},
	}
}

func TestPodsOfAnAPIServer(t *testing.T) {
	server := kubewatchtest.New(t)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(kubeconfig, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: eu-1, cluster: {server: %q}}]
contexts: [{name: eu-1, context: {cluster: eu-1}}]
current-context: eu-1
`, server.Config().Host), 0o600))
	a, b := pod(t), pod(t)
	server.Set(slice(a))
	f := start(t, "-service", "ns/web:http", "-zone", "a", "-kubeconfig", kubeconfig, "-drain-delay", "0")
	f.eventually(f.listen+"/", 200, fmt.Sprint("pod-", a.Port()))
	server.Set(slice(b))
	f.eventually(f.listen+"/", 200, fmt.Sprint("pod-", b.Port()))
	server.Down()
	f.eventually(f.admin+"/metrics", 200, `headgate_frontproxy_source_up{proxy_zone="a",service="ns.web.http"} 0`)
	f.ages()
	f.eventually(f.listen+"/", 200, fmt.Sprint("pod-", a.Port()))
	f.eventually(f.admin+"/readyz", 200, "source of the pods")
}

func TestPodsOfTheDiscoveryAPI(t *testing.T) {
	a := pod(t)
	api := &httpapi.Handler{}
	api.Publish(endpoints.Group([]*discoveryv1.EndpointSlice{slice(a)}, nodeselect.AddressPolicy{}), httpapi.Source{})
	server := httptest.NewServer(api)
	t.Cleanup(func() { api.StopWaiting(); server.Close() })
	f := start(t, "-service", "ns/web:http", "-zone", "a", "-discovery", server.URL, "-drain-delay", "0")
	f.eventually(f.listen+"/", 200, fmt.Sprint("pod-", a.Port()))
	f.eventually(f.admin+"/readyz", 200, "ok")
	_ = server.Listener.Close() // first, so that the client cannot connect again
	server.CloseClientConnections()
	f.eventually(f.admin+"/readyz", 200, "source of the pods")
	f.ages()
	f.eventually(f.listen+"/", 200, fmt.Sprint("pod-", a.Port()))
}

// The discovery API over TLS: -discovery-ca names its authority, and SIGHUP makes frontproxy read
// the file again.
func TestPodsOfTheDiscoveryAPIOverTLS(t *testing.T) {
	a := pod(t)
	api := &httpapi.Handler{}
	api.Publish(endpoints.Group([]*discoveryv1.EndpointSlice{slice(a)}, nodeselect.AddressPolicy{}), httpapi.Source{})
	pair := testcert.New("frontproxy")
	clients := x509.NewCertPool()
	clients.AddCert(pair.TLS.Leaf)
	server := httptest.NewUnstartedServer(api)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of refused handshakes
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	server.StartTLS()
	t.Cleanup(func() { api.StopWaiting(); server.Close() })
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, text, 0o600))
		return file
	}
	ca := write("ca.pem", pair.PEM()) // another authority
	f := start(t, "-service", "ns/web:http", "-zone", "a", "-discovery", server.URL, "-drain-delay", "0",
		"-discovery-ca", ca, "-discovery-certificate", write("cert.pem", pair.PEM()), "-discovery-key", write("key.pem", pair.KeyPEM()))
	f.eventually(f.admin+"/readyz", 503, "certificate signed by unknown authority")
	write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	f.eventually(f.listen+"/", 200, fmt.Sprint("pod-", a.Port()))
	f.eventually(f.admin+"/metrics", 200, "headgate_frontproxy_certificate_expiry_timestamp_seconds{file=")
}

// ages waits until the metric with the age of the pods has increased two times.
func (f *front) ages() {
	f.t.Helper()
	const name = `headgate_frontproxy_source_age_seconds{proxy_zone="a",service="ns.web.http"} `
	last, grown := 0.0, 0
	require.True(f.t, f.wait(func() bool {
		_, body := get(f.admin + "/metrics")
		_, rest, _ := strings.Cut(body, name)
		line, _, _ := strings.Cut(rest, "\n")
		age, err := strconv.ParseFloat(line, 64)
		if err == nil && age > last {
			last, grown = age, grown+1
		}
		return grown == 2
	}), "the age of the pods stays %v", last)
}

// TestHAProxyOfAnotherProgram changes an HAProxy that frontproxy has not started, and does not stop
// it.
func TestHAProxyOfAnotherProgram(t *testing.T) {
	dir := haproxytest.Dir(t)
	port := haproxytest.Ports(t, 1)[0]
	haproxytest.StartMaster(t, dir, fmt.Sprintf("global\n    stats socket %s/stats.sock level admin\ndefaults\n    mode http\n    timeout client 5s\n    timeout server 5s\n    timeout connect 1s\nfrontend f\n    bind 127.0.0.1:%d\n", dir, port))
	a := pod(t)
	f := start(t, append(dirFlags, "-out", dir, "-reload", filepath.Join(dir, haproxytest.MasterSocket))...)
	f.pods(a)
	f.eventually(f.listen+"/", 200, fmt.Sprint("pod-", a.Port()))
	f.stop()
	f.ends(cli.ExitOK)
	f.eventually(f.listen+"/", 200, fmt.Sprint("pod-", a.Port()))
}
