package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
)

// saveInterval is the time between two writings of the cache file.
const saveInterval = time.Minute

// hosts is where endpoints come from: a file, then an API with its cache, then a default.
type hosts struct {
	lookup    hostlookup.Lookup
	file      *hostlookup.File  // nil for none
	api       *httpapi.Client   // nil for none
	cache     *hostlookup.Cache // of api
	feed      *httpapi.Feed     // nil for none
	cacheFile string
	staleFor  time.Duration
	log       *slog.Logger

	feedErrors   atomic.Uint64
	fileProblems atomic.Int64
	complained   atomic.Int64 // when a failing API was last logged, in Unix nanoseconds
}

func (s *settings) lookups(log *slog.Logger) (*hosts, error) {
	h := &hosts{cacheFile: s.cacheFile, staleFor: s.staleIf, log: log}
	defaultTo, err := endpoint("default", s.defaultTo)
	if err != nil {
		return nil, err
	}
	var sources []hostlookup.Lookup
	if s.hosts != "" {
		h.file = &hostlookup.File{Path: s.hosts, Interval: s.poll, Loaded: h.loaded}
		sources = append(sources, h.file)
	}
	if s.api != "" {
		if err := s.withAPI(h); err != nil {
			return nil, err
		}
		sources = append(sources, h.cache)
	}
	// A source alone is given to the server as it is, which then asks it without a
	// goroutine.
	h.lookup = hostlookup.Chain(sources...)
	if len(sources) == 1 {
		h.lookup = sources[0]
	}
	if defaultTo.Addr != "" {
		h.lookup = hostlookup.Default(h.lookup, defaultTo)
	}
	return h, nil
}

func (s *settings) withAPI(h *hosts) error {
	conf, err := s.apiTLS()
	if err != nil {
		return err
	}
	h.api = &httpapi.Client{URL: s.api, TLS: conf, Timeout: s.apiTimeout}
	if s.apiToken != "" {
		h.api.Token = httpapi.TokenFile(s.apiToken)
		if _, err := h.api.Token(context.Background()); err != nil {
			return fmt.Errorf("-api-token-file: %w", err)
		}
	}
	if err := h.api.Check(); err != nil {
		return fmt.Errorf("-api: %w", err)
	}
	if s.changes != "" {
		h.feed = &httpapi.Feed{URL: s.changes, TLS: conf, Token: h.api.Token}
		if err := h.feed.Check(); err != nil {
			return fmt.Errorf("-changes: %w", err)
		}
	}
	h.cache = &hostlookup.Cache{
		Source: h.api, MaxHosts: s.size, MaxNegative: s.negativeSize,
		TTL: s.ttl, NegativeTTL: s.negativeTTL, StaleWhileRevalidate: s.revalidate,
		StaleFor: s.staleIf, Timeout: s.apiTimeout, SourceFailed: h.sourceFailed,
	}
	if s.staleIf == 0 {
		h.cache.StaleFor = -1 // its zero is a day
	}
	return nil
}

func (s *settings) apiTLS() (*tls.Config, error) {
	conf := &tls.Config{}
	if s.apiCA != "" {
		pem, err := os.ReadFile(s.apiCA)
		if err != nil {
			return nil, fmt.Errorf("-api-ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("-api-ca: %s: no certificate in it", s.apiCA)
		}
	}
	if s.apiCertificate != "" {
		if _, err := tls.LoadX509KeyPair(s.apiCertificate, s.apiKey); err != nil {
			return nil, fmt.Errorf("-api-certificate: %w", err)
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(s.apiCertificate, s.apiKey) // it may have been renewed
			return &cert, err
		}
	}
	return conf, nil
}

// load reads what is to be there before the first client.
func (h *hosts) load() error {
	if h.file != nil {
		if err := h.file.Load(); err != nil {
			return err
		}
	}
	if h.cacheFile != "" {
		h.restore()
	}
	return nil
}

// run follows what changes until ctx ends.
func (h *hosts) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if h.file != nil {
		group.Go(func() error { return h.file.Watch(ctx) })
	}
	if h.feed != nil {
		group.Go(func() error {
			return h.cache.Follow(ctx, h.feed, func(err error) {
				h.feedErrors.Add(1)
				h.log.Warn("changes", "err", err)
			})
		})
	}
	if h.cacheFile != "" {
		group.Go(func() error {
			ticker := time.NewTicker(saveInterval)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-ticker.C:
					h.save()
				}
			}
		})
	}
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// close ends what no connection needs any more.
func (h *hosts) close() error {
	if h.cache == nil {
		return nil
	}
	if h.cacheFile != "" {
		h.save()
	}
	err := h.cache.Close()
	h.api.CloseIdleConnections()
	if h.feed != nil {
		h.feed.CloseIdleConnections()
	}
	return err
}

func (h *hosts) loaded(hosts *hostlookup.Hosts, problems []hostlookup.Problem, err error) {
	for _, p := range problems {
		h.log.Warn("left out", "err", p)
	}
	n := len(problems)
	if err != nil {
		n++
		h.log.Error("the hosts of the file stay as they are", "err", err)
	} else {
		h.log.Info("hosts", "file", h.file.Path, "count", hosts.Len())
	}
	h.fileProblems.Store(int64(n))
}

// sourceFailed logs that the API fails, but not for each host.
func (h *hosts) sourceFailed(host string, err error) {
	const often = 5 * time.Second
	now, last := time.Now().UnixNano(), h.complained.Load()
	if now-last >= int64(often) && h.complained.CompareAndSwap(last, now) {
		h.log.Warn("the API fails; hosts that are known are still served", "host", host, "err", err)
	}
}

// save writes the cache file. The router works without the file, so an error is only logged.
func (h *hosts) save() {
	if err := h.cache.Save(h.cacheFile); err != nil {
		h.log.Warn("the cache is not saved", "err", err)
	}
}

// restore reads the cache file.
func (h *hosts) restore() {
	loaded, err := h.cache.Load(h.cacheFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err == nil && loaded.Hosts == 0 && loaded.LeftOut > 0:
		err = fmt.Errorf("all hosts of %s expired longer ago than -cache-stale-for, which is %v", h.cacheFile, h.staleFor)
	}
	switch {
	case err != nil && loaded.Hosts == 0:
		h.log.Warn("the cache begins empty", "err", err)
		return
	case err != nil:
		h.log.Warn("left out", "err", err)
	}
	h.log.Info("the cache begins with known hosts", "count", loaded.Hosts, "left_out", loaded.LeftOut)
}
