// Package kubeconn is how the binaries reach a Kubernetes API server: the settings
// of a connection from a kubeconfig file or a pod's own service account, and
// client-go's log lines in the binary's own log.
//
//	kubeconn.LogTo(logger)
//	config, err := kubeconn.Load("/etc/headgate/eu-1.kubeconfig:admin@eu-1")
//
// It makes no client and asks no server.
package kubeconn
