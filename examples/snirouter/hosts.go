package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/hostlookup/httpapi"
)

// saveInterval is the time between two saves of the cache file.
const saveInterval = time.Minute

// apiLogInterval is the shortest time between two log lines about failures of the API.
const apiLogInterval = 5 * time.Second

// hosts finds the endpoint of a host: in the hosts file, or else in the API through the cache, or
// else in -default.
type hosts struct {
	lookup    hostlookup.Lookup
	file      *hostlookup.File  // nil without -hosts
	api       *httpapi.Client   // nil without -api
	cache     *hostlookup.Cache // the cache in front of api
	feed      *httpapi.Feed     // nil without -changes
	apiTLS    *tls.Config       // of api and feed
	tlsFlags  cli.ClientTLS     // of api and feed
	cacheFile string            // "" without -cache-file
	staleFor  time.Duration
	log       *slog.Logger

	readiness readiness

	feedErrors   atomic.Uint64
	fileProblems atomic.Int64
	apiLogged    atomic.Int64 // when a failure of the API was last logged, in Unix nanoseconds
}

func newHosts(s settings, log *slog.Logger) (*hosts, error) {
	h := &hosts{cacheFile: s.cacheFile, staleFor: s.staleFor, log: log}
	defaultTo, err := parseEndpoint("default", s.defaultTo)
	if err != nil {
		return nil, err
	}
	h.readiness.ready.Store(s.api == "")
	var sources []hostlookup.Lookup
	if s.hosts != "" {
		h.file = &hostlookup.File{Path: s.hosts, Interval: s.poll, Loaded: h.fileLoaded}
		sources = append(sources, h.file)
	}
	if s.api != "" {
		if err := h.addAPI(s); err != nil {
			return nil, err
		}
		sources = append(sources, h.cache)
	}
	h.lookup = hostlookup.Chain(sources...)
	if defaultTo.Addr != "" {
		h.lookup = hostlookup.Default(h.lookup, defaultTo)
	}
	return h, nil
}

func (h *hosts) addAPI(s settings) error {
	conf, err := s.apiTLS.Config(h.log)
	if err != nil {
		return err
	}
	h.apiTLS, h.tlsFlags = conf, s.apiTLS
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
		StaleFor: s.staleFor, Timeout: s.apiTimeout, SourceFailed: h.apiFailed,
	}
	if s.staleFor == 0 {
		h.cache.StaleFor = -1 // 0 in the field means 24 h, 0 in the flag means not at all
	}
	return nil
}

// readAuthorities reads the file of -api-ca again. If readAuthorities cannot use the file, the last
// good authorities stay in use.
func (h *hosts) readAuthorities() {
	h.tlsFlags.ReadAuthorities(h.apiTLS, h.log, func(conf *tls.Config) {
		h.api.SetTLS(conf)
		if h.feed != nil {
			h.feed.SetTLS(conf)
		}
	})
}

// load reads the hosts file and the cache file before the router accepts clients. If the hosts file
// is unreadable, load returns an error, and the router does not start.
func (h *hosts) load() error {
	if h.file != nil {
		if err := h.file.Load(); err != nil {
			return err
		}
	}
	if h.cacheFile != "" {
		h.loadCache()
	}
	return nil
}

// run follows the hosts file and the changes of the API, and saves the cache regularly. It returns
// when ctx ends.
func (h *hosts) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if h.file != nil {
		group.Go(func() error { return h.file.Watch(ctx) })
	}
	if h.api != nil {
		group.Go(func() error { h.readiness.probe(ctx, h.api); return nil })
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
			save := time.Tick(saveInterval)
			for {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-save:
					h.saveCache()
				}
			}
		})
	}
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// close saves the cache, and cancels the calls of the API that still run. Call close after the last
// lookup.
func (h *hosts) close() error {
	if h.cache == nil {
		return nil
	}
	if h.cacheFile != "" {
		h.saveCache()
	}
	err := h.cache.Close()
	h.api.CloseIdleConnections()
	if h.feed != nil {
		h.feed.CloseIdleConnections()
	}
	return err
}

// fileLoaded logs the result of a reading of the hosts file. The file watcher calls it after each
// reading.
func (h *hosts) fileLoaded(hosts *hostlookup.Hosts, problems []hostlookup.Problem, err error) {
	for _, p := range problems {
		h.log.Warn("left out", "err", p)
	}
	count := len(problems)
	if err != nil {
		count++
		h.log.Error("the hosts of the file stay as they are", "err", err)
	} else {
		h.log.Info("hosts", "file", h.file.Path, "count", hosts.Len())
	}
	h.fileProblems.Store(int64(count))
}

// apiFailed logs a failure of the API, but at most one failure in each apiLogInterval.
func (h *hosts) apiFailed(host string, err error) {
	now, last := time.Now().UnixNano(), h.apiLogged.Load()
	if now-last >= int64(apiLogInterval) && h.apiLogged.CompareAndSwap(last, now) {
		h.log.Warn("the API fails; hosts that are known are still served", "host", host, "err", err)
	}
}

// saveCache writes the cache file. It only logs an error, because the router works without the
// file.
func (h *hosts) saveCache() {
	if err := h.cache.Save(h.cacheFile); err != nil {
		h.log.Warn("the cache is not saved", "err", err)
	}
}

// loadCache reads the cache file, and logs the result.
func (h *hosts) loadCache() {
	loaded, err := h.cache.Load(h.cacheFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err == nil && loaded.Hosts == 0 && loaded.LeftOut > 0:
		err = fmt.Errorf("every host of %s expired longer ago than -cache-stale-for, which is %v", h.cacheFile, h.staleFor)
	}
	switch {
	case err != nil && loaded.Hosts == 0:
		h.log.Warn("the cache begins empty", "err", err)
		return
	case err != nil:
		h.log.Warn("left out", "err", err)
	}
	if loaded.Hosts > 0 {
		h.readiness.ready.Store(true)
	}
	h.log.Info("the cache begins with known hosts", "count", loaded.Hosts, "left_out", loaded.LeftOut)
}
