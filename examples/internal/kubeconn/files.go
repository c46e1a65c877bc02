package kubeconn

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/headgate/headgate/internal/inputfile"
)

// maxFile is the largest size, in bytes, of a kubeconfig, a certificate, a key or a token.
const maxFile = 1 << 20

// readKubeconfig reads a kubeconfig file, as clientcmd.LoadFromFile does, with the limits of
// package inputfile.
func readKubeconfig(file string) (*api.Config, error) {
	data, err := inputfile.Read(file, maxFile)
	if err != nil {
		return nil, err
	}
	kubeconfig, err := clientcmd.Load(data)
	if err != nil {
		return nil, err
	}
	for _, cluster := range kubeconfig.Clusters { // clientcmd.ResolveLocalPaths needs the field
		cluster.LocationOfOrigin = file
	}
	for _, user := range kubeconfig.AuthInfos {
		user.LocationOfOrigin = file
	}
	return kubeconfig, nil
}

// loadRules reads the kubeconfig files that kubectl uses. client-go reads the files without a limit
// of their size, so loadRules first checks that none of them is too large.
func loadRules(rules *clientcmd.ClientConfigLoadingRules) (*api.Config, error) {
	for _, file := range rules.GetLoadingPrecedence() {
		if _, err := inputfile.Read(file, maxFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	kubeconfig, err := rules.Load()
	if err != nil {
		return nil, err
	}
	return kubeconfig, checkFiles(kubeconfig, kubeconfig.CurrentContext)
}

// checkFiles checks the files that a context of the kubeconfig names: certificates, keys and
// tokens. client-go reads these files later, without a limit of their size.
func checkFiles(kubeconfig *api.Config, name string) error {
	context := kubeconfig.Contexts[name]
	if context == nil {
		return nil // the error of client-go is clear
	}
	var files []string
	if cluster := kubeconfig.Clusters[context.Cluster]; cluster != nil {
		files = append(files, cluster.CertificateAuthority)
	}
	if user := kubeconfig.AuthInfos[context.AuthInfo]; user != nil {
		files = append(files, user.ClientCertificate, user.ClientKey, user.TokenFile)
	}
	for _, file := range files {
		if file == "" {
			continue
		}
		if _, err := inputfile.Read(file, maxFile); err != nil {
			return err
		}
	}
	return nil
}

// readTokenAgain changes config so that each request uses the present content of the token file.
// client-go could read the file by itself, but then requests would wait for ever if the file system
// does not answer. fileToken gives up after 3 s.
func readTokenAgain(config *rest.Config) {
	file := config.BearerTokenFile
	if file == "" {
		return
	}
	token := &fileToken{file: file, last: config.BearerToken}
	config.BearerToken, config.BearerTokenFile = "", ""
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return withToken{token, next} })
}

// fileToken is a bearer token in a file. It is safe for concurrent use.
type fileToken struct {
	file string
	mu   sync.Mutex
	last string // the last token in the file; "" if there has been none
}

// read returns the token. If the file cannot be read or is empty, it returns the last token.
func (t *fileToken) read() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	data, err := inputfile.Read(t.file, maxFile)
	token := strings.TrimSpace(string(data))
	if token != "" {
		t.last = token
	}
	if t.last == "" {
		return "", fmt.Errorf("token: %w", cmp.Or(err, fmt.Errorf("%s is empty", t.file)))
	}
	return t.last, nil
}

// withToken adds the token to each request.
type withToken struct {
	token *fileToken
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (w withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := w.token.read()
	if err != nil {
		if r.Body != nil { // a RoundTripper must close the body, even if the request fails
			_ = r.Body.Close()
		}
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return w.next.RoundTrip(r)
}

// WrappedRoundTripper implements net.RoundTripperWrapper of package
// k8s.io/apimachinery/pkg/util/net. With this method, client-go finds the transport that a
// withToken wraps.
func (w withToken) WrappedRoundTripper() http.RoundTripper { return w.next }
