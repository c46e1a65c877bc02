package sniproxy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// TestNginxReadsTLVs: nginx reads the host and the application protocol from the PROXY header. It needs
// nginx 1.23.2 or later (the variables $proxy_protocol_tlv_*), which Debian 12 does not have. So only
// "make test-nginx" runs this test: it fetches nginx from Debian 13, and sets HEADGATE_NGINX to its path.
func TestNginxReadsTLVs(t *testing.T) {
	binary := os.Getenv("HEADGATE_NGINX")
	if binary == "" {
		t.Skip("make test-nginx fetches the nginx that this test needs")
	}
	dir := haproxytest.Dir(t)
	site := ca().Issue("a.example")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "site.pem"), append(site.PEM(), site.KeyPEM()...), 0o600))
	ports := haproxytest.Ports(t, 2)
	file := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `daemon off;
master_process off;
pid %[1]s/nginx.pid;
events {}
http {
	access_log off;
	default_type text/plain;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	ssl_certificate %[1]s/site.pem;
	ssl_certificate_key %[1]s/site.pem;
	server {
		listen 127.0.0.1:%[2]d proxy_protocol;
		listen 127.0.0.1:%[3]d proxy_protocol ssl;
		return 200 "$proxy_protocol_tlv_authority $proxy_protocol_tlv_alpn";
	}
}
`, dir, ports[0], ports[1]), 0o600))
	runServer(t, exec.Command(binary, "-p", dir, "-e", "stderr", "-c", file), ports)
	checkTLVs(t, ports[0], ports[1], func(protocol string) string { return "a.example " + protocol })
}
