package lab

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/headgate/headgate/internal/testcert"
)

// TestKubeconfigReachesItsServer makes a client from a kubeconfig alone. The client trusts the
// server and sends its token.
func TestKubeconfigReachesItsServer(t *testing.T) {
	pair := testcert.New("control", "127.0.0.1")
	cert, err := tls.X509KeyPair(pair.PEM(), pair.KeyPEM())
	require.NoError(t, err)
	var shown string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		shown = r.Header.Get("Authorization")
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	defer server.Close()

	file, err := Kubeconfig("eu-1", "https://"+server.Listener.Addr().(*net.TCPAddr).String(), pair.PEM(), "reader", "secret")
	require.NoError(t, err)
	loaded, err := clientcmd.Load(file)
	require.NoError(t, err)
	require.Equal(t, "eu-1", loaded.CurrentContext)
	cfg, err := clientcmd.RESTConfigFromKubeConfig(file)
	require.NoError(t, err)
	client, err := rest.HTTPClientFor(cfg)
	require.NoError(t, err)
	res, err := client.Get(cfg.Host)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, "Bearer secret", shown)

	file, err = Kubeconfig("eu-1", cfg.Host, testcert.New("control", "127.0.0.1").PEM(), "reader", "secret")
	require.NoError(t, err)
	cfg, err = clientcmd.RESTConfigFromKubeConfig(file)
	require.NoError(t, err)
	client, err = rest.HTTPClientFor(cfg)
	require.NoError(t, err)
	_, err = client.Get(cfg.Host)
	require.ErrorContains(t, err, "certificate")
}
