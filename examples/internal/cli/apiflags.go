package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/internal/bearer"
)

// APIFlags are the flags of an HTTP API for other programs: address, token, TLS and number of
// connections.
type APIFlags struct {
	Listen   string // -listen
	MaxConns int    // -max-connections

	tokenFile, certificate, key, clients string
}

// Register defines the flags. listen and maxConns are the defaults of -listen and -max-connections.
func (f *APIFlags) Register(fs *flag.FlagSet, listen string, maxConns int) {
	fs.StringVar(&f.Listen, "listen", listen, Meaning("listen", "systemd:NAME is a socket that systemd passes"))
	fs.StringVar(&f.tokenFile, "token-file", "", "`file` with the bearer token that requests must have; without it, requests need no token")
	fs.StringVar(&f.certificate, "certificate", "", "PEM `file` with the certificate for HTTPS; plain HTTP if empty")
	fs.StringVar(&f.key, "key", "", "PEM `file` with the key of the certificate")
	fs.StringVar(&f.clients, "client-ca", "", "PEM `file` with CA certificates; every client then needs a certificate from one of these CAs")
	fs.IntVar(&f.MaxConns, "max-connections", maxConns, Meaning("max-connections", "for one more, the client address with the most connections loses one"))
}

// Check returns an error for the first wrong flag.
func (f *APIFlags) Check() error {
	switch {
	case (f.certificate == "") != (f.key == "") || f.clients != "" && f.key == "":
		return errors.New("-certificate and -key go together, and -client-ca needs both")
	case f.MaxConns < 1:
		return errors.New("-max-connections must be 1 or more")
	}
	return nil
}

// Open opens the listener of -listen. If the value of -listen is systemd:NAME, systemd must have
// passed exactly one socket with this name.
func (f *APIFlags) Open(ctx context.Context) (net.Listener, error) {
	list, err := Listen(ctx, f.Listen)
	if err != nil {
		return nil, fmt.Errorf("-listen: %w", err)
	}
	if len(list) > 1 {
		closeAll(list)
		return nil, fmt.Errorf("-listen: %s: systemd has passed %d sockets with this name, and the API uses one", f.Listen, len(list))
	}
	return list[0], nil
}

// Token returns a function that reads the token of -token-file, or nil without the flag. If the
// file contains no token, Token returns an error. The function logs its errors.
func (f *APIFlags) Token(ctx context.Context, log *slog.Logger) (func(context.Context) (string, error), error) {
	if f.tokenFile == "" {
		return nil, nil
	}
	read := bearer.File(f.tokenFile)
	_, err := read(ctx)
	return func(ctx context.Context) (string, error) {
		token, err := read(ctx)
		if err != nil {
			log.Error("token", "err", err)
		}
		return token, err
	}, err
}

// Server returns a server for an API whose requests may wait up to maxWait for their answer. When
// the server begins to stop, it calls stopWaiting, which must end the waits. With -certificate,
// Server adds the metric of CertificateExpiry to r.
func (f *APIFlags) Server(api http.Handler, maxWait time.Duration, stopWaiting func(), r prometheus.Registerer, program string, log *slog.Logger) (*http.Server, error) {
	conf, err := ServerTLS(f.certificate, f.key, f.clients, LogCertificates(log))
	if err != nil {
		return nil, err
	}
	if conf != nil {
		r.MustRegister(PairExpiry(program, f.certificate, conf.GetCertificate))
	}
	srv := &http.Server{
		Handler:   api,
		TLSConfig: conf,
		// Do not set ReadTimeout: at the end of this timeout, net/http would cancel the context of
		// each request that still waits for a change.
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      maxWait + 30*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	srv.RegisterOnShutdown(stopWaiting)
	return srv, nil
}
