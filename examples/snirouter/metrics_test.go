package main

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
)

func TestMetricsPage(t *testing.T) {
	h, err := newHosts(settings{hosts: "hosts.json", api: "http://127.0.0.1:1/{host}", changes: "http://127.0.0.1:1/"}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	h.apiTLS = &tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return nil, errors.New("none") }}
	m := newMetrics()
	m.watchServer(nil, nil)
	m.watchHosts(h)
	m.watchECH(newECHKeys("ech", slog.New(slog.DiscardHandler)))
	clitest.MetricsPage(t, "snirouter", m)
}
