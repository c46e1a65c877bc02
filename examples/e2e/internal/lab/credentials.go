package lab

import (
	"fmt"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig renders a kubeconfig with one context that has the name of the cluster. The client
// verifies the server with the authorities in the argument "ca" (PEM), and authenticates with the
// given token.
func Kubeconfig(cluster, server string, ca []byte, user, token string) ([]byte, error) {
	b, err := clientcmd.Write(api.Config{
		Clusters:       map[string]*api.Cluster{cluster: {Server: server, CertificateAuthorityData: ca}},
		AuthInfos:      map[string]*api.AuthInfo{user: {Token: token}},
		Contexts:       map[string]*api.Context{cluster: {Cluster: cluster, AuthInfo: user}},
		CurrentContext: cluster,
	})
	if err != nil {
		return nil, fmt.Errorf("lab: kubeconfig of %s: %w", cluster, err)
	}
	return b, nil
}
