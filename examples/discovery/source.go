package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
	"github.com/headgate/headgate/nodeselect/endpoints/httpapi"
	"github.com/headgate/headgate/nodeselect/live"
	"github.com/headgate/headgate/nodeselect/manifest"
)

// source follows the EndpointSlices of an API server or of the files in a directory, and publishes
// them.
type source struct {
	settings settings
	config   *rest.Config // nil with -dir
	api      *httpapi.Handler
	metrics  *metrics
	log      *slog.Logger

	// Only the goroutine of the method "follow" uses the fields "services" and "counts".
	services endpoints.Services        // of the last publish
	counts   map[string]serviceSummary // the summaries of services, by key

	mu    sync.Mutex
	ready bool           // true after the first list
	state httpapi.Source // of the last publish
}

// serviceSummary has the values of a service that the metrics and the log show.
type serviceSummary struct {
	accepting, draining, notReady int
	problems                      []nodeselect.Problem
}

func newSource(s settings, m *metrics, log *slog.Logger) (*source, error) {
	src := &source{settings: s, metrics: m, log: log, counts: map[string]serviceSummary{}}
	m.watchAge(src.age)
	if s.dir != "" {
		return src, nil
	}
	var err error
	src.config, err = kubeconn.Load(s.kubeconfig)
	return src, err
}

// follow publishes the services after each change, until ctx ends.
func (s *source) follow(ctx context.Context) error {
	policy := nodeselect.AddressPolicy{Allow: s.settings.allow}
	if s.config == nil {
		return s.followDir(ctx, policy)
	}
	w := live.EndpointsWatcher{
		Config: s.config, Namespace: s.settings.namespace, Address: policy,
		Quiet: s.settings.quiet, MaxWait: s.settings.maxWait, Logger: s.log,
	}
	return w.Run(ctx, func(snapshot live.EndpointsSnapshot) {
		state := httpapi.Source{Err: snapshot.Err, LastContact: snapshot.Since}
		if snapshot.Synced {
			s.publish(snapshot.Services, nil, state)
		} else {
			s.setState(false, state)
		}
	})
}

// followDir publishes the services after each change, as follow does, but reads them from the files
// in the directory of -dir.
func (s *source) followDir(ctx context.Context, policy nodeselect.AddressPolicy) error {
	return manifest.WatchEndpointSlices(ctx, s.settings.dir, func(list []*discoveryv1.EndpointSlice, problems []nodeselect.Problem) {
		if s.settings.namespace != "" {
			list = slices.DeleteFunc(slices.Clone(list), func(e *discoveryv1.EndpointSlice) bool { return e.Namespace != s.settings.namespace })
		}
		services := endpoints.Group(list, policy)
		for key, before := range s.services { // the same pointer means that nothing has changed
			if reflect.DeepEqual(before, services[key]) {
				services[key] = before
			}
		}
		s.publish(services, problems, httpapi.Source{})
	})
}

// publish passes the services to the discovery API, which serves them from now on. problems are the
// problems in the input files. state says how fresh the services are.
func (s *source) publish(services endpoints.Services, problems []nodeselect.Problem, state httpapi.Source) {
	s.summarize(services, problems)
	s.services = services
	s.api.Publish(services, state)
	s.setState(true, state)
}

// summarize logs new problems, and updates the metrics. It reads the pods of a service only if the
// service has changed.
func (s *source) summarize(services endpoints.Services, problems []nodeselect.Problem) {
	for key := range s.services {
		if services[key] == nil {
			delete(s.counts, key)
			s.metrics.changes.Inc()
		}
	}
	var total serviceSummary
	for key, svc := range services {
		if s.services[key] != svc {
			next := summary(svc)
			for _, p := range next.problems {
				if !slices.Contains(s.counts[key].problems, p) {
					s.log.Warn("EndpointSlice", "err", p)
				}
			}
			s.counts[key] = next
			s.metrics.changes.Inc()
		}
		one := s.counts[key]
		total.accepting += one.accepting
		total.draining += one.draining
		total.notReady += one.notReady
		total.problems = append(total.problems, one.problems...)
	}
	for _, p := range problems {
		s.log.Warn("file", "err", p)
	}
	s.metrics.services.Set(float64(len(services)))
	s.metrics.pods.WithLabelValues("accepting").Set(float64(total.accepting))
	s.metrics.pods.WithLabelValues("draining").Set(float64(total.draining))
	s.metrics.pods.WithLabelValues("not_ready").Set(float64(total.notReady))
	s.metrics.problems.Set(float64(len(total.problems) + len(problems)))
}

// summary counts the pods of all ports of a service, and collects its problems.
func summary(svc *endpoints.Service) serviceSummary {
	var sum serviceSummary
	var names []string
	for _, port := range svc.Ports() {
		if slices.Contains(names, port.Name) {
			continue // the same name, with another number
		}
		names = append(names, port.Name)
		pods, problems := svc.Pods(port.Name)
		for _, p := range pods {
			switch {
			case p.AcceptsRequests():
				sum.accepting++
			case p.Terminating && p.Serving:
				sum.draining++
			default:
				sum.notReady++
			}
		}
		for _, p := range problems {
			// Ignore the problem that some EndpointSlices of the service do not contain this port:
			// it concerns only clients that request this port.
			if !strings.HasPrefix(p.Object, "Service ") && !slices.Contains(sum.problems, p) {
				sum.problems = append(sum.problems, p)
			}
		}
	}
	return sum
}

func (s *source) setState(ready bool, state httpapi.Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready, s.state = ready, state
}

// readiness returns an error that says why the API is not ready, or nil if it is ready. After its
// first list of EndpointSlices, the server stays ready even while the API server does not answer,
// because other servers of discovery do not know newer pods either.
func (s *source) readiness(ctx context.Context) error {
	if ctx.Err() != nil {
		return errors.New("stopping")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ready:
		return nil
	case s.state.Err != nil:
		return s.state.Err
	}
	return errors.New("the first list of EndpointSlices has not arrived yet")
}

// detail returns the text that /readyz shows below "ok".
func (s *source) detail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Err == nil {
		return ""
	}
	return fmt.Sprintf("the pods are from %s: %v", s.state.LastContact.UTC().Format(time.RFC3339), s.state.Err)
}

// age returns the time since the source of the pods last answered, or 0 while the source answers.
func (s *source) age() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Err == nil {
		return 0
	}
	return max(time.Since(s.state.LastContact), 0)
}
